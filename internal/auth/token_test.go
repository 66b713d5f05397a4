package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func hmacSign(text string, secret []byte) ([]byte, error) {
	return jwt.SigningMethodHS256.Sign(text, secret)
}

// Each rule that RFC 8725 warns of, and each claim that is not what it must be.
func TestTokensThatAreRefused(t *testing.T) {
	a := newAuth(t, Config{Issuers: []IssuerConfig{secretIssuer()}}, nil)
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	good := secretToken(t, nil)
	parts := strings.Split(good, ".")
	claims := func(text string) string { // valid ones with text put in
		return fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":%d%s}`, testIssuer, testAud, at(time.Hour), text)
	}
	const header = `{"alg":"HS256","typ":"JWT"}`
	bad := func(changes map[string]any) string { return secretToken(t, changes) }
	withHeader := func(h map[string]any) string {
		return signedBy(t, &SigningKey{[]byte(testSecret), "HS256"}, h, claimsWith(nil))
	}
	rights := func(claim any) string { return bad(map[string]any{"tailrace": claim}) }

	for _, tc := range []struct {
		name, token, problem, detail string
	}{
		{"good", good, "", ""},
		{"no signature", parts[0] + "." + parts[1] + ".", "invalid-token", "signature is wrong"},
		{"alg none", segment(`{"alg":"none"}`) + "." + parts[1] + ".", "invalid-token", `algorithm "none"`},
		{"alg None", segment(`{"alg":"None"}`) + "." + parts[1] + ".", "invalid-token", `algorithm "None"`},
		{"alg none with the signature", segment(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2], "invalid-token", "algorithm"},
		{"no alg", segment(`{"typ":"JWT"}`) + "." + parts[1] + "." + parts[2], "invalid-token", "algorithm"},
		{"alg of another length", signedBy(t, &SigningKey{[]byte(testSecret + testSecret), "HS512"}, nil, claimsWith(nil)), "invalid-token", `"HS512"`},
		{"alg of another kind", signedBy(t, &SigningKey{ecKey(), "ES256"}, nil, claimsWith(nil)), "invalid-token", `"ES256"`},
		{"another secret", signedBy(t, &SigningKey{[]byte(strings.Repeat("x", 32)), "HS256"}, nil, claimsWith(nil)), "invalid-token", "signature is wrong"},
		{"claims changed", parts[0] + "." + segment(claims("")) + "." + parts[2], "invalid-token", "signature is wrong"},
		{"header changed", segment(`{"alg":"HS256"}`) + "." + parts[1] + "." + parts[2], "invalid-token", "signature is wrong"},
		{"bits behind the signature's end", good[:len(good)-1] + nextLetter(good[len(good)-1]), "invalid-token", "signature is wrong"},

		{"crit", withHeader(map[string]any{"crit": []string{"exp"}}), "invalid-token", "crit"},
		{"empty crit", withHeader(map[string]any{"crit": []string{}}), "invalid-token", "crit"},
		{"typ of something else", withHeader(map[string]any{"typ": "secevent+jwt"}), "invalid-token", "typ"},
		{"typ that is no string", withHeader(map[string]any{"typ": 7}), "invalid-token", "typ"},
		{"typ null", withHeader(map[string]any{"typ": nil}), "invalid-token", "typ"},
		{"typ in small letters", withHeader(map[string]any{"typ": "jwt"}), "", ""},
		{"typ at+jwt", withHeader(map[string]any{"typ": "application/at+jwt"}), "", ""},
		{"no typ", rawToken(t, `{"alg":"HS256"}`, claims("")), "", ""},
		{"kid that is no string", withHeader(map[string]any{"kid": 1}), "invalid-token", "kid"},
		{"kid that is a path", withHeader(map[string]any{"kid": "../../dev/null"}), "", ""}, // a secret has no name: kid chooses nothing
		{"jku, jwk and x5u choose nothing", withHeader(map[string]any{"jku": "https://evil.example", "x5u": "https://evil.example", "jwk": map[string]any{"kty": "oct", "k": "AA"}}), "", ""},

		{"another issuer", bad(map[string]any{"iss": "https://evil.example"}), "invalid-token", "issuer"},
		{"no issuer", bad(map[string]any{"iss": nil}), "invalid-token", "issuer"},
		{"issuer that is no string", bad(map[string]any{"iss": []string{testIssuer}}), "invalid-token", "issuer"},
		{"issuer in other letters", bad(map[string]any{"iss": strings.ToUpper(testIssuer)}), "invalid-token", "issuer"},
		{"another audience", bad(map[string]any{"aud": "shop"}), "invalid-token", "aud"},
		{"several audiences", bad(map[string]any{"aud": []string{"shop", testAud}}), "", ""},
		{"no audience", bad(map[string]any{"aud": nil}), "invalid-token", "aud"},
		{"empty audience", bad(map[string]any{"aud": []string{}}), "invalid-token", "aud"},
		{"audience of numbers", bad(map[string]any{"aud": []any{testAud, 7}}), "invalid-token", "aud"},

		{"expired", bad(map[string]any{"iat": at(-time.Hour), "exp": at(-time.Second)}), "token-expired", "expired at"},
		{"no exp", bad(map[string]any{"exp": nil}), "invalid-token", "no exp"},
		{"exp as a string", bad(map[string]any{"exp": "9999999999"}), "invalid-token", "exp is not a time"},
		{"exp beyond all calendars", bad(map[string]any{"exp": 1e300}), "invalid-token", "exp is not a time"},
		{"exp null", rawToken(t, header, fmt.Sprintf(`{"iss":%q,"aud":%q,"exp":null}`, testIssuer, testAud)), "invalid-token", "exp is not a time"},
		{"exp with a fraction", bad(map[string]any{"exp": float64(at(time.Minute)) + 0.5}), "", ""},
		{"not yet valid", bad(map[string]any{"nbf": at(time.Minute)}), "invalid-token", "not valid before"},
		{"nearly valid", bad(map[string]any{"nbf": at(20 * time.Second)}), "", ""},
		{"issued in the future", bad(map[string]any{"iat": at(time.Minute)}), "invalid-token", "in the future"},
		{"iat as a string", bad(map[string]any{"iat": "1"}), "invalid-token", "iat is not a time"},
		{"lives too long", bad(map[string]any{"exp": at(25 * time.Hour)}), "invalid-token", "max_lifetime"},
		{"lives too long without iat", bad(map[string]any{"iat": nil, "exp": at(25 * time.Hour)}), "invalid-token", "max_lifetime"},
		{"lived too long already", bad(map[string]any{"iat": at(-24 * time.Hour), "exp": at(time.Hour)}), "invalid-token", "max_lifetime"},
		{"sub that is no string", bad(map[string]any{"sub": 7}), "invalid-token", "sub"},
		{"jti that is no string", bad(map[string]any{"jti": 7}), "invalid-token", "jti"},
		{"no sub", bad(map[string]any{"sub": nil}), "", ""},

		{"a claim twice", rawToken(t, header, claims(`,"sub":"a","sub":"b"`)), "invalid-token", `"sub" twice`},
		{"a claim twice, once escaped", rawToken(t, header, claims(`,"sub":"a","\u0073ub":"b"`)), "invalid-token", `"sub" twice`},
		{"a member twice within", rawToken(t, header, claims(`,"tailrace":{"publish":["a"],"publish":["**"]}`)), "invalid-token", "twice"},
		{"a header member twice", rawToken(t, `{"alg":"HS256","alg":"HS256"}`, claims("")), "invalid-token", "twice"},
		{"two objects", rawToken(t, header, claims("")+"{}"), "invalid-token", "more than one value"},
		{"claims that are a list", rawToken(t, header, "[]"), "invalid-token", "not a JSON object"},
		{"claims that are no JSON", rawToken(t, header, "{"), "invalid-token", "is not JSON"},
		{"claims that are not UTF-8", rawToken(t, header, claims(`,"sub":"`+"\xff"+`"`)), "invalid-token", "UTF-8"},
		{"claims nested too deep", rawToken(t, header, claims(`,"a":`+strings.Repeat("[", 70)+strings.Repeat("]", 70))), "invalid-token", "deeper"},
		{"header that is null", rawToken(t, `null`, claims("")), "invalid-token", "not a JSON object"},

		{"two parts", parts[0] + "." + parts[1], "invalid-token", "three parts"},
		{"five parts, encrypted", "a.b.c.d.e", "invalid-token", "three parts"},
		{"padding", parts[0] + "=." + parts[1] + "." + parts[2], "invalid-token", "base64url"},
		{"a line end within", parts[0] + "\n." + parts[1] + "." + parts[2], "invalid-token", "signature is wrong"},
		{"oversized", bad(map[string]any{"x": strings.Repeat("x", 8<<10)}), "invalid-token", "the limit is 8192"},
		{"junk", "junk", "invalid-token", "three parts"},

		{"rights that are a list", rights([]string{"**"}), "invalid-token", "is not an object"},
		{"rights that are null", rawToken(t, header, claims(`,"tailrace":null`)), "invalid-token", "is not an object"},
		{"an unknown right", rights(map[string]any{"subscibe": []string{"a"}}), "invalid-token", "did they mean subscribe?"},
		{"a right in other letters", rights(map[string]any{"Subscribe": []string{"a"}}), "invalid-token", "unknown member"},
		{"a right that is a string", rights(map[string]any{"subscribe": "**"}), "invalid-token", "not a list of strings"},
		{"a right that is null", rights(map[string]any{"subscribe": nil}), "invalid-token", "not a list of strings"},
		{"a right of numbers", rights(map[string]any{"subscribe": []int{1}}), "invalid-token", "not a list of strings"},
		{"a selector that is none", rights(map[string]any{"subscribe": []string{"a/**/b"}}), "invalid-token", "selector"},
		{"an empty selector", rights(map[string]any{"publish": []string{""}}), "invalid-token", "selector"},
		{"a filter that is none", rights(map[string]any{"filter": 7}), "invalid-token", "filter"},
		{"an empty filter", rights(map[string]any{"filter": " "}), "invalid-token", "filter"},
		{"a large payload", rights(map[string]any{"payload": strings.Repeat("x", 1<<10)}), "invalid-token", "payload has 1026 bytes"},
		{"no rights", rights(nil), "", ""},
		{"empty rights", rights(map[string]any{}), "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a.failures = failures{}
			p, refusal := a.Authenticate(withToken(tc.token))
			wantProblem(t, refusal, tc.problem, tc.detail)
			if refusal != nil && p != nil {
				t.Error("a refused token has a principal")
			}
			if refusal != nil && (strings.Contains(refusal.Detail, parts[2]) || !strings.Contains(Challenge(refusal), `error="invalid_token"`)) {
				t.Errorf("detail %q, challenge %q", refusal.Detail, Challenge(refusal))
			}
		})
	}
}

// nextLetter changes the last letter of a signature of 32 bytes, whose lowest
// bits mean nothing but to a decoder that is not strict.
func nextLetter(c byte) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(letters[strings.IndexByte(letters, c)+1])
}

func TestTokensSayWhoAndWhat(t *testing.T) {
	is := secretIssuer()
	is.Grants = Grants{Subscribe: []string{"news", "t/{claims.tenant}/**"}}
	a := newAuth(t, Config{Issuers: []IssuerConfig{is}}, nil)
	p, refusal := a.Authenticate(withToken(secretToken(t, map[string]any{
		"tenant": "acme", "jti": "j1",
		"tailrace": map[string]any{
			"subscribe": []string{"user/{sub}/**", "x/{claims.missing}"}, "publish": []string{"room/*"}, "presence": []string{"room/*"},
			"admin": []string{"room/*"}, "gateway": []string{"small"},
			"payload": map[string]any{"name": "Ada <3"}, "filter": "data.tenant == claims.tenant",
		},
	})))
	if refusal != nil {
		t.Fatal(refusal)
	}
	if p.Name != "jwt:"+testIssuer+"|u7" || p.Method != ByJWT || p.Carrier != InHeader {
		t.Errorf("it is %s by %s in %s", p.Name, p.Method, p.Carrier)
	}
	want := []string{"user/u7/**", "news", "t/acme/**"}
	if !slices.Equal(p.Grants.Subscribe, want) || p.Grants.Gateway[0] != "small" || p.Grants.Admin[0] != "room/*" || p.Grants.Presence[0] != "room/*" {
		t.Errorf("grants %+v, want subscribe %q", p.Grants, want)
	}
	if string(p.Payload) != `{"name":"Ada <3"}` || !slices.Equal(p.Filters, []string{"data.tenant == claims.tenant"}) {
		t.Errorf("payload %s, filters %q", p.Payload, p.Filters)
	}
	if p.Claims()["tenant"] != "acme" || time.Until(p.Expires) > time.Hour || time.Until(p.Expires) < 59*time.Minute {
		t.Errorf("claims %v, expires %v", p.Claims(), p.Expires)
	}
}

func TestEachAlgorithm(t *testing.T) {
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	secret := strings.Repeat("s", 64)
	for _, alg := range algorithms {
		t.Run(alg, func(t *testing.T) {
			is := secretIssuer()
			is.Secret, is.Algorithms = "", []string{alg}
			var key any
			var public any
			switch alg {
			case "ES256":
				key, public = ecKey(), ecKey().Public()
			case "ES384":
				key, public = p384, p384.Public()
			case "ES512":
				key, public = p521, p521.Public()
			case "EdDSA":
				key, public = edKey(), edKey().Public()
			case "HS256", "HS384", "HS512":
				key, is.Secret = []byte(secret), secret
			default:
				key, public = rsaKey(), rsaKey().Public()
			}
			if public != nil {
				is.KeyFile = writeFile(t, "key.pem", publicPEM(t, public))
			}
			a := newAuth(t, Config{Issuers: []IssuerConfig{is}}, nil)
			_, refusal := a.Authenticate(withToken(signedBy(t, &SigningKey{key, alg}, nil, claimsWith(nil))))
			wantProblem(t, refusal, "", "")
		})
	}
}

// A public key is known to everybody: who signs with it as a secret must not
// be believed, in whatever form it is written (RFC 8725, 2.1).
func TestPublicKeyIsNoSecret(t *testing.T) {
	is := secretIssuer()
	text := publicPEM(t, rsaKey().Public())
	is.Secret, is.Algorithms, is.KeyFile = "", []string{"RS256"}, writeFile(t, "key.pem", text)
	a := newAuth(t, Config{Issuers: []IssuerConfig{is}}, nil)
	der, _ := x509.MarshalPKIXPublicKey(rsaKey().Public())
	for _, secret := range []string{text, strings.TrimSpace(text), string(der), string(rsaKey().N.Bytes())} {
		_, refusal := a.Authenticate(withToken(signedBy(t, &SigningKey{[]byte(secret), "HS256"}, nil, claimsWith(nil))))
		wantProblem(t, refusal, "invalid-token", `algorithm "HS256"`)
	}
	// The same kind of key with another padding is another algorithm.
	_, refusal := a.Authenticate(withToken(signedBy(t, &SigningKey{rsaKey(), "PS256"}, nil, claimsWith(nil))))
	wantProblem(t, refusal, "invalid-token", `algorithm "PS256"`)
}

func TestKeyChosenByKid(t *testing.T) {
	is := secretIssuer()
	is.Secret, is.Algorithms = "", []string{"ES256"}
	is.KeyFile = writeFile(t, "keys.json", jwkSet(ecJWK(t, "one", ecKey()), ecJWK(t, "two", otherECKey()),
		map[string]any{"kty": "oct", "kid": "secret", "k": "AAAA"}, map[string]any{"kty": "RSA", "kid": "weak", "n": "AQAB", "e": "AQAB"}))
	a := newAuth(t, Config{Issuers: []IssuerConfig{is}}, nil)
	for _, tc := range []struct {
		name   string
		key    *ecdsa.PrivateKey
		header map[string]any
		detail string
	}{
		{"the one", ecKey(), map[string]any{"kid": "one"}, ""},
		{"the other", otherECKey(), map[string]any{"kid": "two"}, ""},
		{"wrong kid", ecKey(), map[string]any{"kid": "two"}, "signature is wrong"},
		{"unknown kid", ecKey(), map[string]any{"kid": "three"}, "no key"},
		{"no kid", ecKey(), nil, "several keys"},
		{"kid of a secret", ecKey(), map[string]any{"kid": "secret"}, "no key"},
		{"kid of a weak key", ecKey(), map[string]any{"kid": "weak"}, "no key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, refusal := a.Authenticate(withToken(signedBy(t, &SigningKey{tc.key, "ES256"}, tc.header, claimsWith(nil))))
			if tc.detail == "" {
				wantProblem(t, refusal, "", "")
			} else {
				wantProblem(t, refusal, "invalid-token", tc.detail)
			}
		})
	}
}

func TestProfileOfAccessTokens(t *testing.T) {
	is := secretIssuer()
	is.Profile = "rfc9068"
	a := newAuth(t, Config{Issuers: []IssuerConfig{is}}, nil)
	full := map[string]any{"client_id": "app", "jti": "j1"}
	for _, tc := range []struct {
		name   string
		typ    any
		remove string
		detail string
	}{
		{"whole", "at+jwt", "", ""},
		{"JWT", "JWT", "", "not at+jwt"},
		{"no sub", "at+jwt", "sub", "no sub"},
		{"no client_id", "at+jwt", "client_id", "no client_id"},
		{"no iat", "at+jwt", "iat", "no iat"},
		{"no jti", "at+jwt", "jti", "no jti"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			claims := claimsWith(full)
			delete(claims, tc.remove)
			_, refusal := a.Authenticate(withToken(signedBy(t, &SigningKey{[]byte(testSecret), "HS256"}, map[string]any{"typ": tc.typ}, claims)))
			if tc.detail == "" {
				wantProblem(t, refusal, "", "")
			} else {
				wantProblem(t, refusal, "invalid-token", tc.detail)
			}
		})
	}
}

func TestKeySetsLeaveOutWhatCannotBeUsed(t *testing.T) {
	b64 := base64.RawURLEncoding.EncodeToString
	good := ecJWK(t, "good", ecKey())
	with := func(name string, v any) map[string]any {
		k := ecJWK(t, "bad", otherECKey())
		k[name] = v
		return k
	}
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	for _, tc := range []struct {
		name string
		key  map[string]any
	}{
		{"for encryption", with("use", "enc")},
		{"key_ops without verify", with("key_ops", []string{"sign"})},
		{"another algorithm", with("alg", "ES384")},
		{"an algorithm of another kind", with("alg", "HS256")},
		{"another curve", with("crv", "secp256k1")},
		{"a point that is not on the curve", with("y", b64(make([]byte, 32)))},
		{"a short coordinate", with("x", b64([]byte{1}))},
		{"not base64url", with("x", "=!")},
		{"a number for a name", with("kid", 7)},
		{"a weak key", map[string]any{"kty": "RSA", "kid": "bad", "n": b64(small.N.Bytes()), "e": "AQAB"}},
		{"a huge key", map[string]any{"kty": "RSA", "kid": "bad", "n": b64(append([]byte{1}, make([]byte, 4096)...)), "e": "AQAB"}},
		{"an even exponent", map[string]any{"kty": "RSA", "kid": "bad", "n": b64(rsaKey().N.Bytes()), "e": "Ag"}},
		{"a huge exponent", map[string]any{"kty": "RSA", "kid": "bad", "n": b64(rsaKey().N.Bytes()), "e": b64(make([]byte, 9))}},
		{"a secret", map[string]any{"kty": "oct", "kid": "bad", "k": b64([]byte(testSecret))}},
		{"nothing", map[string]any{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			keys, err := parseJWKS([]byte(jwkSet(tc.key, good)), []string{"ES256", "RS256"})
			if err != nil || len(keys) != 1 || keys[0].kid != "good" {
				t.Errorf("got %d keys, %v", len(keys), err)
			}
		})
	}
	for _, text := range []string{"", "[]", "null", `{"keys":null}`, `{"keys":[]}`, `{"keys":{}}`, jwkSet(with("use", "enc"))} {
		if _, err := parseJWKS([]byte(text), []string{"ES256"}); err == nil {
			t.Errorf("%q is taken for a key set", text)
		}
	}
	many := make([]map[string]any, maxJWKSKeys+1)
	for i := range many {
		many[i] = good
	}
	if _, err := parseJWKS([]byte(jwkSet(many...)), []string{"ES256"}); err == nil || !strings.Contains(err.Error(), "the limit is 100") {
		t.Errorf("%d keys: %v", len(many), err)
	}
	rsaJWK := map[string]any{"kty": "RSA", "kid": "r", "n": b64(rsaKey().N.Bytes()), "e": "AQAB"}
	keys, err := parseJWKS([]byte(jwkSet(rsaJWK)), []string{"RS256", "PS256", "ES256"})
	if err != nil || !slices.Equal(keys[0].algs, []string{"RS256", "PS256"}) {
		t.Errorf("an RSA key is for %v, %v", keys, err)
	}
}

func TestInspect(t *testing.T) {
	_, claims, err := Inspect(secretToken(t, nil))
	if err != nil || claims["sub"] != "u7" {
		t.Errorf("claims %v, %v", claims, err)
	}
	if _, _, err := Inspect("x"); err == nil {
		t.Error("junk can be inspected")
	}
}

func TestDecodeStrictDecodes(t *testing.T) {
	const text = `{"a":[1,"x",null,true,{"b":{}}],"c":{}}`
	v, err := decodeStrict([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := json.Marshal(v); string(b) != text {
		t.Errorf("got %s", b)
	}
}
