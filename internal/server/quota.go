package server

import (
	"sync"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// maxQuotaNames bounds the memory of quotas.
const maxQuotaNames = 10_000

// quotas count what principals and addresses do in the minute that runs. The
// zero value is ready.
type quotas struct {
	mu    sync.Mutex
	since time.Time
	used  map[[2]string]int
}

// take counts one of what, and refuses more than max of them in a minute.
func (q *quotas) take(what, who string, max int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if now.Sub(q.since) >= time.Minute || len(q.used) >= maxQuotaNames { // a flood from everywhere: memory matters more than the count
		q.since, q.used = now, map[[2]string]int{}
	}
	name := [2]string{what, who}
	if q.used[name] >= max {
		p := problem.New("rate-limited", "%s of %s are limited to %d a minute", what, who, max).With("limit", max)
		p.RetryAfter = q.since.Add(time.Minute).Sub(now)
		return p
	}
	q.used[name]++
	return nil
}
