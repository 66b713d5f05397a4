package server

import (
	"bytes"
	"compress/gzip"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
)

const (
	testIssuer = "https://id.example.com"
	testSecret = "0123456789abcdef0123456789abcdef"
)

// guarded is a server that asks for credentials, and the keys of those it
// knows: reader and writer of room/*, and admin of everything.
type guarded struct {
	*harness
	cfg  auth.Config
	keys map[string]string
	log  *faultyLog
	logs *safeBuffer // all that the server logs
}

// safeBuffer is a buffer that many goroutines write to.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func startGuarded(t *testing.T, change func(*tailrace.Options, *Options)) *guarded {
	t.Helper()
	g := &guarded{keys: map[string]string{}, log: &faultyLog{Log: tailrace.NewMemoryLog(nil)}, logs: &safeBuffer{}}
	rooms, all := []string{"room/*"}, []string{"**"}
	for name, grants := range map[string]auth.Grants{
		"reader": {Subscribe: rooms}, "writer": {Publish: rooms}, "admin": {Admin: all, Subscribe: all, Publish: all},
	} {
		key, hash, err := auth.NewKey(name)
		if err != nil {
			t.Fatal(err)
		}
		g.keys[name] = key
		g.cfg.Keys = append(g.cfg.Keys, auth.KeyConfig{Name: name, Hash: hash, Grants: grants})
	}
	g.cfg.Issuers = []auth.IssuerConfig{{Issuer: testIssuer, Audience: []string{"tailrace"}, Algorithms: []string{"HS256"}, Secret: testSecret}}
	g.cfg.Cookie = auth.CookieConfig{Enabled: true, Origins: []string{"https://app.example.com"}}
	h := tailrace.Options{Log: g.log, DrainWindow: -1, Rules: []tailrace.TopicRule{{Pattern: "news/*", Public: true}}}
	o := Options{
		Auth: g.cfg, DrainDelay: -1, CORSOrigins: []string{"https://app.example.com"},
		Logger: slog.New(slog.NewJSONHandler(g.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&h, &o)
	}
	h.Logger = o.Logger
	g.cfg = o.Auth
	g.harness = start(t, &h, &o)
	return g
}

// as returns the header fields of a request with a key.
func (g *guarded) as(name string) []string { return bearer(g.keys[name]) }

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// token signs a token of u7 that may read room/*; changes are claims, of which
// nil takes one away.
func token(t *testing.T, changes map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": testIssuer, "aud": "tailrace", "sub": "u7", "jti": "t1", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"tailrace": map[string]any{"subscribe": []string{"room/*"}, "publish": []string{"room/*"}},
	}
	for name, v := range changes {
		claims[name] = v
	}
	key, err := auth.NewSecretKey([]byte(testSecret), "HS256")
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.Sign(nil, claims)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Every endpoint of the table is asked without credential, by one who may do
// something else, and by one who may do this.
func TestEveryRouteAsksForItsRight(t *testing.T) {
	g := startGuarded(t, nil)
	g.do("POST", "/v1/topics/room/1", "x", g.as("admin")...).wantStatus(t, 200)
	tested := map[string]bool{}
	ndjson := []string{"Content-Type", "application/x-ndjson"}
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	for _, c := range []struct {
		route, target, body string
		headers             []string
		wrong, right        string // whose key; wrong "" is that there is none
	}{
		{route: "POST /v1/topics/{topic}", target: "/v1/topics/room/1", body: "x", wrong: "reader", right: "writer"},
		{route: "POST /v1/topics/{topic}", target: "/v1/topics/hall/1", body: "x", wrong: "writer", right: "admin"},
		{route: "POST /v1/topics/{topic}", target: "/v1/topics/room%2F1", body: "data: x\n\n", headers: []string{"Content-Type", "text/event-stream"}, wrong: "reader", right: "writer"},
		{route: "GET /v1/topics/{topic}", target: "/v1/topics/room/1?format=json", wrong: "writer", right: "reader"},
		{route: "GET /v1/topics/{topic}", target: "/v1/topics/hall/1?format=json", wrong: "reader", right: "admin"},
		{route: "GET /v1/topics/{topic}", target: "/v1/topics/$config/policies?format=json", wrong: "reader", right: "admin"},
		{route: "HEAD /v1/topics/{topic}", target: "/v1/topics/room/1", wrong: "writer", right: "reader"},
		{route: "DELETE /v1/topics/{topic}", target: "/v1/topics/room/2", wrong: "writer", right: "admin"},
		{route: "GET /v1/events", target: "/v1/events?topic=room/*&format=json", wrong: "writer", right: "reader"},
		{route: "GET /v1/events", target: "/v1/events?topic=room/**&format=json", wrong: "reader", right: "admin"},
		{route: "GET /v1/events", target: "/v1/events?topic=room/1&topic=hall/1&format=json", wrong: "reader", right: "admin"},
		{route: "QUERY /v1/events", target: "/v1/events", body: "topic=hall/1&format=json", headers: form, wrong: "reader", right: "admin"},
		{route: "QUERY /v1/events", target: "/v1/events?topic=room/1", body: "topic=hall/1&format=json", headers: form, wrong: "reader", right: "admin"},
		{route: "POST /v1/events", target: "/v1/events?topic=room/1&topic=hall/1", body: "x", wrong: "writer", right: "admin"},
		{route: "POST /v1/events", target: "/v1/events", body: `{"topic":"hall/1","data":1}`, headers: ndjson, wrong: "writer", right: "admin"},
		{route: "POST /v1/events", target: "/v1/events?topic=room/1", body: "{\"data\":1}\n{\"t\\u006fpics\":[\"room/1\",\"hall/1\"],\"data\":2}\n", headers: ndjson, wrong: "writer", right: "admin"},
		{route: "POST /v1/events", target: "/v1/events", body: zipped(t, `{"topic":"hall/1","data":1}`), headers: append([]string{"Content-Encoding", "gzip"}, ndjson...), wrong: "writer", right: "admin"},
		{route: "GET /v1/topics", target: "/v1/topics?pattern=room/*", wrong: "writer", right: "reader"},
		{route: "GET /v1/topics", target: "/v1/topics", wrong: "reader", right: "admin"},
		{route: "GET /v1/stat/{topic}", target: "/v1/stat/room/1", wrong: "writer", right: "reader"},
		{route: "GET /v1/policy/{topic}", target: "/v1/policy/room/1", wrong: "reader", right: "admin"},
		{route: "GET /v1/policies", target: "/v1/policies", wrong: "reader", right: "admin"},
		{route: "PUT /v1/policies", target: "/v1/policies", body: `{"policies":[]}`, headers: []string{"If-Match", "*"}, wrong: "writer", right: "admin"},
		{route: "POST /v1/trim/{topic}", target: "/v1/trim/room/1", body: `{"keep":1}`, wrong: "writer", right: "admin"},
		{route: "POST /v1/close/{topic}", target: "/v1/close/room/1", wrong: "writer", right: "admin"},
		{route: "GET /v1/connections", target: "/v1/connections?topic=room/1", wrong: "reader", right: "admin"},
		{route: "DELETE /v1/connections", target: "/v1/connections?topic=room/1", wrong: "reader", right: "admin"},
		{route: "GET /v1/connections/{id}", target: "/v1/connections/x", wrong: "reader", right: "admin"},
		{route: "DELETE /v1/connections/{id}", target: "/v1/connections/x", wrong: "reader", right: "admin"},
		{route: "POST /v1/connections/{id}/events", target: "/v1/connections/x/events", body: "x", wrong: "writer", right: "admin"},
		{route: "PATCH /v1/connections/{id}", target: "/v1/connections/x", body: `{"remove":["a"]}`, right: "reader"},
		{route: "POST /v1/connections/{id}/token", target: "/v1/connections/x/token", right: "reader"},
		{route: "POST /v1/broadcast", target: "/v1/broadcast", body: "x", wrong: "writer", right: "admin"},
		{route: "POST /v1/session", target: "/v1/session", right: "reader"},
		{route: "POST /v1/tickets", target: "/v1/tickets", body: `{"topics":["room/1"]}`, wrong: "writer", right: "reader"},
		{route: "GET /v1/revocations", target: "/v1/revocations", wrong: "reader", right: "admin"},
		{route: "POST /v1/revocations", target: "/v1/revocations", body: `{"jti":"none"}`, wrong: "reader", right: "admin"},
		{route: "DELETE /v1/revocations", target: "/v1/revocations?id=none", wrong: "reader", right: "admin"},
		{route: "POST /v1/explain", target: "/v1/explain", body: `{"token":"x","topic":"room/1"}`, wrong: "reader", right: "admin"},
		{route: "GET /metrics", target: "/metrics", wrong: "reader", right: "admin"},
	} {
		tested[c.route] = true
		method, _, _ := strings.Cut(c.route, " ")
		ask := func(who string) answer {
			t.Helper()
			headers := slices.Clone(c.headers)
			if who != "" {
				headers = append(headers, g.as(who)...)
			}
			return g.do(method, c.target, c.body, headers...)
		}
		want := func(a answer, name, challenge string) {
			t.Helper()
			if a.Header.Get("WWW-Authenticate") != challenge {
				t.Errorf("%s: WWW-Authenticate is %q, want %q", c.route, a.Header.Get("WWW-Authenticate"), challenge)
			}
			if method != "HEAD" {
				a.wantProblem(t, name)
			}
		}
		want(ask("").wantStatus(t, 401), "unauthenticated", "Bearer")
		if c.wrong != "" {
			want(ask(c.wrong).wantStatus(t, 403), "forbidden", `Bearer error="insufficient_scope"`)
			if method == "POST" || method == "GET" {
				bad := g.do(method, c.target, c.body, append(slices.Clone(c.headers), bearer(g.keys[c.right]+"x")...)...)
				if bad.StatusCode != 401 && bad.StatusCode != 429 { // the address has failed often by then
					t.Errorf("%s with a wrong key: %d %s", c.route, bad.StatusCode, bad.body)
				}
			}
		}
		if a := ask(c.right); a.StatusCode == 401 || a.StatusCode == 403 {
			t.Errorf("%s by %s: %d %s", c.route, c.right, a.StatusCode, a.body)
		}
	}

	for _, e := range g.table() {
		name := e.method + " " + e.path
		switch free := e.do == auth.Open && !e.decides; {
		case free || name == "GET /v1/explain" || name == "DELETE /v1/session":
			if a := g.do(e.method, strings.NewReplacer("{name}", "forbidden").Replace(e.path), ""); a.StatusCode == 401 || a.StatusCode == 403 {
				t.Errorf("%s without credential: %d %s", name, a.StatusCode, a.body)
			}
		case !tested[name]:
			t.Errorf("nobody asks for %s", name)
		}
	}
}

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBatchThatMayNotBeStoredInPartIsNotStored(t *testing.T) {
	g := startGuarded(t, nil)
	body := "{\"topic\":\"room/1\",\"data\":1}\n{\"topic\":\"hall/1\",\"data\":2}\n"
	m := g.do("POST", "/v1/events", body, append(g.as("writer"), "Content-Type", "application/x-ndjson")...).wantStatus(t, 403).wantProblem(t, "forbidden")
	if topics, _ := m["topics"].([]any); len(topics) != 1 || topics[0] != "hall/1" {
		t.Errorf("refused with %v", m)
	}
	g.do("HEAD", "/v1/topics/room/1", "", g.as("reader")...).wantStatus(t, 404)
	g.do("POST", "/v1/events", "{", append(g.as("writer"), "Content-Type", "application/x-ndjson")...).wantProblem(t, "invalid-batch")
	ok := g.do("POST", "/v1/events", zipped(t, `{"topic":"room/1","data":1}`), append(g.as("writer"), "Content-Type", "application/x-ndjson", "Content-Encoding", "gzip")...)
	if r := decode[map[string]any](t, ok.wantStatus(t, 200)); r["stored"] != 1.0 {
		t.Errorf("stored %v", r)
	}
}

func TestPublicTopicsNeedNoCredential(t *testing.T) {
	g := startGuarded(t, nil)
	g.do("POST", "/v1/topics/news/today", "x", g.as("admin")...).wantStatus(t, 200)
	for _, target := range []string{"/v1/topics/news/today?format=json&from=start", "/v1/events?topic=news/*&format=json", "/v1/stat/news/today"} {
		g.do("GET", target, "").wantStatus(t, 200)
	}
	g.do("HEAD", "/v1/topics/news/today", "").wantStatus(t, 200)
	g.open("/v1/topics/news/today?from=start").waitFor("data: x")
	for _, target := range []string{"/v1/events?topic=news/**", "/v1/events?topic=news/a&topic=room/1", "/v1/events?topic=**"} {
		g.do("GET", target, "").wantProblem(t, "unauthenticated")
	}
	g.do("POST", "/v1/topics/news/today", "x").wantProblem(t, "unauthenticated")

	// What is public no more ends for those who have no right of their own.
	anonymous, own := g.open("/v1/topics/news/today?hello=1"), g.open("/v1/topics/news/today", g.as("admin")...)
	g.do("PUT", "/v1/policies", `{"policies":[{"pattern":"news/*"}]}`, append(g.as("admin"), "If-Match", "*")...).wantStatus(t, 200)
	if lines := strings.Join(anonymous.rest(), "\n"); !strings.Contains(lines, `"forbidden"`) {
		t.Errorf("the stream ended with %q", lines)
	}
	g.do("POST", "/v1/topics/news/today", "on", g.as("admin")...).wantStatus(t, 200)
	own.waitFor("data: on")
}

func TestEverybodyMayWhatOnlyPublicRulesDecide(t *testing.T) {
	rules := func(list ...string) (rules []tailrace.TopicRule) {
		for _, p := range list {
			pattern, public := strings.CutPrefix(p, "+")
			rules = append(rules, tailrace.TopicRule{Pattern: pattern, Public: public})
		}
		return rules
	}
	for _, c := range []struct {
		rules    []tailrace.TopicRule
		selector string
		want     bool
	}{
		{nil, "a", false},
		{rules("+a"), "a", true},
		{rules("+a"), "b", false},
		{rules("+a"), "*", false},
		{rules("+a/*"), "a/b", true},
		{rules("+a/*"), "a/*", true},
		{rules("+a/*"), "a/**", false},
		{rules("+a/**"), "a/*/c", true},
		{rules("+**"), "**", true},
		{rules("+**"), "$config/policies", false},
		{rules("a/b", "+a/*"), "a/b", false},
		{rules("a/b", "+a/*"), "a/*", false},
		{rules("a/b", "+a/*"), "a/c", true},
		{rules("a/*", "+**"), "b/*", true},
		{rules("a/*", "+**"), "*/b", false},
		{rules("a/*", "+**"), "*", true},
		{rules("+a/b", "a/*"), "a/b", true},
		{rules("a/**", "+a/b"), "a/b", false},
	} {
		if got := everybodyMay(c.rules, c.selector); got != c.want {
			t.Errorf("everybodyMay(%v, %q) is %v", c.rules, c.selector, got)
		}
	}
}

func TestCredentialInURLIsRefused(t *testing.T) {
	g := startGuarded(t, nil)
	key := g.keys["reader"]
	for _, target := range []string{"/v1/topics/room/1?access_token=" + key, "/v1/events?topic=room/1&token=" + key, "/v1/connections?jwt=" + key, "/v1/explain?authorization=" + key} {
		g.do("GET", target, "", g.as("reader")...).wantProblem(t, "token-in-url")
	}
	g.do("POST", "/v1/topics/room/1?ACCESS_TOKEN="+key, "x").wantProblem(t, "token-in-url")
	g.wantNoSecrets(key)
}

// wantNoSecrets fails if a secret, or its telling part, is in a log line.
func (g *guarded) wantNoSecrets(secrets ...string) {
	g.t.Helper()
	logs := g.logs.String()
	for _, s := range secrets {
		if strings.Contains(logs, s) || len(s) > 40 && strings.Contains(logs, s[len(s)-40:]) {
			g.t.Errorf("a secret is in the log:\n%s", logs)
		}
	}
}

func TestNoCredentialIsInLogsOrProblems(t *testing.T) {
	g := startGuarded(t, nil)
	valid, expired := token(t, nil), token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix(), "iat": time.Now().Add(-2 * time.Hour).Unix()})
	forged := valid[:len(valid)-6] + "AAAAAA"
	ticket := decode[map[string]string2](t, g.do("POST", "/v1/tickets", `{"topics":["room/1"]}`, bearer(valid)...).wantStatus(t, 200))["ticket"]
	secrets := []string{valid, expired, forged, g.keys["reader"], g.keys["admin"] + "x", string(ticket)}
	var bodies strings.Builder
	for _, secret := range secrets {
		for _, a := range []answer{
			g.do("POST", "/v1/topics/hall/1", "x", bearer(secret)...),
			g.do("GET", "/v1/connections", "", bearer(secret)...),
			g.do("GET", "/v1/explain?topic=room/1", "", bearer(secret)...),
			g.do("GET", "/v1/topics/hall/1?ticket="+url.QueryEscape(secret), ""),
			g.do("GET", "/v1/topics/room/1?format=json&bogus=1&ticket="+url.QueryEscape(secret), ""),
			g.do("GET", "/v1/stat/room/1?ticket="+url.QueryEscape(secret), ""),
			g.do("GET", "/v1/topics/room/1?format=json&token="+url.QueryEscape(secret), ""),
			g.do("DELETE", "/v1/session", "", "Cookie", auth.SessionCookie+"="+secret),
		} {
			bodies.WriteString(a.body)
			for name, values := range a.Header {
				bodies.WriteString(name + ": " + strings.Join(values, ", ") + "\n")
			}
		}
	}
	for _, secret := range secrets {
		if at := strings.Index(bodies.String(), secret); at >= 0 {
			t.Errorf("an answer has a credential: %s", bodies.String()[max(0, at-200):at])
		}
	}
	g.wantNoSecrets(secrets...)
}

// string2 is a text or anything else of an answer that has both.
type string2 string

func (s *string2) UnmarshalJSON(b []byte) error {
	*s = string2(strings.Trim(string(b), `"`))
	return nil
}

func TestTokenFilterHoldsOnStreamsAndPages(t *testing.T) {
	g := startGuarded(t, nil)
	mine := token(t, map[string]any{"tenant": "a", "tailrace": map[string]any{"subscribe": []string{"room/*"}, "filter": "data.tenant == claims.tenant"}})
	sub := g.open("/v1/topics/room/1", bearer(mine)...)
	narrow := g.open("/v1/topics/room/1?filter="+url.QueryEscape("data.n > 1"), bearer(mine)...)
	for _, data := range []string{`{"tenant":"b","n":1}`, `{"tenant":"a","n":1}`, `{"tenant":"b","n":2}`, `{"tenant":"a","n":2}`} {
		g.do("POST", "/v1/topics/room/1", data, g.as("writer")...).wantStatus(t, 200)
	}
	if data := sub.waitFor("data: "); data != `{"tenant":"a","n":1}` {
		t.Errorf("the stream has %s", data)
	}
	if data := narrow.waitFor("data: "); data != `{"tenant":"a","n":2}` {
		t.Errorf("the narrower stream has %s", data)
	}
	for _, filter := range []string{"", "&filter=true", "&filter=" + url.QueryEscape("true) || (true")} {
		page := g.do("GET", "/v1/topics/room/1?format=json"+filter, "", bearer(mine)...)
		if strings.Contains(page.body, `\"b\"`) {
			t.Errorf("the page with %q has %s", filter, page.body)
		}
	}

	// A ticket adds its filter, and takes none away.
	ticket := decode[auth.Ticket](t, g.do("POST", "/v1/tickets", `{"topics":["room/1"],"filter":"data.n > 1"}`, bearer(mine)...).wantStatus(t, 200))
	byTicket := g.open(ticket.URL + "&from=start")
	if data := byTicket.waitFor("data: "); data != `{"tenant":"a","n":2}` {
		t.Errorf("the stream by ticket has %s", data)
	}
	g.do("POST", "/v1/tickets", `{"topics":["room/1"],"filter":"true) || (true"}`, bearer(mine)...).wantProblem(t, "invalid-filter")
}

func TestCORSWithCookies(t *testing.T) {
	g := startGuarded(t, func(_ *tailrace.Options, o *Options) {
		o.CORSOrigins = append(o.CORSOrigins, "https://other.example.com")
	})
	for origin, want := range map[string]string{"https://app.example.com": "true", "https://other.example.com": "", "https://evil.example": ""} {
		a := g.do("GET", "/v1/topics/room/1?format=json", "", append(g.as("reader"), "Origin", origin)...)
		if got := a.Header.Get("Access-Control-Allow-Credentials"); got != want {
			t.Errorf("from %s: Access-Control-Allow-Credentials %q, want %q", origin, got, want)
		}
	}
	a := g.do("OPTIONS", "/v1/topics/room/1", "", "Origin", "https://app.example.com", "Access-Control-Request-Method", "GET")
	if a.wantStatus(t, 204).Header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("the preflight says %v", a.Header)
	}
}

func TestSessionCookie(t *testing.T) {
	g := startGuarded(t, nil)
	begun := g.do("POST", "/v1/session", "", bearer(token(t, nil))...).wantStatus(t, 204)
	cookies := begun.Cookies()
	if len(cookies) != 1 || cookies[0].Name != auth.SessionCookie || !cookies[0].HttpOnly || !cookies[0].Secure || cookies[0].Path != "/" || cookies[0].SameSite != http.SameSiteLaxMode {
		t.Fatalf("the cookies are %v", cookies)
	}
	cookie := []string{"Cookie", cookies[0].Name + "=" + cookies[0].Value}
	with := func(headers ...string) []string { return append(slices.Clone(cookie), headers...) }
	own := "http://" + strings.TrimPrefix(g.url, "http://")

	for _, c := range []struct {
		method  string
		headers []string
		want    string
	}{
		{"GET", with(), ""},
		{"GET", with("Origin", "https://app.example.com"), ""},
		{"GET", with("Origin", "https://evil.example"), "unauthenticated"},
		{"GET", with("Sec-Fetch-Site", "cross-site"), "unauthenticated"},
		{"POST", with("Origin", own), ""},
		{"POST", with("Sec-Fetch-Site", "same-origin"), ""},
		{"POST", with("Origin", "https://app.example.com"), ""},
		{"POST", with(), "csrf"},
		{"POST", with("Origin", "https://evil.example"), "csrf"},
		{"POST", with("Origin", "null"), "csrf"},
		{"POST", with("Sec-Fetch-Site", "cross-site"), "csrf"},
		{"POST", with("Sec-Fetch-Site", "same-site"), "csrf"},
		{"POST", append(with(), g.as("writer")...), ""}, // the header decides, and no page can forge it
	} {
		target, body := "/v1/topics/room/1?format=json", ""
		if c.method == "POST" {
			target, body = "/v1/topics/room/1", "x"
		}
		a := g.do(c.method, target, body, c.headers...)
		if c.want == "" {
			a.wantStatus(t, 200)
		} else {
			a.wantProblem(t, c.want)
		}
	}
	g.open("/v1/topics/room/1", with("Sec-Fetch-Site", "same-origin")...)

	g.do("DELETE", "/v1/session", "", with("Origin", "https://evil.example")...).wantProblem(t, "csrf")
	ended := g.do("DELETE", "/v1/session", "", with("Origin", own)...).wantStatus(t, 204).Cookies()
	if len(ended) != 1 || ended[0].Value != "" || ended[0].MaxAge >= 0 {
		t.Errorf("after the end the cookies are %v", ended)
	}
	g.do("POST", "/v1/session", "").wantProblem(t, "unauthenticated")
}
