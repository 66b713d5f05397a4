package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// changeTime is how long a stream may take to come to a change and to send the
// history that it brings.
const changeTime = 5 * time.Second

// changeTopics adds topics to an open stream and takes others away. Only who
// opened the stream may do so, and needs the right for what is added.
func (s *Server) changeTopics(w http.ResponseWriter, c *call) error {
	old, err := s.ownStream(c)
	if err != nil {
		return err
	}
	var req struct {
		Add []struct {
			Topic    string `json:"topic"`
			From     string `json:"from"`
			Snapshot bool   `json:"snapshot"`
		} `json:"add"`
		Remove []string `json:"remove"`
	}
	if err := s.readJSON(w, c.Request, &req, []string{"add", "remove"}); err != nil {
		return err
	}
	if len(req.Add)+len(req.Remove) == 0 {
		return problem.New("invalid-request", `the body has {"add":[{"topic":…}]}, {"remove":[…]} or both`)
	}
	change := tailrace.Change{Remove: req.Remove}
	var added []string
	for _, a := range req.Add {
		from, err := tailrace.ParseFrom(a.From)
		if err != nil {
			return problem.New("invalid-parameter", "from of %q: %v", a.Topic, err).With("parameter", "from")
		}
		if _, err := tailrace.ParseSelector(a.Topic); err != nil {
			return err
		}
		added = append(added, a.Topic)
		change.Add = append(change.Add, tailrace.Addition{Part: a.Topic, From: from, Snapshot: a.Snapshot})
	}
	if len(added) > 0 {
		if err := s.decide(c, auth.Subscribe, added); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(c.Context(), s.changeTime)
	defer cancel()
	at, sel, err := s.hub.Change(ctx, c.name, change)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return problem.New("patch-timeout", "the stream has not come to it; read tailrace.topics there")
	case err != nil:
		return err
	}
	topics := slices.Concat(sel.Topics, sel.Patterns)
	if old != nil && !s.rewatch(c.name, old, old.principal, topics) {
		return tailrace.ErrNoConnection
	}
	return writeJSON(w, map[string]any{"cursor": at.String(), "topics": topics})
}

// ownStream returns the watch on the stream that the path names, if who asks has
// opened it. Without auth there is none, and everybody may.
func (s *Server) ownStream(c *call) (*watched, error) {
	if err := s.authenticate(c); err != nil {
		return nil, err
	}
	if s.auth == nil {
		return nil, nil
	}
	w := s.watches.get(c.name)
	own := w != nil && w.principal.SameAs(c.principal)
	switch {
	case !own && c.principal.IsAnonymous():
		return nil, problem.New("unauthenticated", "say who you are: only who opened a stream may change it")
	case w == nil:
		return nil, tailrace.ErrNoConnection
	case !own:
		return nil, problem.New("principal-mismatch", "the stream was opened by another principal")
	}
	return w, nil
}
