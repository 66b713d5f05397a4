package auth

import (
	"fmt"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// What a decision costs by each kind of credential, against one with none.
func BenchmarkDecide(b *testing.B) {
	key, hash, _ := NewKey("shop")
	grants := Grants{Subscribe: []string{"room/*"}}
	secret, pair := secretIssuer(), secretIssuer()
	pair.Issuer, pair.Secret, pair.Algorithms = "https://other.example.com", "", []string{"ES256"}
	pair.KeyFile = b.TempDir() + "/key.pem"
	if err := os.WriteFile(pair.KeyFile, []byte(publicPEM(b, ecKey().Public())), 0o600); err != nil {
		b.Fatal(err)
	}
	a, err := New(Config{
		Keys: []KeyConfig{{Name: "shop", Hash: hash, Grants: grants}}, Issuers: []IssuerConfig{secret, pair},
		Anonymous: AnonymousConfig{Subscribe: []string{"room/*"}},
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	claims := claimsWith(nil)
	bySecret, _ := (&SigningKey{[]byte(testSecret), "HS256"}).Sign(nil, claims)
	claims["iss"] = pair.Issuer
	byPair, _ := (&SigningKey{ecKey(), "ES256"}).Sign(nil, claims)
	for _, bc := range []struct{ name, token string }{{"nothing", ""}, {"key", key}, {"HS256", bySecret}, {"ES256", byPair}} {
		b.Run(bc.name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/v1/events", nil)
			if bc.token != "" {
				r.Header.Set("Authorization", "Bearer "+bc.token)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, refusal := a.Decide(r, Subscribe, []string{"room/a"}); refusal != nil {
					b.Fatal(refusal)
				}
			}
		})
	}
}

// One revocation, while 100,000 streams are watched.
func BenchmarkRevoke(b *testing.B) {
	a, err := New(Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	for i := range 100_000 {
		p := &Principal{Method: ByJWT, Expires: time.Now().Add(time.Hour), own: Grants{Subscribe: []string{"room/*"}}}
		p.id = identity{Issuer: testIssuer, Subject: fmt.Sprint(i), JTI: fmt.Sprint(i), Print: a.rules.Load().issuers[testIssuer].static[0].print}
		a.Watch(p, Use{Subscribe, []string{"room/a"}}, func(string) {})
	}
	for b.Loop() {
		a.Revoke(Revocation{JTI: "none of them"}, time.Now())
	}
}
