package filter

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/tailrace/tailrace/internal/nearest"
)

// Limits on the text of a filter.
const (
	MaxText  = 1024 // bytes
	maxNodes = 200

	maxPattern = 500 // instructions that a regular expression may compile to, about
)

// scope is what an expression sees. The members in capitals alone are not for
// its author.
type scope struct {
	Topic  string         `expr:"topic"`
	Type   string         `expr:"type"`
	Key    string         `expr:"key"`
	ID     string         `expr:"id"`
	Text   string         `expr:"text"`
	Data   any            `expr:"data"`
	Time   time.Time      `expr:"time"`
	Size   int            `expr:"size"`
	Claims map[string]any `expr:"claims"`
	Meter  *meter         `expr:"__meter"`
}

// functions are the built-in functions of the language that filters have: those
// that give about as much as they take, in a time that grows no faster. Not
// among them are now and timezone (a clock, and files), repeat, replace, join,
// concat and reduce (a small text can make an endless one), JSON and base64
// (the data has been parsed), and sorting and grouping, which say nothing about
// an event that any, all and count do not.
var functions = []string{
	"all", "any", "none", "one", "filter", "map", "find", "findIndex", "findLast", "findLastIndex", "count", "sum",
	"len", "abs", "ceil", "floor", "round", "int", "float", "string", "min", "max", "mean",
	"trim", "trimPrefix", "trimSuffix", "upper", "lower", "split", "indexOf", "lastIndexOf", "hasPrefix", "hasSuffix",
	"date", "duration", "first", "last", "get", "keys", "values",
	"bitand", "bitor", "bitxor", "bitnand", "bitnot", "bitshl", "bitshr", "bitushr",
}

// expression is a compiled text. It is immutable and safe for concurrent use.
type expression struct {
	program   *vm.Program
	readsData bool
	claims    []string // names of the claims that it reads, sorted
	allClaims bool     // it may read any claim
}

// compile checks and compiles text. A token's filter may use claims. The error
// is an [*Error].
func compile(text string, token bool) (*expression, error) {
	fail := func(err error) (*expression, error) {
		e := position(err, text)
		e.Token = token
		return nil, e
	}
	switch {
	case len(text) > MaxText:
		return fail(&file.Error{Message: fmt.Sprintf("has %d bytes, the limit is %d", len(text), MaxText)})
	case !utf8.ValidString(text):
		return fail(&file.Error{Message: "is not UTF-8"})
	}
	tree, err := parser.ParseWithConfig(text, newConfig())
	if err != nil {
		return fail(err)
	}
	r := rules{token: token}
	ast.Walk(&tree.Node, &r)
	if r.err != nil {
		return fail(r.err)
	}
	// Once as it stands, for the types and for errors in the author's own
	// words, then with the meter built in.
	options := append(guardFunctions(), expr.AsBool(), func(c *conf.Config) { prepare(c) })
	if _, err := expr.Compile(text, options...); err != nil {
		return fail(err)
	}
	program, err := expr.Compile(text, append(options, expr.Patch(guard{}))...)
	if err != nil {
		return fail(err)
	}
	slices.Sort(r.claims)
	return &expression{
		program: program, readsData: r.data,
		claims: slices.Compact(r.claims), allClaims: r.claimUses > r.claimMembers,
	}, nil
}

func newConfig() *conf.Config {
	c := conf.CreateNew()
	prepare(c)
	for name := range c.Disabled {
		delete(c.Builtins, name)
	}
	return c
}

func prepare(c *conf.Config) {
	c.WithEnv(&scope{})
	c.MaxNodes = maxNodes
	for name := range c.Builtins {
		if !slices.Contains(functions, name) {
			c.Disabled[name] = true
		}
	}
}

// position finds the byte that err, an error of the compiler, is about.
func position(err error, text string) *Error {
	e := &Error{Line: 1, Column: 1, Reason: err.Error()}
	at, ok := errors.AsType[*file.Error](err)
	if !ok {
		return e
	}
	e.Reason = at.Message
	e.Offset = len(text)
	n := 0
	for i, c := range text {
		if n == at.From { // in characters
			e.Offset = i
			break
		}
		n++
		e.Column++
		if c == '\n' {
			e.Line, e.Column = e.Line+1, 1
		}
	}
	return e
}

// rules is a visitor that refuses what the language allows and a filter may
// not have, and notes what the expression reads.
type rules struct {
	token  bool // claims may be read
	data   bool
	claims []string

	claimUses, claimMembers int // of the name claims, and of those with a written member

	err *file.Error // the first one
}

func (r *rules) refuse(n ast.Node, format string, args ...any) {
	if r.err == nil {
		r.err = &file.Error{Location: n.Location(), Message: fmt.Sprintf(format, args...)}
	}
}

func (r *rules) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		r.identifier(n)
	case *ast.VariableDeclaratorNode:
		if strings.HasPrefix(n.Name, "_") {
			r.refuse(n, "names do not begin with _")
		}
	case *ast.MemberNode:
		if id, ok := n.Node.(*ast.IdentifierNode); ok && id.Value == "claims" {
			if name, ok := n.Property.(*ast.StringNode); ok {
				r.claims = append(r.claims, name.Value)
				r.claimMembers++
			}
		}
	case *ast.BinaryNode:
		if n.Operator == "matches" {
			r.pattern(n.Right)
		}
	case *ast.BuiltinNode:
		switch {
		case !slices.Contains(functions, n.Name): // loops cannot be disabled
			r.refuse(n, "filters have no function %s", n.Name)
		case n.Name == "date" && len(n.Arguments) > 2:
			r.refuse(n, "date takes a text and a layout; write the offset from UTC into the text")
		}
	case *ast.CallNode:
		if id, ok := n.Callee.(*ast.IdentifierNode); ok {
			r.refuse(n, "filters have no function %s%s", id.Value, hint(id.Value, functions))
		}
	}
}

func (r *rules) identifier(n *ast.IdentifierNode) {
	switch name := n.Value; {
	case name == "data":
		r.data = true
	case name == "claims":
		r.claimUses++
		if !r.token {
			r.refuse(n, "claims are for the filter of a token")
		}
	case strings.HasPrefix(name, "_") || strings.HasPrefix(name, "$"):
		r.refuse(n, "there is no %s", name)
	}
}

// pattern refuses a regular expression that is not written out, is wrong, or
// would compile to a large program: matching takes time in proportion.
func (r *rules) pattern(n ast.Node) {
	text, ok := n.(*ast.StringNode)
	if !ok {
		r.refuse(n, "a regular expression has to be written out, as in: text matches \"^a+$\"")
		return
	}
	size, err := patternSize(text.Value)
	switch {
	case err != nil:
		r.refuse(n, "%v", err)
	case size > maxPattern:
		r.refuse(n, "the regular expression is too large; repeat less of it, less often")
	}
}

// patternSize estimates the instructions that a regular expression compiles to.
func patternSize(text string) (int, error) {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0, err
	}
	return regexpSize(re), nil
}

// regexpSize estimates the instructions that re compiles to, without compiling
// it: repetitions are unrolled, so a short one may take a hundred megabytes.
func regexpSize(re *syntax.Regexp) int {
	const most = 1 << 20 // so that products do not overflow
	size := 1
	switch re.Op {
	case syntax.OpLiteral:
		size = len(re.Rune)
	case syntax.OpConcat:
		size = 0
	case syntax.OpCapture:
		size = 2
	}
	for _, sub := range re.Sub {
		size = min(size+regexpSize(sub), most)
	}
	if re.Op == syntax.OpRepeat {
		times := re.Max
		if times < 0 {
			times = re.Min + 1
		}
		size *= max(times, 1)
	}
	return min(size, most)
}

// hint proposes the known name that was probably meant.
func hint(name string, known []string) string {
	if best := nearest.Name(name, known); best != "" {
		return "; did you mean " + best + "?"
	}
	return ""
}
