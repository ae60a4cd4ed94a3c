package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed05845750/bkrp/internal/doctest"
)

// notRun are the blocks of code that no test runs, by document and beginning.
var notRun = map[string]string{
	"ARCHITECTURE.md": "socket ", // a picture
}

// documents are all of this module, by their paths from its root.
func documents(t *testing.T) (names []string) {
	t.Helper()
	for _, pattern := range []string{"../*.md", "../*/*.md", "../*/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			name, err := filepath.Rel("..", name)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, filepath.ToSlash(name))
		}
	}
	if len(names) < 14 {
		t.Fatalf("only these were found: %q", names)
	}
	return names
}

// TestEveryBlock: each document with a block of code in it is opened by one test,
// which then has to account for all of its blocks.
func TestEveryBlock(t *testing.T) {
	opened := openedDocuments(t)
	for _, name := range documents(t) {
		blocks := doctest.Read(t, filepath.Join("..", name)).Blocks
		if begin, ok := notRun[name]; ok {
			if len(blocks) != 1 || !strings.HasPrefix(strings.TrimSpace(blocks[0].Text), begin) {
				t.Errorf("%s: %v, want the one block that begins %q", name, blocks, begin)
			}
			blocks = nil
		}
		switch by := opened[name]; {
		case len(blocks) == 0 && len(by) > 0:
			t.Errorf("%s has nothing that %q could run", name, by)
		case len(blocks) > 0 && len(by) != 1:
			t.Errorf("%s: opened by %q, want one test for its %d blocks of code", name, by, len(blocks))
		}
		delete(opened, name)
	}
	for name, by := range opened {
		t.Errorf("%s opens %s, which is not there", by, name)
	}
}

// openedDocuments are the names with which tests call doctest.Open, from the root,
// and the functions that do.
func openedDocuments(t *testing.T) map[string][]string {
	t.Helper()
	opened := make(map[string][]string)
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") || filepath.Base(filepath.Dir(path)) == "doctest" {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			function, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(function, func(n ast.Node) bool {
				if name, ok := openCall(n); ok {
					name, err := filepath.Rel("..", filepath.Join(filepath.Dir(path), name))
					if err != nil {
						t.Fatal(err)
					}
					name = filepath.ToSlash(name)
					opened[name] = append(opened[name], filepath.Dir(path)+"."+function.Name.Name)
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// openCall is the document in a call of doctest.Open, as a literal or joined of
// literals.
func openCall(n ast.Node) (name string, ok bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || !isSelector(call.Fun, "doctest", "Open") || len(call.Args) != 2 {
		return "", false
	}
	parts := []ast.Expr{call.Args[1]}
	if join, ok := call.Args[1].(*ast.CallExpr); ok && isSelector(join.Fun, "filepath", "Join") {
		parts = join.Args
	}
	for _, part := range parts {
		literal, ok := part.(*ast.BasicLit)
		if !ok {
			return "", false
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			return "", false
		}
		name = filepath.Join(name, text)
	}
	return name, true
}

func isSelector(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// TestLinks follows the links between documents. The README lists those of docs.
func TestLinks(t *testing.T) {
	links := 0
	readme := doctest.Read(t, "../README.md").Text
	for _, name := range documents(t) {
		for _, to := range linksOf(doctest.Read(t, filepath.Join("..", name))) {
			links++
			file, heading, _ := strings.Cut(to, "#")
			target := name
			if file != "" {
				target = filepath.Join(filepath.Dir(name), file)
			}
			if heading == "" {
				if matches, err := filepath.Glob(filepath.Join("..", target)); err != nil || len(matches) != 1 {
					t.Errorf("%s: the link to %s leads nowhere", name, to)
				}
				continue
			}
			if !slices.Contains(headings(doctest.Read(t, filepath.Join("..", target))), heading) {
				t.Errorf("%s: the link to %s leads to no heading", name, to)
			}
		}
		if strings.HasPrefix(name, "docs/") && !strings.Contains(readme, "- ["+name+"]("+name+")") {
			t.Errorf("the README does not list %s", name)
		}
	}
	if links < 20 {
		t.Errorf("%d links", links)
	}
}

var link = regexp.MustCompile(`\]\(([^):]+)\)`)

// linksOf are the links of a document that lead to this module.
func linksOf(d *doctest.Document) (list []string) {
	for _, m := range link.FindAllStringSubmatch(d.Text, -1) {
		list = append(list, m[1])
	}
	return list
}

// headings are the names by which links lead to a document's headings.
func headings(d *doctest.Document) (list []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(d.Text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		list = append(list, strings.ReplaceAll(name, " ", "-"))
	}
	return list
}
