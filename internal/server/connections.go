package server

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// maxControlBody bounds what is sent to single connections: it waits in
// memory, and is not logged.
const maxControlBody = 1 << 20

var controlProblems = []string{
	"body-timeout", "invalid-json", "not-text", "reserved-type", "too-large", "unsupported-charset", "unsupported-encoding", "unsupported-type",
}

// connection is an open stream as the API shows it.
type connection struct {
	ID         string          `json:"id"`
	Principal  string          `json:"principal,omitempty"`
	Payload    json.RawMessage `json:"payload,omitempty"`
	Topics     []string        `json:"topics"`
	Cursor     string          `json:"cursor,omitempty"`
	LagEvents  int64           `json:"lag_events"`
	Opened     time.Time       `json:"opened"`
	SentEvents int64           `json:"sent_events"`
	SentBytes  int64           `json:"sent_bytes"`
	Protocol   string          `json:"protocol"`
	Engine     string          `json:"engine"`
	IP         string          `json:"ip"`
	UserAgent  string          `json:"user_agent,omitempty"`
	Client     string          `json:"client,omitempty"`
	Node       string          `json:"node"`
	Expires    *time.Time      `json:"expires,omitempty"` // end of the credential
}

func (s *Server) connection(c *tailrace.ConnInfo) connection {
	shown := connection{
		ID: c.ID, Principal: c.Principal, Topics: slices.Concat([]string{}, c.Select.Topics, c.Select.Patterns), Cursor: cursorText(c.Cursor),
		LagEvents: c.LagEvents, Opened: c.Opened.UTC().Truncate(time.Millisecond), SentEvents: c.SentEvents, SentBytes: c.SentBytes,
		Protocol: c.Protocol, Engine: c.Engine, IP: hostOf(c.Addr), UserAgent: c.UserAgent, Client: c.Client, Node: s.opts.Node,
	}
	if w := s.watches.get(c.ID); w != nil {
		shown.Payload = w.principal.Payload
		if end := w.principal.Expires.UTC().Truncate(time.Millisecond); !w.principal.Expires.IsZero() {
			shown.Expires = &end
		}
	}
	return shown
}

// refreshToken puts the bearer of the request in the place of whoever opened a
// stream, so that the stream outlives the credential it was opened with. It
// must be the same principal, with the same filter, which a stream keeps. Topics
// that it may not read any more leave the stream, which ends with the last.
func (s *Server) refreshToken(w http.ResponseWriter, c *call) error {
	if s.auth == nil {
		return errDevAuth()
	}
	if err := s.authenticate(c); err != nil {
		return err
	}
	if c.principal.Carrier != auth.InHeader {
		return problem.New("unauthenticated", "send the new token as Authorization: Bearer")
	}
	old := s.watches.get(c.name)
	if old == nil {
		return tailrace.ErrNoConnection
	}
	if !old.principal.SameAs(c.principal) {
		return problem.New("principal-mismatch", "the stream was opened by another principal")
	}
	topics, lost := s.stillAllowed(c, old.topics)
	if len(topics) == 0 {
		s.hub.Disconnect(c.name, auth.Forbidden)
		return noContent(w)
	}
	if err := s.decide(c, auth.Subscribe, topics); err != nil {
		return err
	}
	if !old.principal.SameAs(c.principal) || !sameFilter(old.principal, c.principal) {
		return problem.New("principal-mismatch", "the new token has another filter, which an open stream cannot take; open a new one")
	}
	if len(lost) > 0 {
		ctx, cancel := context.WithTimeout(c.Context(), s.changeTime)
		defer cancel()
		if _, _, err := s.hub.Change(ctx, c.name, tailrace.Change{Remove: lost, Reason: auth.Forbidden}); err != nil {
			s.hub.Disconnect(c.name, auth.Forbidden) // it must not go on with what it has
			return noContent(w)
		}
	}
	if !s.rewatch(c.name, old, c.principal, topics) {
		return tailrace.ErrNoConnection // or another has refreshed it meanwhile
	}
	return noContent(w)
}

// stillAllowed divides topics into those that the principal of the request may
// read and those that it may not.
func (s *Server) stillAllowed(c *call, topics []string) (allowed, lost []string) {
	for _, t := range topics {
		if _, refusal := s.auth.Decide(c.Request, auth.Subscribe, []string{t}); refusal != nil && refusal.Name == "forbidden" {
			lost = append(lost, t)
		} else {
			allowed = append(allowed, t)
		}
	}
	return allowed, lost
}

// sameFilter reports whether the filters of two principals let the same events
// pass.
func sameFilter(p, q *auth.Principal) bool {
	return slices.Equal(p.Filters, q.Filters) && (len(p.Filters) == 0 || reflect.DeepEqual(filterClaims(p), filterClaims(q)))
}

// filterClaims are the claims that say something of the principal, and not of
// the token.
func filterClaims(p *auth.Principal) map[string]any {
	claims := p.Claims()
	for _, name := range []string{"exp", "iat", "nbf", "jti"} {
		delete(claims, name)
	}
	return claims
}

// filter reports which connections the parameters topic, principal and node
// select; any is whether they select at all.
func (s *Server) filter(c *call) (match func(*tailrace.ConnInfo) bool, any bool, err error) {
	topics, principal, node := c.query["topic"], c.query.Get("principal"), c.query.Get("node")
	for _, t := range topics {
		if err := checkTopic(t); err != nil {
			return nil, false, err
		}
	}
	match = func(conn *tailrace.ConnInfo) bool {
		return (principal == "" || conn.Principal == principal) && (node == "" || node == s.opts.Node) && selects(conn.Select, topics)
	}
	return match, len(topics) > 0 || principal != "" || node != "", nil
}

func (s *Server) listConnections(w http.ResponseWriter, c *call) error {
	match, _, err := s.filter(c)
	if err != nil {
		return err
	}
	limit, err := intParam(c.query, "limit", defaultList, 1, maxList)
	if err != nil {
		return err
	}
	count, err := flagParam(c.query, "count")
	if err != nil {
		return err
	}
	after := c.query.Get("after")
	var found []tailrace.ConnInfo
	for conn := range s.hub.Connections() {
		if match(&conn) && (count || conn.ID > after) {
			found = append(found, conn)
		}
	}
	if count {
		return writeJSON(w, map[string]any{"count": len(found), "nodes": map[string]int{s.opts.Node: len(found)}, "missing": []string{}})
	}
	slices.SortFunc(found, func(a, b tailrace.ConnInfo) int { return cmp.Compare(a.ID, b.ID) })
	answer := struct {
		Connections []connection `json:"connections"`
		After       string       `json:"after,omitempty"`
		Missing     []string     `json:"missing"`
	}{[]connection{}, "", []string{}}
	for i := range found {
		if i == limit {
			answer.After = found[limit-1].ID
			break
		}
		answer.Connections = append(answer.Connections, s.connection(&found[i]))
	}
	return writeJSON(w, answer)
}

func (s *Server) showConnection(w http.ResponseWriter, c *call) error {
	conn, ok := s.hub.Connection(c.name)
	if !ok {
		return tailrace.ErrNoConnection
	}
	return writeJSON(w, s.connection(&conn))
}

func (s *Server) disconnect(w http.ResponseWriter, c *call) error {
	reason, err := disconnectReason(c)
	if err != nil {
		return err
	}
	if err := s.hub.Disconnect(c.name, reason); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) disconnectMany(w http.ResponseWriter, c *call) error {
	match, any, err := s.filter(c)
	if err != nil {
		return err
	}
	reason, err := disconnectReason(c)
	if err != nil {
		return err
	}
	if !any {
		return problem.New("invalid-request", "say which: topic=, principal= or node=")
	}
	for conn := range s.hub.Connections() {
		if match(&conn) {
			s.hub.Disconnect(conn.ID, reason) // one that has just ended is what was asked for
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// disconnectReason is what the stream's last event tells the client.
func disconnectReason(c *call) (string, error) {
	reason := c.query.Get("reason")
	if reason == "" {
		return "disconnected", nil
	}
	if err := checkType("reason", reason); err != nil {
		return "", err
	}
	return reason, nil
}

func (s *Server) sendToOne(w http.ResponseWriter, c *call) error {
	if _, ok := s.hub.Connection(c.name); !ok {
		return tailrace.ErrNoConnection
	}
	ev, err := s.controlEvent(w, c)
	if err != nil {
		return err
	}
	if err := s.hub.Send(c.Context(), c.name, ev); err != nil {
		return err
	}
	return writeJSON(w, map[string]int{"queued": 1})
}

func (s *Server) broadcast(w http.ResponseWriter, c *call) error {
	for _, t := range c.query["topic"] {
		if err := checkTopic(t); err != nil {
			return err
		}
	}
	ev, err := s.controlEvent(w, c)
	if err != nil {
		return err
	}
	queued, skipped, err := s.hub.Broadcast(c.Context(), tailrace.Selector{Topics: c.query["topic"]}, ev)
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"queued": queued, "skipped": skipped, "missing": []string{}})
}

// controlEvent reads an event that is sent to connections and not stored: the
// body is its data, event and retry are parameters or headers.
func (s *Server) controlEvent(w http.ResponseWriter, c *call) (*tailrace.Event, error) {
	media := c.Header.Get("Content-Type")
	if err := checkMedia(media); err != nil {
		return nil, err
	}
	ev := &tailrace.Event{}
	var err error
	if ev.Type, err = queryOrHeader(c, "event", "Tailrace-Event"); err != nil {
		return nil, err
	}
	if err := checkType("event", ev.Type); err != nil {
		return nil, err
	}
	if strings.HasPrefix(ev.Type, tailrace.ReservedTypePrefix) {
		return nil, problem.New("reserved-type", "%q begins with %s", ev.Type, tailrace.ReservedTypePrefix)
	}
	retry, err := queryOrHeader(c, "retry", "Tailrace-Retry")
	if err != nil {
		return nil, err
	}
	if retry != "" {
		ms, err := strconv.Atoi(retry)
		if err != nil || ms < 0 || ms > 3_600_000 {
			return nil, problem.New("invalid-parameter", "retry is %q, and must be milliseconds from 0 to 3600000", retry).With("parameter", "retry")
		}
		ev.Retry = time.Duration(ms) * time.Millisecond
	}
	if ev.Data, err = s.readBody(w, c.Request, maxControlBody); err != nil {
		return nil, err
	}
	return ev, checkData(media, ev.Data)
}

// queryOrHeader returns a parameter that may be given in either place.
func queryOrHeader(c *call, param, header string) (string, error) {
	q, h := c.query[param], c.Header.Values(header)
	all := slices.Compact(slices.Concat(q, h))
	switch len(all) {
	case 0:
		return "", nil
	case 1:
		return all[0], nil
	}
	return "", problem.New("conflicting-parameter", "%s is given with different values, as parameter or as header %s", param, header).With("parameter", param)
}

// checkType checks a text that becomes a field of an event.
func checkType(name, text string) error {
	if len(text) > tailrace.MaxType || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || 0x7f <= r && r <= 0x9f }) {
		return problem.New("invalid-parameter", "%s has up to %d bytes of UTF-8 without control characters", name, tailrace.MaxType).With("parameter", name)
	}
	return nil
}
