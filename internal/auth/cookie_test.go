package auth

import (
	"net/http"
	"strings"
	"testing"
)

func TestCookieByOrigin(t *testing.T) {
	match := func(patterns []string, origin string) bool {
		return len(patterns) == 1 && strings.HasSuffix(origin, strings.TrimPrefix(patterns[0], "https://*"))
	}
	a := newAuth(t, Config{
		Issuers: []IssuerConfig{secretIssuer()},
		Cookie:  CookieConfig{Enabled: true, Origins: []string{"https://*.app.example"}},
	}, &Options{MatchOrigin: match})
	cookie := SessionCookie + "=" + secretToken(t, nil)
	const absent = "absent"
	for _, tc := range []struct {
		name, method, host, origin, site string
		want                             string // "" counts, absent does not, else the problem
	}{
		{"read without either", "GET", "", "", "", ""},
		{"read from the own page", "GET", "", "", "same-origin", ""},
		{"read by a person", "GET", "", "", "none", ""},
		{"read from the own origin", "GET", "", "https://tail.example", "", ""},
		{"read from the own origin with its port", "GET", "", "https://tail.example:443", "", ""},
		{"read from a listed origin", "GET", "", "https://www.app.example", "cross-site", ""},
		{"read from a foreign origin", "GET", "", "https://evil.example", "cross-site", absent},
		{"read from a foreign origin that says otherwise", "GET", "", "https://evil.example", "same-origin", absent},
		{"read from null", "GET", "", "null", "", absent},
		{"read cross-site without origin", "GET", "", "", "cross-site", absent},
		{"read same-site without origin", "GET", "", "", "same-site", absent},
		{"read from plain http", "GET", "", "http://tail.example", "", absent},
		{"read from another port", "GET", "", "https://tail.example:8443", "", absent},
		{"query from a foreign origin", "QUERY", "", "https://evil.example", "", absent},
		{"write without either", "POST", "", "", "", "csrf"},
		{"write from the own page", "POST", "", "", "same-origin", ""},
		{"write from the own origin", "POST", "", "https://tail.example", "", ""},
		{"write from a listed origin", "DELETE", "", "https://www.app.example", "", ""},
		{"write from a foreign origin", "POST", "", "https://evil.example", "", "csrf"},
		{"write from null", "PATCH", "", "null", "", "csrf"},
		{"write from a sibling", "POST", "", "", "same-site", "csrf"},
		{"write cross-site", "POST", "", "", "cross-site", "csrf"},
		{"write from an origin that begins alike", "POST", "", "https://tail.example.evil.example", "", "csrf"},
		{"write from an origin with a path", "POST", "", "https://tail.example/x", "", "csrf"},
		{"write on this machine", "POST", "localhost:8080", "http://localhost:8080", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request(tc.method, "/v1/topics/room/a", "Cookie", cookie)
			r.Host = "tail.example"
			if tc.host != "" {
				r.Host = tc.host
			}
			if tc.origin != "" {
				r.Header.Set("Origin", tc.origin)
			}
			if tc.site != "" {
				r.Header.Set("Sec-Fetch-Site", tc.site)
			}
			p, refusal := a.Authenticate(r)
			if tc.want == absent {
				wantProblem(t, refusal, "", "")
				if refusal == nil && !p.IsAnonymous() {
					t.Errorf("the cookie counts: it is %s", p)
				}
				return
			}
			wantProblem(t, refusal, tc.want, "")
			if refusal == nil && p.Carrier != InCookie {
				t.Errorf("it is in %q", p.Carrier)
			}
		})
	}

	// A header decides alone, so that a foreign page's request by token is no matter of cookies.
	r := request("POST", "/", "Cookie", cookie, "Origin", "https://evil.example", "Authorization", "Bearer "+secretToken(t, nil))
	p, refusal := a.Authenticate(r)
	if refusal != nil || p.Carrier != InHeader {
		t.Errorf("by header: %v, %v", p, refusal)
	}
}

func TestSession(t *testing.T) {
	cfg := Config{Issuers: []IssuerConfig{secretIssuer()}, Cookie: CookieConfig{Enabled: true}}
	a := newAuth(t, cfg, nil)
	token := secretToken(t, nil)
	r := withToken(token)
	p, _ := a.Authenticate(r)
	c, refusal := a.Session(r, p)
	if refusal != nil {
		t.Fatal(refusal)
	}
	text := c.String()
	for _, want := range []string{"__Host-tailrace=" + token, "Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Expires="} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	if strings.Contains(text, "Domain") || !c.Expires.Equal(p.Expires) {
		t.Errorf("%s; the token expires %v", text, p.Expires)
	}
	if text := EndSession().String(); !strings.Contains(text, "__Host-tailrace=;") || !strings.Contains(text, "Max-Age=0") {
		t.Errorf("the end is %s", text)
	}

	byCookie := request("POST", "/v1/session", "Cookie", SessionCookie+"="+token, "Sec-Fetch-Site", "same-origin")
	p, _ = a.Authenticate(byCookie)
	_, refusal = a.Session(byCookie, p)
	wantProblem(t, refusal, "unauthenticated", "Authorization")

	long := withToken(secretToken(t, map[string]any{"x": strings.Repeat("x", 4000)}))
	p, _ = a.Authenticate(long)
	_, refusal = a.Session(long, p)
	wantProblem(t, refusal, "too-large", "cookie")

	cfg.Cookie.Enabled = false
	if err := a.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	_, refusal = a.Session(r, p)
	wantProblem(t, refusal, "not-supported", "auth.cookie.enabled")
	p, refusal = a.Authenticate(request("GET", "/", "Cookie", SessionCookie+"="+token))
	if refusal != nil || !p.IsAnonymous() || refusal != nil && refusal.StatusCode() == http.StatusOK {
		t.Errorf("a cookie counts while cookies are off: %v, %v", p, refusal)
	}
}
