package lsarpc

import (
	"slices"

	"github.com/seed05845750/bkrp/dtyp"
	"github.com/seed05845750/bkrp/internal/ndr"
)

// referencedDomain is one LSAPR_TRUST_INFORMATION ([MS-LSAT] 2.2.11).
type referencedDomain struct {
	name string
	sid  dtyp.SID
}

// noDomain is the index of what belongs to no domain.
const noDomain = -1

// referencedDomains is LSAPR_REFERENCED_DOMAIN_LIST (2.2.12): the domains
// that a list of answers points into.
type referencedDomains []referencedDomain

// index finds a domain's place, at the end if it is new.
func (l *referencedDomains) index(d referencedDomain) int32 {
	i := slices.Index(*l, d)
	if i < 0 {
		i = len(*l)
		*l = append(*l, d)
	}
	return int32(i)
}

// write writes the unique pointer to the list and the list.
func (l referencedDomains) write(w *ndr.Writer) {
	w.Referent(true)
	w.AlignPointer()
	w.U32(uint32(len(l)))
	w.Referent(len(l) > 0)
	w.U32(uint32(max(len(l), 32))) // MaxEntries, which receivers ignore
	w.AlignPointer()
	if len(l) == 0 {
		return
	}
	w.Count(len(l))
	for _, d := range l {
		writeUnicodeString(w, d.name)
		w.Referent(true)
	}
	for _, d := range l {
		writeText(w, d.name)
		w.SID(d.sid)
	}
}

// mapped is the status of a look-up of which n of all were found.
func mapped(n, all int) status {
	switch {
	case n == all:
		return statusSuccess
	case n == 0:
		return statusNoneMapped
	}
	return statusSomeNotMapped
}
