package server

import (
	"errors"
	"strings"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/filter"
	"github.com/tailrace/tailrace/internal/problem"
)

// setFilter gives a subscription the filter that its client asks for, and gives
// it back when the subscription ends.
func (s *Server) setFilter(sub *tailrace.Subscription) error {
	use, err := s.filters.Open(&filter.Request{
		Principal: sub.Principal,
		Scope:     strings.Join(sub.Select.Topics, "\n") + "\r" + strings.Join(sub.Select.Patterns, "\n"),
		Client:    sub.FilterText,
	})
	if err != nil {
		return filterProblem(err)
	}
	if use != nil {
		sub.Filter, sub.OnEnd = use.Filter, use.Close
	}
	return nil
}

// filterProblem answers for a filter that is not used.
func filterProblem(err error) error {
	var bad *filter.Error
	var limit *filter.LimitError
	switch {
	case errors.As(err, &bad):
		return problem.New("invalid-filter", "%s", bad.Reason).
			With("offset", bad.Offset).With("line", bad.Line).With("column", bad.Column)
	case errors.As(err, &limit):
		return problem.New("rate-limited", "%v", err)
	case errors.Is(err, filter.ErrTooExpensive):
		return problem.New("filter-too-expensive", "%v", err)
	}
	return err
}
