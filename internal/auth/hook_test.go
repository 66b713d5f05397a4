package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const hookTestSecret = "0123456789abcdef01234567"

// hookServer answers as a test says, and counts.
type hookServer struct {
	mu     sync.Mutex
	status int
	body   string
	err    error
	delay  time.Duration
	calls  atomic.Int32
	most   atomic.Int32 // at once
	now    atomic.Int32
	last   *http.Request
	asked  []byte
}

func (s *hookServer) set(status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body = status, body
}

func (s *hookServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.calls.Add(1)
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	asked, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.last, s.asked = r, asked
	status, body, err, delay := s.status, s.body, s.err, s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	return answer(status, body), nil
}

func hookAuth(t *testing.T, s http.RoundTripper, change func(*Config)) *Authenticator {
	cfg := Config{
		Issuers: []IssuerConfig{secretIssuer()},
		Hook:    HookConfig{URL: "https://hook.example/x", Secret: hookTestSecret, Headers: []string{"x-session"}},
	}
	if change != nil {
		change(&cfg)
	}
	return newAuth(t, cfg, &Options{Transport: s})
}

func TestHookIsAskedSigned(t *testing.T) {
	s := &hookServer{status: 200, body: `{"allow":true}`}
	a := hookAuth(t, s, nil)
	r := withToken(secretToken(t, nil))
	r.Header.Add("X-Session", "s1")
	r.Header.Add("X-Session", "s2")
	r.Header.Add("X-Other", "secret")
	_, refusal := a.Decide(r, Subscribe, []string{"room/b", "room/a"})
	wantProblem(t, refusal, "", "")
	const want = `{"action":"subscribe","topics":["room/a","room/b"],"principal":"jwt:https://id.example.com|u7","ip":"192.0.2.7","headers":{"X-Session":"s1, s2"}}`
	if string(s.asked) != want {
		t.Errorf("it is asked %s", s.asked)
	}
	h := s.last.Header
	signature := "v1," + sign([]byte(hookTestSecret), h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), s.asked)
	if s.last.Method != "POST" || h.Get("Webhook-Signature") != signature || h.Get("Webhook-Id") == "" || h.Get("Authorization") != "" {
		t.Errorf("%s with %v", s.last.Method, h)
	}
	// The example of Standard Webhooks.
	secret, err := hookSecret([]byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
	if err != nil {
		t.Fatal(err)
	}
	got := sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if got != "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signature %s", got)
	}
}

func TestHookDecides(t *testing.T) {
	token := secretToken(t, nil)
	empty := secretToken(t, map[string]any{"tailrace": nil, "tenant": "acme"})
	for _, tc := range []struct {
		name, token string
		status      int
		body        string
		do          Action
		topics      []string
		problem     string
		who         string
		asked       bool
	}{
		{"a token with rights, allowed", token, 200, `{"allow":true}`, Subscribe, []string{"room/a"}, "", "jwt:" + testIssuer + "|u7", true},
		{"a token with rights, beyond them", token, 200, `{"allow":true,"grants":{"subscribe":["**"]}}`, Subscribe, []string{"other"}, "forbidden", "", false},
		{"a token with rights, refused", token, 403, ``, Subscribe, []string{"room/a"}, "forbidden", "", true},
		{"a token with rights, refused by 401", token, 401, ``, Subscribe, []string{"room/a"}, "invalid-token", "", true},
		{"a token with rights, refused by 200", token, 200, `{"allow":false}`, Subscribe, []string{"room/a"}, "forbidden", "", true},
		{"a token with rights, publishing", token, 403, ``, Publish, []string{"room/a"}, "", "jwt:" + testIssuer + "|u7", false},
		{"a token without rights, allowed", empty, 200, `{"allow":true}`, Subscribe, []string{"x", "$presence/x"}, "", "jwt:" + testIssuer + "|u7", true},
		{"a token without rights, granted enough", empty, 200, `{"allow":true,"grants":{"subscribe":["x/*"]}}`, Subscribe, []string{"x/y"}, "", "jwt:" + testIssuer + "|u7", true},
		{"a token without rights, granted less", empty, 200, `{"allow":true,"grants":{"subscribe":["x"]}}`, Subscribe, []string{"x", "y"}, "forbidden", "", true},
		{"a token keeps its name", empty, 200, `{"allow":true,"principal":"admin"}`, Subscribe, []string{"x"}, "", "jwt:" + testIssuer + "|u7", true},
		{"nobody, allowed", "", 200, `{"allow":true}`, Subscribe, []string{"x"}, "", "anon:192.0.2.7", true},
		{"nobody gets a name", "", 200, `{"allow":true,"principal":"u9"}`, Subscribe, []string{"x"}, "", "hook:u9", true},
		{"nobody, wanting a credential", "", 401, ``, Subscribe, []string{"x"}, "unauthenticated", "", true},
		{"nobody, refused", "", 403, ``, Subscribe, []string{"x"}, "forbidden", "", true},
		{"nobody, admin", "", 200, `{"allow":true}`, Admin, nil, "unauthenticated", "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &hookServer{status: tc.status, body: tc.body}
			a := hookAuth(t, s, nil)
			r := request("GET", "/v1/events")
			if tc.token != "" {
				r = withToken(tc.token)
			}
			p, refusal := a.Decide(r, tc.do, tc.topics)
			wantProblem(t, refusal, tc.problem, "")
			if refusal == nil && p.Name != tc.who {
				t.Errorf("it is %s, want %s", p, tc.who)
			}
			if got := s.calls.Load() == 1; got != tc.asked {
				t.Errorf("asked %d times", s.calls.Load())
			}
		})
	}

	s := &hookServer{status: 200, body: `{"allow":true,"filter":"data.a == 1","payload":{"name":"Ada"},"expires":"5s"}`}
	a := hookAuth(t, s, func(c *Config) { c.Hook.Publish = true })
	p, refusal := a.Decide(withToken(token), Subscribe, []string{"room/a"})
	if refusal != nil || !slices.Equal(p.Filters, []string{"data.a == 1"}) || string(p.Payload) != `{"name":"Ada"}` {
		t.Errorf("filters %q, payload %s, %v", p.Filters, p.Payload, refusal)
	}
	s.set(403, "")
	_, refusal = a.Decide(withToken(token), Publish, []string{"room/a"})
	wantProblem(t, refusal, "forbidden", "hook")
}

func TestHookThatFailsIsClosed(t *testing.T) {
	for name, s := range map[string]*hookServer{
		"hangs":                   {delay: time.Hour},
		"cannot be reached":       {err: errors.New("connection refused")},
		"status 500":              {status: 500, body: `{"allow":true}`},
		"status 201":              {status: 201, body: `{"allow":true}`},
		"status 302":              {status: 302},
		"empty":                   {status: 200},
		"not JSON":                {status: 200, body: "<html>yes</html>"},
		"a list":                  {status: 200, body: "[true]"},
		"no allow":                {status: 200, body: "{}"},
		"allow as a string":       {status: 200, body: `{"allow":"true"}`},
		"allow twice":             {status: 200, body: `{"allow":false,"allow":true}`},
		"Allow":                   {status: 200, body: `{"Allow":true}`},
		"an unknown member":       {status: 200, body: `{"allow":true,"filters":"x"}`},
		"a filter of numbers":     {status: 200, body: `{"allow":true,"filter":7}`},
		"grants of a string":      {status: 200, body: `{"allow":true,"grants":"**"}`},
		"grants that are null":    {status: 200, body: `{"allow":true,"grants":null}`},
		"grants with a filter":    {status: 200, body: `{"allow":true,"grants":{"filter":"x"}}`},
		"grants of junk":          {status: 200, body: `{"allow":true,"grants":{"subscribe":["a/**/b"]}}`},
		"an expires of a number":  {status: 200, body: `{"allow":true,"expires":60}`},
		"a principal of lines":    {status: 200, body: `{"allow":true,"principal":"a\nb"}`},
		"a principal of a number": {status: 200, body: `{"allow":true,"principal":7}`},
		"a large payload":         {status: 200, body: `{"allow":true,"payload":"` + strings.Repeat("x", 2000) + `"}`},
		"a large answer":          {status: 200, body: `{"allow":true}` + strings.Repeat(" ", maxHookAnswer)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told error
				cfg := Config{Hook: HookConfig{URL: "https://hook.example", Secret: hookTestSecret}}
				a := newAuth(t, cfg, &Options{Transport: s, OnHook: func(_ time.Duration, err error) { told = err }})
				begin := time.Now()
				_, refusal := a.Decide(request("GET", "/"), Subscribe, []string{"x"})
				wantProblem(t, refusal, "auth-unavailable", "hook")
				if refusal.StatusCode() != http.StatusServiceUnavailable || refusal.RetryAfter == 0 {
					t.Errorf("status %d, retry after %v", refusal.StatusCode(), refusal.RetryAfter)
				}
				if took := time.Since(begin); took > DefaultHookTimeout {
					t.Errorf("it took %v", took)
				}
				synctest.Wait()
				if told == nil {
					t.Error("the operator is told nothing")
				}
				_, refusal = a.Decide(request("GET", "/"), Subscribe, []string{"x"})
				if n := s.calls.Load(); n != 2 {
					t.Errorf("a failure was kept: %d calls, %v", n, refusal)
				}
			})
		})
	}
}

func TestHookAnswersAreCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &hookServer{status: 200, body: `{"allow":true,"expires":"30s"}`, delay: time.Second}
		a := hookAuth(t, s, nil)
		ask := func(topics ...string) {
			a.Decide(request("GET", "/"), Subscribe, topics)
		}
		calls := func(want int32) {
			t.Helper()
			if n := s.calls.Load(); n != want {
				t.Fatalf("%d calls, want %d", n, want)
			}
		}
		var wait sync.WaitGroup
		for range 20 {
			wait.Go(func() { ask("a", "b") })
		}
		wait.Wait()
		calls(1)
		ask("b", "a")
		calls(1)
		ask("a")
		calls(2)
		time.Sleep(30 * time.Second)
		ask("a", "b")
		calls(3)

		s.set(403, "")
		ask("no")
		calls(4)
		time.Sleep(4 * time.Second)
		ask("no")
		calls(4)
		time.Sleep(time.Second)
		ask("no")
		calls(5)
	})
}

func TestHookHasSoManyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &hookServer{status: 200, body: `{"allow":true}`, delay: time.Second}
		a := hookAuth(t, s, nil)
		var wait sync.WaitGroup
		var allowed, refused atomic.Int32
		for i := range 600 {
			wait.Go(func() {
				_, refusal := a.Decide(request("GET", "/"), Subscribe, []string{fmt.Sprint("t", i)})
				if refusal == nil {
					allowed.Add(1)
				} else if refusal.Name == "auth-unavailable" {
					refused.Add(1)
				}
			})
		}
		wait.Wait()
		if most := s.most.Load(); most > maxHookCalls {
			t.Errorf("%d calls at once", most)
		}
		// Two rounds of one second fit into the time-out of two at most.
		if allowed.Load() < maxHookCalls || allowed.Load()+refused.Load() != 600 {
			t.Errorf("%d allowed, %d refused", allowed.Load(), refused.Load())
		}
	})
}

func TestHookRemembersSoMuch(t *testing.T) {
	s := &hookServer{status: 200, body: `{"allow":true}`}
	a := hookAuth(t, s, nil)
	h := a.rules.Load().hook
	for i := range maxHookCached + 100 {
		if _, _, err := h.ask(t.Context(), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.answer); n > maxHookCached {
		t.Errorf("%d answers are kept", n)
	}
}

// The hook over the real client: on this machine only because the URL says so.
func TestHookOverLoopback(t *testing.T) {
	var asked map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		json.NewDecoder(r.Body).Decode(&asked)
		io.WriteString(w, `{"allow":true}`)
	}))
	defer server.Close()
	a := newAuth(t, Config{Hook: HookConfig{URL: server.URL, Secret: hookTestSecret}}, nil)
	_, refusal := a.Decide(request("GET", "/"), Subscribe, []string{"x"})
	wantProblem(t, refusal, "", "")
	if asked["principal"] != "anon:192.0.2.7" {
		t.Errorf("it is asked %v", asked)
	}
}

func TestOpenStreamsAreAskedAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &hookServer{status: 200, body: `{"allow":true,"expires":"30s"}`}
		a := hookAuth(t, s, nil)
		watch := func(topic string) chan string {
			t.Helper()
			p, refusal := a.Decide(request("GET", "/"), Subscribe, []string{topic})
			if refusal != nil {
				t.Fatal(refusal)
			}
			ends := make(chan string, 1)
			a.Watch(p, Use{Subscribe, []string{topic}}, func(reason string) { ends <- reason })
			return ends
		}
		over := func(ends chan string) string {
			synctest.Wait()
			select {
			case reason := <-ends:
				return reason
			default:
				return ""
			}
		}
		first := watch("a")
		time.Sleep(5 * time.Minute)
		if reason := over(first); reason != "" || s.calls.Load() != 11 {
			t.Errorf("after 5 minutes: %q, %d calls, want 11", reason, s.calls.Load())
		}
		s.set(403, "")
		time.Sleep(31 * time.Second)
		if reason := over(first); reason != Revoked {
			t.Errorf("refused: %q", reason)
		}

		s.set(200, `{"allow":true,"expires":"30s"}`)
		second := watch("b")
		s.set(200, `{"allow":true,"filter":"data.a == 1","expires":"30s"}`)
		time.Sleep(31 * time.Second)
		if reason := over(second); reason != Revoked {
			t.Errorf("filtered from now on: %q", reason)
		}

		s.set(200, `{"allow":true,"expires":"30s"}`)
		third := watch("c")
		s.set(500, "")
		time.Sleep(31 * time.Second)
		if reason := over(third); reason != Revoked {
			t.Errorf("out of touch: %q", reason)
		}

		s.set(200, `{"allow":true,"expires":"30s"}`)
		fourth := watch("d")
		if err := a.Reload(Config{Issuers: []IssuerConfig{secretIssuer()}}); err != nil {
			t.Fatal(err)
		}
		if reason := over(fourth); reason != Revoked {
			t.Errorf("without a hook: %q", reason)
		}
		if a.Watched() != 0 {
			t.Errorf("%d are watched", a.Watched())
		}
	})
}
