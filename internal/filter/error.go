package filter

import (
	"errors"
	"fmt"
)

// ErrTooExpensive says that a filter took too long on average and is not
// evaluated any more: problem filter-too-expensive.
var ErrTooExpensive = errors.New("filter: the filter takes too long on average; look at fewer fields, shorten regular expressions, or subscribe to fewer topics")

// Error says what is wrong with the text of a filter, and where: problem
// invalid-filter.
type Error struct {
	Token  bool // the text is the token's, not the client's
	Offset int  // of the first byte that is wrong
	Line   int  // from 1
	Column int  // from 1, in characters
	Reason string
}

func (e *Error) Error() string {
	return fmt.Sprintf("filter: line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// ClaimError says that a token's filter reads a claim that the token does not
// have. Such a filter matches nothing rather than what happens to lack the
// same: the token is wrong.
type ClaimError struct{ Name string }

func (e *ClaimError) Error() string {
	return fmt.Sprintf("filter: the token's filter reads the claim %q, which the token does not have", e.Name)
}

// LimitError says that too many distinct filters are in use: problem
// rate-limited.
type LimitError struct {
	Limit string // filters_per_principal, filters
	Max   int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("filter: over the limit %s: %d distinct filters are in use", e.Limit, e.Max)
}
