package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/dcerpc"
)

// probe is one malformed secret.
type probe struct {
	kind   probeKind
	name   string
	action bkrp.Action
	blob   []byte
}

// probeKind says how far into a secret a server has to look to find it wrong.
type probeKind int

const (
	outside probeKind = iota // no key is needed to see it
	padding                  // the RSA padding is wrong
	content                  // the padding is right, the structure behind it is not
	access                   // the structure is right, the AccessCheck is not
	owner                    // everything is right, and belongs to somebody else
	sealed                   // ServerWrap: the MAC is wrong
)

// responses are the kinds of answers, and which probes each was the answer to.
type responses map[string][]string

func (r responses) String() string {
	var list []string
	for _, a := range slices.Sorted(maps.Keys(r)) {
		list = append(list, fmt.Sprintf("%s to %s", a, strings.Join(r[a], ", ")))
	}
	return strings.Join(list, "; ")
}

const (
	nextPadding = "whoever has a stolen secret and any account of the domain can have it decrypted by this server (Bleichenbacher 1998): serve BackupKey by a server that gives one answer to all of these, and keep the wrapped secrets from others until then"
	nextContent = "ask the maker of the server for one answer to everything behind the padding: the difference tells what a secret has inside"
	nextSealed  = "ask the maker of the server to check the MAC before anything it protects: RC4 lets anyone change chosen bits, and the answers tell what they were"
)

// judgeOracle sends malformed secrets and compares the answers.
func (p *patient) judgeOracle(ctx context.Context, cert *bkrp.Certificate, sid dtyp.SID) {
	if cert != nil && !sid.IsZero() {
		for _, version := range []uint32{bkrp.ClientWrappedVersion2, bkrp.ClientWrappedVersion3} {
			probes, err := clientProbes(cert, sid, version)
			if err != nil {
				p.report.add(CheckOracle, Warning, "this key cannot be examined", "ClientWrap version %d: %v", version, err)
				continue
			}
			answers, err := p.ask(ctx, probes)
			if err != nil {
				p.report.add(CheckOracle, Warning, nextUnknown, "ClientWrap version %d: not known: %v", version, err)
				continue
			}
			judgeClientAnswers(p.report, version, len(probes), answers)
		}
	}
	if p.report.wrapped == nil {
		return
	}
	probes, err := serverProbes(p.report.wrapped)
	var answers map[probeKind]responses
	if err == nil {
		answers, err = p.ask(ctx, probes)
	}
	if err != nil {
		p.report.add(CheckOracle, Warning, nextUnknown, "ServerWrap: not known: %v", err)
		return
	}
	judgeServerAnswers(p.report, len(probes), answers)
}

const nextUnknown = "try again when the server answers everything else"

// judgeClientAnswers compares what was answered to ClientWrap.
func judgeClientAnswers(s *Server, version uint32, asked int, answers map[probeKind]responses) {
	what := fmt.Sprintf("ClientWrap version %d, %d secrets", version, asked)
	behind := make(responses)
	for _, kind := range []probeKind{content, access} {
		for a, names := range answers[kind] {
			behind[a] = append(behind[a], names...)
		}
	}
	opened := len(answers[owner]["opened"]) > 0
	// Who tries ciphertexts gets messages that are random behind their padding:
	// it is between these and wrong padding that answers must not differ.
	oracle := len(answers[padding]) > 1 || !sameAnswers(answers[padding], answers[content])
	switch {
	case opened:
		s.add(CheckOracle, Broken, "take this server off the network: it opens anybody's secrets for anybody", "%s: it opens a secret of another SID", what)
	case oracle:
		s.add(CheckOracle, Broken, nextPadding, "%s: a padding oracle. With wrong padding: %v. With right padding: %v", what, answers[padding], behind)
	case len(behind) > 1:
		s.add(CheckOracle, Warning, nextContent, "%s: no padding oracle by its answers, yet they tell what is behind the padding: %v", what, behind)
	default:
		s.add(CheckOracle, OK, "", "%s: no oracle by its answers: %s to everything that is wrong inside (times were not measured)", what, theOne(behind))
	}
}

// judgeServerAnswers compares what was answered to ServerWrap.
func judgeServerAnswers(s *Server, asked int, answers map[probeKind]responses) {
	what := fmt.Sprintf("ServerWrap, %d secrets", asked)
	inside := answers[sealed]
	switch {
	case len(inside["opened"]) > 0:
		s.add(CheckOracle, Broken, "take this server off the network: it opens what was tampered with", "%s: opened after a change to %s", what, strings.Join(inside["opened"], ", "))
	case len(inside) > 1:
		s.add(CheckOracle, Warning, nextSealed, "%s: the answers tell where it was changed: %v", what, inside)
	default:
		s.add(CheckOracle, OK, "", "%s: no oracle by its answers: %s wherever it was changed", what, theOne(inside))
	}
}

// sameAnswers says whether no answer stands in one of them alone.
func sameAnswers(a, b responses) bool {
	return slices.Equal(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b)))
}

// theOne is the answer where there is but one.
func theOne(r responses) string {
	return strings.Join(slices.Sorted(maps.Keys(r)), ", ")
}

// ask sends the probes one after the other. A server that ends the connection
// has answered by that; one that does not answer at all ends the comparison.
func (p *patient) ask(ctx context.Context, probes []probe) (map[probeKind]responses, error) {
	answers := make(map[probeKind]responses)
	var c *bkrpclient.Client
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for _, q := range probes {
		if c == nil {
			var err error
			if c, err = bkrpclient.Dial(ctx, p.cfg); err != nil {
				return nil, err
			}
		}
		a, ended, err := answer(ctx, c, q, p)
		if err != nil {
			return nil, err
		}
		if ended {
			c.Close()
			c = nil
		}
		if answers[q.kind] == nil {
			answers[q.kind] = make(responses)
		}
		answers[q.kind][a] = append(answers[q.kind][a], q.name)
	}
	return answers, nil
}

// answer is what a server says to a probe, in words that are the same when the
// answers are. ended says that the connection is of no more use.
func answer(ctx context.Context, c *bkrpclient.Client, q probe, p *patient) (what string, ended bool, err error) {
	ctx, cancel := p.step(ctx)
	defer cancel()
	out, err := c.BackuprKey(ctx, q.action, q.blob)
	defer clear(out)
	var refused *bkrpclient.ServerError
	var fault dcerpc.Fault
	switch {
	case err == nil:
		return "opened", false, nil
	case errors.As(err, &refused):
		return refused.Status.String(), false, nil
	case errors.As(err, &fault):
		return fmt.Sprintf("fault 0x%08X", uint32(fault)), false, nil
	case errors.Is(err, bkrpclient.ErrResponse):
		return "an answer that breaks the protocol", true, nil
	case ctx.Err() != nil:
		return "", true, fmt.Errorf("%s: %w", q.name, err)
	}
	return "the end of the connection", true, nil
}
