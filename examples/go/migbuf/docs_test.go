// SPDX-License-Identifier: MIT

package migbuf

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every public name says what it means, in words of its own: a reader of go doc needs no C header.
func TestEveryNameHasWords(t *testing.T) {
	files := token.NewFileSet()
	packages, err := parser.ParseDir(files, ".", func(f os.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, parser.ParseComments)
	must(t, err)
	p := doc.New(packages["migbuf"], "migbuf.example/migbuf", 0)
	names, header := 0, regexp.MustCompile(`\.h\b`)
	says := func(name, words string) {
		names++
		if !ast.IsExported(name[strings.LastIndexByte(name, '.')+1:]) {
			return
		}
		if strings.TrimSpace(words) == "" {
			t.Errorf("%s says nothing", name)
		}
		if header.MatchString(words) {
			t.Errorf("%s sends its reader to a C header: %s", name, words)
		}
	}
	values := func(list []*doc.Value) {
		for _, v := range list {
			for _, spec := range v.Decl.Specs {
				s := spec.(*ast.ValueSpec)
				for _, n := range s.Names {
					says(n.Name, s.Doc.Text()+s.Comment.Text()+map[bool]string{true: v.Doc}[len(v.Decl.Specs) == 1])
				}
			}
		}
	}
	functions := func(of string, list []*doc.Func) {
		for _, f := range list {
			says(of+f.Name, f.Doc)
		}
	}
	says("P", p.Doc)
	values(p.Consts)
	values(p.Vars)
	functions("", p.Funcs)
	for _, typ := range p.Types {
		says(typ.Name, typ.Doc)
		values(typ.Consts)
		values(typ.Vars)
		functions(typ.Name+".", typ.Funcs)
		functions(typ.Name+".", typ.Methods)
		structure, ok := typ.Decl.Specs[0].(*ast.TypeSpec).Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, field := range structure.Fields.List {
			for _, n := range field.Names {
				says(typ.Name+"."+n.Name, field.Doc.Text()+field.Comment.Text())
			}
		}
	}
	if names < 400 {
		t.Error("only", names, "names: is this all of it?")
	}
}

// A number that has names says so when it is printed, and the names begin with the type's.
func TestConstantsHaveTheirTypesName(t *testing.T) {
	files := token.NewFileSet()
	packages, err := parser.ParseDir(files, ".", func(f os.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, parser.ParseComments)
	must(t, err)
	p := doc.New(packages["migbuf"], "migbuf.example/migbuf", 0)
	prefix := map[string]string{"Code": "Err", "CommandKind": "Command", "GeometryFlags": "Geometry", "CowFlags": "Cow"}
	with := 0
	for _, typ := range p.Types {
		if len(typ.Consts) == 0 {
			continue
		}
		with++
		prints := false
		for _, m := range typ.Methods {
			prints = prints || m.Name == "String" || m.Name == "Error"
		}
		if !prints {
			t.Errorf("%s prints as a number", typ.Name)
		}
		for _, v := range typ.Consts {
			for _, name := range v.Names {
				want := typ.Name
				if short, ok := prefix[typ.Name]; ok {
					want = short
				}
				if !strings.HasPrefix(name, want) {
					t.Errorf("%s is a %s, and is not called %s…", name, typ.Name, want)
				}
			}
		}
	}
	if with < 12 {
		t.Error("only", with, "types with constants")
	}
}
