package main

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
)

// advice says what to do about an error, where that is not in it already.
func advice(err error) string {
	var status bkrp.Status
	var lookup *net.DNSError
	switch {
	case errors.As(err, &status):
		return statusAdvice(status)
	case errors.Is(err, bkrp.ErrFormat):
		return "bkrp inspect says what the file is"
	case errors.Is(err, bkrp.ErrSecretTooLong):
		return "have the server wrap it, by --mode server; or encrypt it under a fresh key, as age does, and wrap that key"
	case errors.Is(err, bkrpclient.ErrNoServer):
		return "check the domain's DNS name; name its DNS server by --dns, or one of its servers by --server"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: check that the server runs; a port other than 445 is given as --server HOST:PORT"
	case errors.As(err, &lookup):
		return "DNS does not know the server: check its name, or give its address"
	case errors.Is(err, context.DeadlineExceeded):
		return "the server did not answer in time: check address and firewall; --timeout gives it longer"
	}
	return ""
}

// statusAdvice says what to do about what a server answered.
func statusAdvice(status bkrp.Status) string {
	switch status {
	case bkrp.StatusInvalidAccess:
		return "bkrp sid says who the server takes you for; log on as the owner"
	case bkrp.StatusFileNotFound:
		return "bkrp inspect says which key it is; who has it exported can add it to the server by bkrpd keys import, or open the secret by bkrp unwrap --key-file"
	}
	return ""
}
