package auth

import (
	"net/netip"
	"sync"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

const (
	maxFailures       = 20 // of one address in a minute; an honest client has one
	maxFailureEntries = 10_000
)

// failures counts refused credentials by address, and of IPv6 by /64. A
// credential that is good is never refused for the failures of a neighbour.
type failures struct {
	mu     sync.Mutex
	counts map[string]failureCount
}

type failureCount struct {
	n     int
	since time.Time
}

// count counts a refusal and returns what to answer: the refusal, or that
// there have been too many of them.
func (f *failures) count(addr netip.Addr, now time.Time, refusal *problem.Problem) *problem.Problem {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil {
		f.counts = map[string]failureCount{}
	}
	if len(f.counts) >= maxFailureEntries {
		for a, c := range f.counts {
			if now.Sub(c.since) >= time.Minute {
				delete(f.counts, a)
			}
		}
		if len(f.counts) >= maxFailureEntries {
			clear(f.counts) // a flood from everywhere; memory matters more than the count
		}
	}
	name := group(addr)
	c := f.counts[name]
	if now.Sub(c.since) >= time.Minute {
		c = failureCount{since: now}
	}
	c.n++
	f.counts[name] = c
	if c.n <= maxFailures {
		return refusal
	}
	p := refuse("rate-limited", "too many credentials from %s were refused; the limit is %d a minute", name, maxFailures)
	p.RetryAfter = c.since.Add(time.Minute).Sub(now)
	return p
}
