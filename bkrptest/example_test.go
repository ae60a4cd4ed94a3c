package bkrptest_test

import (
	"errors"
	"fmt"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/bkrpclient"
	"github.com/seed05845750/bkrp/bkrptest"
)

// A secret is wrapped with a password and unwrapped with a ticket; nobody else
// gets it.
func ExampleNewDomain() {
	t, end := inTest() // a test is given its t
	defer end()

	d := bkrptest.NewDomain(t)
	alice, bob := d.User("alice"), d.User("bob")

	c, err := bkrpclient.Dial(t.Context(), alice.NTLM())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	blob, err := c.Wrap(t.Context(), []byte("correct horse"), bkrpclient.WrapOptions{})
	if err != nil {
		t.Fatal(err)
	}

	for _, cfg := range []bkrpclient.Config{alice.Kerberos(), bob.Kerberos()} {
		c, err := bkrpclient.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		secret, err := c.Unwrap(t.Context(), blob)
		fmt.Printf("%q %v\n", secret, errors.Is(err, bkrp.StatusInvalidAccess))
	}
	for _, e := range d.Events() {
		fmt.Println(e.Caller.Account(), e.Caller.Mechanism, e.Action, e.Status)
	}
	// Output:
	// "correct horse" false
	// "" true
	// BKRP\alice ntlm RETRIEVE bkrp: ERROR_SUCCESS (0x0)
	// BKRP\alice krb5 RESTORE bkrp: ERROR_SUCCESS (0x0)
	// BKRP\bob krb5 RESTORE bkrp: ERROR_INVALID_ACCESS (0xC)
}

// The server loses an answer, and then is as it was.
func ExampleDomain_Inject() {
	t, end := inTest()
	defer end()

	d := bkrptest.NewDomain(t)
	d.Inject(bkrptest.Drop(bkrptest.Response).Times(1))
	for range 2 {
		c, err := bkrpclient.Dial(t.Context(), d.User("alice").NTLM())
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.RetrieveKey(t.Context())
		fmt.Println("answered:", err == nil)
		c.Close()
	}
	// Output:
	// answered: false
	// answered: true
}
