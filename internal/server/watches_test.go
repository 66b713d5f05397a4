package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
)

// wantEnd reads a stream to its end, which must say why.
func (s *subscriber) wantEnd(reason string) {
	s.t.Helper()
	if lines := strings.Join(s.rest(), "\n"); !strings.Contains(lines, "event: tailrace.close\n") || !strings.Contains(lines, `"reason":"`+reason+`"`) {
		s.t.Errorf("the stream ended with %q, want the reason %s", lines, reason)
	}
}

func TestStreamEndsWhenItsTokenExpires(t *testing.T) {
	for _, engine := range []string{"fast", "portable"} {
		t.Run(engine, func(t *testing.T) {
			g := startGuarded(t, func(h *tailrace.Options, _ *Options) { h.DisableFastEngine = engine == "portable" })
			exp := time.Now().Add(2 * time.Second).Unix()
			brief := token(t, map[string]any{"exp": exp})
			sub := g.open("/v1/topics/room/1?hello=1", bearer(brief)...)
			other := g.open("/v1/topics/room/1", g.as("reader")...)
			sub.wantEnd(auth.Expired)
			if late := time.Since(time.Unix(exp, 0)); late < 0 || late > 5*time.Second {
				t.Errorf("it ended %v after its token", late)
			}
			g.do("GET", "/v1/topics/room/1", "", bearer(brief)...).wantProblem(t, "token-expired")
			g.do("POST", "/v1/topics/room/1", "on", g.as("writer")...).wantStatus(t, 200)
			other.waitFor("data: on")
			g.wantWatched(1)
		})
	}
}

// wantWatched waits until so many streams are watched.
func (g *guarded) wantWatched(n int) {
	g.t.Helper()
	g.eventually(fmt.Sprintf("%d to be watched", n), func() bool { return g.auth.Watched() == n })
}

func TestEndedStreamsAreNotWatched(t *testing.T) {
	for _, portable := range []bool{false, true} {
		g := startGuarded(t, func(h *tailrace.Options, _ *Options) { h.DisableFastEngine = portable })
		sub := g.open("/v1/topics/room/1", g.as("reader")...)
		g.wantWatched(1)
		sub.Body.Close()
		g.wantWatched(0)
		g.do("GET", "/v1/topics/room/1?format=json", "", g.as("reader")...).wantStatus(t, 200)
		g.do("GET", "/v1/topics/room/1?format=json&wait=10ms", "", g.as("reader")...).wantStatus(t, 200)
		g.do("POST", "/v1/topics/room/1", "data: x\n\n", append(g.as("writer"), "Content-Type", "text/event-stream")...).wantStatus(t, 200)
		g.wantWatched(0)
		if n := len(g.watches.open); n != 0 {
			t.Errorf("%d streams are kept", n)
		}
	}
}

// A thousand streams of one subject end when it is revoked, and no other.
func TestRevocationEndsAThousandStreams(t *testing.T) {
	streams := 1000
	if testing.Short() {
		streams = 200
	}
	g := startGuarded(t, nil)
	revoked, kept := token(t, nil), token(t, map[string]any{"sub": "u8", "jti": "t2"})
	subs := make([]*subscriber, streams)
	for i := range subs {
		subs[i] = g.open("/v1/topics/room/1?hello=1", bearer(revoked)...)
	}
	other := g.open("/v1/topics/room/1", bearer(kept)...)
	g.wantWatched(streams + 1)

	begin := time.Now()
	g.do("POST", "/v1/revocations", `{"iss":"`+testIssuer+`","sub":"u7"}`, g.as("admin")...).wantStatus(t, 200)
	for _, sub := range subs {
		sub.wantEnd(auth.Revoked)
	}
	took := time.Since(begin)
	t.Logf("%d streams ended %v after the revocation", streams, took)
	if took > 20*time.Second {
		t.Errorf("the last stream ended after %v", took)
	}
	g.wantWatched(1)
	g.do("GET", "/v1/topics/room/1", "", bearer(revoked)...).wantProblem(t, "token-revoked")
	g.do("POST", "/v1/topics/room/1", "on", bearer(kept)...).wantStatus(t, 200)
	other.waitFor("data: on")
}

func TestRevocationsAreListedAndTakenBack(t *testing.T) {
	g := startGuarded(t, nil)
	admin := g.as("admin")
	for _, c := range []struct{ body, id string }{
		{`{"jti":"t1"}`, "jti:t1"},
		{`{"key":"reader"}`, "key:reader"},
		{`{"iss":"` + testIssuer + `","sub":"u7"}`, "sub:" + testIssuer + "|u7"},
		{`{"iss":"https://old.example.com","issued_before":1700000000}`, "iss:https://old.example.com"},
		{`{"iss":"` + testIssuer + `","sub":"` + strings.Repeat("long ", 100) + `"}`, "sub:" + testIssuer + "|" + strings.Repeat("long ", 100)},
	} {
		if r := decode[revocationJSON](t, g.do("POST", "/v1/revocations", c.body, admin...).wantStatus(t, 200)); r.ID != c.id {
			t.Errorf("%s has the id %q", c.body, r.ID)
		}
	}
	type list struct {
		Revocations []revocationJSON
		After       string
	}
	var ids []string
	for after := ""; ; {
		l := decode[list](t, g.do("GET", "/v1/revocations?limit=2&after="+url.QueryEscape(after), "", admin...).wantStatus(t, 200))
		for _, r := range l.Revocations {
			ids = append(ids, r.ID)
		}
		if after = l.After; after == "" {
			break
		}
	}
	if len(ids) != 5 || ids[0] != "iss:https://old.example.com" {
		t.Errorf("the list is %q", ids)
	}
	g.do("GET", "/v1/topics/room/1?format=json", "", g.as("reader")...).wantProblem(t, "token-revoked")
	g.do("DELETE", "/v1/revocations?id=key:reader", "", admin...).wantStatus(t, 204)
	g.do("DELETE", "/v1/revocations?id=key:reader", "", admin...).wantStatus(t, 204)
	g.do("GET", "/v1/topics/room/1?format=json", "", g.as("reader")...).wantStatus(t, 200)
	for _, body := range []string{`{}`, `{"sub":"u7"}`, `{"jti":"a","key":"b"}`, `{"jti":1}`, `{"jtj":"a"}`} {
		g.do("POST", "/v1/revocations", body, admin...).wantProblem(t, "invalid-request")
	}
	g.do("DELETE", "/v1/revocations", "", admin...).wantProblem(t, "invalid-request")
}

// A second server over the same log, as after a restart or on another node.
func TestRevocationsAreKeptAndFollowed(t *testing.T) {
	g := startGuarded(t, nil)
	g.do("POST", "/v1/revocations", `{"key":"reader"}`, g.as("admin")...).wantStatus(t, 200)
	second := newServer(t, &tailrace.Options{Log: g.log, DrainWindow: -1}, &Options{Auth: g.cfg, DrainDelay: -1})
	if list := second.auth.Revocations(); len(list) != 1 || list[0].Key != "reader" {
		t.Fatalf("a server that starts knows of %v", list)
	}
	ctx, stop := context.WithCancel(t.Context())
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		second.revocations.follow(ctx, func(err error) { t.Error(err) })
	}()
	defer func() { stop(); <-followed }()
	g.do("POST", "/v1/revocations", `{"jti":"t1"}`, g.as("admin")...).wantStatus(t, 200)
	g.eventually("the other server to follow", func() bool { return len(second.auth.Revocations()) == 2 })
}

// trustNobody makes what was revoked unreadable, and waits until the server
// knows.
func (g *guarded) trustNobody() {
	g.t.Helper()
	g.log.failRead(errors.New("the disk is gone"))
	g.eventually("the server not to be ready", func() bool { return g.do("GET", "/readyz", "").StatusCode == 503 })
}

func TestUnreadableRevocationsTrustNobody(t *testing.T) {
	g := startGuarded(t, nil)
	sub := g.open("/v1/topics/room/1", g.as("reader")...)
	g.trustNobody()
	if m := g.do("GET", "/readyz?verbose=1", "").wantProblem(t, "unavailable"); !strings.Contains(stringOf(m), "revocations") {
		t.Errorf("not ready because of %v", m)
	}
	g.do("POST", "/v1/topics/room/1", "x", g.as("writer")...).wantProblem(t, "auth-unavailable")
	g.log.failRead(nil)
	g.eventually("the server to be ready again", func() bool { return g.do("GET", "/readyz", "").StatusCode == 200 })
	g.do("POST", "/v1/topics/room/1", "x", g.as("writer")...).wantStatus(t, 200)
	sub.waitFor("data: x")
}

func stringOf(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func TestReloadEndsStreamsOfRemovedKeys(t *testing.T) {
	g := startGuarded(t, nil)
	removed := g.open("/v1/topics/room/1?hello=1", g.as("reader")...)
	narrowed := g.open("/v1/topics/hall/1?hello=1", g.as("admin")...)
	kept := g.open("/v1/topics/room/1", g.as("admin")...)
	cfg := g.cfg
	cfg.Keys = nil
	for _, k := range g.cfg.Keys {
		switch k.Name {
		case "reader":
			continue
		case "admin":
			k.Grants.Subscribe = []string{"room/*"}
		}
		cfg.Keys = append(cfg.Keys, k)
	}
	bad := cfg
	bad.Keys = append([]auth.KeyConfig{{Name: "x", Hash: "md5:1"}}, cfg.Keys...)
	open := []tailrace.TopicRule{{Pattern: "hall/*", Public: true}}
	for _, wrong := range []auth.Config{bad, {}} {
		if err := g.Reload(wrong, open); err == nil {
			t.Error("a wrong configuration was taken")
		}
	}
	if err := g.Reload(cfg, []tailrace.TopicRule{{Pattern: "a/**/b"}}); err == nil {
		t.Error("a wrong pattern was taken")
	}
	g.do("GET", "/v1/topics/hall/1?format=json", "").wantProblem(t, "unauthenticated")
	g.do("GET", "/v1/topics/news/1?format=json", "").wantStatus(t, 200)
	g.do("GET", "/v1/topics/room/1?format=json", "", g.as("reader")...).wantStatus(t, 200)
	if err := g.Reload(cfg, nil); err != nil {
		t.Fatal(err)
	}
	g.do("GET", "/v1/topics/news/1?format=json", "").wantProblem(t, "unauthenticated")
	removed.wantEnd(auth.Revoked)
	narrowed.wantEnd(auth.Forbidden)
	g.do("GET", "/v1/topics/room/1?format=json", "", g.as("reader")...).wantProblem(t, "invalid-token")
	g.do("POST", "/v1/topics/room/1", "on", g.as("writer")...).wantStatus(t, 200)
	kept.waitFor("data: on")
}

func TestLongPollEndsWithItsCredential(t *testing.T) {
	g := startGuarded(t, nil)
	done := make(chan answer)
	go func() { done <- g.do("GET", "/v1/topics/room/1?format=json&wait=60s", "", bearer(token(t, nil))...) }()
	g.wantWatched(1)
	g.do("POST", "/v1/revocations", `{"jti":"t1"}`, g.as("admin")...).wantStatus(t, 200)
	a := <-done
	a.wantProblem(t, "token-revoked")
	if a.StatusCode != 401 || !strings.Contains(a.Header.Get("WWW-Authenticate"), "invalid_token") {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
}

func TestUploadEndsWithItsCredential(t *testing.T) {
	g := startGuarded(t, nil)
	body, feed := io.Pipe()
	defer feed.Close()
	req := g.request("POST", "/v1/topics/room/1", "", append(bearer(token(t, nil)), "Content-Type", "text/event-stream")...)
	req.Body, req.ContentLength = body, -1
	done := make(chan answer)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			t.Error(err)
			close(done)
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		done <- answer{resp, string(text)}
	}()
	sub := g.open("/v1/topics/room/1?from=start", g.as("reader")...)
	io.WriteString(feed, "data: stored\n\n")
	sub.waitFor("data: stored")
	g.do("POST", "/v1/revocations", `{"jti":"t1"}`, g.as("admin")...).wantStatus(t, 200)
	a, ok := <-done
	if !ok {
		return
	}
	m := a.wantProblem(t, "token-revoked")
	if m["accepted"] != 1.0 || a.StatusCode != 401 {
		t.Errorf("the upload ended with %d %v", a.StatusCode, m)
	}
}

func TestRefreshKeepsAStreamOpen(t *testing.T) {
	g := startGuarded(t, nil)
	exp := time.Now().Add(2 * time.Second)
	sub := g.open("/v1/topics/room/1", bearer(token(t, map[string]any{"exp": exp.Unix()}))...)
	path := "/v1/connections/" + sub.id() + "/token"
	g.do("POST", path, "", bearer(token(t, map[string]any{"sub": "u8"}))...).wantProblem(t, "principal-mismatch")
	g.do("POST", path, "", g.as("reader")...).wantProblem(t, "principal-mismatch")
	g.do("POST", path, "", bearer(token(t, map[string]any{"tailrace": map[string]any{"subscribe": []string{"room/*"}, "filter": "true"}}))...).wantProblem(t, "principal-mismatch")
	g.do("POST", "/v1/connections/none/token", "", g.as("reader")...).wantProblem(t, "connection-not-found")
	g.do("POST", path, "").wantProblem(t, "unauthenticated")
	g.do("POST", path, "", bearer(token(t, map[string]any{"jti": "t2"}))...).wantStatus(t, 204)

	time.Sleep(time.Until(exp.Add(time.Second + 200*time.Millisecond))) // past the first token's end, to the second, and what a stream may take
	g.do("POST", "/v1/topics/room/1", "after", g.as("writer")...).wantStatus(t, 200)
	sub.waitFor("data: after")
	c := decode[connection](t, g.do("GET", "/v1/connections/"+sub.id(), "", g.as("admin")...).wantStatus(t, 200))
	if c.Expires == nil || !c.Expires.After(exp.Add(time.Minute)) || c.Principal != "jwt:"+testIssuer+"|u7" {
		t.Errorf("the connection is %+v", c)
	}
	g.wantWatched(1)
}

func TestRefreshTakesAwayWhatIsNotAllowedAnyMore(t *testing.T) {
	g := startGuarded(t, nil)
	may := func(topics ...string) []string {
		return bearer(token(t, map[string]any{"tailrace": map[string]any{"subscribe": topics}}))
	}
	sub := g.open("/v1/events?topic=room/1&topic=hall/*&hello=1", may("room/*", "hall/*")...)
	path := "/v1/connections/" + sub.id() + "/token"
	sub.waitFor("event: tailrace.live")
	g.do("POST", path, "", may("room/*")...).wantStatus(t, 204)
	sub.waitFor("event: tailrace.topics")
	if data := sub.waitFor("data: "); !strings.Contains(data, `"forbidden"`) || !strings.Contains(data, `"topics":["room/1"]`) {
		t.Errorf("the stream was told %s", data)
	}
	g.do("POST", "/v1/topics/hall/1", "not for them", g.as("admin")...).wantStatus(t, 200)
	g.do("POST", "/v1/topics/room/1", "for them", g.as("admin")...).wantStatus(t, 200)
	if data := sub.waitFor("data: "); data != "for them" {
		t.Errorf("the stream has %q", data)
	}
	g.do("POST", path, "", may("lobby")...).wantStatus(t, 204)
	sub.wantEnd(auth.Forbidden)
}

// Any status but 200 ends a native EventSource for good.
func TestEventSourceIsToldToComeBack(t *testing.T) {
	g := startGuarded(t, nil)
	g.trustNobody()
	a := g.do("GET", "/v1/topics/room/1", "", append(g.as("reader"), "User-Agent", "Mozilla/5.0")...).wantStatus(t, 200)
	if !strings.HasPrefix(a.body, ": busy\nretry: ") || a.Header.Get("Content-Type") != "text/event-stream" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("an EventSource got %q %v", a.body, a.Header)
	}
	for _, target := range []string{"/v1/topics/room/1?hello=1", "/v1/topics/room/1?format=json"} {
		g.do("GET", target, "", append(g.as("reader"), "User-Agent", "Mozilla/5.0")...).wantProblem(t, "auth-unavailable")
	}
	g.do("GET", "/v1/topics/room/1?token=x", "", "User-Agent", "Mozilla/5.0").wantProblem(t, "token-in-url")
}

// A bare EventSource sends no Authorization, and asks again by the same URL
// when its stream has ended.
func TestTicketOpensOneStream(t *testing.T) {
	g := startGuarded(t, nil)
	issue := func(body string) auth.Ticket {
		t.Helper()
		return decode[auth.Ticket](t, g.do("POST", "/v1/tickets", body, g.as("reader")...).wantStatus(t, 200))
	}
	eventSource := func(target string) answer {
		t.Helper()
		return g.do("GET", target, "", "Accept", "text/event-stream", "User-Agent", "Mozilla/5.0", "Cache-Control", "no-store", "Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.com")
	}
	ticket := issue(`{"topics":["room/1","room/2"]}`)
	if left := time.Until(ticket.Expires); left <= 0 || left > time.Minute || !strings.HasPrefix(ticket.URL, "/v1/events?") {
		t.Errorf("the ticket is %+v", ticket)
	}
	sub := g.open(ticket.URL, "Accept", "text/event-stream", "User-Agent", "Mozilla/5.0")
	g.do("POST", "/v1/topics/room/2", "by ticket", g.as("writer")...).wantStatus(t, 200)
	sub.waitFor("data: by ticket")
	eventSource(ticket.URL).wantProblem(t, "ticket-spent")
	if c := decode[connection](t, g.do("GET", "/v1/connections/"+sub.id(), "", g.as("admin")...)); c.Principal != "key:reader" {
		t.Errorf("the connection is %+v", c)
	}

	// It is for what it was asked for, and a refused use does not spend it.
	ticket = issue(`{"topics":["room/1"],"ttl":"60s"}`)
	text := "ticket=" + url.QueryEscape(ticket.Ticket)
	eventSource("/v1/topics/room/2?"+text).wantProblem(t, "forbidden")
	eventSource("/v1/events?topic=room/1&bogus=1&"+text).wantProblem(t, "unknown-parameter")
	eventSource("/v1/events?topic=room/1&from=never&"+text).wantProblem(t, "invalid-parameter")
	g.do("GET", "/v1/topics/room/1?format=json&"+text, "").wantProblem(t, "forbidden")
	g.do("POST", "/v1/topics/room/1?"+text, "x").wantProblem(t, "forbidden")
	g.do("GET", "/v1/connections?"+text, "").wantStatus(t, 400)
	g.open("/v1/topics/room/1?"+text, "User-Agent", "Mozilla/5.0")

	// One that reopens has one stream at a time.
	ticket = issue(`{"topics":["room/1"],"reconnect":true}`)
	first := g.open(ticket.URL + "&hello=1")
	second := g.open(ticket.URL)
	first.wantEnd(auth.Disconnected)
	g.do("POST", "/v1/topics/room/1", "again", g.as("writer")...).wantStatus(t, 200)
	second.waitFor("data: again")

	for body, want := range map[string]string{
		`{}`: "no-topic", `{"topics":["hall/1"]}`: "forbidden", `{"topics":["room/1"],"ttl":"2m"}`: "invalid-request",
		`{"topics":["a/**/b"]}`: "invalid-topic", `{"topics":["room/1"],"tll":"1s"}`: "unknown-parameter", `{"topics":["room/1"],"filter":"1"}`: "invalid-filter",
	} {
		g.do("POST", "/v1/tickets", body, g.as("reader")...).wantProblem(t, want)
	}
}

func TestExplain(t *testing.T) {
	g := startGuarded(t, nil)
	ask := func(query string, headers ...string) map[string]any {
		t.Helper()
		g.Server.quotas = quotas{}
		return decode[map[string]any](t, g.do("GET", "/v1/explain?"+query, "", headers...).wantStatus(t, 200))
	}
	for _, c := range []struct {
		query, who string
		allow      bool
		status     float64
	}{
		{"topic=room/1", "reader", true, 200},
		{"action=subscribe&topic=room/*", "reader", true, 200},
		{"action=publish&topic=room/1", "reader", false, 403},
		{"action=admin", "reader", false, 403},
		{"action=admin", "admin", true, 200},
		{"topic=room/1", "", false, 401},
		{"topic=news/a", "", true, 200},
	} {
		var headers []string
		if c.who != "" {
			headers = g.as(c.who)
		}
		e := ask(c.query, headers...)
		if e["allow"] != c.allow || e["status"] != c.status || len(e["steps"].([]any)) == 0 {
			t.Errorf("%s by %s: %v", c.query, c.who, e)
		}
	}
	if e := ask("topic=room/1", bearer("nonsense")...); e["allow"] != false || e["status"] != 401.0 {
		t.Errorf("an invalid token is explained as %v", e)
	}
	e := decode[map[string]any](t, g.do("POST", "/v1/explain", `{"token":"`+g.keys["reader"]+`","action":"subscribe","topic":"room/1"}`, g.as("admin")...).wantStatus(t, 200))
	if e["principal"] != "key:reader" || e["allow"] != true || e["policy"] == nil {
		t.Errorf("another's key is explained as %v", e)
	}
	g.do("GET", "/v1/explain", "").wantProblem(t, "no-topic")
	g.do("GET", "/v1/explain?action=read&topic=a", "").wantProblem(t, "invalid-parameter")
	g.do("GET", "/v1/explain?topic=a/**/b", "").wantProblem(t, "invalid-topic")

	g.Server.quotas = quotas{}
	for range explainsPerMinute {
		g.do("GET", "/v1/explain?topic=a", "").wantStatus(t, 200)
	}
	if a := g.do("GET", "/v1/explain?topic=a", ""); a.wantProblem(t, "rate-limited") != nil && a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestLimitOfPrincipalHolds(t *testing.T) {
	g := startGuarded(t, func(h *tailrace.Options, _ *Options) { h.MaxStreamsPerPrincipal = 1 })
	g.open("/v1/topics/room/1", g.as("reader")...)
	g.do("GET", "/v1/topics/room/1", "", g.as("reader")...).wantProblem(t, "too-many-connections")
	g.open("/v1/topics/room/1", g.as("admin")...)
}

func TestDevModeAsksForNothing(t *testing.T) {
	h := start(t, nil, nil)
	e := decode[map[string]any](t, h.do("GET", "/v1/explain?topic=a", "").wantStatus(t, 200))
	if e["allow"] != true {
		t.Errorf("explained as %v", e)
	}
	for _, c := range []struct{ method, target, body string }{
		{"POST", "/v1/session", ""}, {"DELETE", "/v1/session", ""}, {"POST", "/v1/tickets", "{}"}, {"GET", "/v1/revocations", ""},
		{"POST", "/v1/revocations", "{}"}, {"DELETE", "/v1/revocations?id=x", ""}, {"POST", "/v1/explain", "{}"}, {"POST", "/v1/connections/x/token", ""},
	} {
		h.do(c.method, c.target, c.body).wantProblem(t, "not-supported")
	}
	req, _ := http.NewRequest("GET", h.url+"/v1/topics/a?format=json", nil)
	req.Header.Set("Authorization", "Basic nonsense")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("a credential in dev mode: %s", resp.Status)
	}
}
