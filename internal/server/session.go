package server

import (
	"net/http"
	"strings"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// errDevAuth answers what makes no sense where nobody is asked for credentials.
func errDevAuth() error {
	return problem.New("not-supported", "in dev mode nobody needs credentials; start the server without --dev and with an auth section")
}

// beginSession puts the token of the request into a cookie.
func (s *Server) beginSession(w http.ResponseWriter, c *call) error {
	if s.auth == nil {
		return errDevAuth()
	}
	if err := s.authenticate(c); err != nil {
		return err
	}
	cookie, refusal := s.auth.Session(c.Request, c.principal)
	if refusal != nil {
		return refusal
	}
	http.SetCookie(w, cookie)
	return noContent(w)
}

// endSession clears the cookie, whatever is in it: it may have expired. A page
// of another site may not do it.
func (s *Server) endSession(w http.ResponseWriter, c *call) error {
	if s.auth == nil {
		return errDevAuth()
	}
	if _, refusal := s.auth.Authenticate(c.Request); refusal != nil && refusal.StatusCode() != http.StatusUnauthorized {
		return refusal
	}
	http.SetCookie(w, auth.EndSession())
	return noContent(w)
}

func noContent(w http.ResponseWriter) error {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// ticketRequest is the body that asks for a ticket.
type ticketRequest struct {
	Topics    []string     `json:"topics"`
	TTL       jsonDuration `json:"ttl"`
	Filter    string       `json:"filter"`
	Reconnect bool         `json:"reconnect"`
}

var ticketMembers = []string{"topics", "ttl", "filter", "reconnect"}

// ticketsPerMinute is what one principal gets: a page needs one for each time
// that it opens a stream.
const ticketsPerMinute = 600

// issueTicket makes a ticket for an EventSource that cannot send a header.
func (s *Server) issueTicket(w http.ResponseWriter, c *call) error {
	if s.auth == nil {
		return errDevAuth()
	}
	if err := s.authenticate(c); err != nil { // before the body is read
		return err
	}
	var req ticketRequest
	if err := s.readJSON(w, c.Request, &req, ticketMembers); err != nil {
		return err
	}
	if len(req.Topics) == 0 {
		return problem.New("no-topic", `name the topics that the ticket opens, for example {"topics":["orders/*"]}`)
	}
	if _, err := tailrace.ParseSelector(req.Topics...); err != nil {
		return tailrace.InvalidTopic(err)
	}
	if req.Filter != "" {
		if err := s.filters.Check(req.Filter, false); err != nil {
			return filterProblem(err)
		}
	}
	if err := s.decide(c, auth.Subscribe, req.Topics); err != nil {
		return err
	}
	if err := s.quotas.take("tickets", c.principal.Name, ticketsPerMinute); err != nil {
		return err
	}
	ticket, refusal := s.auth.IssueTicket(c.principal, auth.TicketRequest{
		Topics: req.Topics, TTL: time.Duration(req.TTL), Filter: req.Filter, Reconnect: req.Reconnect,
	})
	if refusal != nil {
		return refusal
	}
	return writeJSON(w, ticket)
}

// withoutTicket returns r without the ticket in its URL, which nothing behind
// the decision needs.
func withoutTicket(r *http.Request) *http.Request {
	if !strings.Contains(r.URL.RawQuery, "ticket=") {
		return r
	}
	q := r.URL.Query()
	q.Del("ticket")
	u := *r.URL
	u.RawQuery = q.Encode()
	r = r.WithContext(r.Context())
	r.URL = &u
	return r
}
