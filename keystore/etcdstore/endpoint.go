package etcdstore

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"runtime"
	"strings"
)

// checkEndpoints returns the endpoints as URLs, and whether they are https. The
// client library takes the scheme of the first for all, and would send to the
// others in the clear what was meant to be encrypted: hence no mixture.
func checkEndpoints(endpoints []string, plaintext bool) (urls []string, secure bool, err error) {
	if len(endpoints) == 0 {
		return nil, false, fmt.Errorf("%w: there must be at least one endpoint, such as https://etcd1.example:2379", ErrOptions)
	}
	for i, endpoint := range endpoints {
		if !strings.Contains(endpoint, "://") {
			endpoint = "https://" + endpoint
		}
		u, err := url.Parse(endpoint)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Port() == "" ||
			u.Host+strings.TrimSuffix(u.Path, "/") != strings.TrimSuffix(endpoint[len(u.Scheme)+3:], "/") || strings.Trim(u.Path, "/") != "" {
			// The text is not repeated: a password may stand in it.
			return nil, false, fmt.Errorf("%w: endpoint %d is not https://HOST:PORT", ErrOptions, i+1)
		}
		if i > 0 && secure != (u.Scheme == "https") {
			return nil, false, fmt.Errorf("%w: endpoints are https or http, not both", ErrOptions)
		}
		secure = u.Scheme == "https"
		if !secure && !plaintext && !isLoopback(u.Hostname()) {
			return nil, false, fmt.Errorf("%w: endpoint %s is not encrypted; use https, or allow plaintext", ErrOptions, u.Host)
		}
		urls = append(urls, u.Scheme+"://"+u.Host)
	}
	return urls, secure, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// clientTLS makes the configuration of the client's end.
func clientTLS(o Options) (*tls.Config, error) {
	if o.CAFile == "" {
		return nil, fmt.Errorf("%w: https needs a file with the authority of etcd's certificates; the system's are not taken", ErrOptions)
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%w: reading the authority of etcd's certificates: %w", ErrOptions, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: %s holds no certificate in PEM", ErrOptions, o.CAFile)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if o.CertFile == "" && o.KeyFile == "" {
		return cfg, nil
	}
	if o.CertFile == "" || o.KeyFile == "" {
		return nil, fmt.Errorf("%w: certificate and key go together", ErrOptions)
	}
	if _, err := clientCertificate(o.CertFile, o.KeyFile); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return clientCertificate(o.CertFile, o.KeyFile)
	}
	return cfg, nil
}

// clientCertificate reads a certificate and its key, which only the owner may
// read.
func clientCertificate(certFile, keyFile string) (*tls.Certificate, error) {
	info, err := os.Stat(keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the key of the client certificate: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("reading the key of the client certificate: others may read %s (mode %v): chmod 600 it", keyFile, fs.FileMode(perm))
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the client certificate %s: %w", certFile, err)
	}
	return &cert, nil
}
