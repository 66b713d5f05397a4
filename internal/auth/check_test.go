package auth

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"crypto/x509"
)

// A configuration that is wrong is refused, with the key and the cure.
func TestCheck(t *testing.T) {
	_, hash, _ := NewKey("shop")
	der, _ := x509.MarshalPKCS8PrivateKey(ecKey())
	private := writeFile(t, "private.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	public := writeFile(t, "public.pem", publicPEM(t, ecKey().Public()))
	junk, empty := writeFile(t, "junk", "junk"), writeFile(t, "empty", "\n")
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, []byte(testSecret), 0o644); err != nil {
		t.Fatal(err)
	}
	os.Chmod(open, 0o644) // whatever the umask
	key := func(change func(*KeyConfig)) Config {
		k := KeyConfig{Name: "shop", Hash: hash, Grants: Grants{Publish: []string{"a"}}}
		change(&k)
		return Config{Keys: []KeyConfig{k}}
	}
	issuer := func(change func(*IssuerConfig)) Config {
		is := secretIssuer()
		change(&is)
		return Config{Issuers: []IssuerConfig{is}}
	}
	file := func(is *IssuerConfig, alg, path string) {
		is.Secret, is.Algorithms, is.KeyFile = "", []string{alg}, path
	}
	hook := func(change func(*HookConfig)) Config {
		h := HookConfig{URL: "https://hook.example", Secret: hookTestSecret}
		change(&h)
		return Config{Hook: h}
	}
	good := KeyConfig{Name: "shop", Hash: hash, Grants: Grants{Publish: []string{"a"}}}
	for _, tc := range []struct {
		name  string
		cfg   Config
		key   string
		cure  string
		fault int // number of faults; 0 is one
	}{
		{"a name of a key", key(func(k *KeyConfig) { k.Name = "a b" }), "auth.keys[0].name", "letters, digits", 0},
		{"two keys of one name", Config{Keys: []KeyConfig{good, good}}, "auth.keys[1].name", "names must differ", 0},
		{"a key in place of its hash", key(func(k *KeyConfig) { k.Hash = "tr_shop_secret" }), "auth.keys[0].hash", "tailrace keys new", 0},
		{"a short hash", key(func(k *KeyConfig) { k.Hash = "sha256:00" }), "auth.keys[0].hash", "64 hexadecimal digits", 0},
		{"a key for nothing", key(func(k *KeyConfig) { k.Grants = Grants{} }), "auth.keys[0].grants", "list topics", 0},
		{"a selector that is none", key(func(k *KeyConfig) { k.Grants.Subscribe = []string{"a/**/b"} }), "auth.keys[0].grants.subscribe", "no pattern", 0},
		{"a claim of a key", key(func(k *KeyConfig) { k.Grants.Subscribe = []string{"user/{sub}"} }), "auth.keys[0].grants.subscribe", "only tokens have claims", 0},
		{"a time that is none", key(func(k *KeyConfig) { k.Expires = "tomorrow" }), "auth.keys[0].expires", "2027-01-31T00:00:00Z", 0},
		{"a network that is none", key(func(k *KeyConfig) { k.Networks = []string{"10.0.0.0/99"} }), "auth.keys[0].networks", "10.0.0.0/8", 0},
		{"a claim of nobody", Config{Anonymous: AnonymousConfig{Publish: []string{"{sub}"}}}, "auth.anonymous.publish", "only tokens have claims", 0},

		{"no iss", issuer(func(is *IssuerConfig) { is.Issuer = "" }), "auth.issuers[0].iss", "write what the tokens have", 0},
		{"a bar in iss", issuer(func(is *IssuerConfig) { is.Issuer = "a|b" }), "auth.issuers[0].iss", "|", 0},
		{"one iss twice", Config{Issuers: []IssuerConfig{secretIssuer(), secretIssuer()}}, "auth.issuers[1].iss", "one JSON Web Key Set", 0},
		{"no aud", issuer(func(is *IssuerConfig) { is.Audience = nil }), "auth.issuers[0].aud", "another service", 0},
		{"an empty aud", issuer(func(is *IssuerConfig) { is.Audience = []string{""} }), "auth.issuers[0].aud", "another service", 0},
		{"no algorithm", issuer(func(is *IssuerConfig) { is.Algorithms = nil }), "auth.issuers[0].algs", "a token must not choose", 0},
		{"none", issuer(func(is *IssuerConfig) { is.Algorithms = []string{"none"} }), "auth.issuers[0].algs", "anybody could write tokens", 0},
		{"a misspelt algorithm", issuer(func(is *IssuerConfig) { is.Algorithms = []string{"HS265"} }), "auth.issuers[0].algs", "did you mean HS256?", 0},
		{"no key", issuer(func(is *IssuerConfig) { is.Secret = "" }), "auth.issuers[0]", "one of jwks_url, key_file and secret_file", 0},
		{"two keys", issuer(func(is *IssuerConfig) { is.KeyFile = public }), "auth.issuers[0]", "keep one", 0},
		{"two kinds", issuer(func(is *IssuerConfig) { is.Algorithms = []string{"HS256", "RS256"} }), "auth.issuers[0].algs", "mixes", 0},
		{"a secret for a key pair", issuer(func(is *IssuerConfig) { is.Algorithms = []string{"RS256"} }), "auth.issuers[0].algs", "key_file or jwks_url", 0},
		{"a public key for a secret", issuer(func(is *IssuerConfig) { file(is, "HS256", public) }), "auth.issuers[0].algs", "set secret_file", 0},
		{"a set for a secret", issuer(func(is *IssuerConfig) { is.Secret, is.JWKSURL = "", "https://x.example" }), "auth.issuers[0].algs", "set secret_file", 0},
		{"a key of another kind", issuer(func(is *IssuerConfig) { file(is, "RS256", public) }), "auth.issuers[0].key_file", "no key for RS256", 0},
		{"a private key", issuer(func(is *IssuerConfig) { file(is, "ES256", private) }), "auth.issuers[0].key_file", "openssl pkey", 0},
		{"junk for a key", issuer(func(is *IssuerConfig) { file(is, "ES256", junk) }), "auth.issuers[0].key_file", "neither PEM", 0},
		{"a file that is not there", issuer(func(is *IssuerConfig) { file(is, "ES256", junk+"x") }), "auth.issuers[0].key_file", "no such file", 0},
		{"a weak secret", issuer(func(is *IssuerConfig) { is.Secret = "secret" }), "auth.issuers[0].secret", "openssl rand", 0},
		{"a secret too short for its hash", issuer(func(is *IssuerConfig) { is.Algorithms = []string{"HS512"} }), "auth.issuers[0].secret", "needs 64", 0},
		{"a secret and its file", issuer(func(is *IssuerConfig) { is.SecretFile = junk }), "auth.issuers[0].secret", "keep one", 0},
		{"a secret that all can read", issuer(func(is *IssuerConfig) { is.Secret, is.SecretFile = "", open }), "auth.issuers[0].secret_file", "chmod o-r", 0},
		{"an empty secret", issuer(func(is *IssuerConfig) { is.Secret, is.SecretFile = "", empty }), "auth.issuers[0].secret_file", "is empty", 0},
		{"plain http", issuer(func(is *IssuerConfig) {
			is.Secret, is.Algorithms, is.JWKSURL = "", []string{"ES256"}, "http://id.example"
		}), "auth.issuers[0].jwks_url", "not https", 0},
		{"a profile", issuer(func(is *IssuerConfig) { is.Profile = "oidc" }), "auth.issuers[0].profile", "rfc9068", 0},
		{"a negative life", issuer(func(is *IssuerConfig) { is.MaxLifetime = -time.Hour }), "auth.issuers[0].max_lifetime", "negative", 0},

		{"origins without cookies", Config{Cookie: CookieConfig{Origins: []string{"https://x.example"}}}, "auth.cookie.origins", "cookie.enabled", 0},
		{"a hook without URL", Config{Hook: HookConfig{Secret: hookTestSecret}}, "auth.hook.url", "nobody is asked", 0},
		{"a hook over plain http", hook(func(h *HookConfig) { h.URL = "http://10.0.0.1" }), "auth.hook.url", "not https", 0},
		{"a hook without secret", hook(func(h *HookConfig) { h.Secret = "" }), "auth.hook.secret", "needs 24", 0},
		{"a hook with a secret that is none", hook(func(h *HookConfig) { h.Secret = "whsec_!" }), "auth.hook.secret", "base64", 0},
		{"a header that is none", hook(func(h *HookConfig) { h.Headers = []string{"a b"} }), "auth.hook.headers", "no name", 0},
		{"a ticket that lives long", Config{Tickets: TicketConfig{TTL: time.Hour}}, "auth.tickets.ttl", "1m0s", 0},
		{"a weak ticket key", Config{Tickets: TicketConfig{Key: "x"}}, "auth.tickets.key", "needs 32", 0},
		{"a ticket key that all can read", Config{Tickets: TicketConfig{KeyFile: open}}, "auth.tickets.key_file", "chmod o-r", 0},
		{"much at once", Config{Keys: []KeyConfig{{}}, Issuers: []IssuerConfig{{}}}, "auth.keys[0].name", "letters", 6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			faults := tc.cfg.Check()
			if len(faults) != max(tc.fault, 1) || faults[0].Key != tc.key || !strings.Contains(faults[0].Reason, tc.cure) {
				t.Fatalf("faults %q, want %s: %s", faults, tc.key, tc.cure)
			}
			_, err := New(tc.cfg, nil)
			if err == nil || !strings.Contains(err.Error(), faults[0].Error()) {
				t.Errorf("New says %v", err)
			}
			if strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), "tr_shop_secret") {
				t.Errorf("a secret is told: %v", err)
			}
		})
	}
}

func TestSecretsFromFiles(t *testing.T) {
	is := secretIssuer()
	is.Secret, is.SecretFile = "", writeFile(t, "secret", testSecret+"\n")
	cfg := Config{
		Issuers: []IssuerConfig{is},
		Hook:    HookConfig{URL: "https://hook.example", SecretFile: writeFile(t, "hook", hookTestSecret)},
		Tickets: TicketConfig{KeyFile: writeFile(t, "tickets", testSecret)},
	}
	if faults := cfg.Check(); len(faults) > 0 {
		t.Fatal(faults)
	}
	a := newAuth(t, cfg, nil)
	_, refusal := a.Authenticate(withToken(secretToken(t, nil)))
	wantProblem(t, refusal, "", "")
}

func TestZeroConfigLetsNobodyIn(t *testing.T) {
	cfg := DefaultConfig()
	if !cfg.IsZero() || len(cfg.Check()) > 0 {
		t.Errorf("the default: %v", cfg.Check())
	}
	cfg.Anonymous.Subscribe = []string{"x"}
	if cfg.IsZero() {
		t.Error("it lets everybody read x")
	}
	a := newAuth(t, DefaultConfig(), nil)
	_, refusal := a.Decide(request("GET", "/"), Subscribe, []string{"x"})
	wantProblem(t, refusal, "unauthenticated", "")
}
