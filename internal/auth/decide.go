package auth

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// Parameters of a URL that would put a token into logs and histories.
var tokenParams = []string{"access_token", "token", "authorization", "jwt"}

// credential is what a request presents.
type credential struct {
	carrier Carrier
	text    string
}

// Authenticate says who asks. A request without credential is of an anonymous
// principal, and no refusal. A one-time ticket is not spent by it.
func (a *Authenticator) Authenticate(r *http.Request) (*Principal, *problem.Problem) {
	rs := a.rules.Load()
	c, refusal := a.credential(nil, rs, r, Open)
	if refusal != nil {
		return nil, refusal
	}
	return a.authenticate(r.Context(), nil, rs, r, c)
}

// Decide says who asks and whether they may do what they ask for to all the
// topics and patterns; none is the server itself. The principal that it
// returns holds for this action only, where a hook decides.
func (a *Authenticator) Decide(r *http.Request, do Action, topics []string) (*Principal, *problem.Problem) {
	return a.decide(nil, r, nil, do, topics)
}

// decide decides a request, by the credential given or, for nil, its own. With
// a trail it only says what would be decided: nothing is spent.
func (a *Authenticator) decide(t *trail, r *http.Request, given *credential, do Action, topics []string) (*Principal, *problem.Problem) {
	rs := a.rules.Load()
	if given == nil {
		c, refusal := a.credential(t, rs, r, do)
		if refusal != nil {
			return nil, refusal
		}
		given = &c
	}
	p, refusal := a.authenticate(r.Context(), t, rs, r, *given)
	if refusal != nil {
		return nil, refusal
	}
	if do == Open {
		return p, nil
	}
	asks := rs.hook != nil && rs.hook.asks(do)
	if !asks || !p.Grants.IsZero() {
		if refusal := a.allow(t, rs, p, do, topics); refusal != nil {
			return p, refusal
		}
	}
	if asks {
		q, refusal := rs.hook.decide(r.Context(), t, r, p, do, topics)
		if refusal != nil {
			return p, refusal
		}
		p = q
	}
	if t != nil {
		return p, nil
	}
	if refusal := a.spend(r.Context(), t, p); refusal != nil {
		return p, refusal
	}
	return p, nil
}

// credential finds what a request presents: the first that is there decides
// alone, so that a bad token is never made good by a cookie.
func (a *Authenticator) credential(t *trail, rs *rules, r *http.Request, do Action) (credential, *problem.Problem) {
	query := r.URL.Query()
	for name := range query {
		if slices.Contains(tokenParams, strings.ToLower(name)) {
			return credential{}, t.no("credential", refuse("token-in-url", "%s stands in the URL, which ends in logs; send it as Authorization: Bearer, or ask POST /v1/tickets for a ticket", strings.ToLower(name)))
		}
	}
	fields := r.Header.Values("Authorization")
	if len(fields) == 0 && do == Gateway {
		if fields = r.Header.Values("X-Api-Key"); len(fields) == 1 {
			return credential{InHeader, fields[0]}, nil
		}
	}
	switch {
	case len(fields) > 1:
		return credential{}, t.no("credential", refuse("invalid-request", "the request has %d credentials in its header; send one", len(fields)))
	case len(fields) == 1:
		token, ok := bearer(fields[0])
		if !ok {
			return credential{}, t.no("credential", refuse("unauthenticated", "the Authorization field is not Bearer and a token"))
		}
		return credential{InHeader, token}, nil
	}
	if tickets := query["ticket"]; len(tickets) > 0 {
		switch {
		case len(tickets) > 1:
			return credential{}, t.no("credential", refuse("invalid-request", "the URL has %d tickets; send one", len(tickets)))
		case r.Method != http.MethodGet:
			return credential{}, t.no("credential", refuse("forbidden", "a ticket opens streams and nothing else"))
		}
		return credential{InTicket, tickets[0]}, nil
	}
	token, refusal := a.sessionToken(t, rs, r)
	if refusal != nil || token == "" {
		return credential{}, refusal
	}
	return credential{InCookie, token}, nil
}

// bearer returns the token of an Authorization field (RFC 6750, 2.1).
func bearer(field string) (string, bool) {
	scheme, token, ok := strings.Cut(field, " ")
	token = strings.TrimLeft(token, " ")
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

// authenticate returns the principal of a credential that is valid now.
func (a *Authenticator) authenticate(ctx context.Context, t *trail, rs *rules, r *http.Request, c credential) (*Principal, *problem.Problem) {
	addr := clientAddr(r)
	if c.carrier == InNothing {
		t.yes("credential", "none is presented")
		return anonymous(r, rs.anonymous), nil
	}
	t.yes("credential", "it is presented as %s", c.carrier)
	if a.deaf.Load() {
		return nil, t.no("revocation", unavailable("revocations cannot be read, so that nobody can be trusted"))
	}
	now := time.Now()
	var p *Principal
	var refusal *problem.Problem
	switch {
	case c.carrier == InTicket:
		p, refusal = a.authenticateTicket(t, rs, c.text, now)
	case strings.HasPrefix(c.text, keyPrefix):
		p, refusal = rs.authenticateKey(t, c.text, addr, now)
	default:
		p, refusal = rs.authenticateToken(ctx, t, c.text, now)
	}
	if refusal == nil && a.revoked.has(&p.id) {
		refusal = t.no("revocation", refuse("token-revoked", "the credential was revoked"))
	}
	if refusal == nil {
		if reason := rs.holds(p); reason != "" {
			refusal = t.no("revocation", refuse("token-revoked", "%s", reason))
		}
	}
	if refusal != nil {
		if refusal.StatusCode() == http.StatusUnauthorized && t == nil {
			refusal = a.failures.count(addr, now, refusal)
		}
		return nil, refusal
	}
	t.yes("revocation", "the credential is not revoked")
	if c.carrier == InCookie {
		p.Carrier = InCookie
	}
	return p, nil
}

// holds reports why a credential that was good does not hold under these
// rules, "" if it does: its key or issuer is gone.
func (rs *rules) holds(p *Principal) string {
	switch {
	case p.id.Key != "":
		if key := rs.keys[p.id.Key]; key == nil || key.print() != p.id.Print {
			return "the API key was removed"
		}
	case p.id.Issuer != "":
		is := rs.issuers[p.id.Issuer]
		if is == nil {
			return "the issuer was removed"
		}
		// A key set changes on its own; keys of the configuration do not.
		if is.jwks == nil && !slices.ContainsFunc(is.static, func(k verifyKey) bool { return k.print == p.id.Print }) {
			return "the issuer's key was removed"
		}
	}
	return ""
}

// endOf returns when a principal's credential ends under these rules; zero is
// never.
func (rs *rules) endOf(p *Principal) time.Time {
	if key := rs.keys[p.id.Key]; key != nil {
		return earliest(p.Expires, key.expires)
	}
	return p.Expires
}

// grantsOf returns what a principal may do under these rules.
func (rs *rules) grantsOf(p *Principal) Grants {
	switch {
	case p.hook != nil && p.hook.alone:
		return p.Grants
	case p.Carrier == InTicket:
		if key := rs.keys[p.id.Key]; key != nil && len(key.grants.Missing(Subscribe, p.own.Subscribe)) > 0 {
			return Grants{}
		}
		return p.own
	case p.id.Key != "":
		if key := rs.keys[p.id.Key]; key != nil {
			return key.grants
		}
		return Grants{}
	case p.id.Issuer != "":
		if is := rs.issuers[p.id.Issuer]; is != nil && is.grants.IsZero() {
			return p.own // as most are, and without decoding the claims of each open stream
		} else if is != nil {
			return p.own.join(is.grants.resolve(p.Claims()))
		}
		return Grants{}
	}
	return rs.anonymous
}

// allow checks the rights of a principal. One topic refused, all is refused,
// and the answer does not depend on whether a topic exists.
func (a *Authenticator) allow(t *trail, rs *rules, p *Principal, do Action, topics []string) *problem.Problem {
	if p.Carrier == InTicket && do != Subscribe {
		return t.no("action", refuse("forbidden", "a ticket opens streams and nothing else").With("action", do).With("topics", topics))
	}
	missing := a.missing(p.Grants, do, topics)
	if len(missing) == 0 {
		t.yes("grants", "%s is granted", do)
		return nil
	}
	shown := missing[:min(len(missing), 20)]
	if p.IsAnonymous() {
		return t.no("grants", refuse("unauthenticated", "%s needs a credential; everybody may not do that to %s", do, strings.Join(shown, ", ")))
	}
	return t.no("grants", refuse("forbidden", "%s may not %s %s", p.Name, do, strings.Join(shown, ", ")).With("action", do).With("topics", missing))
}

// missing is [Grants.Missing], less what everybody may read.
func (a *Authenticator) missing(g Grants, do Action, topics []string) []string {
	missing := g.Missing(do, topics)
	if do == Subscribe {
		missing = slices.DeleteFunc(missing, a.opts.Public)
	}
	return missing
}
