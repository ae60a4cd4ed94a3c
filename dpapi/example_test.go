package dpapi_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/seed05845750/bkrp"
	"github.com/seed05845750/bkrp/dpapi"
	"github.com/seed05845750/bkrp/dtyp"
)

// A master key file is made, with a domain's key pair, and its key is recovered.
// Where a server does that, open is the Unwrap of a bkrpclient.Client.
func ExampleMasterKeyFile_Recover() {
	pair, err := bkrp.GenerateKeyPair("bkrp.example", time.Now())
	if err != nil {
		log.Fatal(err)
	}
	key := dpapi.GenerateMasterKey()
	owner := dtyp.MustParseSID("S-1-5-21-1-2-3-1104")
	wrapped, err := bkrp.WrapClient(pair.Certificate(), owner, key.Octets(), 2)
	if err != nil {
		log.Fatal(err)
	}
	file, err := (&dpapi.MasterKeyFile{Version: 2, GUID: key.GUID, DomainKey: wrapped}).AppendBinary(nil)
	if err != nil {
		log.Fatal(err)
	}

	f, err := dpapi.ParseFile(file)
	if err != nil {
		log.Fatal(err)
	}
	open := func(_ context.Context, wrapped []byte) ([]byte, error) {
		w, err := bkrp.ParseClientWrapped(wrapped)
		if err != nil {
			return nil, err
		}
		s, err := w.Open(pair.DecryptRaw, pair.RejectionKey())
		if err != nil {
			return nil, err
		}
		fmt.Println("owner", s.SID)
		return s.Secret, nil
	}
	again, err := f.Recover(context.Background(), open)
	if err != nil {
		log.Fatal(err)
	}
	defer again.Clear()
	fmt.Println("the same:", *again == *key)
	// Output:
	// owner S-1-5-21-1-2-3-1104
	// the same: true
}
