package cli

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

const (
	firstDelay = 250 * time.Millisecond // a server that restarts is back in about this time
	maxDelay   = 10 * time.Second

	// attemptTimeout is above the server's own publish.timeout, whose answer
	// says more.
	attemptTimeout = time.Minute
)

// attempt posts body once. A request that is under way is not broken off by
// ctx: its outcome would be unknown.
func attempt(ctx context.Context, target, contentType string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	return do(req)
}

// retryDelay is the time to wait after the failure err, of which n came
// before in a row: at least what the server asks for, else exponential, with
// full jitter.
func retryDelay(err error, n int) time.Duration {
	ceiling := min(firstDelay<<min(n, 10), maxDelay)
	floor := firstDelay / 5
	var r *refusal
	if errors.As(err, &r) {
		if seconds, err := strconv.Atoi(r.header.Get("Retry-After")); err == nil && seconds > 0 {
			floor = min(time.Duration(seconds)*time.Second, time.Hour)
		}
	}
	return floor + rand.N(max(ceiling-floor, floor/4)+1)
}
