package auth

import (
	"context"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// Nothing that a stranger writes as a token makes it valid, or panics.
func FuzzToken(f *testing.F) {
	a, err := New(Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
	if err != nil {
		f.Fatal(err)
	}
	defer a.Close()
	good, err := (&SigningKey{[]byte("another secret, also of 32 bytes"), "HS256"}).Sign(nil, claimsWith(nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(segment(`{"alg":"none"}`) + "." + segment(`{"iss":"https://id.example.com","aud":"tailrace","exp":9999999999}`) + ".")
	f.Add("tr_shop_" + strings.Repeat("A", 43))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Authorization"] = []string{"Bearer " + token}
		if p, refusal := a.Authenticate(r); refusal == nil {
			t.Errorf("%q is %s", token, p)
		} else if strings.ContainsAny(Challenge(refusal), "\r\n") {
			t.Errorf("%q breaks the header: %q", token, Challenge(refusal))
		}
	})
}

// Claims whose signature is right are decoded without a panic, and whatever
// they say, no selector leaves the segment that a claim stands for.
func FuzzClaims(f *testing.F) {
	is := secretIssuer()
	is.Grants = Grants{Subscribe: []string{"user/{sub}/x", "t-{claims.tenant}"}}
	rs, faults := (&Config{Issuers: []IssuerConfig{is}}).compile()
	if len(faults) > 0 {
		f.Fatal(faults)
	}
	f.Add(`{"iss":"https://id.example.com","aud":"tailrace","exp":9999999999,"iat":9999999000,"sub":"u7","tenant":"acme","tailrace":{"publish":["a/{sub}"],"payload":{},"filter":"x"}}`)
	f.Add(`{"sub":"**","tenant":"a/b"}`)
	f.Add(`{"tailrace":{"subscribe":["{sub}","{claims.a}"]},"a":"$x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := decodeStrict([]byte(text))
		if err != nil {
			return
		}
		if rights, err := parseRights(claims["tailrace"]); err == nil {
			rights.grants.resolve(claims)
		}
		for _, selector := range rs.issuers[testIssuer].grants.resolve(claims).Subscribe {
			prefix, segments := "t-", 1
			if strings.HasPrefix(selector, "user/") {
				prefix, segments = "user/", 3
			}
			if !strings.HasPrefix(selector, prefix) || strings.Count(selector, "/")+1 != segments || tailrace.IsPattern(selector) || tailrace.CheckTopic(selector) != nil {
				t.Errorf("%s gives %q", text, selector)
			}
		}
		is := rs.issuers[testIssuer]
		is.principal(nil, claims, []byte(text), "", time.Unix(9999999001, 0))
	})
}

// Nothing that a stranger writes as a ticket opens a stream.
func FuzzTicket(f *testing.F) {
	a, err := New(Config{}, &Options{Spend: func(context.Context, string) (bool, error) { return true, nil }})
	if err != nil {
		f.Fatal(err)
	}
	defer a.Close()
	other, err := New(Config{Anonymous: AnonymousConfig{Subscribe: []string{"**"}}}, &a.opts)
	if err != nil {
		f.Fatal(err)
	}
	defer other.Close()
	anon, _ := other.Authenticate(httptest.NewRequest("GET", "/", nil))
	ticket, refusal := other.IssueTicket(anon, TicketRequest{Topics: []string{"a"}})
	if refusal != nil {
		f.Fatal(refusal)
	}
	f.Add(ticket.Ticket)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest("GET", "/?"+url.Values{"ticket": {text}}.Encode(), nil)
		if p, refusal := a.Authenticate(r); refusal == nil {
			t.Errorf("%q opens as %s", text, p)
		}
	})
}

func FuzzHookAnswer(f *testing.F) {
	f.Add([]byte(`{"allow":true,"principal":"u","grants":{"subscribe":["a"]},"filter":"x","payload":{},"expires":"60s"}`))
	f.Add([]byte(`{"allow":false}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, holds, err := parseHookAnswer(body)
		if err == nil && (holds < hookAtLeast || holds > hookAtMost || answer.status != 200 && answer.status != 403) {
			t.Errorf("%s holds %v with %d", body, holds, answer.status)
		}
	})
}
