package krb5

import "time"

// 5.5.2 KRB_AP_REP (RFC 4120).
func parseAPRep(b []byte) (encrypted, error) {
	r := open(b, application(typeAPRep))
	r.bad = r.bad || r.int32(0) != protocolVersion || r.int32(1) != typeAPRep
	e := r.encrypted(2)
	if !r.done() {
		return encrypted{}, malformed("AP-REP")
	}
	return e, nil
}

func marshalAPRep(e encrypted) ([]byte, error) {
	return build(application(typeAPRep), func(w writer) {
		w.integer(0, protocolVersion)
		w.integer(1, typeAPRep)
		w.encrypted(2, e)
	})
}

// 5.5.2 EncAPRepPart (RFC 4120).
type apRepPart struct {
	ctime  time.Time
	cusec  int32
	subkey *Key // nil for none
	seq    uint32
}

func parseAPRepPart(b []byte) (*apRepPart, error) {
	r := open(b, application(27))
	p := &apRepPart{}
	p.ctime = r.time(0)
	p.cusec = r.int32(1)
	if r.has(2) {
		k := r.key(2)
		p.subkey = &k
	}
	if r.has(3) {
		p.seq = r.uint32(3)
	}
	if !r.done() {
		return nil, malformed("AP-REP")
	}
	return p, nil
}

func (p *apRepPart) marshal() ([]byte, error) {
	return build(application(27), func(w writer) {
		w.time(0, p.ctime)
		w.integer(1, int64(p.cusec))
		if p.subkey != nil {
			w.key(2, *p.subkey)
		}
		w.integer(3, int64(p.seq))
	})
}

// sealAPRep makes an AP-REP under the session key of the ticket.
func sealAPRep(session Key, p *apRepPart) ([]byte, error) {
	plain, err := p.marshal()
	if err != nil {
		return nil, err
	}
	e := encrypted{etype: session.Type}
	if e.cipher, err = session.encrypt(usageAPRep, plain); err != nil {
		return nil, err
	}
	return marshalAPRep(e)
}

// openAPRep is the inverse of sealAPRep.
func openAPRep(session Key, b []byte) (*apRepPart, error) {
	e, err := parseAPRep(b)
	if err != nil {
		return nil, err
	}
	if e.etype != session.Type {
		return nil, malformed("AP-REP")
	}
	plain, err := session.decrypt(usageAPRep, e.cipher)
	if err != nil {
		return nil, err
	}
	return parseAPRepPart(plain)
}
