package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// keyServer is an issuer's endpoint whose keys and health a test changes.
type keyServer struct {
	mu    sync.Mutex
	body  string
	err   error
	delay time.Duration
	calls atomic.Int32
}

func (s *keyServer) set(body string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.err = body, err
}

func (s *keyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.calls.Add(1)
	s.mu.Lock()
	body, err, delay := s.body, s.err, s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if err != nil {
		return nil, err
	}
	if body == "" {
		return answer(500, "sorry"), nil
	}
	return answer(200, body), nil
}

// jwksAuth returns an authenticator of one issuer whose keys s serves.
func jwksAuth(t *testing.T, s http.RoundTripper) *Authenticator {
	is := secretIssuer()
	is.Secret, is.Algorithms, is.JWKSURL = "", []string{"ES256"}, "https://id.example.com/keys"
	return newAuth(t, Config{Issuers: []IssuerConfig{is}}, &Options{Transport: s})
}

// present authenticates a fresh token by key and kid.
func present(t *testing.T, a *Authenticator, kid string) string {
	t.Helper()
	key := ecKey()
	if kid == "two" {
		key = otherECKey()
	}
	a.failures = failures{}
	_, refusal := a.Authenticate(withToken(signedBy(t, &SigningKey{key, "ES256"}, map[string]any{"kid": kid}, claimsWith(nil))))
	if refusal == nil {
		return ""
	}
	return refusal.Name
}

func TestKeySetIsCachedAndFetchedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keyServer{body: jwkSet(ecJWK(t, "one", ecKey())), delay: 100 * time.Millisecond}
		a := jwksAuth(t, s)
		for range 3 {
			if got := present(t, a, "one"); got != "" {
				t.Fatal(got)
			}
		}
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d fetches for three tokens", n)
		}
		time.Sleep(8 * time.Minute)
		begin := time.Now()
		if got := present(t, a, "one"); got != "" || time.Since(begin) != 0 {
			t.Errorf("%q after %v: a token waited for a fetch ahead", got, time.Since(begin))
		}
		time.Sleep(time.Second)
		if n := s.calls.Load(); n != 2 {
			t.Errorf("%d fetches at 8 minutes, want 2", n)
		}
		time.Sleep(10 * time.Minute)
		begin = time.Now()
		if got := present(t, a, "one"); got != "" || time.Since(begin) == 0 {
			t.Errorf("%q after %v: a set older than 10 minutes was used unasked", got, time.Since(begin))
		}
	})
}

func TestKeySetRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keyServer{body: jwkSet(ecJWK(t, "one", ecKey()))}
		a := jwksAuth(t, s)
		present(t, a, "one")
		s.set(jwkSet(ecJWK(t, "two", otherECKey())), nil)
		time.Sleep(time.Minute)
		if got := present(t, a, "two"); got != "" {
			t.Errorf("the new key: %q", got)
		}
		if got := present(t, a, "one"); got != "invalid-token" {
			t.Errorf("the withdrawn key: %q", got)
		}
	})
}

func TestUnknownKidsAreNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keyServer{body: jwkSet(ecJWK(t, "one", ecKey()))}
		a := jwksAuth(t, s)
		present(t, a, "one")
		for i := range 1000 { // over 100 s
			if got := present(t, a, fmt.Sprint("kid", i)); got != "invalid-token" {
				t.Fatalf("an unknown kid: %q", got)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := s.calls.Load(); n != 2 {
			t.Errorf("%d fetches in 100 s of unknown kids, want 2", n)
		}
		if got := present(t, a, "one"); got != "" {
			t.Errorf("a good token in the flood: %q", got)
		}
	})
}

func TestAllWaitForOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keyServer{body: jwkSet(ecJWK(t, "one", ecKey())), delay: time.Second}
		a := jwksAuth(t, s)
		token := signedBy(t, &SigningKey{ecKey(), "ES256"}, map[string]any{"kid": "one"}, claimsWith(nil))
		var wait sync.WaitGroup
		for range 50 {
			wait.Go(func() {
				if _, refusal := a.Authenticate(withToken(token)); refusal != nil {
					t.Error(refusal)
				}
			})
		}
		// One that goes away does not take the fetch with it.
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, refusal := a.Authenticate(withToken(token).WithContext(ctx))
		wantProblem(t, refusal, "auth-unavailable", "in time")
		wait.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d fetches for 51 requests", n)
		}
	})
}

func TestKeySetThatDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keyServer{body: jwkSet(ecJWK(t, "one", ecKey()))}
		a := jwksAuth(t, s)
		present(t, a, "one")
		s.set("", errors.New("connection refused"))
		time.Sleep(time.Hour)
		if got := present(t, a, "one"); got != "" {
			t.Errorf("an hour after its death: %q", got)
		}
		if got := present(t, a, "two"); got != "auth-unavailable" {
			t.Errorf("a kid that may be new: %q", got)
		}
		calls := s.calls.Load()
		for range 5 {
			present(t, a, "one")
			time.Sleep(time.Second)
		}
		if n := s.calls.Load() - calls; n > 1 {
			t.Errorf("%d tries in 5 s", n)
		}
		time.Sleep(23 * time.Hour)
		if got := present(t, a, "one"); got != "auth-unavailable" {
			t.Errorf("a day after its death: %q", got)
		}
		s.set(jwkSet(ecJWK(t, "one", ecKey())), nil)
		time.Sleep(jwksRetry)
		if got := present(t, a, "one"); got != "" {
			t.Errorf("back again: %q", got)
		}
	})
}

func TestKeySetsThatAreNone(t *testing.T) {
	for name, body := range map[string]string{
		"not JSON": "<html>", "no keys": `{"keys":[]}`, "too large": `{"keys":[],"x":"` + strings.Repeat("x", maxJWKSSize) + `"}`, "status 500": "",
	} {
		synctest.Test(t, func(t *testing.T) {
			var told error
			is := secretIssuer()
			is.Secret, is.Algorithms, is.JWKSURL = "", []string{"ES256"}, "https://id.example.com/keys"
			a := newAuth(t, Config{Issuers: []IssuerConfig{is}}, &Options{Transport: &keyServer{body: body}, OnKeySet: func(_ string, err error) { told = err }})
			if got := present(t, a, "one"); got != "auth-unavailable" {
				t.Errorf("%s: %q", name, got)
			}
			synctest.Wait()
			if told == nil || !strings.Contains(told.Error(), "id.example.com/keys") {
				t.Errorf("%s: the operator is told %v", name, told)
			}
		})
	}
}

func TestKeySetThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := jwksAuth(t, &keyServer{body: "x", delay: time.Hour})
		begin := time.Now()
		if got := present(t, a, "one"); got != "auth-unavailable" || time.Since(begin) != jwksTimeout {
			t.Errorf("%q after %v", got, time.Since(begin))
		}
	})
}

func TestReloadKeepsKeySets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &keyServer{body: jwkSet(ecJWK(t, "one", ecKey()))}
		a := jwksAuth(t, s)
		present(t, a, "one")
		is := secretIssuer()
		is.Secret, is.Algorithms, is.JWKSURL, is.MaxLifetime = "", []string{"ES256"}, "https://id.example.com/keys", 2*time.Hour
		if err := a.Reload(Config{Issuers: []IssuerConfig{is}}); err != nil {
			t.Fatal(err)
		}
		if got := present(t, a, "one"); got != "" || s.calls.Load() != 1 {
			t.Errorf("%q, %d fetches", got, s.calls.Load())
		}
	})
}
