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
func (h *Hub) admit(principal, addr string) (rejectReason, *problem.Problem) {
	h.streamsMu.Lock()
	defer h.streamsMu.Unlock()
	if h.refused {
		return rejectDraining, problem.New("draining", "the server is about to stop; come back soon")
	}
	if why, p := h.places.take(principal, addr); p != nil {
		return why, p
	}
	h.streamsWG.Add(1)
	h.counters.connects.Add(1)
	return 0, nil
}

// giveUp gives back the place of s, which has ended.
func (h *Hub) giveUp(s *stream) {
	h.streamsMu.Lock()
	defer h.streamsMu.Unlock()
	delete(h.streams, s.id)
	h.places.giveBack(s.from.principal, s.from.addr)
}

// refuse answers a stream that cannot be served now. A native EventSource ends
// for good on any status but 200, so one that does not name itself gets an
// empty stream that tells it when to come back; others get the status. Either
// way the connection closes: a crowd that is refused must not use up the files.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, sub *Subscription, why rejectReason, p *problem.Problem) {
	header := w.Header()
	if r.ProtoMajor == 1 {
		header.Set("Connection", "close")
	}
	retry := jitter(minBusy, maxBusy)
	word := "busy"
	if why == rejectDraining {
		retry, word = jitter(minFarewell, maxFarewell), "draining"
	}
	soft := !sub.Hello && sub.Client == "" && strings.HasPrefix(r.UserAgent(), "Mozilla/")
	h.counters.reject(why, soft)
	if !soft {
		p.RetryAfter = retry
		problem.Write(w, p)
		return
	}
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	fmt.Fprintf(w, ": %s\nretry: %d\n", word, retry.Milliseconds())
}
