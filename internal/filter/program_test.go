package filter

import (
	"regexp/syntax"
	"testing"
)

// programSize is the number of instructions that a regular expression really
// compiles to.
func programSize(t *testing.T, text string) int {
	t.Helper()
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		t.Fatal(err)
	}
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		t.Fatal(err)
	}
	return len(prog.Inst)
}
