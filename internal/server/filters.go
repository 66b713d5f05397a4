package server

import (
	"errors"
	"strings"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/filter"
	"github.com/tailrace/tailrace/internal/problem"
)

// setFilter gives a subscription the filters that its principal must have and
// its client asks for, and gives them back when the subscription ends.
func (s *Server) setFilter(sub *tailrace.Subscription, p *auth.Principal) error {
	forced, err := s.forcedFilter(p)
	if err != nil {
		return err
	}
	use, err := s.filters.Open(&filter.Request{
		Principal: sub.Principal,
		Scope:     strings.Join(sub.Select.Topics, "\n") + "\r" + strings.Join(sub.Select.Patterns, "\n"),
		Token:     forced,
		Claims:    p.Claims(),
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

// forcedFilter joins the filters of a principal into one. Each has to be an
// expression of its own, so that none can open what another closes.
func (s *Server) forcedFilter(p *auth.Principal) (string, error) {
	if len(p.Filters) <= 1 {
		return strings.Join(p.Filters, ""), nil
	}
	for _, text := range p.Filters {
		if err := s.filters.Check(text, true); err != nil {
			return "", filterProblem(err)
		}
	}
	return "(" + strings.Join(p.Filters, "\n) && (") + "\n)", nil // a comment ends with its line
}

// filterProblem answers for a filter that is not used.
func filterProblem(err error) error {
	var bad *filter.Error
	var claim *filter.ClaimError
	var limit *filter.LimitError
	switch {
	case errors.As(err, &claim), errors.As(err, &bad) && bad.Token:
		return problem.New("invalid-token", "the token's filter: %v", err)
	case errors.As(err, &bad):
		return problem.New("invalid-filter", "%s", bad.Reason).
			With("offset", bad.Offset).With("line", bad.Line).With("column", bad.Column)
	case errors.As(err, &limit):
		p := problem.New("rate-limited", "%v", err).With("limit", limit.Max)
		p.RetryAfter = time.Minute // streams end when they end
		return p
	case errors.Is(err, filter.ErrTooExpensive):
		return problem.New("filter-too-expensive", "%v", err)
	}
	return err
}
