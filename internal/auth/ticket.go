package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

const (
	maxTicket      = 12 << 10       // characters: with the topics it must fit into a URL
	maxTicketLife  = 12 * time.Hour // of one that reopens
	maxTicketTopic = 128            // topics of one
)

// TicketRequest is what a page asks for: a ticket that opens one stream of
// these topics and patterns, for an EventSource that cannot send a header.
type TicketRequest struct {
	Topics    []string
	TTL       time.Duration // until it must be used; 0 is the configuration's
	Filter    string        // what each event must pass, besides the caller's own; "" is nothing more
	Reconnect bool          // it opens again and again, one stream at a time, until the caller's credential ends
}

// Ticket is a ticket and the path that uses it.
type Ticket struct {
	Ticket  string    `json:"ticket"`
	Expires time.Time `json:"expires"`
	URL     string    `json:"url"`
}

// ticketBody is what a ticket says, sealed.
type ticketBody struct {
	ID      string          `json:"i"`
	Use     int64           `json:"u"`           // ms: last moment of use
	Expires int64           `json:"x,omitempty"` // ms: end of the streams it opens; 0 is never
	Again   bool            `json:"r,omitempty"` // it reopens
	Name    string          `json:"n"`
	Method  Method          `json:"m"`
	From    identity        `json:"d"`
	Grants  Grants          `json:"g"`
	Filters []string        `json:"f,omitempty"`
	Claims  json.RawMessage `json:"c,omitempty"` // only where a filter may want them
	Payload json.RawMessage `json:"p,omitempty"`
}

// IssueTicket makes a ticket with rights of p, narrowed to the topics.
func (a *Authenticator) IssueTicket(p *Principal, req TicketRequest) (*Ticket, *problem.Problem) {
	rs := a.rules.Load()
	now := time.Now()
	switch {
	case a.opts.Spend == nil:
		return nil, &problem.Problem{Name: "not-supported", Status: 501, Detail: "this server has no place to note that a ticket was used"}
	case p.Carrier == InTicket:
		return nil, refuse("forbidden", "a ticket opens streams and nothing else; ask with the token itself").With("action", Subscribe)
	case len(req.Topics) == 0 || len(req.Topics) > maxTicketTopic:
		return nil, refuse("invalid-request", "topics has %d entries; a ticket is for 1 to %d", len(req.Topics), maxTicketTopic)
	case req.TTL < 0 || req.TTL > MaxTicketTTL:
		return nil, refuse("invalid-request", "ttl is %v; a ticket lives for up to %v", req.TTL, MaxTicketTTL)
	}
	if refusal := a.allow(nil, rs, p, Subscribe, req.Topics); refusal != nil {
		return nil, refusal
	}
	ttl := req.TTL
	if ttl == 0 {
		ttl = rs.ticketTTL
	}
	use := now.Add(ttl)
	if req.Reconnect {
		use = now.Add(maxTicketLife)
	}
	use = earliest(use, p.Expires)
	body := ticketBody{
		ID: rand.Text(), Use: use.UnixMilli(), Again: req.Reconnect, Name: p.Name, Method: p.Method, From: p.id,
		Grants: narrowed(req.Topics), Filters: p.Filters, Payload: p.Payload,
	}
	if !p.Expires.IsZero() {
		body.Expires = p.Expires.UnixMilli()
	}
	if req.Filter != "" {
		body.Filters = append(slices.Clip(p.Filters), req.Filter)
	}
	if len(body.Filters) > 0 {
		body.Claims = p.claims
	}
	text, err := a.seal(rs, &body)
	if err != nil {
		return nil, refuse("too-large", "%v; name fewer topics, or use patterns", err)
	}
	query := url.Values{"topic": req.Topics, "ticket": {text}}
	return &Ticket{Ticket: text, Expires: use.UTC().Truncate(time.Millisecond), URL: "/v1/events?" + query.Encode()}, nil
}

// narrowed returns the grants that reading these topics needs, and no more.
func narrowed(topics []string) Grants {
	var g Grants
	for _, t := range topics {
		if rest, ok := strings.CutPrefix(t, "$presence/"); ok {
			g.Presence = append(g.Presence, rest)
		} else if strings.HasPrefix(t, "$") {
			g.Admin = append(g.Admin, t)
		} else {
			g.Subscribe = append(g.Subscribe, t)
		}
	}
	return g
}

// ticketCipher returns the cipher of tickets. Its key is derived, so that the
// same secret in another place gives no way in here.
func (a *Authenticator) ticketCipher(rs *rules) cipher.AEAD {
	secret := rs.ticketKey
	if secret == nil {
		secret = a.ownKey[:]
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "tailrace ticket 1", 32)
	if err != nil {
		panic(err) // 32 bytes are no error
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return aead
}

func (a *Authenticator) seal(rs *rules, body *ticketBody) (string, error) {
	plain, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(a.ticketCipher(rs).Seal(nil, nil, plain, nil))
	if len(text) > maxTicket {
		return "", fmt.Errorf("the ticket would have %d characters, the limit is %d", len(text), maxTicket)
	}
	return text, nil
}

func (a *Authenticator) unseal(rs *rules, text string) (*ticketBody, error) {
	if len(text) > maxTicket {
		return nil, errors.New("is too long")
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, err
	}
	plain, err := a.ticketCipher(rs).Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, err
	}
	var body ticketBody
	return &body, json.Unmarshal(plain, &body)
}

// authenticateTicket returns the principal of a ticket, which it does not
// spend: that waits until all else has been granted.
func (a *Authenticator) authenticateTicket(t *trail, rs *rules, text string, now time.Time) (*Principal, *problem.Problem) {
	body, err := a.unseal(rs, text)
	if err != nil || a.opts.Spend == nil {
		return nil, t.no("ticket", refuse("invalid-token", "the ticket was not made here, or under another key"))
	}
	if !now.Before(time.UnixMilli(body.Use)) {
		return nil, t.no("ticket", refuse("ticket-spent", "the ticket's time is over; fetch another"))
	}
	t.yes("ticket", "the ticket was issued to %s", body.Name)
	p := &Principal{
		Name: body.Name, Method: body.Method, Carrier: InTicket, Grants: body.Grants, Filters: body.Filters, Payload: body.Payload,
		id: body.From, own: body.Grants, claims: body.Claims, ticketID: body.ID, reopens: body.Again,
	}
	if body.Expires != 0 {
		p.Expires = time.UnixMilli(body.Expires)
	}
	return p, nil
}

// spend makes a one-time ticket useless.
func (a *Authenticator) spend(ctx context.Context, t *trail, p *Principal) *problem.Problem {
	if p.Carrier != InTicket || p.reopens {
		return nil
	}
	first, err := a.opts.Spend(ctx, p.ticketID)
	switch {
	case err != nil:
		return t.no("spend", unavailable("it could not be noted that the ticket was used"))
	case !first:
		return t.no("spend", refuse("ticket-spent", "the ticket was used before; fetch another"))
	}
	return nil
}
