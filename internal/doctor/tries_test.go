package doctor_test

import (
	"testing"

	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrptest"
	"github.com/seed05845750/bkrp/internal/doctor"
)

// A password that is wrong is tried at two servers and not at each of a domain:
// every refusal counts against the account.
func TestWrongPasswordIsTriedTwice(t *testing.T) {
	d := bkrptest.NewDomain(t, bkrptest.WithControllers(5))
	cfg := d.User("alice").InDomain()
	cfg.Client.Credential.Password = bkrpclient.Password("not hers")
	r, err := doctor.ExamineDomain(t.Context(), cfg, doctor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	refused, spared := 0, 0
	for _, s := range r.Servers {
		for _, f := range s.Findings {
			switch {
			case f.Check != doctor.CheckLogon:
			case f.Level == doctor.Note:
				spared++
			default:
				refused++
			}
		}
	}
	if refused != 2 || spared != 3 {
		t.Errorf("%d servers were asked and %d spared, want 2 and 3", refused, spared)
	}
	if r.Worst() != doctor.Broken {
		t.Errorf("the worst finding is %v", r.Worst())
	}
}
