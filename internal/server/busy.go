package server

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/problem"
)

// sendBusy answers a native EventSource that was refused for a while: any
// status but 200 would end it for good, so it gets an empty stream that says
// when to come back. It reports whether it has answered; others get the status.
func sendBusy(w http.ResponseWriter, r *http.Request, sub *tailrace.Subscription, err error) bool {
	var p *problem.Problem
	passes := errors.As(err, &p) && (p.StatusCode() == http.StatusTooManyRequests || p.StatusCode() == http.StatusServiceUnavailable)
	if !passes || sub.JSON || r.Method != http.MethodGet || sub.Hello || sub.Client != "" || !strings.HasPrefix(r.UserAgent(), "Mozilla/") {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	fmt.Fprintf(w, ": busy\nretry: %d\n", 1000+rand.IntN(9001))
	return true
}
