package netlogon

import (
	"context"
	"unicode/utf16"

	"github.com/seed05845750/bkrp/internal/dcerpc"
	"github.com/seed05845750/bkrp/internal/gss/ntlm"
	"github.com/seed05845750/bkrp/internal/ndr"
)

const (
	// 2.2.1.4.16 NetlogonNetworkInformation: not passed on over further trusts.
	networkInformation = 2
	// 2.2.1.4.17 NetlogonValidationSamInfo4: the one level whose session key has
	// no encryption of its own under that of the channel.
	validationSamInfo4 = 6

	// 2.2.1.4.15 ParameterControl: never a guest. Accounts of computers are not
	// allowed, because nothing allows them.
	parameterControl = 0x10 | 0x1000
)

// logOn asks the domain controller about a logon (3.5.4.5.1,
// NetrLogonSamLogonEx).
func logOn(ctx context.Context, rpc *dcerpc.Client, computer string, l *ntlm.Logon) (*validation, error) {
	w := ndr.NewWriter(nil, rpc.Encoding())
	appendSamLogon(&w, computer, l)
	var v *validation
	err := call(ctx, rpc, "NetrLogonSamLogonEx", opLogonSamLogonEx, w.Buffer(), func(r *ndr.Reader) {
		v = readSamLogon(r)
	})
	if err != nil {
		v.clear()
		return nil, err
	}
	if v == nil {
		return nil, ErrResponse
	}
	return v, nil
}

func appendSamLogon(w *ndr.Writer, computer string, l *ntlm.Logon) {
	w.Referent(false) // LogonServer: whoever is asked
	w.Referent(true)  // ComputerName
	w.String(computer)
	w.Enum(networkInformation) // LogonLevel
	w.Enum(networkInformation) // once more, before the union
	w.Referent(true)
	appendNetworkInfo(w, l)
	w.Enum(validationSamInfo4)
	w.U32(0) // ExtraFlags
}

// 2.2.1.4.5 NETLOGON_NETWORK_INFO
func appendNetworkInfo(w *ndr.Writer, l *ntlm.Logon) {
	domain, user, workstation := units(l.Domain), units(l.User), units(l.Workstation)
	appendUnicodeString(w, domain)
	w.U32(parameterControl)
	w.U32(0) // Reserved
	w.U32(0)
	appendUnicodeString(w, user)
	appendUnicodeString(w, workstation)
	w.Octets(l.Challenge[:])
	for _, response := range [][]byte{l.NTResponse, nil} { // and LmChallengeResponse
		w.U16(uint16(len(response)))
		w.U16(uint16(len(response)))
		w.Referent(true)
	}
	for _, text := range [][]uint16{domain, user, workstation} {
		w.ConformantVarying(len(text), len(text))
		for _, u := range text {
			w.U16(u)
		}
	}
	for _, response := range [][]byte{l.NTResponse, nil} {
		w.ConformantVarying(len(response), len(response))
		w.Octets(response)
	}
}

// [MS-DTYP] 2.3.10 RPC_UNICODE_STRING, without what it points to.
func appendUnicodeString(w *ndr.Writer, text []uint16) {
	w.AlignPointer()
	w.U16(uint16(2 * len(text)))
	w.U16(uint16(2 * len(text)))
	w.Referent(true)
}

func units(text string) []uint16 { return utf16.Encode([]rune(text)) }

// readSamLogon reads the response up to its status; nil if there is no
// validation in it.
func readSamLogon(r *ndr.Reader) (v *validation) {
	if level := r.Enum(); level != validationSamInfo4 {
		r.Fail("validation level %d", level)
	}
	if r.Referent() {
		v = readSamInfo4(r)
	}
	r.U8()  // Authoritative: the domain is ours, so whoever is asked is
	r.U32() // ExtraFlags
	return v
}
