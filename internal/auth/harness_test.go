package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

const (
	testSecret = "0123456789abcdef0123456789abcdef"
	testIssuer = "https://id.example.com"
	testAud    = "tailrace"
)

// Keys are made once: RSA takes its time.
var (
	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k })
	ecKey      = sync.OnceValue(func() *ecdsa.PrivateKey { k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); return k })
	otherECKey = sync.OnceValue(func() *ecdsa.PrivateKey { k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); return k })
	edKey      = sync.OnceValue(func() ed25519.PrivateKey { _, k, _ := ed25519.GenerateKey(rand.Reader); return k })
)

// secretIssuer is an issuer that signs with testSecret.
func secretIssuer() IssuerConfig {
	return IssuerConfig{Issuer: testIssuer, Audience: []string{testAud}, Algorithms: []string{"HS256"}, Secret: testSecret}
}

func newAuth(t *testing.T, cfg Config, opts *Options) *Authenticator {
	t.Helper()
	a, err := New(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// claimsWith returns valid claims of u7 with changes; a nil value removes one.
func claimsWith(changes map[string]any) map[string]any {
	claims := map[string]any{
		"iss": testIssuer, "aud": testAud, "sub": "u7",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"tailrace": map[string]any{"subscribe": []string{"room/*", "user/{sub}/**"}, "publish": []string{"room/*"}},
	}
	maps.Copy(claims, changes)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	return claims
}

// secretToken signs claimsWith(changes) by testSecret.
func secretToken(t *testing.T, changes map[string]any) string {
	t.Helper()
	return signedBy(t, &SigningKey{[]byte(testSecret), "HS256"}, nil, claimsWith(changes))
}

func signedBy(t *testing.T, key *SigningKey, header, claims map[string]any) string {
	t.Helper()
	token, err := key.Sign(header, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// rawToken signs header and claims as they are written.
func rawToken(t *testing.T, header, claims string) string {
	t.Helper()
	key := SigningKey{[]byte(testSecret), "HS256"}
	signing := segment(header) + "." + segment(claims)
	sig, err := hmacSign(signing, key.key.([]byte))
	if err != nil {
		t.Fatal(err)
	}
	return signing + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func request(method, target string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = "192.0.2.7:1234"
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func withToken(token string) *http.Request {
	return request("GET", "/v1/events", "Authorization", "Bearer "+token)
}

// wantProblem checks the type and a part of the detail; "" is no problem.
func wantProblem(t *testing.T, p *problem.Problem, name, detail string) {
	t.Helper()
	switch {
	case p == nil && name == "":
	case p == nil:
		t.Errorf("allowed, want %s: %s", name, detail)
	case p.Name != name || !strings.Contains(p.Detail, detail):
		t.Errorf("refused with %s: %s; want %q: %q", p.Name, p.Detail, name, detail)
	case p.Status == 0:
		t.Errorf("%s has no status", p.Name)
	}
}

// writeFile writes a file that only its owner can read.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func publicPEM(t testing.TB, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// ecJWK returns a key as it stands in a key set.
func ecJWK(t testing.TB, kid string, k *ecdsa.PrivateKey) map[string]any {
	t.Helper()
	b, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	size := (len(b) - 1) / 2
	return map[string]any{"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "alg": "ES256",
		"x": base64.RawURLEncoding.EncodeToString(b[1 : 1+size]), "y": base64.RawURLEncoding.EncodeToString(b[1+size:])}
}

func jwkSet(keys ...map[string]any) string {
	b, _ := json.Marshal(map[string]any{"keys": keys})
	return string(b)
}

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Body: io.NopCloser(bytes.NewReader([]byte(body)))}
}
