package server

import (
	"context"
	"net/http"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// Names of a page of topics.
const (
	defaultList = 100
	maxList     = 1000
)

type topicItem struct {
	Topic  string `json:"topic"`
	Head   string `json:"head,omitempty"`
	Closed bool   `json:"closed"`
}

func (s *Server) listTopics(w http.ResponseWriter, c *call) error {
	limit, err := intParam(c.query, "limit", defaultList, 1, maxList)
	if err != nil {
		return err
	}
	pattern := c.query.Get("pattern")
	if pattern == "" {
		pattern = "**"
	}
	sel, err := tailrace.ParseSelector(pattern)
	if err != nil {
		return err
	}
	if err := s.decide(c, auth.Subscribe, []string{pattern}); err != nil {
		return err
	}
	log, ctx := s.hub.Log(), c.Context()
	names, err := log.List(ctx, sel, c.query.Get("after"), limit+1) // one more tells whether there are more
	if err != nil {
		return err
	}
	answer := struct {
		Topics []topicItem `json:"topics"`
		After  string      `json:"after,omitempty"` // given as after, the next page; absent on the last
	}{Topics: []topicItem{}}
	for i, name := range names {
		if i == limit {
			answer.After = names[limit-1]
			break
		}
		info, err := log.Stat(ctx, name)
		if err != nil {
			return err
		}
		answer.Topics = append(answer.Topics, topicItem{Topic: name, Head: cursorText(info.Head), Closed: info.Closed})
	}
	return writeJSON(w, answer)
}

// cursorText is the text of a cursor, "" for none.
func cursorText(c tailrace.Cursor) string {
	if c.IsZero() {
		return ""
	}
	return c.String()
}

// stat describes a topic that exists.
func (s *Server) stat(ctx context.Context, topic string) (tailrace.Info, error) {
	info, err := s.hub.Log().Stat(ctx, topic)
	if err == nil && !info.Exists {
		err = problem.New("topic-not-found", "nothing was published to %q, or it was deleted", topic)
	}
	return info, err
}

func (s *Server) statTopic(w http.ResponseWriter, c *call) error {
	info, err := s.stat(c.Context(), c.name)
	if err != nil {
		return err
	}
	readers := 0
	for conn := range s.hub.Connections() {
		if conn.Select.Match(c.name) {
			readers++
		}
	}
	return writeJSON(w, struct {
		topicItem
		Oldest      string     `json:"oldest,omitempty"` // nothing can be read at or below it; absent while nothing was removed
		Count       int64      `json:"count"`
		Policy      policyJSON `json:"policy"`
		Connections int        `json:"connections"`
	}{
		topicItem:   topicItem{Topic: c.name, Head: cursorText(info.Head), Closed: info.Closed},
		Oldest:      cursorText(info.Floor),
		Count:       info.Count,
		Policy:      policyOf(s.hub.Rule(c.name)),
		Connections: readers,
	})
}

// trimRequest is the body of a trim: one of its members.
type trimRequest struct {
	Before *string `json:"before"` // cursor: events before it go
	Age    *string `json:"age"`    // duration: events older than it go
	Keep   *int64  `json:"keep"`   // all but the newest so many go
}

func (s *Server) trimTopic(w http.ResponseWriter, c *call) error {
	if err := checkWritable(c.name); err != nil {
		return err
	}
	var req trimRequest
	if err := s.readJSON(w, c.Request, &req, []string{"before", "age", "keep"}); err != nil {
		return err
	}
	ctx := c.Context()
	info, err := s.stat(ctx, c.name)
	if err != nil {
		return err
	}
	upTo, err := s.trimPoint(ctx, c.name, &req, info)
	if err != nil {
		return err
	}
	if !upTo.IsZero() {
		if err := s.hub.Log().Trim(ctx, c.name, upTo); err != nil {
			return err
		}
	}
	if info, err = s.hub.Log().Stat(ctx, c.name); err != nil {
		return err
	}
	return writeJSON(w, map[string]string{"oldest": cursorText(info.Floor)})
}

// trimPoint returns the cursor up to and with which a trim removes, zero for
// nothing.
func (s *Server) trimPoint(ctx context.Context, topic string, req *trimRequest, info tailrace.Info) (tailrace.Cursor, error) {
	sel := tailrace.Selector{Topics: []string{topic}}
	switch {
	case req.Before != nil && req.Age == nil && req.Keep == nil:
		before, err := tailrace.ParseCursor(*req.Before)
		if err != nil {
			return tailrace.Cursor{}, problem.New("invalid-parameter", "before is %q, which is no cursor", *req.Before).With("parameter", "before")
		}
		page, err := s.hub.Log().Read(ctx, tailrace.Query{Select: sel, After: before, Limit: 1})
		if err != nil {
			return tailrace.Cursor{}, err
		}
		if r := page.Reset; r != nil && (r.Reason == tailrace.EpochGap || r.Reason == tailrace.Ahead) {
			return tailrace.Cursor{}, problem.New("invalid-parameter", "before is %q, which is no cursor of this log", *req.Before).With("parameter", "before")
		}
		return previous(before), nil

	case req.Age != nil && req.Before == nil && req.Keep == nil:
		age, err := time.ParseDuration(*req.Age)
		if err != nil || age < 0 {
			return tailrace.Cursor{}, problem.New("invalid-parameter", "age is %q, and must be a duration such as 90s or 24h", *req.Age).With("parameter", "age")
		}
		return s.before(ctx, tailrace.Query{Select: sel, Since: time.Now().Add(-age), Limit: 1}, info.Head)

	case req.Keep != nil && req.Before == nil && req.Age == nil:
		keep := *req.Keep
		switch {
		case keep < 0:
			return tailrace.Cursor{}, problem.New("invalid-parameter", "keep is %d, and must be 0 or more", keep).With("parameter", "keep")
		case keep == 0:
			return info.Head, nil
		case keep <= tailrace.MaxLast:
			return s.before(ctx, tailrace.Query{Select: sel, Last: int(keep), Limit: 1}, info.Head)
		}
		return s.walk(ctx, sel, info.Count-keep)
	}
	return tailrace.Cursor{}, problem.New("invalid-request", `the body has one of {"before":cursor}, {"age":"1h"} and {"keep":100}`)
}

// before returns the place before the first event that q reads, or head if it
// reads none.
func (s *Server) before(ctx context.Context, q tailrace.Query, head tailrace.Cursor) (tailrace.Cursor, error) {
	for {
		page, err := s.hub.Log().Read(ctx, q)
		switch {
		case err != nil:
			return tailrace.Cursor{}, err
		case len(page.Events) > 0:
			return previous(page.Events[0].Cursor), nil
		case !page.More:
			return head, nil
		}
		q = tailrace.Query{Select: q.Select, After: page.Next, Told: page.Told, Limit: 1}
	}
}

// walk returns the cursor of the nth oldest event. What is appended meanwhile
// does not count, so that never too much is trimmed.
func (s *Server) walk(ctx context.Context, sel tailrace.Selector, n int64) (tailrace.Cursor, error) {
	var at tailrace.Cursor
	q := tailrace.Query{Select: sel}
	for n > 0 {
		q.Limit = int(min(n, 1000))
		page, err := s.hub.Log().Read(ctx, q)
		if err != nil {
			return tailrace.Cursor{}, err
		}
		if k := len(page.Events); k > 0 {
			at, n = page.Events[k-1].Cursor, n-int64(k)
		}
		if page.Reset != nil || !page.More {
			break // somebody else trims too: it has gone as far
		}
		q = tailrace.Query{Select: sel, After: page.Next, Told: page.Told}
	}
	return at, nil
}

// previous is the place before the event at c.
func previous(c tailrace.Cursor) tailrace.Cursor {
	if c.Pos <= 1 {
		return tailrace.Cursor{}
	}
	c.Pos--
	return c
}

func (s *Server) closeTopic(w http.ResponseWriter, c *call) error {
	if err := checkWritable(c.name); err != nil {
		return err
	}
	if s.hub.Rule(c.name).Retired {
		return tailrace.ErrRetired
	}
	final, err := s.hub.CloseTopic(c.Context(), c.name)
	if err != nil {
		return unknownOutcome(err)
	}
	return writeJSON(w, map[string]string{"final": final.String()})
}

func (s *Server) deleteTopic(w http.ResponseWriter, c *call) error {
	if err := checkWritable(c.name); err != nil {
		return err
	}
	retire, err := flagParam(c.query, "retire")
	if err != nil {
		return err
	}
	if retire {
		if err := s.policies.retire(c.Context(), c.name); err != nil {
			return err
		}
	}
	if err := s.hub.Log().Delete(c.Context(), c.name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
