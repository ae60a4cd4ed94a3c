package bkrp_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const layerModule = "github.com/seed05845750/bkrp"

// layerImports says for each package of the module which others it may
// import. Imports point downwards only; a package that is not here has no
// place in the picture of ARCHITECTURE.md yet. Tests may look around: they
// often need both ends.
var layerImports = map[string][]string{
	"dtyp":            {},
	"internal/le":     {"dtyp"},
	"internal/nthash": {},
	".":               {"dtyp", "internal/le"},

	"internal/ndr":        {"dtyp", "internal/le"},
	"internal/backuprkey": {"dtyp", "internal/ndr"},

	"internal/gss":        {"dtyp"},
	"internal/gss/spnego": {"internal/gss"},
	"internal/gss/ntlm":   {"dtyp", "internal/gss", "internal/le", "internal/nthash"},
	"internal/gss/pac":    {"dtyp", "internal/ndr", "internal/le"},
	"internal/gss/krb5":   {"dtyp", "internal/gss", "internal/gss/pac"},

	// A pipe is a message stream with a name and a security context: there
	// is no edge between SMB and RPC, in either direction.
	"internal/dcerpc":    {"dtyp", "internal/gss", "internal/ndr", "internal/le"},
	"internal/smb2/wire": {"dtyp", "internal/le"},
	"internal/smb2":      {"dtyp", "internal/gss", "internal/le", "internal/smb2/wire"},
	"internal/lsasecret": {},
	"internal/lsarpc":    {"dtyp", "internal/dcerpc", "internal/gss", "internal/lsasecret", "internal/ndr"},
	"internal/lsaclient": {"dtyp", "internal/dcerpc", "internal/lsasecret", "internal/ndr"},
	// It derives the keys of the client's end where it encrypts unasked.
	"internal/smbclient": {"internal/gss", "internal/gss/spnego", "internal/smb2", "internal/smb2/wire"},
	"internal/netlogon":  {"dtyp", "internal/dcerpc", "internal/gss", "internal/gss/ntlm", "internal/ndr", "internal/nthash"},
	"internal/npa":       {"internal/ndr"},
	"internal/dclocator": {},
	// What it asks, for tests.
	"internal/dclocator/locatortest": {"internal/dclocator"},

	"keystore":               {".", "dtyp", "internal/le", "internal/nthash", "keystore/internal/feed"},
	"keystore/internal/feed": {},
	"keystore/boltstore":     {"keystore", "keystore/internal/feed"},
	"keystore/etcdstore":     {"keystore"},
	"keystore/lsastore": {"dtyp", "keystore", "internal/dcerpc", "internal/dclocator", "internal/gss/ntlm", "internal/lsaclient",
		"internal/smbclient"},
	// Modules in C; it knows keys, and of no store.
	"keystore/hsm":          {},
	"keystore/keystoretest": {"keystore"},
	"dpapi":                 {".", "dtyp", "internal/le"},

	"bkrpserver": {".", "dtyp", "keystore", "internal/backuprkey", "internal/ndr", "internal/dcerpc", "internal/smb2", "internal/npa",
		"internal/interpose", "internal/lsarpc", "internal/netlogon", "internal/gss", "internal/gss/spnego", "internal/gss/ntlm", "internal/gss/krb5"},
	"bkrpclient": {".", "dtyp", "internal/backuprkey", "internal/ndr", "internal/dcerpc", "internal/lsaclient", "internal/smbclient",
		"internal/dclocator", "internal/gss", "internal/gss/spnego", "internal/gss/ntlm", "internal/gss/krb5"},
	"bkrptest": {".", "dtyp", "keystore", "bkrpserver", "bkrpclient", "bkrptest/internal/kdc", "internal/interpose",
		"internal/dclocator/locatortest"},
	"bkrptest/internal/kdc": {"dtyp"},

	"internal/interpose": {".", "dtyp"},
	// It asks servers for less than the client takes, and for what that does not
	// tell.
	"internal/doctor": {".", "dtyp", "internal/backuprkey", "internal/dcerpc", "internal/gss", "internal/gss/krb5", "internal/gss/ntlm",
		"internal/gss/spnego", "internal/smb2/wire", "internal/smbclient", "internal/dclocator", "bkrpclient"},

	"internal/cli": {},
	// What the tests of both commands have in common.
	"internal/cli/clitest": {"internal/cli"},
	"internal/split":       {},
	// What a key looks like outside a store; it knows of no store.
	"internal/keyform": {".", "dtyp"},
	"internal/backup":  {"dtyp", "internal/split", "keystore"},
	"cmd/bkrpd": {".", "dtyp", "internal/backup", "internal/cli", "internal/keyform", "internal/split", "keystore", "keystore/boltstore", "keystore/etcdstore", "keystore/hsm",
		"keystore/lsastore", "bkrpserver", "bkrpclient"},
	// It asks servers for their dialect, which the client does not tell.
	"cmd/bkrp": {".", "dtyp", "internal/cli", "internal/keyform", "internal/smbclient", "internal/dclocator", "internal/doctor", "dpapi",
		"bkrpclient"},
	// Programs that show the public packages in use.
	"examples/protectfile": {"dpapi", "bkrpclient"},
	// The documents, in their tests; what reads and runs them knows nothing of them.
	"docs":             {},
	"internal/doctest": {},

	"interop":       {},
	"interop/peers": {},
}

// layerForeign says which packages may stand on a module or package from
// elsewhere; the longest prefix of an import decides.
var layerForeign = map[string][]string{
	"filippo.io/age":               {"internal/backup", "internal/keyform", "cmd/bkrpd", "cmd/bkrp"},
	"filippo.io/bigmod":            {"."},
	"github.com/BurntSushi/toml":   {"cmd/bkrpd"},
	"github.com/cloudflare/circl":  {"internal/split"},
	"github.com/cloudsoda/go-smb2": {"internal/smbclient"},
	// It talks to the KDC for the client; nothing of it is at the acceptor. For
	// tests it is also the KDC.
	"github.com/oiweiwei/gokrb5.fork/v9": {"internal/gss/krb5", "bkrptest/internal/kdc"},
	"github.com/jcmturner/gofork":        {"bkrptest/internal/kdc"},
	// By cgo, and so behind a build tag.
	"github.com/miekg/pkcs11": {"keystore/hsm"},
	"github.com/spf13/cobra":  {"internal/cli", "internal/cli/clitest", "cmd/bkrp", "cmd/bkrpd"},
	// cobra's flags, for the manual pages.
	"github.com/spf13/pflag":            {"internal/cli"},
	"github.com/tink-crypto/tink-go/v2": {"keystore"},
	"go.etcd.io/bbolt":                  {"keystore/boltstore"},
	// The client's balancer, credentials and messages; its calls go beside its
	// retries, which repeat writes.
	"go.etcd.io/etcd":                {"keystore/etcdstore"},
	"go.uber.org/zap":                {"keystore/etcdstore"},
	"google.golang.org/grpc":         {"keystore/etcdstore"},
	"golang.org/x/crypto/argon2":     {"keystore"},
	"golang.org/x/crypto/cryptobyte": {".", "internal/keyform", "internal/gss/spnego", "internal/gss/krb5"},
	"golang.org/x/crypto/md4":        {"internal/nthash"},
	"golang.org/x/net/dns":           {"internal/dclocator/locatortest"},
	// Of consoles in internal/cli, and of terminals in its tests.
	"golang.org/x/sys":  {"keystore", "cmd/bkrpd", "internal/cli", "internal/cli/clitest"},
	"golang.org/x/term": {"internal/cli", "cmd/bkrpd"},
}

// layerForeignTests says which tests may stand on a foreign module beyond
// the packages that may anyway. "*" is every test.
var layerForeignTests = map[string][]string{
	"github.com/google/go-cmp": {"*"},
	// Who keys are exported to.
	"filippo.io/age":                  {"interop", "docs"},
	"github.com/rogpeppe/go-internal": {"*"},
	"go.uber.org/goleak":              {"*"},
	// An independent peer of both our SMB server and our GSS.
	"github.com/cloudsoda/go-smb2": {"internal/gss", "internal/smb2", "bkrpserver", "interop"},
	// The KDC and the cryptography of hostile clients, which is not our own.
	"github.com/oiweiwei/gokrb5.fork/v9": {"bkrpserver", "interop"},
	"github.com/jcmturner/gofork":        {"interop"},
	// As an acceptor it can be made to panic: never outside tests.
	"github.com/oiweiwei/go-msrpc": {"interop", "internal/netlogon"},
	"golang.org/x/crypto":          {"*"},
	"golang.org/x/sys":             {"*"},
	"go.etcd.io/bbolt":             {"keystore/boltstore", "keystore"},
	// To look at what a store leaves in the cluster, and to set users up in it.
	"go.etcd.io/etcd": {"interop"},
	"go.uber.org/zap": {"interop"},
}

// layerOldCrypto says which files use what nobody would choose today. Each
// is the file of the structure or exchange whose specification requires it.
var layerOldCrypto = map[string][]string{
	// Nor is randomness that can be guessed: tests draw addresses with it.
	"math/rand":    {},
	"math/rand/v2": {"interop/peers/domain.go"},
	"crypto/rc4": {
		"serverwrapped.go",                                          // 2.2.4.1
		"internal/gss/ntlm/keys.go", "internal/gss/ntlm/session.go", // [MS-NLMP] 3.4
		"internal/gss/krb5/rc4.go", "internal/gss/krb5/rc4token.go", // RFC 4757
	},
	"crypto/des": {
		"clientformat.go",                 // 2.2.2.3, version 2
		"internal/lsasecret/lsasecret.go", // [MS-LSAD] 5.1.2
	},
	"crypto/sha1": {
		"clientformat.go",            // 2.2.2.3, version 2
		"certificate.go",             // 2.2.1
		"serverkey.go",               // 3.1.4.1.1
		"serverwrapped.go",           // 2.2.4.1
		"crossover.go",               // 2.2.6
		"keystore/tokensealer.go",    // OAEP by tokens that know no other hash
		"dpapi/key.go",               // what DPAPI makes of a master key
		"dpapi/roamed.go",            // the hash that guards a roamed credential
		"internal/gss/krb5/etype.go", // RFC 3962
	},
	"crypto/md5": {
		"internal/gss/ntlm/keys.go", "internal/gss/ntlm/session.go", // [MS-NLMP] 3.3.2, 3.4
		"internal/gss/krb5/rc4.go", "internal/gss/krb5/rc4token.go", // RFC 4757
	},
	"golang.org/x/crypto/md4": {
		"internal/nthash/nthash.go", // [MS-NLMP] 3.3.1
	},
}

// layerFile is one source file of the module.
type layerFile struct {
	// name is its path from the root of the module, and pkg its directory.
	name, pkg string
	isTest    bool
	lines     int
	syntax    *ast.File
	fset      *token.FileSet
}

// layerFiles parses every source file below the module's root. It does not
// ask the go command, whose answers a test's cache would not see change.
func layerFiles(t *testing.T) []layerFile {
	t.Helper()
	var files []layerFile
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && (entry.Name()[0] == '.' || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if entry.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		syntax, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		files = append(files, layerFile{
			name: name, pkg: path.Dir(name), isTest: strings.HasSuffix(name, "_test.go"),
			lines: bytes.Count(text, []byte("\n")), syntax: syntax, fset: fset,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("only %d source files found", len(files))
	}
	return files
}

// imports gives the file's imports by the name they have in it.
func (f *layerFile) imports() map[string]string {
	byName := make(map[string]string)
	for _, spec := range f.syntax.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		byName[name] = imported
	}
	return byName
}

// layerLocal turns an import of this module into the package's directory.
func layerLocal(imported string) (string, bool) {
	if imported == layerModule {
		return ".", true
	}
	return strings.CutPrefix(imported, layerModule+"/")
}

func TestLayers(t *testing.T) {
	for _, f := range layerFiles(t) {
		allowed, known := layerImports[f.pkg]
		if !known {
			t.Errorf("%s: package %s is not in the table of layers", f.name, f.pkg)
			continue
		}
		for name, imported := range f.imports() {
			if name == "." {
				t.Errorf("%s: dot import of %s", f.name, imported)
			}
			if pkg, ok := layerLocal(imported); ok {
				if !f.isTest && !slices.Contains(allowed, pkg) {
					t.Errorf("%s: package %s may not import %s", f.name, f.pkg, pkg)
				}
				continue
			}
			if strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") && !layerMayUse(&f, imported) {
				t.Errorf("%s: package %s may not import %s", f.name, f.pkg, imported)
			}
		}
	}
}

// layerMayUse reports whether the file may import a package from elsewhere.
func layerMayUse(f *layerFile, imported string) bool {
	if slices.Contains(layerLongest(layerForeign, imported), f.pkg) {
		return true
	}
	tests := layerLongest(layerForeignTests, imported)
	return f.isTest && (slices.Contains(tests, "*") || slices.Contains(tests, f.pkg))
}

func layerLongest(table map[string][]string, imported string) []string {
	best := ""
	for prefix := range table {
		if (imported == prefix || strings.HasPrefix(imported, prefix+"/")) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return table[best]
}

// The table itself: no way leads from a package back to it.
func TestLayersPointDownwards(t *testing.T) {
	var visit func(trail []string, pkg string)
	visit = func(trail []string, pkg string) {
		if slices.Contains(trail, pkg) {
			t.Errorf("a circle: %s", strings.Join(append(trail, pkg), " -> "))
			return
		}
		for _, next := range layerImports[pkg] {
			visit(append(slices.Clone(trail), pkg), next)
		}
	}
	for pkg := range layerImports {
		visit(nil, pkg)
	}
}

func TestOldCryptoStaysInItsFiles(t *testing.T) {
	used := make(map[[2]string]bool)
	for _, f := range layerFiles(t) {
		for _, imported := range f.imports() {
			names, old := layerOldCrypto[imported]
			if !old || f.isTest {
				continue
			}
			if !slices.Contains(names, f.name) {
				t.Errorf("%s imports %s, which belongs in %s only", f.name, imported, strings.Join(names, ", "))
			}
			used[[2]string{imported, f.name}] = true
		}
	}
	// Every exception is still needed, so that the table stays a description.
	for imported, names := range layerOldCrypto {
		for _, name := range names {
			if !used[[2]string{imported, name}] {
				t.Errorf("%s does not import %s any more: take it out of the table", name, imported)
			}
		}
	}
}

func TestFilesStayShort(t *testing.T) {
	const most = 500
	for _, f := range layerFiles(t) {
		if !f.isTest && f.lines > most {
			t.Errorf("%s has %d lines, more than %d", f.name, f.lines, most)
		}
	}
}

func TestNoPanics(t *testing.T) {
	for _, f := range layerFiles(t) {
		if f.isTest {
			continue
		}
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && strings.HasPrefix(fn.Name.Name, "MustParse") {
				continue
			}
			ast.Inspect(decl, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if name, ok := call.Fun.(*ast.Ident); ok && name.Name == "panic" {
						t.Errorf("%s: panic outside MustParse", f.fset.Position(call.Pos()))
					}
				}
				return true
			})
		}
	}
}

// Who imports a public package can name every type it is given.
func TestPublicSignatures(t *testing.T) {
	for _, f := range layerFiles(t) {
		internal := "/" + f.pkg + "/"
		if f.isTest || strings.Contains(internal, "/internal/") || f.syntax.Name.Name == "main" || strings.HasPrefix(f.pkg, "interop") {
			continue
		}
		imports := f.imports()
		for _, decl := range f.syntax.Decls {
			for _, node := range layerPublic(decl) {
				ast.Inspect(node, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok {
						if pkg, ok := s.X.(*ast.Ident); ok && strings.Contains(imports[pkg.Name], "/internal/") {
							t.Errorf("%s: %s.%s of %s in a public signature", f.fset.Position(n.Pos()), pkg.Name, s.Sel.Name, imports[pkg.Name])
						}
					}
					return true
				})
			}
		}
	}
}

// layerPublic gives the type expressions that users of a declaration see.
func layerPublic(decl ast.Decl) (nodes []ast.Node) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && layerExportedReceiver(d) {
			nodes = append(nodes, d.Type)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					nodes = append(nodes, layerTypeParts(s)...)
				}
			case *ast.ValueSpec:
				if s.Type != nil && slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
					nodes = append(nodes, s.Type)
				}
			}
		}
	}
	return nodes
}

func layerExportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	exported := false
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if name, ok := n.(*ast.Ident); ok && name.IsExported() {
			exported = true
		}
		return true
	})
	return exported
}

// layerTypeParts leaves out the fields of a struct that only its package sees.
func layerTypeParts(s *ast.TypeSpec) []ast.Node {
	structure, ok := s.Type.(*ast.StructType)
	if !ok {
		return []ast.Node{s.Type}
	}
	var nodes []ast.Node
	for _, field := range structure.Fields.List {
		if len(field.Names) == 0 || slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
			nodes = append(nodes, field.Type)
		}
	}
	return nodes
}
