package cli

import "regexp"

// ownNames are the names of our packages that sentinel errors begin with, and that
// name no protocol. They tell a developer where an error is from, and a user of a
// program nothing. A name that a file may well have, such as backup, is not among
// them.
var ownNames = regexp.MustCompile(`(^|: |\()(?:bkrp|bkrpclient|bkrpserver|boltstore|dpapi|dtyp|gss|keyform|keystore|le|lsaclient|smbclient|split): `)

// plain is the text of an error for the user of a program.
func plain(err error) string {
	text := err.Error()
	for { // names that follow each other share the colon between them
		shorter := ownNames.ReplaceAllString(text, "$1")
		if shorter == text {
			return text
		}
		text = shorter
	}
}
