package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace/internal/auth"
)

// tokens runs the commands token and keys.
func tokens(t *testing.T, in string, env []string, args ...string) result {
	t.Helper()
	var out, errw buffer
	a := &app{in: strings.NewReader(in), out: &out, err: &errw, env: env}
	root := &cobra.Command{Use: "tailrace", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(a.tokenCommand(), a.keysCommand())
	root.SetArgs(args)
	root.SetOut(io.Discard)
	err := root.ExecuteContext(t.Context())
	r := result{code: exitDone}
	var coded *exitError
	switch {
	case errors.As(err, &coded):
		r.code = coded.code
	case err != nil:
		r.code = exitFailed
	}
	if err != nil {
		a.note("%v", err)
	}
	r.out, r.err = out.String(), errw.String()
	return r
}

// issuerFile writes a configuration with an issuer that signs with a secret.
func issuerFile(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	path = filepath.Join(dir, "tailrace.yaml")
	for name, text := range map[string]string{
		secret: strings.Repeat("s", 32) + "\n",
		path:   "auth:\n  issuers:\n    - {iss: https://id.example.com, aud: [tailrace], algs: [HS256], secret_file: " + secret + "}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestTokenByConfiguration(t *testing.T) {
	file := issuerFile(t)
	r := tokens(t, "", nil, "token", "mint", "--config", file, "--sub", "u7", "--subscribe", "room/*", "--subscribe", "user/{sub}/**",
		"--publish", "room/*", "--payload", `{"name":"Ada"}`, "--claim", "tenant=acme", "--claim", "level=3", "--filter", "data.tenant == claims.tenant")
	if r.code != 0 || strings.Count(r.out, ".") != 2 || strings.Count(r.out, "\n") != 1 {
		t.Fatalf("mint: %+v", r)
	}
	token := strings.TrimSpace(r.out)

	r = tokens(t, token+"\n", nil, "token", "inspect")
	var shown struct {
		Header map[string]any
		Claims struct {
			Iss, Sub, Aud, Tenant, Jti string
			Level                      float64
			Tailrace                   map[string]any
		}
	}
	if err := json.Unmarshal([]byte(r.out), &shown); err != nil || r.code != 0 {
		t.Fatalf("inspect: %v, %+v", err, r)
	}
	c := shown.Claims
	if shown.Header["alg"] != "HS256" || c.Sub != "u7" || c.Aud != "tailrace" || c.Tenant != "acme" || c.Level != 3 || c.Jti == "" || len(c.Tailrace) != 4 {
		t.Errorf("inspect: %s", r.out)
	}
	if !strings.Contains(r.err, "the signature is not checked") {
		t.Errorf("inspect says %s", r.err)
	}

	env := []string{"TAILRACE_CONFIG=" + file}
	for _, tc := range []struct {
		name string
		in   string
		args []string
		code int
		want []string
	}{
		{"the token", token, nil, 0, []string{"ok  signature", "principal  jwt:https://id.example.com|u7"}},
		{"a topic", token, []string{"--topic", "user/u7/x"}, 0, []string{"granted by user/u7/**", "filter     data.tenant"}},
		{"another's topic", token, []string{"--topic", "user/u8/x"}, exitRefused, []string{"NO  grants", "user/u8/x"}},
		{"another action", token, []string{"--topic", "user/u7/x", "--action", "publish"}, exitRefused, []string{"NO  grants"}},
		{"another signature", token[:len(token)-6] + "AAAAAA", nil, exitRefused, []string{"NO  signature"}},
		{"junk", "junk", nil, exitRefused, []string{"NO  form"}},
		{"as JSON", token, []string{"--json"}, 0, []string{`"allow":true`, `"check":"signature"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := tokens(t, tc.in, env, append([]string{"token", "verify"}, tc.args...)...)
			if r.code != tc.code {
				t.Errorf("exit code %d, want %d: %s%s", r.code, tc.code, r.out, r.err)
			}
			for _, want := range tc.want {
				if !strings.Contains(r.out, want) {
					t.Errorf("no %q in\n%s", want, r.out)
				}
			}
		})
	}
}

func TestTokenByPrivateKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	r := tokens(t, "", nil, "token", "mint", "--key-file", path, "--iss", "me", "--aud", "a", "--aud", "b", "--kid", "k1", "--typ", "at+jwt", "--gateway", "*")
	header, claims, err := auth.Inspect(strings.TrimSpace(r.out))
	if err != nil || header["alg"] != "ES256" || header["kid"] != "k1" || header["typ"] != "at+jwt" || len(claims["aud"].([]any)) != 2 {
		t.Errorf("%+v: %v, %v, %v", r, header, claims, err)
	}
}

func TestTokensThatAreNotMade(t *testing.T) {
	file := issuerFile(t)
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"nothing that signs", []string{"--iss", "x", "--aud", "y"}, exitUsage, "--secret-file or --key-file"},
		{"two keys", []string{"--secret-file", "a", "--key-file", "b"}, exitUsage, "give one"},
		{"a key that is not there", []string{"--iss", "x", "--aud", "y", "--key-file", "nothing-here"}, exitConfiguration, "no such file"},
		{"a key that is none", []string{"--iss", "x", "--aud", "y", "--key-file", file}, exitConfiguration, "not PEM"},
		{"another issuer", []string{"--config", file, "--iss", "x"}, exitUsage, `no issuer "x"`},
		{"a selector that is none", []string{"--config", file, "--publish", "a/**/b"}, exitUsage, "selector in publish"},
		{"a payload that is none", []string{"--config", file, "--payload", "{"}, exitUsage, "--payload is not JSON"},
		{"a claim that is none", []string{"--config", file, "--claim", "x"}, exitUsage, "not name=value"},
		{"no life", []string{"--config", file, "--ttl", "0s"}, exitUsage, "--ttl"},
		{"too long a life", []string{"--config", file, "--ttl", "48h"}, exitFailed, "max_lifetime"},
		{"another algorithm", []string{"--config", file, "--key-file", "x", "--secret-file", "y"}, exitUsage, "give one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := tokens(t, "", nil, append([]string{"token", "mint"}, tc.args...)...)
			if r.code != tc.code || !strings.Contains(r.err, tc.want) || r.out != "" {
				t.Errorf("%+v, want %d and %q", r, tc.code, tc.want)
			}
		})
	}
	if r := tokens(t, " \n", nil, "token", "inspect"); r.code != exitUsage {
		t.Errorf("inspect of nothing: %+v", r)
	}
	if r := tokens(t, "junk", nil, "token", "inspect"); r.code != exitFailed || !strings.Contains(r.err, "three parts") {
		t.Errorf("inspect of junk: %+v", r)
	}
}

func TestVerifyAsksTheServer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/v1/explain" || r.URL.Query().Get("action") != "publish" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		topics := r.URL.Query()["topic"]
		json.NewEncoder(w).Encode(auth.Explanation{Allow: topics[0] == "a", Steps: []auth.Step{{Check: "grants", OK: topics[0] == "a", Detail: "a \x1b[31mtrick"}}})
	}))
	defer server.Close()
	for topic, code := range map[string]int{"a": 0, "b": exitRefused} {
		r := tokens(t, "secret", nil, "token", "verify", "--server", server.URL, "--action", "publish", "--topic", topic)
		if r.code != code || !strings.Contains(r.out, "grants") || strings.Contains(r.err, "secret") {
			t.Errorf("%s: %+v", topic, r)
		}
	}
	if r := tokens(t, "secret", nil, "token", "verify", "--server", "127.0.0.1:1"); r.code != exitUnreachable {
		t.Errorf("a server that is not there: %+v", r)
	}
	if r := tokens(t, "secret", nil, "token", "verify", "--server", "x", "--config", issuerFile(t)); r.code != exitUsage {
		t.Errorf("here and there: %+v", r)
	}
}

func TestKeysNew(t *testing.T) {
	r := tokens(t, "", nil, "keys", "new", "shop")
	key := strings.TrimSpace(r.out)
	if r.code != 0 || !strings.HasPrefix(key, "tr_shop_") || !strings.Contains(r.err, auth.HashKey(key)) || strings.Contains(r.err, key) {
		t.Errorf("%+v", r)
	}
	// What it prints is a configuration that admits the key.
	_, entry, _ := strings.Cut(r.err, "\nauth:")
	file := filepath.Join(t.TempDir(), "tailrace.yaml")
	if err := os.WriteFile(file, []byte("auth:"+entry), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := tokens(t, key, nil, "token", "verify", "--config", file, "--topic", "shop/orders", "--action", "publish"); r.code != 0 {
		t.Errorf("%s%s", r.out, r.err)
	}
	var made struct{ Name, Key, Hash string }
	r = tokens(t, "", nil, "keys", "new", "x", "--json")
	if err := json.Unmarshal([]byte(r.out), &made); err != nil || made.Name != "x" || auth.HashKey(made.Key) != made.Hash {
		t.Errorf("%+v", r)
	}
	if r := tokens(t, "", nil, "keys", "new", "a b"); r.code != exitUsage || r.out != "" {
		t.Errorf("%+v", r)
	}
}
