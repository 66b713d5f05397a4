package config

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// writeFile writes a configuration file and returns its path.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tailrace.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load adds to a configuration that others may reach what it needs: somebody
// who may do something.
func load(src Sources) (*Config, error) {
	if !src.Dev {
		src.Env = append(src.Env, "TAILRACE_AUTH_ANONYMOUS_SUBSCRIBE=public/**")
	}
	return Load(src)
}

func TestOrderIsFlagEnvironmentFileDefault(t *testing.T) {
	file := writeFile(t, "stream:\n  heartbeat: 20s\n  stall_timeout: 40s\nlimits: {streams: 7}\n")
	c, err := load(Sources{
		File:  file,
		Env:   []string{"TAILRACE_STREAM_HEARTBEAT=25s", "TAILRACE_LIMITS_STREAMS=8", "PATH=/bin"},
		Flags: map[string]string{"limits.streams": "9"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"limits.streams":       "9 from flag --limits.streams",
		"stream.heartbeat":     "25s from environment TAILRACE_STREAM_HEARTBEAT",
		"stream.stall_timeout": "40s from file " + file + ":3",
		"publish.timeout":      "10s from default",
		"drain.max":            "2m from default",
		"cors.max_age":         "2h from default",
	}
	for _, key := range c.Keys() {
		if w, ok := want[key.Name]; ok {
			if got := fmt.Sprintf("%s from %s", key.Value, key.Origin); got != w {
				t.Errorf("%s is %s, want %s", key.Name, got, w)
			}
			delete(want, key.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("keys not reported: %v", want)
	}
	if c.Limits.Streams != 9 || c.Stream.Heartbeat != 25*time.Second {
		t.Errorf("the struct has %+v %+v", c.Limits, c.Stream)
	}
}

// TestEveryKeyRoundTrips sets each key by flag to the value that it reports,
// so that no kind of value is written in a form that is not read.
func TestEveryKeyRoundTrips(t *testing.T) {
	c, err := load(Sources{
		Dev:   true,
		Flags: map[string]string{"cors.origins": "https://a.example.com, https://*.example.org", "policies": `[{pattern: "a: b/**", age: none, bytes: 3MiB, keep_latest: true, idle_delete: 90m}]`, "cors.max_age": "1h0m30s"},
	})
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]string{}
	for _, key := range c.Keys() {
		if key.Help == "" {
			t.Errorf("%s has no help", key.Name)
		}
		flags[key.Name] = key.Value
	}
	flags["listen.tls.cert_file"], flags["listen.tls.key_file"] = "", ""
	again, err := load(Sources{Dev: true, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range again.Keys() {
		if want := c.Keys()[i].Value; key.Value != want {
			t.Errorf("%s became %q, was %q", key.Name, key.Value, want)
		}
	}
	rule := again.Rules()[0]
	if rule.Pattern != "a: b/**" || rule.MaxAge != -1 || rule.MaxBytes != 3<<20 || !rule.KeepLatest || rule.IdleDelete != 90*time.Minute {
		t.Errorf("the policy became %+v", rule)
	}
}

func TestPoliciesOfTheFile(t *testing.T) {
	file := writeFile(t, `
defaults: &short {pattern: "chat/*", age: 10m}
`)
	if _, err := load(Sources{File: file}); err == nil {
		t.Error("a key that does not exist was taken because it has an anchor")
	}
	file = writeFile(t, `
policies:
  - pattern: "orders/**"
    durability: interval
    count: 100
    overflow: conflate
    max_event: 64KiB
    closable: true
    public: true
  - {pattern: "**", age: none}
`)
	c, err := load(Sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	rules := c.Rules()
	if len(rules) != 2 {
		t.Fatalf("%d rules", len(rules))
	}
	want := tailrace.TopicRule{
		Pattern:  "orders/**",
		Policy:   tailrace.Policy{Durability: tailrace.Interval, MaxCount: 100, MaxEvent: 64 << 10, Closable: true},
		Overflow: tailrace.Conflate,
		Public:   true,
	}
	if rules[0] != want {
		t.Errorf("got %+v, want %+v", rules[0], want)
	}
	if rules[1].MaxAge != -1 {
		t.Errorf("none became %v", rules[1].MaxAge)
	}
}

func TestLimits(t *testing.T) {
	limits := func(c *Config) string {
		return fmt.Sprint(c.Limits.Streams, c.Limits.StreamsPerPrincipal, c.Limits.StreamsPerAddress, c.Limits.ConnectRate, c.Limits.ConnectBurst)
	}
	for _, tt := range []struct {
		dev  bool
		file string
		want string
	}{
		{false, "", "100000 1000 500 2000 10000"},
		{true, "", "100000 -1 -1 2000 10000"}, // all clients come from this machine
		{true, "limits: {streams: 9, streams_per_address: 3, connect_rate: none, connect_burst: 5}", "9 -1 3 -1 5"},
	} {
		c, err := load(Sources{Dev: tt.dev, File: writeFile(t, tt.file)})
		if err != nil {
			t.Fatal(err)
		}
		if got := limits(c); got != tt.want {
			t.Errorf("dev %v, %q: limits %s, want %s", tt.dev, tt.file, got, tt.want)
		}
	}
}

func TestProxiesAndAge(t *testing.T) {
	c, err := load(Sources{File: writeFile(t, "listen: {trusted_proxies: [10.0.0.0/8, '::1']}\nstream: {max_connection_age: 1h}\n")})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Listen.Proxies(), c.Stream.MaxAge); got != "[10.0.0.0/8 ::1/128] 1h0m0s" {
		t.Errorf("got %s", got)
	}
	if Default(false).Listen.Proxies() != nil {
		t.Error("somebody is trusted by default")
	}
}

// TestEverythingWrongIsReportedAtOnce also holds what each complaint says.
func TestEverythingWrongIsReportedAtOnce(t *testing.T) {
	file := writeFile(t, `
listen: {htpp: "127.0.0.1:1"}
stream:
  heartbeat: 15
  heartbeat: 20s
log: [1]
policies:
  - {age: 1h}
  - {pattern: "a/**/b"}
  - {pattern: "x", overflow: drop}
limits: {streams: }
`)
	_, err := load(Sources{
		File: file,
		Env:  []string{"TAILRACE_DRAIN_WINDOWS=1s", "TAILRACE_MEMORY_RING=256", "TAILRACE_SERVER=x", "TAILRACE_PORT_8080_TCP=tcp://10.0.0.1:8080", "TAILRACE_SERVICE_HOST=10.0.0.1"},
		Flags: map[string]string{
			"drain.max": "1s", "listen.tls.key_file": "k.pem", "log.engine": "etcd", "limits.selectors": "0",
			"cors.max_age": "48h", "publish.timeout": "-1s", "telemetry.metrics": "perhaps",
		},
	})
	var all *Error
	if !errors.As(err, &all) {
		t.Fatalf("got %v", err)
	}
	want := []string{
		file + ":2: there is no key listen.htpp; did you mean http?",
		file + ":4: stream.heartbeat: \"15\" is not a duration; write a number and a unit",
		file + ":5: stream.heartbeat is there twice",
		file + ":6: log is not a mapping of keys",
		file + ":8: policies[0]: needs a pattern",
		file + ":9: policies[1]: ",
		file + ":10: policies[2].overflow: \"drop\" is not one of resume, conflate, gap",
		file + ":11: limits.streams needs one value",
		"TAILRACE_DRAIN_WINDOWS: there is no such variable; did you mean TAILRACE_DRAIN_WINDOW?",
		"TAILRACE_MEMORY_RING: \"256\" is not a size; write a whole number and a unit",
		"--log.engine: \"etcd\" is not one of pebble, memory",
		"--cors.max_age: is more than 24h",
		"--publish.timeout: is less than 100ms",
		"--limits.selectors: is less than 1",
		"--telemetry.metrics: \"perhaps\" is not true or false",
		"listen.tls: cert_file and key_file belong together",
		"drain.max: 1s is less than drain.delay and drain.window together (35s)",
	}
	for _, w := range want {
		found := false
		for i, p := range all.Problems {
			if strings.HasPrefix(p, w) {
				all.Problems = append(all.Problems[:i], all.Problems[i+1:]...)
				found = true
				break
			}
		}
		if !found {
			t.Errorf("not reported: %s", w)
		}
	}
	for _, p := range all.Problems {
		t.Errorf("reported as well: %s", p)
	}
}

// certificate returns the files of one that package httptest has for its
// servers, and of its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	lender := httptest.NewTLSServer(nil)
	defer lender.Close()
	pair := lender.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", pair.Certificate[0]), write("key.pem", "PRIVATE KEY", der)
}

func TestContradictions(t *testing.T) {
	cert, key := certificate(t)
	_, openKey := certificate(t)
	if err := os.Chmod(openKey, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		flags map[string]string
		dev   bool
		want  string // "" is no error
	}{
		{"the defaults", nil, false, ""},
		{"the defaults of development", nil, true, ""},
		{"localhost", map[string]string{"listen.http": "localhost:0"}, true, ""},
		{"IPv6 loopback", map[string]string{"listen.http": "[::1]:8080"}, true, ""},
		{"development on all addresses", map[string]string{"listen.http": ":8080"}, true, "open to other machines"},
		{"development on one address", map[string]string{"listen.http": "192.0.2.1:8080"}, true, "open to other machines"},
		{"no port", map[string]string{"listen.http": "127.0.0.1"}, true, "is not an address"},
		{"a port that is none", map[string]string{"listen.http": "127.0.0.1:http-over"}, true, "has no port"},
		{"open in plain HTTP", map[string]string{"listen.http": ":8080"}, false, "plain HTTP to other machines"},
		{"open behind a proxy", map[string]string{"listen.http": ":8080", "listen.trusted_proxies": "10.0.0.0/8"}, false, ""},
		{"open behind a proxy that speaks HTTP/2", map[string]string{"listen.http": ":8080", "listen.h2c": "true"}, false, ""},
		{"open with TLS", map[string]string{"listen.http": ":8443", "listen.tls.cert_file": cert, "listen.tls.key_file": key}, false, ""},
		{"a certificate that is missing", map[string]string{"listen.tls.cert_file": cert + "x", "listen.tls.key_file": key}, false, "no such file"},
		{"a certificate for a key", map[string]string{"listen.tls.cert_file": cert, "listen.tls.key_file": cert}, false, "need a certificate and its key"},
		{"a key for everybody", map[string]string{"listen.tls.cert_file": cert, "listen.tls.key_file": openKey}, false, "chmod o= " + openKey},
		{"a file for a directory", map[string]string{"log.dir": cert}, false, "is no directory"},
		{"a policy twice", map[string]string{"policies": "[{pattern: a}, {pattern: b}, {pattern: a}]"}, false, "policies[2]: never counts, because policies[0]"},
		{"a policy behind all", map[string]string{"policies": `[{pattern: "**"}, {pattern: a}]`}, false, "policies[1]: never counts"},
		{"a policy of the system behind all", map[string]string{"policies": `[{pattern: "**"}, {pattern: "$presence/**"}]`}, false, ""},
		{"a wildcard over a country", map[string]string{"cors.origins": "https://*.co.uk"}, false, "too wide"},
		{"a wildcard over a hoster", map[string]string{"cors.origins": "https://*.GitHub.io:8443"}, false, "too wide"},
		{"a wildcard over a company", map[string]string{"cors.origins": "https://*.example.co.uk"}, false, ""},
		{"a key without a hash", map[string]string{"auth.keys": `[{name: shop, grants: {publish: ["**"]}}]`}, false, "--auth.keys: auth.keys[0].hash: "},
		{"a cookie in the clear", map[string]string{"auth.cookie.enabled": "true"}, false, "auth.cookie.enabled: needs HTTPS"},
		{"a cookie behind a proxy", map[string]string{"auth.cookie.enabled": "true", "listen.trusted_proxies": "::1"}, false, ""},
		{"a cookie of development", map[string]string{"auth.cookie.enabled": "true"}, true, ""},
		{"a cookie for an origin without CORS", map[string]string{"auth.cookie.enabled": "true", "auth.cookie.origins": "https://a.example"}, true, "is not in cors.origins"},
		{"h2c and TLS", map[string]string{"listen.h2c": "true", "listen.tls.cert_file": "c", "listen.tls.key_file": "k"}, false, "HTTP/2 without TLS"},
		{"a directory for a log in memory", map[string]string{"log.engine": "memory", "log.dir": "x"}, false, "no meaning"},
		{"no directory", map[string]string{"log.dir": ""}, false, "is empty"},
		{"an event larger than memory", map[string]string{"memory.ring": "1MiB", "policies": `[{"pattern":"a","max_event":"2MiB"}]`}, false, "more than memory.ring"},
		{"policies that are no list", map[string]string{"policies": "a"}, false, "is not a list"},
		{"policies that are no YAML", map[string]string{"policies": "[{"}, false, "is not YAML"},
		{"any origin", map[string]string{"cors.origins": "*"}, false, "everybody"},
		{"the null origin", map[string]string{"cors.origins": "null"}, false, "everybody"},
		{"an origin with a path", map[string]string{"cors.origins": "https://a.example/"}, false, "more than scheme"},
		{"plain http", map[string]string{"cors.origins": "http://a.example"}, false, "plain http"},
		{"plain http on loopback", map[string]string{"cors.origins": "http://localhost:3000"}, false, ""},
		{"no scheme", map[string]string{"cors.origins": "a.example"}, false, "is not an origin"},
		{"a wildcard over a suffix", map[string]string{"cors.origins": "https://*.com"}, false, "too wide"},
		{"two wildcards", map[string]string{"cors.origins": "https://*.*.example.com"}, false, "too wide"},
		{"proxies", map[string]string{"listen.trusted_proxies": "10.0.0.0/8, 192.0.2.1,2001:db8::/32, ::1"}, false, ""},
		{"a proxy by name", map[string]string{"listen.trusted_proxies": "proxy.example.com"}, false, "is not a network"},
		{"a proxy with a zone", map[string]string{"listen.trusted_proxies": "fe80::1%eth0"}, false, "is not a network"},
		{"a network that begins elsewhere", map[string]string{"listen.trusted_proxies": "10.1.2.3/8"}, false, "write 10.0.0.0/8"},
		{"everybody a proxy", map[string]string{"listen.trusted_proxies": "0.0.0.0/0"}, false, "is everybody"},
		{"IPv4 as IPv6", map[string]string{"listen.trusted_proxies": "::ffff:10.0.0.0/104"}, false, "write it as IPv4"},
		{"no limits", map[string]string{"limits.streams": "none", "limits.streams_per_principal": "none", "limits.streams_per_address": "none", "limits.connect_rate": "none"}, false, ""},
		{"a limit of nothing", map[string]string{"limits.streams_per_address": "0"}, false, "less than 1"},
		{"a negative age", map[string]string{"stream.max_connection_age": "-1s"}, false, "is negative"},
		{"one wildcard", map[string]string{"cors.origins": "https://*.example.com"}, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := load(Sources{Flags: tc.flags, Dev: tc.dev})
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestAuthIsNeededByThoseThatOthersReach(t *testing.T) {
	if _, err := Load(Sources{Dev: true}); err != nil {
		t.Errorf("development: %v", err)
	}
	_, err := Load(Sources{})
	if err == nil || !strings.HasPrefix(err.Error(), "auth: is not set") {
		t.Errorf("got %v", err)
	}
	file := writeFile(t, `
auth:
  keys:
    - {name: a, hash: "sha256:0", grants: {publish: ["**"]}}
  issuers:
    - iss: https://id.example
      algs: [none]
  tickets: {key: short}
`)
	_, err = Load(Sources{File: file})
	for _, want := range []string{
		file + ":4: auth.keys[0].hash: ", file + ":6: auth.issuers[0].aud: ", file + ":7: auth.issuers[0].algs: none", file + ":8: auth.tickets.key: has 5 bytes",
	} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("not reported: %s by\n%v", want, err)
		}
	}
	_, err = Load(Sources{File: file, Flags: map[string]string{"auth.keys": "[{name: b}]"}})
	if err == nil || !strings.Contains("\n"+err.Error(), "\n--auth.keys: auth.keys[0].hash: ") {
		t.Errorf("a fault of the flag is said to be elsewhere: %v", err)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	for name, path := range map[string]string{
		"no such file": filepath.Join(t.TempDir(), "missing.yaml"),
		"not YAML":     writeFile(t, "a: [\n"),
		"not keys":     writeFile(t, "- a\n"),
		"two of them":  writeFile(t, "limits: {streams: 1}\n---\nlimits: {streams: 2}\n"),
	} {
		if _, err := load(Sources{File: path}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, path := range map[string]string{
		"empty":         writeFile(t, ""),
		"comments only": writeFile(t, "# nothing\n"),
	} {
		if _, err := load(Sources{File: path}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1B": 1, "64KiB": 64 << 10, "256 MiB": 256 << 20, "2GiB": 2 << 30, "3TiB": 3 << 40} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
		if again, err := ParseSize(got.String()); err != nil || again != want {
			t.Errorf("%d is written %q, which is %d, %v", want, got, again, err)
		}
	}
	for _, text := range []string{"", "1", "-1KiB", "1.5GiB", "1KB", "KiB", "9999999999TiB", "1 k"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

// FuzzDocument: no file makes the loader panic, and what it takes can be
// written and read again.
func FuzzDocument(f *testing.F) {
	for _, seed := range []string{
		"listen: {http: ':80'}\nlimits:\n  streams: 5\n", "policies:\n- &a {pattern: 'x/**', age: none, bytes: 1MiB}\n- *a\n",
		"listen: &x {tls: *x}\n", "? [a]\n: b\n", "--- 1\n--- 2\n", "a: !!binary x\n", "cors: {origins: [a, 'b,c']}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l := &loader{config: Default(false), path: "f"}
		l.document(text)
		if len(l.problems) > 0 {
			return
		}
		again := &loader{config: Default(false)}
		for _, field := range again.config.fields() {
			for _, key := range l.config.Keys() {
				if key.Name == field.key && key.Origin.Source == "file" {
					again.set(field, key.Value, Origin{Source: "flag"})
				}
			}
		}
		for i, key := range again.config.Keys() {
			if want := l.config.Keys()[i].Value; key.Value != want {
				t.Errorf("%s became %q, was %q (%v)", key.Name, key.Value, want, again.problems)
			}
		}
	})
}
