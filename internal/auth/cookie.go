package auth

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/tailrace/tailrace/internal/problem"
)

// SessionCookie is the name of the cookie. Browsers take the prefix only from
// a secure page, without Domain, so that no other host can set it.
const SessionCookie = "__Host-tailrace"

// maxCookie is what browsers keep of name and value (RFC 6265, 6.1).
const maxCookie = 4096

// Session returns the cookie that carries the token of a request, which has
// been authenticated as p by its Authorization field.
func (a *Authenticator) Session(r *http.Request, p *Principal) (*http.Cookie, *problem.Problem) {
	token, isBearer := bearer(r.Header.Get("Authorization"))
	switch {
	case !a.rules.Load().cookie.Enabled:
		return nil, &problem.Problem{Name: "not-supported", Status: 501, Detail: "cookies are off; set auth.cookie.enabled"}
	case p.Carrier != InHeader || !isBearer:
		return nil, refuse("unauthenticated", "a session begins with a token in the Authorization field")
	case len(SessionCookie)+len(token) > maxCookie:
		return nil, refuse("too-large", "the token has %d bytes, more than browsers keep in a cookie", len(token))
	}
	c := sessionCookie(token)
	if !p.Expires.IsZero() {
		c.Expires = p.Expires.UTC()
	}
	return c, nil
}

// EndSession returns the cookie that clears the session.
func EndSession() *http.Cookie {
	c := sessionCookie("")
	c.MaxAge = -1
	return c
}

func sessionCookie(value string) *http.Cookie {
	return &http.Cookie{Name: SessionCookie, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

// sessionToken returns the token in a request's cookie. A cookie is sent by
// the browser whatever page asks, so the page counts: one that may not use it
// is refused if it writes, and reads as if it had sent none.
func (a *Authenticator) sessionToken(t *trail, rs *rules, r *http.Request) (string, *problem.Problem) {
	cookies := r.CookiesNamed(SessionCookie)
	if !rs.cookie.Enabled || len(cookies) == 0 {
		return "", nil
	}
	if len(cookies) > 1 {
		return "", t.no("credential", refuse("invalid-request", "the request has %d cookies %s", len(cookies), SessionCookie))
	}
	known, ours := a.ownPage(rs, r)
	switch {
	case writes(r.Method) && !known:
		return "", t.no("origin", refuse("csrf", "a request that writes by cookie needs an Origin or Sec-Fetch-Site field, which browsers send"))
	case writes(r.Method) && !ours:
		return "", t.no("origin", refuse("csrf", "a page of another origin may not write by cookie; list its origin in auth.cookie.origins"))
	case known && !ours:
		t.yes("origin", "a page of another origin sent the cookie, which therefore does not count")
		return "", nil
	}
	return cookies[0].Value, nil
}

// ownPage reports whether it is known which page made the request, and whether
// that page may use the cookie.
func (a *Authenticator) ownPage(rs *rules, r *http.Request) (known, ours bool) {
	if origins := r.Header.Values("Origin"); len(origins) > 0 {
		if len(origins) > 1 {
			return true, false
		}
		return true, sameOrigin(r, origins[0]) || a.opts.MatchOrigin(rs.cookie.Origins, origins[0])
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "":
		return false, false
	case "same-origin", "none": // none: the person typed the address
		return true, true
	}
	return true, false
}

// sameOrigin reports whether an origin is the server's own. A secure cookie
// comes from https, or from this machine.
func sameOrigin(r *http.Request, origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme+"://"+u.Host != origin {
		return false
	}
	if u.Scheme != "https" && (u.Scheme != "http" || r.TLS != nil || !isLoopback(u.Hostname())) {
		return false
	}
	port := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
	return strings.EqualFold(strings.TrimSuffix(u.Host, port), strings.TrimSuffix(r.Host, port))
}

// writes reports whether a method may change something (RFC 9110, 9.2.1).
func writes(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, "QUERY":
		return false
	}
	return true
}
