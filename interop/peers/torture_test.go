package peers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// As smbtorture 4.17 prints it, shortened; the last case is cut off as by a
// crash of the suite.
const tortureOutput = `smbtorture 4.17.12-Debian
Using seed 1795324694
time: 2026-11-22 05:18:14.720364
progress: 4
test: backupkey.restore_guid version 3
time: 2026-11-22 05:18:14.798189
Get_user_sid finished
time: 2026-11-22 05:18:14.824989
success: backupkey.restore_guid version 3
test: backupkey.server_wrap_encrypt_decrypt_wrong_sid
time: 2026-11-22 05:18:15.327323

Testing OpenSecret
WARNING!: ../../source4/torture/rpc/backupkey.c:1791: r_secret.out.result was NT_STATUS_ACCESS_DENIED, expected NT_STATUS_OK: OpenSecret failed
time: 2026-11-22 05:18:15.361726
failure: backupkey.server_wrap_encrypt_decrypt_wrong_sid [
../../source4/torture/rpc/backupkey.c:2134: failed
]
test: backupkey.left_out
skip: backupkey.left_out [
not today
]
test: backupkey.empty_request_restore_guid
time: 2026-11-22 05:18:15.361726
`

func TestParseTorture(t *testing.T) {
	got, err := ParseTorture(tortureOutput)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Result{
		"restore_guid version 3": {Verdict: Success, Output: "Get_user_sid finished"},
		"server_wrap_encrypt_decrypt_wrong_sid": {
			Verdict: Failure,
			Detail:  "../../source4/torture/rpc/backupkey.c:2134: failed",
			Output: "\nTesting OpenSecret\nWARNING!: ../../source4/torture/rpc/backupkey.c:1791: r_secret.out.result " +
				"was NT_STATUS_ACCESS_DENIED, expected NT_STATUS_OK: OpenSecret failed",
		},
		"left_out":                   {Verdict: Skip, Detail: "not today"},
		"empty_request_restore_guid": {Verdict: Unfinished},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := ParseTorture("Failed to connect\n"); err == nil {
		t.Error("no error for a suite that ran no case")
	}
}
