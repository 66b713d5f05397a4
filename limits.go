package tailrace

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// Reconnection times of a soft refusal.
const (
	minBusy = 1000 * time.Millisecond
	maxBusy = 10000 * time.Millisecond
)

// admit takes a place for a stream, or says why there is none.
func (h *Hub) admit(principal, addr string) *problem.Problem {
	h.streamsMu.Lock()
	defer h.streamsMu.Unlock()
	switch {
	case h.refused:
		return problem.New("draining", "the server is about to stop; come back soon")
	case h.admitted >= h.opts.MaxStreams:
		return problem.New("at-capacity", "%d streams are open, which is the limit", h.opts.MaxStreams)
	}
	h.admitted++
	h.streamsWG.Add(1)
	h.counters.connects.Add(1)
	return nil
}

// giveUp gives back the place of s, which has ended.
func (h *Hub) giveUp(s *stream) {
	h.streamsMu.Lock()
	defer h.streamsMu.Unlock()
	delete(h.streams, s.id)
	h.admitted--
}

// refuse answers a stream that cannot be served now. A native EventSource ends
// for good on any status but 200, so one that does not name itself gets an
// empty stream that tells it when to come back; others get the status.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, sub *Subscription, p *problem.Problem) {
	h.counters.rejects.Add(1)
	retry := jitter(minBusy, maxBusy)
	word := "busy"
	if p.Name == "draining" {
		retry, word = jitter(minFarewell, maxFarewell), "draining"
	}
	if sub.Hello || sub.Client != "" || !strings.HasPrefix(r.UserAgent(), "Mozilla/") {
		p.RetryAfter = retry
		problem.Write(w, p)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	fmt.Fprintf(w, ": %s\nretry: %d\n", word, retry.Milliseconds())
}
