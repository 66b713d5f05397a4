package server

import (
	"net"
	"net/http"
	"strings"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// newAccess returns who decides requests, nil in dev mode: everyone may do
// everything.
func (s *Server) newAccess() (*auth.Authenticator, error) {
	if s.opts.Dev {
		return nil, nil
	}
	return auth.New(s.opts.Auth, &auth.Options{
		Spend:       s.spendTicket,
		Public:      func(selector string) bool { return everybodyMay(s.hub.Rules(), selector) },
		MatchOrigin: originAllowed,
		OnKeySet: func(url string, err error) {
			if err != nil {
				s.opts.Logger.Warn("a key set cannot be fetched", "url", url, "error", err)
			}
		},
	})
}

// decide says who asks, in c.principal, and refuses what they may not do to
// all the topics and patterns; none is the server itself. The error is a
// *problem.Problem.
func (s *Server) decide(c *call, do auth.Action, topics []string) error {
	if s.auth == nil {
		c.principal = &auth.Principal{Name: "anon:" + hostOf(c.RemoteAddr), Method: auth.ByNothing}
		return nil
	}
	p, refusal := s.auth.Decide(c.Request, do, topics)
	if refusal != nil {
		return refusal
	}
	c.principal = p
	return nil
}

// authenticate says who asks, whatever for.
func (s *Server) authenticate(c *call) error { return s.decide(c, auth.Open, nil) }

// everybodyMay reports whether the rules let everybody read a topic, or all
// that a pattern matches: the rule that decides about each of its names has to
// be public. In doubt they do not.
func everybodyMay(rules []tailrace.TopicRule, selector string) bool {
	for _, r := range rules {
		switch {
		case tailrace.Covers(r.Pattern, selector):
			return r.Public
		case !r.Public && overlaps(r.Pattern, selector):
			return false
		}
	}
	return false
}

// overlaps reports whether some name may be matched by both p and q.
func overlaps(p, q string) bool {
	for {
		pseg, prest, pmore := strings.Cut(p, "/")
		qseg, qrest, qmore := strings.Cut(q, "/")
		switch {
		case pseg == "**", qseg == "**":
			return true
		case pseg != "*" && qseg != "*" && pseg != qseg, pmore != qmore:
			return false
		case !pmore:
			return true
		}
		p, q = prest, qrest
	}
}

// setChallenge adds to a refusal what tells a client how to authenticate.
func (s *Server) setChallenge(h http.Header, p *problem.Problem) {
	if s.auth == nil {
		return
	}
	if challenge := auth.Challenge(p); challenge != "" {
		h.Set("WWW-Authenticate", challenge)
	}
}

// hostOf returns the host of a host:port, or all of it if it has no port.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
