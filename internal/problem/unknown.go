package problem

import (
	"strings"

	"github.com/tailrace/tailrace/internal/nearest"
)

// UnknownName refuses a query parameter or JSON member, and names the known one
// that was probably meant, or all. Names are refused and not ignored, so that a
// typing error never changes in silence what a request does.
func UnknownName(kind, name string, known []string) *Problem {
	p := New("unknown-parameter", "there is no %s %q here", kind, name).With("parameter", name)
	if near := nearest.Name(name, known); near != "" {
		p.Detail += "; did you mean " + near + "?"
	} else if len(known) > 0 {
		p.Detail += "; known are " + strings.Join(known, ", ")
	}
	return p
}
