package tailrace

import (
	"net/http"
	"strconv"

	"github.com/tailrace/tailrace/internal/problem"
)

// serveHead answers HEAD on one topic: what a page or a stream of it would
// find, in headers. It never opens a stream.
func (h *Hub) serveHead(w http.ResponseWriter, r *http.Request, sub *Subscription) {
	topic, ok := sub.Select.Single()
	if !ok {
		w.Header().Set("Allow", "GET, QUERY")
		problem.Write(w, problem.New("method-not-allowed", "HEAD describes one topic, and this names several"))
		return
	}
	info, err := h.log.Stat(r.Context(), topic)
	if err != nil {
		writeProblem(w, h.readProblem(err))
		return
	}
	if !info.Exists {
		problem.Write(w, problem.New("topic-not-found", "nothing was ever published to %q, or it was deleted", topic))
		return
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Type", "application/json")
	if !info.Head.IsZero() {
		header.Set("Tailrace-Head", info.Head.String())
	}
	if !info.Floor.IsZero() { // nothing can be read at or below it
		header.Set("Tailrace-Oldest", info.Floor.String())
	}
	header.Set("Tailrace-Count", strconv.FormatInt(info.Count, 10))
	closed := "0"
	if info.Closed {
		closed = "1"
	}
	header.Set("Tailrace-Closed", closed)
	w.WriteHeader(http.StatusOK)
}
