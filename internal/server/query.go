package server

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/internal/problem"
)

// parseQuery reads a query string and refuses parameters that are not known,
// so that a typo is never a silent default. Those that begin with "_" are left
// out: they keep caches away.
func parseQuery(raw string, known []string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, problem.New("invalid-request", "the query is not percent-encoded: %v", err)
	}
	for name, values := range q {
		switch {
		case strings.HasPrefix(name, "_"):
			delete(q, name)
		case !slices.Contains(known, name):
			return nil, problem.UnknownName("parameter", name, known)
		case name != "topic" && name != "event" && slices.ContainsFunc(values, func(v string) bool { return v != values[0] }):
			return nil, problem.New("conflicting-parameter", "%s is given twice, with different values", name).With("parameter", name)
		}
	}
	return q, nil
}

// intParam returns the parameter name as a number from low to high, or
// byDefault if it is not given.
func intParam(q url.Values, name string, byDefault, low, high int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return byDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, problem.New("invalid-parameter", "%s is %q, and must be a number from %d to %d", name, text, low, high).With("parameter", name)
	}
	return n, nil
}

// flagParam returns the parameter name, which is 1 or 0.
func flagParam(q url.Values, name string) (bool, error) {
	switch text := q.Get(name); text {
	case "", "0":
		return false, nil
	case "1":
		return true, nil
	default:
		return false, problem.New("invalid-parameter", "%s is %q, and must be 1 or 0", name, text).With("parameter", name)
	}
}
