package auth

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// spender returns options whose Spend remembers ids, as a log would.
func spender() (*Options, *sync.Map) {
	var spent sync.Map
	return &Options{Spend: func(_ context.Context, id string) (bool, error) {
		_, before := spent.LoadOrStore(id, true)
		return !before, nil
	}}, &spent
}

// use asks for topics with a ticket.
func use(a *Authenticator, ticket string, topics ...string) (*Principal, string) {
	a.failures = failures{}
	p, refusal := a.Decide(request("GET", "/v1/events?"+url.Values{"ticket": {ticket}}.Encode()), Subscribe, topics)
	if refusal != nil {
		return nil, refusal.Name
	}
	return p, ""
}

func issue(t *testing.T, a *Authenticator, token string, req TicketRequest) *Ticket {
	t.Helper()
	p, refusal := a.Authenticate(withToken(token))
	if refusal != nil {
		t.Fatal(refusal)
	}
	ticket, refusal := a.IssueTicket(p, req)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return ticket
}

func TestTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts, _ := spender()
		a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, opts)
		token := secretToken(t, map[string]any{"tenant": "acme", "tailrace": map[string]any{
			"subscribe": []string{"room/*"}, "presence": []string{"room/*"}, "publish": []string{"room/*"}, "admin": []string{"$stats"}, "payload": "Ada", "filter": "data.a == claims.tenant"}})
		all := []string{"room/a", "room/*", "$presence/room/a", "$stats"}
		ticket := issue(t, a, token, TicketRequest{Topics: all, Filter: "data.b == 1"})
		if left := time.Until(ticket.Expires); left != DefaultTicketTTL {
			t.Errorf("it lives %v", left)
		}
		u, err := url.Parse(ticket.URL)
		if err != nil || u.Path != "/v1/events" || !slices.Equal(u.Query()["topic"], all) || u.Query().Get("ticket") != ticket.Ticket {
			t.Errorf("URL %s: %v", ticket.URL, err)
		}

		if _, got := use(a, ticket.Ticket, "room/a", "room/**"); got != "forbidden" {
			t.Errorf("for a wider pattern: %q", got)
		}
		if _, got := use(a, ticket.Ticket, "other"); got != "forbidden" {
			t.Errorf("for another topic: %q", got)
		}
		if _, got := use(a, ticket.Ticket, "$audit"); got != "forbidden" {
			t.Errorf("for another topic of the system: %q", got)
		}
		for _, do := range []Action{Publish, Admin, Presence, Gateway} {
			_, refusal := a.Decide(request("GET", "/?ticket="+ticket.Ticket), do, []string{"room/a"})
			wantProblem(t, refusal, "forbidden", "a ticket opens streams")
		}
		_, refusal := a.Decide(request("POST", "/?ticket="+ticket.Ticket), Subscribe, []string{"room/a"})
		wantProblem(t, refusal, "forbidden", "a ticket opens streams")

		// What was refused has not spent it.
		p, got := use(a, ticket.Ticket, all...)
		if got != "" {
			t.Fatalf("used once: %s", got)
		}
		if p.Name != "jwt:"+testIssuer+"|u7" || !slices.Equal(p.Filters, []string{"data.a == claims.tenant", "data.b == 1"}) || p.Claims()["tenant"] != "acme" || string(p.Payload) != `"Ada"` {
			t.Errorf("it opens as %+v", p)
		}
		if time.Until(p.Expires) != time.Hour {
			t.Errorf("its stream ends in %v", time.Until(p.Expires))
		}
		if _, got := use(a, ticket.Ticket, "room/a"); got != "ticket-spent" {
			t.Errorf("used twice: %q", got)
		}
		if _, refusal := a.IssueTicket(p, TicketRequest{Topics: []string{"room/a"}}); refusal == nil || refusal.Name != "forbidden" {
			t.Errorf("a ticket made of a ticket: %v", refusal)
		}

		late := issue(t, a, token, TicketRequest{Topics: []string{"room/a"}, TTL: time.Minute})
		time.Sleep(time.Minute)
		if _, got := use(a, late.Ticket, "room/a"); got != "ticket-spent" {
			t.Errorf("too late: %q", got)
		}
	})
}

func TestTicketUsedTwiceAtOnce(t *testing.T) {
	opts, _ := spender()
	a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, opts)
	ticket := issue(t, a, secretToken(t, nil), TicketRequest{Topics: []string{"room/a"}}).Ticket
	var opened atomic.Int32
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			if _, refusal := a.Decide(request("GET", "/?ticket="+ticket), Subscribe, []string{"room/a"}); refusal == nil {
				opened.Add(1)
			}
		})
	}
	wait.Wait()
	if n := opened.Load(); n != 1 {
		t.Errorf("it opened %d streams", n)
	}
}

func TestTicketThatReopens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts, _ := spender()
		a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, opts)
		ticket := issue(t, a, secretToken(t, nil), TicketRequest{Topics: []string{"room/a"}, Reconnect: true})
		if time.Until(ticket.Expires) != time.Hour {
			t.Errorf("it reopens for %v, the token lives 1h", time.Until(ticket.Expires))
		}
		ends := make(chan string, 4)
		for i := range 3 {
			p, got := use(a, ticket.Ticket, "room/a")
			if got != "" {
				t.Fatalf("use %d: %s", i, got)
			}
			a.Watch(p, Use{Subscribe, []string{"room/a"}}, func(reason string) { ends <- reason })
			synctest.Wait()
			if len(ends) != i {
				t.Errorf("after use %d %d streams were ended", i, len(ends))
			}
		}
		if reason := <-ends; reason != Disconnected {
			t.Errorf("the older stream ends as %s", reason)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		<-ends
		if reason := <-ends; reason != Expired {
			t.Errorf("the last stream ends as %s", reason)
		}
		if _, got := use(a, ticket.Ticket, "room/a"); got != "ticket-spent" {
			t.Errorf("after the token's end: %q", got)
		}
	})
}

func TestTicketsThatAreNotMade(t *testing.T) {
	opts, _ := spender()
	a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}, Anonymous: AnonymousConfig{Subscribe: []string{"open"}}}, opts)
	p, _ := a.Authenticate(withToken(secretToken(t, nil)))
	anon, _ := a.Authenticate(request("GET", "/"))
	long := make([]string, 100)
	for i := range long {
		long[i] = "room/" + strings.Repeat("x", 200)
	}
	for _, tc := range []struct {
		name    string
		p       *Principal
		req     TicketRequest
		problem string
	}{
		{"another's topic", p, TicketRequest{Topics: []string{"user/u8/x"}}, "forbidden"},
		{"no topic", p, TicketRequest{}, "invalid-request"},
		{"too many topics", p, TicketRequest{Topics: make([]string, 129)}, "invalid-request"},
		{"too long a life", p, TicketRequest{Topics: []string{"room/a"}, TTL: time.Hour}, "invalid-request"},
		{"a negative life", p, TicketRequest{Topics: []string{"room/a"}, TTL: -1}, "invalid-request"},
		{"too many bytes", p, TicketRequest{Topics: long}, "too-large"},
		{"nobody, for more", anon, TicketRequest{Topics: []string{"room/a"}}, "unauthenticated"},
		{"nobody, for what is open", anon, TicketRequest{Topics: []string{"open"}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, refusal := a.IssueTicket(tc.p, tc.req)
			wantProblem(t, refusal, tc.problem, "")
		})
	}
	none := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
	_, refusal := none.IssueTicket(p, TicketRequest{Topics: []string{"room/a"}})
	wantProblem(t, refusal, "not-supported", "ticket")
}

func TestTicketsThatAreNotTaken(t *testing.T) {
	opts, _ := spender()
	key := strings.Repeat("k", 32)
	cfg := Config{Issuers: []IssuerConfig{secretIssuer()}, Tickets: TicketConfig{Key: key}}
	a := newAuth(t, cfg, opts)
	token := secretToken(t, map[string]any{"jti": "j1"})
	ticket := func() string { return issue(t, a, token, TicketRequest{Topics: []string{"room/a"}}).Ticket }
	good := ticket()

	// Another node with the same key takes it, one with another does not.
	same, other := newAuth(t, cfg, opts), newAuth(t, Config{Issuers: cfg.Issuers}, opts)
	if _, got := use(other, good, "room/a"); got != "invalid-token" {
		t.Errorf("under another key: %q", got)
	}
	if _, got := use(same, good, "room/a"); got != "" {
		t.Errorf("on another node: %q", got)
	}
	if _, got := use(a, good, "room/a"); got != "ticket-spent" {
		t.Errorf("on both: %q", got)
	}

	good = ticket()
	for i := range good { // each character counts
		bad := good[:i] + nextLetterOf(good[i]) + good[i+1:]
		if _, got := use(a, bad, "room/a"); got != "invalid-token" {
			t.Fatalf("changed at %d: %q", i, got)
		}
	}
	for _, bad := range []string{"x", good + "AAAA", good[:len(good)-4], strings.Repeat("A", 20_000), token, "%"} {
		if _, got := use(a, bad, "room/a"); got != "invalid-token" {
			t.Errorf("%.20s: %q", bad, got)
		}
	}

	if err := a.Revoke(Revocation{JTI: "j1"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, got := use(a, good, "room/a"); got != "token-revoked" {
		t.Errorf("of a revoked token: %q", got)
	}
	a.Reinstate(Revocation{JTI: "j1"}.ID())
	if err := a.Reload(Config{Tickets: cfg.Tickets, Anonymous: AnonymousConfig{Subscribe: []string{"x"}}}); err != nil {
		t.Fatal(err)
	}
	if _, got := use(a, good, "room/a"); got != "token-revoked" {
		t.Errorf("of an issuer that was removed: %q", got)
	}

	broken := newAuth(t, cfg, &Options{Spend: func(context.Context, string) (bool, error) { return false, errors.New("no log") }})
	if _, got := use(broken, good, "room/a"); got != "auth-unavailable" {
		t.Errorf("where its use cannot be noted: %q", got)
	}
}

func nextLetterOf(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}
