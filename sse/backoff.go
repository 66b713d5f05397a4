package sse

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	DefaultBackoffMin   = time.Second      // as long as a restart of a small server takes
	DefaultBackoffMax   = 30 * time.Second // what a user still waits for
	DefaultBackoffReset = 60 * time.Second // a connection that held so long was a good one

	// maxFloor bounds what a server may ask a client to wait.
	maxFloor = time.Hour

	// spacing is the part of Min that two requests are at least apart.
	spacing = 10
)

// Backoff bounds the delays of a [Client]: random from 0 to Min before the first new request,
// twice as much with each further failure, up to Max. A server that has sent a retry field or
// Retry-After sets the least delay, and then up to a quarter is added, so that those who were
// told the same time do not come back at once. Two requests start at least a tenth of Min apart.
type Backoff struct {
	Min   time.Duration // 0 is DefaultBackoffMin
	Max   time.Duration // 0 is DefaultBackoffMax
	Reset time.Duration // time open after which a connection clears the failures; 0 is DefaultBackoffReset
}

func (b Backoff) withDefaults() Backoff {
	if b.Min <= 0 {
		b.Min = DefaultBackoffMin
	}
	if b.Max <= 0 {
		b.Max = DefaultBackoffMax
	}
	if b.Reset <= 0 {
		b.Reset = DefaultBackoffReset
	}
	return b
}

// bounds returns the least and the most delay after n failures in a row. retry is the server's
// last retry field, if it sent one; after is its Retry-After, or 0.
func (b Backoff) bounds(n int, retry time.Duration, hasRetry bool, after time.Duration) (floor, ceiling time.Duration) {
	if !hasRetry {
		retry = 0
	}
	retry, after = min(retry, maxFloor), min(after, maxFloor)
	floor = max(retry, after)
	if n == 0 && hasRetry {
		ceiling = retry
	} else {
		ceiling = max(retry, b.Min)
		for ; n > 0 && ceiling <= b.Max/2; n-- {
			ceiling *= 2
		}
		if n > 0 || ceiling > b.Max {
			ceiling = b.Max
		}
	}
	return floor, max(ceiling, floor+floor/4)
}

// between returns a random time from floor to ceiling.
func between(floor, ceiling time.Duration) time.Duration {
	if ceiling <= floor {
		return floor
	}
	return floor + rand.N(ceiling-floor)
}

// retryAfter reads a Retry-After field, in seconds or as a date (RFC 9110, section 10.2.3). It
// returns 0 for one that is absent, past or not understood.
func retryAfter(h http.Header, now time.Time) time.Duration {
	field := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(field, 10, 31); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(field); err == nil {
		return max(date.Sub(now), 0)
	}
	return 0
}
