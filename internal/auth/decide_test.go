package auth

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFirstCredentialDecidesAlone(t *testing.T) {
	key, hash, _ := NewKey("shop")
	opts, _ := spender()
	a := newAuth(t, Config{
		Keys:    []KeyConfig{{Name: "shop", Hash: hash, Grants: Grants{Subscribe: []string{"room/*"}, Gateway: []string{"*"}}}},
		Issuers: []IssuerConfig{secretIssuer()},
		Cookie:  CookieConfig{Enabled: true},
	}, opts)
	token := secretToken(t, nil)
	p, _ := a.Authenticate(withToken(token))
	ticket, refusal := a.IssueTicket(p, TicketRequest{Topics: []string{"room/a"}, Reconnect: true})
	if refusal != nil {
		t.Fatal(refusal)
	}
	inTicket, bearer, cookie := "ticket="+ticket.Ticket, []string{"Authorization", "Bearer " + token}, []string{"Cookie", SessionCookie + "=" + token}
	badBearer, badCookie := []string{"Authorization", "Bearer x.y.z"}, []string{"Cookie", SessionCookie + "=x.y.z"}
	for _, tc := range []struct {
		name, query string
		headers     [][]string
		carrier     Carrier
		problem     string
	}{
		{"nothing", "", nil, InNothing, ""},
		{"bearer", "", [][]string{bearer}, InHeader, ""},
		{"bearer in small letters", "", [][]string{{"Authorization", "bearer  " + token}}, InHeader, ""},
		{"an API key", "", [][]string{{"Authorization", "Bearer " + key}}, InHeader, ""},
		{"ticket", inTicket, nil, InTicket, ""},
		{"cookie", "", [][]string{cookie}, InCookie, ""},
		{"all three", inTicket, [][]string{bearer, cookie}, InHeader, ""},
		{"ticket and cookie", inTicket, [][]string{cookie}, InTicket, ""},
		{"a bad bearer before good ones", inTicket, [][]string{badBearer, cookie}, "", "invalid-token"},
		{"a bad ticket before a good cookie", "ticket=x", [][]string{cookie}, "", "invalid-token"},
		{"an empty ticket before a good cookie", "ticket=", [][]string{cookie}, "", "invalid-token"},
		{"a bad cookie", "", [][]string{badCookie}, "", "invalid-token"},
		{"two fields", "", [][]string{bearer, bearer}, "", "invalid-request"},
		{"two tickets", inTicket + "&ticket=x", nil, "", "invalid-request"},
		{"two cookies", "", [][]string{cookie, cookie}, "", "invalid-request"},
		{"another scheme", "", [][]string{{"Authorization", "Basic dTpw"}}, "", "unauthenticated"},
		{"a scheme alone", "", [][]string{{"Authorization", "Bearer"}}, "", "unauthenticated"},
		{"an empty field", "", [][]string{{"Authorization", ""}}, "", "unauthenticated"},
		{"x-api-key where it has no meaning", "", [][]string{{"X-Api-Key", key}}, InNothing, ""},
		{"token in the URL", "token=" + token, nil, "", "token-in-url"},
		{"access_token in the URL", "access_token=x", [][]string{bearer}, "", "token-in-url"},
		{"jwt in the URL", "JWT=x", nil, "", "token-in-url"},
		{"authorization in the URL", "authorization=x", nil, "", "token-in-url"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a.failures = failures{}
			r := request("GET", "/v1/events?"+tc.query)
			for _, h := range tc.headers {
				r.Header.Add(h[0], h[1])
			}
			p, refusal := a.Authenticate(r)
			wantProblem(t, refusal, tc.problem, "")
			if refusal == nil && p.Carrier != tc.carrier {
				t.Errorf("it is in %q, want %q", p.Carrier, tc.carrier)
			}
			if refusal != nil && strings.Contains(refusal.Detail, token) {
				t.Errorf("the detail shows the token: %s", refusal.Detail)
			}
		})
	}
	p, refusal = a.Decide(request("POST", "/v1/messages", "X-Api-Key", key), Gateway, []string{"small"})
	wantProblem(t, refusal, "", "")
	if p.Name != "key:shop" {
		t.Errorf("x-api-key is %s", p)
	}
	_, refusal = a.Decide(request("POST", "/v1/messages", "X-Api-Key", key, "X-Api-Key", key), Gateway, []string{"small"})
	wantProblem(t, refusal, "invalid-request", "2 credentials")
}

func TestRights(t *testing.T) {
	public := func(topic string) bool { return topic == "news" }
	a := newAuth(t, Config{
		Issuers:   []IssuerConfig{secretIssuer()},
		Anonymous: AnonymousConfig{Subscribe: []string{"open/**"}, Publish: []string{"inbox"}},
	}, &Options{Public: public})
	token := secretToken(t, nil)
	for _, tc := range []struct {
		name      string
		token     string
		do        Action
		topics    []string
		problem   string
		challenge string
		missing   []string
	}{
		{"own", token, Subscribe, []string{"room/a", "user/u7/x"}, "", "", nil},
		{"one of three", token, Subscribe, []string{"room/a", "secret", "room/b"}, "forbidden", `Bearer error="insufficient_scope"`, []string{"secret"}},
		{"a pattern too wide", token, Subscribe, []string{"room/**"}, "forbidden", `Bearer error="insufficient_scope"`, []string{"room/**"}},
		{"another's", token, Subscribe, []string{"user/u8/x"}, "forbidden", `Bearer error="insufficient_scope"`, []string{"user/u8/x"}},
		{"public", token, Subscribe, []string{"news", "room/a"}, "", "", nil},
		{"public is for reading", token, Publish, []string{"news"}, "forbidden", `Bearer error="insufficient_scope"`, []string{"news"}},
		{"what everybody may", token, Subscribe, []string{"open/x"}, "forbidden", `Bearer error="insufficient_scope"`, []string{"open/x"}},
		{"nobody reads public", "", Subscribe, []string{"news"}, "", "", nil},
		{"nobody reads", "", Subscribe, []string{"open/x", "news"}, "", "", nil},
		{"nobody publishes", "", Publish, []string{"inbox"}, "", "", nil},
		{"nobody reads more", "", Subscribe, []string{"room/a"}, "unauthenticated", "Bearer", nil},
		{"nobody is admin", "", Admin, nil, "unauthenticated", "Bearer", nil},
		{"admin without the right", token, Admin, nil, "forbidden", `Bearer error="insufficient_scope"`, []string{"**"}},
		{"open to all", "", Open, nil, "", "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request("GET", "/v1/events")
			if tc.token != "" {
				r = withToken(tc.token)
			}
			_, refusal := a.Decide(r, tc.do, tc.topics)
			wantProblem(t, refusal, tc.problem, "")
			if refusal == nil {
				return
			}
			if got := Challenge(refusal); got != tc.challenge {
				t.Errorf("challenge %q, want %q", got, tc.challenge)
			}
			if got, _ := refusal.Members["topics"].([]string); !slices.Equal(got, tc.missing) || tc.missing != nil && refusal.Members["action"] != tc.do {
				t.Errorf("members %v, want topics %q", refusal.Members, tc.missing)
			}
		})
	}
}

func TestAnonymousByAddress(t *testing.T) {
	a := newAuth(t, Config{Anonymous: AnonymousConfig{Subscribe: []string{"**"}}}, nil)
	for from, want := range map[string]string{
		"192.0.2.7:1": "anon:192.0.2.7", "[2001:db8:1:2:3::4]:1": "anon:2001:db8:1:2::/64", "[::ffff:192.0.2.7]:1": "anon:192.0.2.7",
		"[fe80::1%eth0]:1": "anon:fe80::/64", "@": "anon:local", "192.0.2.8": "anon:192.0.2.8",
	} {
		r := request("GET", "/")
		r.RemoteAddr = from
		p, refusal := a.Authenticate(r)
		if refusal != nil || p.Name != want || !p.IsAnonymous() {
			t.Errorf("%s is %v, want %s (%v)", from, p, want, refusal)
		}
	}
}

func TestFailuresAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
		good := secretToken(t, nil)
		fail := func(from string) string {
			r := withToken("x.y.z")
			r.RemoteAddr = from
			_, refusal := a.Authenticate(r)
			return refusal.Name
		}
		for i := range 25 {
			want := "invalid-token"
			if i >= 20 {
				want = "rate-limited"
			}
			if got := fail(fmt.Sprintf("[2001:db8::%d]:1", i+1)); got != want { // one line, many addresses
				t.Fatalf("failure %d: %s", i, got)
			}
		}
		r := withToken(good)
		r.RemoteAddr = "[2001:db8::1]:1"
		_, refusal := a.Authenticate(r)
		wantProblem(t, refusal, "", "")
		if got := fail("[2001:db8:0:1::1]:1"); got != "invalid-token" {
			t.Errorf("another line: %s", got)
		}
		r = withToken("x.y.z")
		r.RemoteAddr = "[2001:db8::1]:1"
		time.Sleep(20 * time.Second)
		if _, refusal := a.Authenticate(r); refusal.RetryAfter != 40*time.Second || refusal.StatusCode() != http.StatusTooManyRequests {
			t.Errorf("come back after %v", refusal.RetryAfter)
		}
		time.Sleep(40 * time.Second)
		if got := fail("[2001:db8::1]:1"); got != "invalid-token" {
			t.Errorf("a minute later: %s", got)
		}
	})
}

func TestUnknownRevocationsCloseTheDoor(t *testing.T) {
	a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}, Anonymous: AnonymousConfig{Subscribe: []string{"open"}}}, nil)
	a.SetRevocationsKnown(false)
	_, refusal := a.Authenticate(withToken(secretToken(t, nil)))
	wantProblem(t, refusal, "auth-unavailable", "revocations")
	_, refusal = a.Decide(request("GET", "/"), Subscribe, []string{"open"})
	wantProblem(t, refusal, "", "")
	a.SetRevocationsKnown(true)
	_, refusal = a.Authenticate(withToken(secretToken(t, nil)))
	wantProblem(t, refusal, "", "")
}

func TestChallengeIsOneHeader(t *testing.T) {
	p := refuse("invalid-token", "a \"quote\" \\ and\r\nSet-Cookie: x=ä")
	if got := Challenge(p); strings.ContainsAny(got, "\r\n\\ä") || strings.Count(got, `"`) != 4 {
		t.Errorf("challenge %q", got)
	}
	if Challenge(refuse("csrf", "x")) != "" || Challenge(unavailable("x")) != "" {
		t.Error("a challenge where no credential helps")
	}
}

func TestSameAs(t *testing.T) {
	a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
	of := func(changes map[string]any) *Principal {
		p, refusal := a.Authenticate(withToken(secretToken(t, changes)))
		if refusal != nil {
			t.Fatal(refusal)
		}
		return p
	}
	u7, u8, none := of(nil), of(map[string]any{"sub": "u8"}), of(map[string]any{"sub": nil})
	anon, _ := a.Authenticate(request("GET", "/"))
	if !u7.SameAs(of(map[string]any{"jti": "x"})) || u7.SameAs(u8) || none.SameAs(none) || anon.SameAs(anon) {
		t.Error("who may take whose place is wrong")
	}
}
