package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options are what an [Authenticator] needs of its server. Nil is all
// defaults. The functions are called on any goroutine, and under no lock.
type Options struct {
	// Spend notes the use of a ticket, on all nodes, and reports whether it is
	// the first. It must remember an id for MaxTicketTTL. Default none: there
	// are no tickets.
	Spend func(ctx context.Context, id string) (first bool, err error)

	// Public reports whether everybody may read a topic, or all that a pattern
	// matches. Default none.
	Public func(selector string) bool

	// MatchOrigin reports whether one of the patterns of auth.cookie.origins
	// matches an origin. Default: one is equal to it.
	MatchOrigin func(patterns []string, origin string) bool

	// Transport is used for key sets and the hook in place of one that checks
	// where it dials. It is for tests. Default none.
	Transport http.RoundTripper

	OnKeySet func(url string, err error)            // a key set was fetched, or not
	OnHook   func(took time.Duration, answer error) // the hook answered; nil is yes or no
}

// Authenticator decides requests. It is made by [New], and used by any number
// of goroutines.
type Authenticator struct {
	opts     Options
	ownKey   [32]byte // of tickets, where the configuration has none
	workers  *workers
	revoked  revocations
	watched  watched
	failures failures
	deaf     atomic.Bool // revocations are not known

	reloading sync.Mutex
	rules     atomic.Pointer[rules]
}

// New returns an authenticator by the configuration. All that is wrong with it
// is in the error, a line each.
func New(cfg Config, opts *Options) (*Authenticator, error) {
	rs, faults := cfg.compile()
	if len(faults) > 0 {
		return nil, joined(faults)
	}
	a := &Authenticator{workers: newWorkers()}
	if opts != nil {
		a.opts = *opts
	}
	if a.opts.MatchOrigin == nil {
		a.opts.MatchOrigin = func(patterns []string, origin string) bool { return slices.Contains(patterns, origin) }
	}
	if a.opts.Public == nil {
		a.opts.Public = func(string) bool { return false }
	}
	if a.opts.OnKeySet == nil {
		a.opts.OnKeySet = func(string, error) {}
	}
	if a.opts.OnHook == nil {
		a.opts.OnHook = func(time.Duration, error) {}
	}
	rand.Read(a.ownKey[:])
	a.watched.init(a)
	a.complete(rs, nil)
	a.rules.Store(rs)
	return a, nil
}

// complete gives the rules what lives longer than they: key sets and the
// hook's answers go on as far as their configuration is the same.
func (a *Authenticator) complete(rs, old *rules) {
	for name, is := range rs.issuers {
		if is.jwks == nil {
			continue
		}
		if old != nil && old.issuers[name] != nil && is.jwks.sameAs(old.issuers[name].jwks) {
			is.jwks = old.issuers[name].jwks
			continue
		}
		u, err := checkURL(is.jwks.url)
		if err != nil {
			panic(err) // compile has checked it
		}
		is.jwks.client = newClient(u, is.jwks.allowPrivate, jwksTimeout, a.opts.Transport)
		is.jwks.workers, is.jwks.onFetch = a.workers, a.opts.OnKeySet
	}
	if rs.hook != nil {
		if old != nil && rs.hook.sameAs(old.hook) {
			rs.hook = old.hook
		} else {
			rs.hook.start(a)
		}
	}
}

// Reload puts another configuration in force, whole or not at all. Principals
// that are watched and lose their right by it are told before it returns.
func (a *Authenticator) Reload(cfg Config) error {
	rs, faults := cfg.compile()
	if len(faults) > 0 {
		return joined(faults)
	}
	a.reloading.Lock()
	defer a.reloading.Unlock()
	a.complete(rs, a.rules.Load())
	a.rules.Store(rs)
	a.watched.judge()
	return nil
}

// Rejudge looks at all watched principals again: after a change of what
// everybody may read.
func (a *Authenticator) Rejudge() { a.watched.judge() }

// Revoke puts a revocation in force that was made at a time. Principals that
// are watched and concerned are told before it returns.
func (a *Authenticator) Revoke(r Revocation, at time.Time) error {
	if err := r.check(); err != nil {
		return err
	}
	a.revoked.add(r, at, a.rules.Load().maxLifetime())
	a.watched.revoke(r)
	return nil
}

// Reinstate takes back the revocation of that ID.
func (a *Authenticator) Reinstate(id string) { a.revoked.remove(id) }

// Revocations returns those that are in force, in no order.
func (a *Authenticator) Revocations() []Revocation { return a.revoked.list() }

// SetRevocationsKnown says whether the server can read where revocations are
// kept. While it cannot, no credential is taken: it might be a revoked one.
// At first they are known.
func (a *Authenticator) SetRevocationsKnown(known bool) { a.deaf.Store(!known) }

// MaxLifetime is how long revocations of tokens have to be kept.
func (a *Authenticator) MaxLifetime() time.Duration { return a.rules.Load().maxLifetime() }

// Close ends what runs in the background, and all watching, and waits for it.
func (a *Authenticator) Close() error {
	a.watched.close()
	a.workers.close()
	rs := a.rules.Load()
	for _, is := range rs.issuers {
		if is.jwks != nil {
			is.jwks.client.CloseIdleConnections()
		}
	}
	if rs.hook != nil {
		rs.hook.client.CloseIdleConnections()
	}
	return nil
}

var errClosed = errors.New("auth: closed")
