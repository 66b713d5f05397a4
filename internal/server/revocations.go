package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// The topics that all nodes follow to know what was revoked, and which tickets
// were used.
const (
	revocationsTopic = "$revocations"      // of tokens: kept while such a token could be valid
	revokedKeysTopic = "$revocations/keys" // of API keys, which may have no end
	ticketsTopic     = "$tickets"          // an own id for each use, so that the first is known
)

// followTime is how late a node knows what another has revoked, and that it
// cannot know it any more.
const followTime = time.Second / 2

// accessRules keep what was revoked and used for as long as it matters.
func accessRules(maxLifetime time.Duration) []tailrace.TopicRule {
	kept := tailrace.Policy{MaxAge: maxLifetime + time.Hour, MaxBytes: -1, IdleDelete: -1, Durability: tailrace.Fsync}
	keys, tickets := kept, kept
	keys.MaxAge = -1
	tickets.MaxAge = 5 * auth.MaxTicketTTL
	return []tailrace.TopicRule{
		{Pattern: revocationsTopic, Policy: kept}, {Pattern: revokedKeysTopic, Policy: keys}, {Pattern: ticketsTopic, Policy: tickets},
	}
}

// revocations puts in force what the log says was revoked, by this node or
// another. All methods are safe for concurrent use.
type revocations struct {
	hub    *tailrace.Hub
	auth   *auth.Authenticator
	unread atomic.Bool // the log could not be read: nobody is trusted

	mu    sync.Mutex // guards what follows, and the order in which events are put in force
	after tailrace.Cursor
	told  uint64
}

// revocationJSON is an event of the topics, and what the API shows.
type revocationJSON struct {
	ID           string `json:"id,omitempty"` // in answers only
	JTI          string `json:"jti,omitempty"`
	Issuer       string `json:"iss,omitempty"`
	Subject      string `json:"sub,omitempty"`
	Key          string `json:"key,omitempty"`
	IssuedBefore int64  `json:"issued_before,omitempty"` // seconds
}

// load puts in force what was revoked since it was last called. While it fails
// no credential is taken.
func (rs *revocations) load(ctx context.Context) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	err := rs.read(ctx)
	if err != nil && ctx.Err() == context.Canceled {
		return err // the caller has gone, which says nothing of the log
	}
	rs.unread.Store(err != nil)
	rs.auth.SetRevocationsKnown(err == nil)
	return err
}

// read is load without its consequences; mu is held.
func (rs *revocations) read(ctx context.Context) error {
	for {
		page, err := rs.hub.Log().Read(ctx, tailrace.Query{
			Select: tailrace.Selector{Topics: []string{revocationsTopic, revokedKeysTopic}}, After: rs.after, Told: rs.told,
		})
		if err != nil {
			return fmt.Errorf("server: reading the revocations: %w", err)
		}
		for i := range page.Events {
			ev := &page.Events[i]
			r, err := auth.ParseRevocation(ev.Data)
			if err != nil {
				return fmt.Errorf("server: %s holds no revocation at %v: %w", ev.Topic, ev.Cursor, err)
			}
			if ev.Remove {
				rs.auth.Reinstate(r.ID())
			} else if err := rs.auth.Revoke(r, ev.Time); err != nil {
				return err
			}
		}
		rs.after, rs.told = page.Next, page.Told
		if !page.More && page.Reset == nil { // what retention took has run out
			return nil
		}
	}
}

// store appends a revocation, or that it is taken back, and puts it in force.
func (rs *revocations) store(ctx context.Context, r auth.Revocation, back bool) error {
	data, err := json.Marshal(revocationJSON{JTI: r.JTI, Issuer: r.Issuer, Subject: r.Subject, Key: r.Key, IssuedBefore: r.IssuedBefore})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	topic := revocationsTopic
	if r.Key != "" {
		topic = revokedKeysTopic
	}
	if _, err := rs.hub.Log().Append(ctx, []tailrace.Event{{Topic: topic, Type: "revocation", Key: eventKey(r.ID()), Remove: back, Data: data}}); err != nil {
		return unknownOutcome(err)
	}
	return rs.load(ctx)
}

// eventKey is id as the key of an event, or its hash where it is none.
func eventKey(id string) string {
	if len(id) <= tailrace.MaxKey && !strings.ContainsFunc(id, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// follow keeps what was revoked in force until ctx ends.
func (rs *revocations) follow(ctx context.Context, failed func(error)) {
	changed := make(chan struct{}, 1)
	stop, err := rs.hub.Log().Watch(tailrace.Selector{Topics: []string{revocationsTopic, revokedKeysTopic}}, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	if err == nil {
		defer stop()
	}
	tick := time.NewTicker(followTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
		wasUnread := rs.unread.Load()
		one, cancel := context.WithTimeout(ctx, checkTime)
		err := rs.load(one)
		cancel()
		if err != nil && ctx.Err() == nil && !wasUnread {
			failed(err)
		}
	}
}

// revoke takes credentials back, on all nodes.
func (s *Server) revoke(w http.ResponseWriter, c *call) error {
	if s.auth == nil {
		return errDevAuth()
	}
	body, err := s.readBody(w, c.Request, maxAdminBody)
	if err != nil {
		return err
	}
	if !json.Valid(body) {
		return problem.New("invalid-json", "the body is not JSON")
	}
	r, err := auth.ParseRevocation(body)
	if err != nil {
		return problem.New("invalid-request", "%s", strings.TrimPrefix(err.Error(), "auth: "))
	}
	if err := s.revocations.store(c.Context(), r, false); err != nil {
		return err
	}
	s.opts.Logger.Info("revoked", "id", r.ID(), "by", c.principal.Name)
	return writeJSON(w, shownRevocation(r))
}

// reinstate takes a revocation back.
func (s *Server) reinstate(w http.ResponseWriter, c *call) error {
	if s.auth == nil {
		return errDevAuth()
	}
	id := c.query.Get("id")
	if id == "" {
		return problem.New("invalid-request", "say which: id=, as GET /v1/revocations shows it")
	}
	list := s.auth.Revocations()
	at := slices.IndexFunc(list, func(r auth.Revocation) bool { return r.ID() == id })
	if at >= 0 {
		if err := s.revocations.store(c.Context(), list[at], true); err != nil {
			return err
		}
		s.opts.Logger.Info("revocation taken back", "id", id, "by", c.principal.Name)
	}
	return noContent(w)
}

func (s *Server) listRevocations(w http.ResponseWriter, c *call) error {
	if s.auth == nil {
		return errDevAuth()
	}
	limit, err := intParam(c.query, "limit", defaultList, 1, maxList)
	if err != nil {
		return err
	}
	list := s.auth.Revocations()
	slices.SortFunc(list, func(a, b auth.Revocation) int { return cmp.Compare(a.ID(), b.ID()) })
	answer := struct {
		Revocations []revocationJSON `json:"revocations"`
		After       string           `json:"after,omitempty"`
	}{Revocations: []revocationJSON{}}
	for _, r := range list {
		if r.ID() <= c.query.Get("after") {
			continue
		}
		if len(answer.Revocations) == limit {
			answer.After = answer.Revocations[limit-1].ID
			break
		}
		answer.Revocations = append(answer.Revocations, shownRevocation(r))
	}
	return writeJSON(w, answer)
}

func shownRevocation(r auth.Revocation) revocationJSON {
	return revocationJSON{ID: r.ID(), JTI: r.JTI, Issuer: r.Issuer, Subject: r.Subject, Key: r.Key, IssuedBefore: r.IssuedBefore}
}

// spendTicket notes that a ticket is used and reports whether it is the first
// time: the log stores an own id once, whichever node asks.
func (s *Server) spendTicket(ctx context.Context, id string) (first bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	receipts, err := s.hub.Log().Append(ctx, []tailrace.Event{{Topic: ticketsTopic, ID: id}})
	if err == nil && len(receipts) != 1 {
		err = errors.New("server: no receipt")
	}
	if err != nil {
		return false, err
	}
	return !receipts[0].Duplicate, receipts[0].Err
}
