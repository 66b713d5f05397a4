package auth

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	key, hash, _ := NewKey("shop")
	opts, spent := spender()
	opts.Public = func(topic string) bool { return topic == "news" }
	a := newAuth(t, Config{
		Issuers: []IssuerConfig{secretIssuer()},
		Keys:    []KeyConfig{{Name: "shop", Hash: hash, Grants: Grants{Subscribe: []string{"room/*"}}}},
	}, opts)
	token := secretToken(t, nil)
	ticket := issue(t, a, token, TicketRequest{Topics: []string{"room/a"}}).Ticket
	for _, tc := range []struct {
		name, token string
		topics      []string
		status      int
		typ, checks string // of the steps; ! is the one that failed
		matched     string
	}{
		{"a token", token, []string{"room/a", "user/u7/x", "news"}, 200, "", "credential form issuer header key signature audience time claims revocation grants", "room/* user/u7/** policy: public"},
		{"a wrong topic", token, []string{"x"}, 403, "/docs/problems/forbidden", "credential form issuer header key signature audience time claims revocation !grants", ""},
		{"an expired token", secretToken(t, map[string]any{"iat": 1, "exp": 2}), []string{"x"}, 401, "/docs/problems/token-expired", "credential form issuer header key signature audience !time", ""},
		{"a foreign token", secretToken(t, map[string]any{"iss": "x"}), []string{"x"}, 401, "/docs/problems/invalid-token", "credential form !issuer", ""},
		{"junk", "junk", []string{"x"}, 401, "/docs/problems/invalid-token", "credential !form", ""},
		{"an API key", key, []string{"room/a"}, 200, "", "credential key revocation grants", "room/*"},
		{"a wrong API key", key + "x", []string{"room/a"}, 401, "/docs/problems/invalid-token", "credential !key", ""},
		{"nothing", "", []string{"x"}, 401, "/docs/problems/unauthenticated", "credential !grants", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request("GET", "/v1/explain")
			if tc.token != "" {
				r = withToken(tc.token)
			}
			for range 30 { // it counts no failures
				a.Explain(r, Subscribe, tc.topics)
			}
			e := a.Explain(r, Subscribe, tc.topics)
			var checks []string
			for _, s := range e.Steps {
				if s.Detail == "" {
					t.Errorf("%s says nothing", s.Check)
				}
				if s.OK {
					checks = append(checks, s.Check)
				} else {
					checks = append(checks, "!"+s.Check)
				}
			}
			if e.Status != tc.status || e.Type != tc.typ || e.Allow != (tc.status == 200) || strings.Join(checks, " ") != tc.checks || strings.Join(e.Matched, " ") != tc.matched {
				t.Errorf("got %+v, checks %q", e, checks)
			}

			// The same request is decided the same.
			_, refusal := a.Decide(r, Subscribe, tc.topics)
			status := 200
			if refusal != nil {
				status = refusal.StatusCode()
			}
			if status != e.Status {
				t.Errorf("it is decided with %d and explained with %d", status, e.Status)
			}
			if text, err := json.Marshal(e); err != nil || tc.token != "" && strings.Contains(string(text), tc.token[len(tc.token)/2:]) && tc.token != "junk" {
				t.Errorf("%s, %v", text, err)
			}
		})
	}

	for range 2 {
		if e := a.Explain(request("GET", "/?ticket="+ticket), Subscribe, []string{"room/a"}); !e.Allow {
			t.Errorf("a ticket: %+v", e)
		}
	}
	spent.Range(func(any, any) bool { t.Error("to explain it spent the ticket"); return true })

	e := a.ExplainToken(request("POST", "/v1/explain"), token, Publish, []string{"room/a"})
	if !e.Allow || e.Principal != "jwt:"+testIssuer+"|u7" || !slices.Equal(e.Grants.Publish, []string{"room/*"}) {
		t.Errorf("another's token: %+v", e)
	}
	if e := a.ExplainToken(withToken(token), "junk", Publish, []string{"room/a"}); e.Allow {
		t.Error("another's token is judged by one's own")
	}
}
