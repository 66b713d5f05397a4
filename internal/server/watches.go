package server

import (
	"context"
	"net/http"
	"sync"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// watches are the open streams and who opened them, so that a stream ends when
// its principal may not go on. The zero value is empty.
type watches struct {
	mu   sync.Mutex
	open map[string]*watched // by connection
}

// watched is what a stream was opened for.
type watched struct {
	principal *auth.Principal
	topics    []string
	stop      func()
}

// put keeps the watch on a connection.
func (ws *watches) put(id string, w *watched) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.open == nil {
		ws.open = map[string]*watched{}
	}
	ws.open[id] = w
}

func (ws *watches) get(id string) *watched {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.open[id]
}

// end stops the watch on a connection. Ending twice is no error.
func (ws *watches) end(id string) {
	ws.mu.Lock()
	w := ws.open[id]
	delete(ws.open, id)
	ws.mu.Unlock()
	if w != nil {
		w.stop()
	}
}

// StreamEnded has to be called from the hub's OnDisconnect, which follows each
// head that named a connection: nobody watches the stream any more.
func (s *Server) StreamEnded(c tailrace.ConnInfo) { s.watches.end(c.ID) }

// serveStream serves a stream, and ends it as soon as its principal may not go
// on. The hub names the connection when the head is about to leave, which is
// when the watch begins; what happened before is seen then. Where the fast
// engine takes the connection over, serving returns before the stream ends.
func (s *Server) serveStream(w http.ResponseWriter, c *call, sub *tailrace.Subscription, topics []string) {
	if rec, _ := w.(*response); rec != nil && s.auth != nil {
		rec.before = func() {
			if id := rec.Header().Get("Tailrace-Connection"); id != "" {
				s.watches.put(id, s.watchStream(id, c.principal, topics))
			}
		}
	}
	s.hub.Serve(w, c.Request, sub)
}

func (s *Server) watchStream(id string, p *auth.Principal, topics []string) *watched {
	stop := s.auth.Watch(p, auth.Use{Do: auth.Subscribe, Topics: topics}, func(reason string) {
		s.hub.Disconnect(id, reason) // one that has just ended is what was wanted
	})
	return &watched{p, topics, stop}
}

// rewatch watches a stream for another principal, or other topics, and reports
// whether old, what it was watched for, still was in force.
func (s *Server) rewatch(id string, old *watched, p *auth.Principal, topics []string) bool {
	next := s.watchStream(id, p, topics) // before the old one stops, so that nothing is missed
	s.watches.mu.Lock()
	same := s.watches.open[id] == old
	if same {
		s.watches.open[id] = next
	}
	s.watches.mu.Unlock()
	if same {
		old.stop()
	} else {
		next.stop()
	}
	return same
}

// watchRequest ends the context of a request that lasts, a long-poll or an
// upload, as soon as its principal may not go on; the cause is the answer.
func (s *Server) watchRequest(c *call, do auth.Action, topics []string) (stop func()) {
	if s.auth == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancelCause(c.Context())
	unwatch := s.auth.Watch(c.principal, auth.Use{Do: do, Topics: topics}, func(reason string) { cancel(notAnyMore(reason)) })
	c.Request = c.WithContext(ctx)
	return func() {
		unwatch()
		cancel(nil)
	}
}

// notAnyMore is the answer to a request whose principal may not go on.
func notAnyMore(reason string) *problem.Problem {
	switch reason {
	case auth.Expired:
		return problem.New("token-expired", "the credential expired while the request was open")
	case auth.Forbidden:
		return problem.New("forbidden", "the right was taken away while the request was open")
	}
	return problem.New("token-revoked", "the credential was revoked while the request was open")
}
