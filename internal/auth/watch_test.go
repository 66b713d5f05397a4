package auth

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stream is a principal that is watched by a test.
type stream struct {
	stop   func()
	reason chan string
}

func (s *stream) over() string {
	synctest.Wait()
	select {
	case reason := <-s.reason:
		return reason
	default:
		return ""
	}
}

func watchToken(t *testing.T, a *Authenticator, token string, topics ...string) *stream {
	t.Helper()
	p, refusal := a.Decide(withToken(token), Subscribe, topics)
	if refusal != nil {
		t.Fatal(refusal)
	}
	s := &stream{reason: make(chan string, 2)}
	s.stop = a.Watch(p, Use{Subscribe, topics}, func(reason string) { s.reason <- reason })
	return s
}

func TestStreamsEndWithTheirTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
		until := func(d time.Duration) string { return secretToken(t, map[string]any{"exp": time.Now().Add(d).Unix()}) }
		late, soon := watchToken(t, a, until(time.Hour), "room/a"), watchToken(t, a, until(time.Minute), "room/a")
		stopped := watchToken(t, a, until(time.Minute), "room/a")
		stopped.stop()
		stopped.stop() // harmless
		time.Sleep(time.Minute - time.Millisecond)
		if reason := soon.over(); reason != "" {
			t.Errorf("early: %s", reason)
		}
		time.Sleep(time.Millisecond)
		if got := soon.over(); got != Expired || late.over() != "" {
			t.Errorf("at its end: %q", got)
		}
		time.Sleep(time.Hour)
		if got := late.over(); got != Expired || stopped.over() != "" || soon.over() != "" {
			t.Errorf("the late one: %q", got)
		}
		if n := a.Watched(); n != 0 {
			t.Errorf("%d are watched", n)
		}
	})
}

func TestStreamsEndByRevocation(t *testing.T) {
	key, hash, _ := NewKey("shop")
	now := time.Now().Truncate(time.Second)
	for _, tc := range []struct {
		name string
		json string
		ends string // of the streams a to f below
	}{
		{"by jti", `{"jti":"j1"}`, "a"},
		{"by subject", `{"iss":"https://id.example.com","sub":"u7"}`, "abc"},
		{"by issuer and time", fmt.Sprintf(`{"iss":"https://id.example.com","issued_before":%d}`, now.Unix()), "bcd"},
		{"by key", `{"key":"shop"}`, "f"},
		{"another jti", `{"jti":"j2"}`, ""},
		{"another subject", `{"iss":"https://id.example.com","sub":"u9"}`, ""},
		{"another issuer", `{"iss":"https://other.example.com","sub":"u7"}`, ""},
		{"another key", `{"key":"u7"}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := newAuth(t, Config{
				Issuers: []IssuerConfig{secretIssuer()},
				Keys:    []KeyConfig{{Name: "shop", Hash: hash, Grants: Grants{Subscribe: []string{"room/*"}}}},
			}, nil)
			tokens := []struct{ name, token string }{
				{"a", secretToken(t, map[string]any{"jti": "j1", "iat": now.Unix()})},
				{"b", secretToken(t, map[string]any{"jti": "j3", "iat": now.Add(-time.Minute).Unix()})},
				{"c", secretToken(t, map[string]any{"iat": nil})},
				{"d", secretToken(t, map[string]any{"sub": "u8", "iat": now.Add(-time.Second).Unix()})},
				{"e", secretToken(t, map[string]any{"sub": nil, "iat": now.Unix()})},
				{"f", key},
			}
			streams := map[string]*stream{}
			for _, tok := range tokens {
				streams[tok.name] = watchToken(t, a, tok.token, "room/a")
			}
			r, err := ParseRevocation([]byte(tc.json))
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Revoke(r, time.Now()); err != nil {
				t.Fatal(err)
			}
			ended, refused := "", ""
			for _, tok := range tokens {
				select { // before Revoke has returned
				case reason := <-streams[tok.name].reason:
					if reason != Revoked {
						t.Errorf("%s ends as %s", tok.name, reason)
					}
					ended += tok.name
				default:
				}
				if _, refusal := a.Authenticate(withToken(tok.token)); refusal != nil {
					wantProblem(t, refusal, "token-revoked", "revoked")
					refused += tok.name
				}
			}
			if ended != tc.ends || refused != tc.ends {
				t.Errorf("ended %q, refused %q, want %q", ended, refused, tc.ends)
			}
			a.Reinstate(r.ID())
			for _, tok := range tokens {
				if _, refusal := a.Authenticate(withToken(tok.token)); refusal != nil {
					t.Errorf("%s after its reinstatement: %v", tok.name, refusal)
				}
			}
		})
	}
}

// reloadKey is an API key and configurations that have it, for reloads.
var reloadKey, reloadHash, _ = NewKey("shop")

func reloadConfig(change func(c *Config)) Config {
	is := secretIssuer()
	is.Grants = Grants{Subscribe: []string{"news"}}
	c := Config{
		Issuers:   []IssuerConfig{is},
		Keys:      []KeyConfig{{Name: "shop", Hash: reloadHash, Grants: Grants{Subscribe: []string{"room/*"}}}},
		Anonymous: AnonymousConfig{Subscribe: []string{"open"}},
	}
	if change != nil {
		change(&c)
	}
	return c
}

func TestReloadJudgesOpenStreams(t *testing.T) {
	_, otherHash, _ := NewKey("shop")
	for _, tc := range []struct {
		name             string
		change           func(c *Config)
		key, token, anon string // how each stream ends
	}{
		{"nothing", nil, "", "", ""},
		{"the key is removed", func(c *Config) { c.Keys = nil }, Revoked, "", ""},
		{"the key is replaced", func(c *Config) { c.Keys[0].Hash = otherHash }, Revoked, "", ""},
		{"the key may read other topics", func(c *Config) { c.Keys[0].Grants.Subscribe = []string{"user/*"} }, Forbidden, "", ""},
		{"the key has expired", func(c *Config) { c.Keys[0].Expires = "1999-01-01T00:00:00Z" }, Expired, "", ""},
		{"the issuer is removed", func(c *Config) { c.Issuers = nil }, "", Revoked, ""},
		{"the issuer has another secret", func(c *Config) { c.Issuers[0].Secret = "another secret of thirty-two bytes" }, "", Revoked, ""},
		{"the issuer grants nothing", func(c *Config) { c.Issuers[0].Grants = Grants{} }, "", Forbidden, ""},
		{"nobody may read", func(c *Config) { c.Anonymous.Subscribe = nil }, "", "", Forbidden},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAuth(t, reloadConfig(nil), nil)
				byKey, byToken := watchToken(t, a, reloadKey, "room/a"), watchToken(t, a, secretToken(t, nil), "room/a", "news")
				p, _ := a.Authenticate(request("GET", "/"))
				anon := &stream{reason: make(chan string, 1)}
				a.Watch(p, Use{Subscribe, []string{"open"}}, func(reason string) { anon.reason <- reason })
				if err := a.Reload(reloadConfig(tc.change)); err != nil {
					t.Fatal(err)
				}
				if got := byKey.over(); got != tc.key {
					t.Errorf("by key: %q, want %q", got, tc.key)
				}
				if got := byToken.over(); got != tc.token {
					t.Errorf("by token: %q, want %q", got, tc.token)
				}
				if got := anon.over(); got != tc.anon {
					t.Errorf("by nobody: %q, want %q", got, tc.anon)
				}
			})
		})
	}
}

func TestReloadThatFailsChangesNothing(t *testing.T) {
	a := newAuth(t, reloadConfig(nil), nil)
	s := watchToken(t, a, reloadKey, "room/a")
	err := a.Reload(reloadConfig(func(c *Config) { c.Issuers, c.Keys[0].Hash = nil, "junk" }))
	if err == nil || len(s.reason) != 0 {
		t.Errorf("a faulty configuration: %v", err)
	}
	for _, token := range []string{reloadKey, secretToken(t, nil)} {
		if _, refusal := a.Authenticate(withToken(token)); refusal != nil {
			t.Error(refusal)
		}
	}
}

func TestReloadMovesTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, reloadConfig(nil), nil)
		s := watchToken(t, a, reloadKey, "room/a")
		set := func(expires string) {
			t.Helper()
			if err := a.Reload(reloadConfig(func(c *Config) { c.Keys[0].Expires = expires })); err != nil {
				t.Fatal(err)
			}
			if reason := s.over(); reason != "" {
				t.Fatalf("it ended as %s", reason)
			}
		}
		set(time.Now().Add(time.Hour).Format(time.RFC3339))
		set("")
		time.Sleep(2 * time.Hour)
		set(time.Now().Add(time.Hour).Format(time.RFC3339))
		time.Sleep(time.Hour)
		if got := s.over(); got != Expired {
			t.Errorf("at the end that was set: %q", got)
		}
	})
}

// A stream that is judged by the old rules and watched under the new ones is
// told, and not by Watch itself.
func TestWatchSeesWhatHappenedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
		p, _ := a.Decide(withToken(secretToken(t, map[string]any{"jti": "j"})), Subscribe, []string{"room/a"})
		a.Revoke(Revocation{JTI: "j"}, time.Now())
		var mu sync.Mutex
		reason := ""
		mu.Lock() // Watch would wait for ever
		a.Watch(p, Use{Subscribe, []string{"room/a"}}, func(why string) {
			mu.Lock()
			defer mu.Unlock()
			reason = why
		})
		mu.Unlock()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if reason != Revoked {
			t.Errorf("it ends as %q", reason)
		}
	})
}

func TestPublicTopicThatIsNoMore(t *testing.T) {
	var public atomic.Bool
	public.Store(true)
	a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, &Options{Public: func(string) bool { return public.Load() }})
	s := watchToken(t, a, secretToken(t, nil), "news")
	a.Rejudge()
	public.Store(false)
	if len(s.reason) != 0 {
		t.Error("it ended while it was public")
	}
	a.Rejudge()
	if got := <-s.reason; got != Forbidden {
		t.Errorf("it ends as %s", got)
	}
}

// Many streams, ended and stopped from everywhere at once: each is told once
// or not at all, and none is left.
func TestWatchingManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
		const n = 1000
		var told [n]atomic.Int32
		var workers sync.WaitGroup
		for w := range 4 {
			workers.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), 1))
				for i := w; i < n; i += 4 {
					p := &Principal{Name: "jwt:" + testIssuer + "|u", Method: ByJWT, Expires: time.Now().Add(time.Duration(rng.IntN(100)) * time.Second)}
					p.id = identity{Issuer: testIssuer, JTI: fmt.Sprint("j", i%10), Print: a.rules.Load().issuers[testIssuer].static[0].print}
					stop := a.Watch(p, Use{}, func(string) { told[i].Add(1) })
					switch rng.IntN(20) {
					case 0:
						stop()
					case 1:
						a.Revoke(Revocation{JTI: p.id.JTI}, time.Now())
						a.Reinstate(Revocation{JTI: p.id.JTI}.ID())
					case 2:
						time.Sleep(time.Second)
					}
				}
			})
		}
		workers.Wait()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		ended := 0
		for i := range told {
			if c := told[i].Load(); c > 1 {
				t.Errorf("stream %d was told %d times", i, c)
			} else if c == 1 {
				ended++
			}
		}
		if a.Watched() != 0 || ended < n*9/10 {
			t.Errorf("%d are watched still, %d of %d were told", a.Watched(), ended, n)
		}
	})
}

// Ten thousand streams of one subject have been told when Revoke returns, and
// those of others go on.
func TestRevocationEndsManyStreams(t *testing.T) {
	a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
	const n = 10_000
	ended := 0
	for i := range n {
		token := &Principal{Method: ByJWT, Expires: time.Now().Add(time.Hour), own: Grants{Subscribe: []string{"room/*"}}}
		token.id = identity{Issuer: testIssuer, Subject: fmt.Sprint("u", i%2), Print: a.rules.Load().issuers[testIssuer].static[0].print}
		a.Watch(token, Use{Subscribe, []string{"room/a"}}, func(string) { ended++ })
	}
	if err := a.Revoke(Revocation{Issuer: testIssuer, Subject: "u1"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if ended != n/2 || a.Watched() != n/2 {
		t.Errorf("%d were told, %d go on", ended, a.Watched())
	}
}

func TestCloseEndsWatching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
		s := watchToken(t, a, secretToken(t, nil), "room/a")
		a.Close()
		later := watchToken(t, a, secretToken(t, nil), "room/a")
		time.Sleep(2 * time.Hour)
		if s.over() != "" || later.over() != "" {
			t.Error("a stream was told after Close")
		}
		s.stop()
		later.stop()
	})
}
