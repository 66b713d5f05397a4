package auth

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// Times of a key set.
const (
	jwksAhead   = 8 * time.Minute  // age from which it is fetched in the background
	jwksLife    = 10 * time.Minute // age from which a token waits for the fetch: a key withdrawn there is withdrawn here
	jwksStale   = 24 * time.Hour   // age up to which it serves while it cannot be fetched
	jwksRetry   = 10 * time.Second // between tries that fail
	jwksUnknown = time.Minute      // between fetches for kids that nobody knows, or a flood of them would be one upon the issuer
	jwksTimeout = 5 * time.Second  // of one fetch
)

// jwksCache holds the key set of one URL. All that asks for keys at once waits
// for one fetch.
type jwksCache struct {
	url          string
	algs         []string
	allowPrivate bool
	client       *http.Client
	workers      *workers
	onFetch      func(url string, err error)

	mu      sync.Mutex
	keys    []verifyKey
	fetched time.Time     // last success; zero is none
	tried   time.Time     // last try
	err     error         // of the last try
	flight  chan struct{} // closed at the end of the fetch under way; nil if there is none
}

// sameAs reports whether d, which may be nil, is of the same configuration.
func (c *jwksCache) sameAs(d *jwksCache) bool {
	return d != nil && c.url == d.url && c.allowPrivate == d.allowPrivate && slices.Equal(c.algs, d.algs)
}

// key returns the key that fits. It waits for a fetch where no fresh set has
// it, but not longer than ctx lasts.
func (c *jwksCache) key(ctx context.Context, kid, alg string) (*verifyKey, *problem.Problem) {
	c.mu.Lock()
	var wait chan struct{}
	switch age := time.Since(c.fetched); {
	case age >= jwksLife:
		wait = c.start(jwksRetry)
	case age >= jwksAhead:
		c.start(jwksRetry)
	}
	c.mu.Unlock()
	if err := await(ctx, wait); err != nil {
		return nil, unavailable("the issuer's keys were not there in time")
	}

	k, p := c.choose(kid, alg)
	if p == nil {
		return k, nil
	}
	c.mu.Lock()
	wait = c.start(jwksUnknown)
	c.mu.Unlock()
	if wait == nil {
		return nil, p
	}
	if err := await(ctx, wait); err != nil {
		return nil, unavailable("the issuer's keys were not there in time")
	}
	return c.choose(kid, alg)
}

func (c *jwksCache) choose(kid, alg string) (*verifyKey, *problem.Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.fetched) >= jwksStale {
		return nil, unavailable("the issuer's keys cannot be fetched")
	}
	k, err := choose(c.keys, kid, alg)
	switch {
	case err == nil:
		return k, nil
	case c.err != nil && err == errNoKey:
		return nil, unavailable("the issuer's keys cannot be fetched, and the token's is not among those that are known")
	}
	return nil, refuse("invalid-token", "%v", err)
}

// start begins a fetch, if none is under way and the last try was longer than
// pause ago, and returns the channel that its end closes; nil if there is
// nothing to wait for. c.mu is held.
func (c *jwksCache) start(pause time.Duration) chan struct{} {
	if c.flight != nil || time.Since(c.tried) < pause {
		return c.flight
	}
	done := make(chan struct{})
	if !c.workers.do(func(ctx context.Context) { c.fetch(ctx, done) }) {
		return nil
	}
	c.flight, c.tried = done, time.Now()
	return done
}

func (c *jwksCache) fetch(ctx context.Context, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, jwksTimeout)
	defer cancel()
	body, err := fetch(ctx, c.client, c.url, maxJWKSSize)
	var keys []verifyKey
	if err == nil {
		keys, err = parseJWKS(body, c.algs)
	}
	if err != nil {
		err = fmt.Errorf("auth: key set %s: %w", c.url, err)
	}
	c.mu.Lock()
	if err == nil {
		c.keys, c.fetched = keys, time.Now()
	}
	c.err, c.flight = err, nil
	c.mu.Unlock()
	close(done)
	c.onFetch(c.url, err)
}

// await waits for done, nil of which has happened.
func await(ctx context.Context, done <-chan struct{}) error {
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
