package doctor

import (
	"fmt"
	"time"
)

// Level is how bad a finding is.
type Level int

const (
	// OK is as it should be.
	OK Level = iota
	// Note is good to know, and nothing has to be done.
	Note
	// Warning is something that works and should be otherwise.
	Warning
	// Broken is something that does not work, or lets others in.
	Broken
)

var levelNames = [...]string{"ok", "note", "warning", "broken"}

// String is the level in one word.
func (l Level) String() string {
	if l < OK || l > Broken {
		return fmt.Sprintf("level %d", int(l))
	}
	return levelNames[l]
}

// MarshalText writes the word.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads the word.
func (l *Level) UnmarshalText(text []byte) error {
	for i, name := range levelNames {
		if name == string(text) {
			*l = Level(i)
			return nil
		}
	}
	return fmt.Errorf("doctor: no level %q", text)
}

// Names of checks, in the order in which they are made.
const (
	CheckDNS         = "dns"         // of the domain: SRV records name servers
	CheckPing        = "ping"        // the server answers LDAP pings
	CheckWritable    = "writable"    // it is no read-only domain controller
	CheckReachable   = "reachable"   // its SMB port answers
	CheckDialect     = "dialect"     // of SMB
	CheckSigning     = "signing"     // of SMB
	CheckEncryption  = "encryption"  // of SMB
	CheckMechanisms  = "mechanisms"  // by which one may log on
	CheckClock       = "clock"       // beside ours
	CheckLogon       = "logon"       // of the calling user
	CheckPipe        = "pipe"        // which pipes answer
	CheckCertificate = "certificate" // the domain's public key, against 2.2.1
	CheckPrivacy     = "privacy"     // calls below packet privacy are refused
	CheckSID         = "sid"         // the server says who the caller is
	CheckClientWrap2 = "clientwrap2" // a secret wrapped here, version 2, comes back
	CheckClientWrap3 = "clientwrap3" // the same, version 3
	CheckServerWrap  = "serverwrap"  // a secret wrapped by the server comes back
	CheckOracle      = "oracle"      // what answers to malformed secrets tell
	CheckTime        = "time"        // the examination came to its end
	CheckSameKey     = "samekey"     // of the domain: all serve the same public key
	CheckExchange    = "exchange"    // one server opens what another one wrapped
)

// Checks gives the names of all checks, in the order in which they are made.
func Checks() []string {
	return []string{
		CheckDNS, CheckPing, CheckWritable, CheckReachable, CheckDialect, CheckSigning, CheckEncryption, CheckMechanisms, CheckClock,
		CheckLogon, CheckPipe, CheckCertificate, CheckPrivacy, CheckSID, CheckClientWrap2, CheckClientWrap3, CheckServerWrap,
		CheckOracle, CheckTime, CheckSameKey, CheckExchange,
	}
}

// Finding is what one check came to. A check may have several.
type Finding struct {
	// Check is the check's name, one of the constants above.
	Check string `json:"check"`
	// Level is how bad it is.
	Level Level `json:"level"`
	// Found says what was found, and Next what to do about it, "" for nothing.
	Found string `json:"found"`
	Next  string `json:"next,omitempty"`
}

// Server is what was found out about one server, or one address of one.
type Server struct {
	// Name is what it is called, Address where it was reached, host:port.
	Name    string `json:"name"`
	Address string `json:"address,omitempty"`
	// Took is how long the examination took.
	Took time.Duration `json:"took_ns"`
	// Key is the domain's public key that it serves, nil where that is not known.
	Key *Key `json:"key,omitempty"`
	// ServerKey is the GUID of the key by which it wraps secrets itself, "" where
	// that is not known.
	ServerKey string `json:"server_key,omitempty"`
	// Findings are in the order in which they were made.
	Findings []Finding `json:"findings"`

	// wrapped is a secret that it wrapped, and canary what is inside.
	wrapped, canary []byte
}

// Key is a public key of a domain.
type Key struct {
	// GUID is its name.
	GUID string `json:"guid"`
	// SHA256 is the hash of the RSAPublicKey (RFC 8017 A.1.1), in hexadecimal.
	SHA256 string `json:"sha256"`
	// Bits is the length of the modulus.
	Bits int `json:"bits"`
	// NotBefore and NotAfter are the dates of the certificate.
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// Report is what was found out about a domain, or one server.
type Report struct {
	// Domain is the DNS name, "" when one server was examined.
	Domain string `json:"domain,omitempty"`
	// Findings are those about the domain as a whole.
	Findings []Finding `json:"findings,omitempty"`
	// Servers are its servers, in the order of DNS.
	Servers []*Server `json:"servers"`
}

// All goes through all findings; of those about the whole domain the server is
// nil.
func (r *Report) All(yield func(*Server, Finding) bool) {
	for _, f := range r.Findings {
		if !yield(nil, f) {
			return
		}
	}
	for _, s := range r.Servers {
		for _, f := range s.Findings {
			if !yield(s, f) {
				return
			}
		}
	}
}

// Worst is the worst level of any finding.
func (r *Report) Worst() Level {
	worst := OK
	for _, f := range r.All {
		worst = max(worst, f.Level)
	}
	return worst
}

// Count is how many findings there are of a level.
func (r *Report) Count(l Level) (n int) {
	for _, f := range r.All {
		if f.Level == l {
			n++
		}
	}
	return n
}

func (s *Server) add(check string, level Level, next, format string, args ...any) {
	s.Findings = append(s.Findings, Finding{Check: check, Level: level, Found: fmt.Sprintf(format, args...), Next: next})
}
