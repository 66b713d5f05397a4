package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDoctorNamesTheFault: behind proxies that were prepared with a fault, the
// command names it and the line of configuration against it, and nothing else;
// behind those that follow docs/proxies.md, and behind none, it names nothing.
func TestDoctorNamesTheFault(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--stream.heartbeat", "5s")
	upstream := s.addr
	origin := []string{"--origin", "http://localhost:3000"}
	tests := []struct {
		name   string
		kind   string // of the proxy; "" is none
		https  bool
		config func(p *proxyProcess) string
		args   []string
		faults string // the checks, in order
		advice string
		says   []string // in the faults and the advice
	}{
		{name: "no proxy", args: origin},
		{name: "nginx as documented", kind: "nginx", https: true, config: recipe(t, "nginx"), args: origin},
		{name: "HAProxy as documented", kind: "haproxy", https: true, config: recipe(t, "haproxy"), args: origin},
		{name: "Caddy as documented", kind: "caddy", https: true, config: recipe(t, "caddy"), args: origin},
		{name: "Caddy that encodes", kind: "caddy", config: caddySite("encode zstd gzip\nreverse_proxy " + upstream)},
		{name: "nginx with a proxy_pass alone", kind: "nginx", config: nginxSite("", "proxy_pass http://"+upstream+";"),
			advice: "upstream", says: []string{"HTTP/1.0", "proxy_http_version 1.1"}},

		{name: "nginx that buffers", kind: "nginx", config: nginxSite("", "proxy_ignore_headers X-Accel-Buffering; proxy_pass http://"+upstream+";"),
			faults: "buffering", says: []string{"5 came together", "proxy_buffering off"}},
		{name: "nginx that compresses streams", kind: "nginx", config: nginxLocation(upstream, "gzip on; gzip_proxied any; gzip_types text/event-stream;", ""),
			advice: "compression", says: []string{"Content-Encoding is gzip", "gzip_types"}},
		{name: "nginx that drops Last-Event-ID", kind: "nginx", config: nginxLocation(upstream, "", `proxy_set_header Last-Event-ID "";`),
			faults: "resume", says: []string{"went on at", "$http_last_event_id"}},
		{name: "nginx with HTTP/1.0 and a short time-out", kind: "nginx",
			config: nginxSite("", "proxy_pass http://"+upstream+"; proxy_http_version 1.0; proxy_read_timeout 2s;"),
			faults: "idle", advice: "upstream", says: []string{"before a heartbeat comes", "proxy_read_timeout"}},
		{name: "nginx that sets headers", kind: "nginx",
			config: nginxLocation(upstream, "", `proxy_hide_header Cache-Control; expires 1h; add_header Access-Control-Allow-Origin *;`), args: origin,
			faults: "headers cors", says: []string{"max-age=3600", "comes twice", "add_header"}},
		{name: "nginx that limits connections", kind: "nginx", config: nginxLocation(upstream, "limit_conn_zone $binary_remote_addr zone=c:1m;", "limit_conn c 4;"),
			faults: "streams", says: []string{"503", "limit_conn"}},
		{name: "nginx without HTTP/2", kind: "nginx", https: true, config: nginxLocation(upstream, "", ""),
			faults: "http", says: []string{"six connections", "http2"}},

		{name: "HAProxy as it comes", kind: "haproxy", config: haproxySite(upstream, "", ""),
			faults: "buffering", says: []string{"delayed", "http-no-delay"}},
		{name: "HAProxy with a short time-out", kind: "haproxy", config: haproxySite(upstream, "option http-no-delay", "timeout server 2s"),
			faults: "idle", says: []string{"before a heartbeat comes", "timeout server"}},
		{name: "HAProxy that compresses", kind: "haproxy", config: haproxySite(upstream, "option http-no-delay", "compression algo gzip\n compression type text/event-stream")},
		{name: "Caddy that compresses streams", kind: "caddy",
			config: caddySite("encode gzip {\n minimum_length 1\n match header Content-Type text/event-stream*\n}\nreverse_proxy " + upstream),
			faults: "compression", says: []string{"Content-Encoding is gzip", "encode @plain"}},
		{name: "Caddy that redirects", kind: "caddy", config: caddySite("redir https://events.example.com{uri}"),
			faults: "reach", says: []string{"redirected", "events.example.com"}},
	}

	// The examinations wait for most of their time: a few at once.
	results := make([]chan examination, len(tests))
	missing := make([]error, len(tests))
	places := make(chan struct{}, 9)
	for i, tc := range tests {
		results[i] = make(chan examination, 1)
		url := s.url("")
		var env []string
		if tc.kind != "" {
			p := newProxy(t, tc.https, upstream)
			url, env = p.url, []string{"SSL_CERT_FILE=" + p.cert}
			if missing[i] = p.start(tc.kind, tc.config(p)); missing[i] != nil {
				continue
			}
		}
		go func() {
			places <- struct{}{}
			defer func() { <-places }()
			results[i] <- examine(t.Context(), binary(t), env, append([]string{"doctor", url, "--json"}, tc.args...))
		}()
	}
	for i, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if missing[i] != nil {
				t.Skipf("NOT TESTED: %s: %v", tc.name, missing[i])
			}
			x := <-results[i]
			wantCode := 0
			if tc.faults != "" {
				wantCode = 6
			}
			if x.err != nil || x.code != wantCode {
				t.Errorf("exit code %d, want %d; %v, stderr %q", x.code, wantCode, x.err, x.stderr)
			}
			if got := x.found("fault"); got != tc.faults {
				t.Errorf("faults %q, want %q", got, tc.faults)
			}
			if got := x.found("advice"); got != tc.advice {
				t.Errorf("advice %q, want %q", got, tc.advice)
			}
			for _, text := range tc.says {
				if !strings.Contains(x.bad(), text) {
					t.Errorf("the findings lack %q", text)
				}
			}
			if t.Failed() {
				t.Logf("it says:\n%s", x.stdout)
			}
		})
	}
	s.alive()
}

// examination is what the command doctor has said.
type examination struct {
	Findings []struct {
		Check, Level, What, How, Change string
		Config                          []struct{ Proxy, Line string }
	}
	stdout, stderr string
	code           int
	err            error
}

func examine(ctx context.Context, path string, env, args []string) (x examination) {
	cmd := command(ctx, path, args...)
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		x.err = err
		return x
	}
	x.err = json.Unmarshal(stdout.Bytes(), &x)
	x.code, x.stdout, x.stderr = cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
	return x
}

// found returns the checks with findings of a level.
func (x *examination) found(level string) string {
	var checks []string
	for _, f := range x.Findings {
		if f.Level == level && !slices.Contains(checks, f.Check) {
			checks = append(checks, f.Check)
		}
	}
	return strings.Join(checks, " ")
}

// bad is what the faults and the advice say.
func (x *examination) bad() string {
	var b strings.Builder
	for _, f := range x.Findings {
		if f.Level == "fault" || f.Level == "advice" {
			fmt.Fprintln(&b, f.What, f.How, f.Change, f.Config)
		}
	}
	return b.String()
}

// proxyProcess is a proxy as a child process, until the test ends.
type proxyProcess struct {
	t         testing.TB
	dir       string
	addr, url string
	https     bool
	upstream  string // host:port
	cert, key string // files; both is a file with the two together
	both      string
}

func newProxy(t testing.TB, https bool, upstream string) *proxyProcess {
	t.Helper()
	p := &proxyProcess{t: t, dir: t.TempDir(), https: https, upstream: upstream}
	l, err := net.Listen("tcp", loopback()+":0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	l.Close()
	p.url = "http://" + p.addr
	if https {
		p.url = "https://" + p.addr
		p.certify()
	}
	return p
}

// certify makes a certificate for the proxy's address, signed by itself.
func (p *proxyProcess) certify() {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	host, _, _ := net.SplitHostPort(p.addr)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		IPAddresses: []net.IP{net.ParseIP(host)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		p.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	p.cert, p.key, p.both = p.write("cert.pem", cert), p.write("key.pem", private), p.write("both.pem", append(cert, private...))
}

func (p *proxyProcess) write(name string, text []byte) string {
	p.t.Helper()
	file := filepath.Join(p.dir, name)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return file
}

// start runs a proxy and waits until it listens. The error says that there is
// none of the kind on this machine.
func (p *proxyProcess) start(kind, config string) error {
	p.t.Helper()
	path, err := exec.LookPath(kind)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + kind)
	}
	if err != nil {
		return fmt.Errorf("there is no %s: make deps, or apt-get install %s", kind, kind)
	}
	file := p.write("config", []byte(config))
	args := map[string][]string{
		"nginx":   {"-c", file, "-e", filepath.Join(p.dir, "error.log"), "-g", "daemon off;"},
		"haproxy": {"-db", "-f", file},
		"caddy":   {"run", "--adapter", "caddyfile", "--config", file},
	}[kind]
	cmd := command(context.Background(), path, args...)
	cmd.Env = append(cmd.Env, "HOME="+p.dir, "XDG_CONFIG_HOME="+p.dir, "XDG_DATA_HOME="+p.dir)
	said := &output{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	p.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // which ends the workers of nginx as well
		<-exited
	})
	for deadline := time.Now().Add(startTime); ; {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-exited:
			p.t.Fatalf("%s did not come up:\n%s\n%s", kind, config, said)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s does not listen: %v\n%s", kind, err, said)
		}
	}
}

// recipe returns the configuration that docs/proxies.md has for a proxy, with
// this machine's addresses and files in place of those of the page.
func recipe(t *testing.T, kind string) func(p *proxyProcess) string {
	t.Helper()
	page, err := os.ReadFile("../docs/proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(page), "```"+kind+"\n")
	text, _, closed := strings.Cut(text, "```\n")
	if !found || !closed {
		t.Fatalf("docs/proxies.md has no recipe for %s", kind)
	}
	return func(p *proxyProcess) string {
		swap := func(old, new string) {
			if strings.Count(text, old) != 1 {
				p.t.Fatalf("the recipe for %s does not have %q once", kind, old)
			}
			text = strings.Replace(text, old, new, 1)
		}
		swap("127.0.0.1:8080", p.upstream)
		switch kind {
		case "nginx":
			swap("listen 443", "listen "+p.addr)
			swap("/etc/ssl/events.pem", p.cert)
			swap("/etc/ssl/events.key", p.key)
			return nginxConfig(p, text)
		case "haproxy":
			swap("bind :443", "bind "+p.addr)
			swap("/etc/ssl/events-with-key.pem", p.both)
			return text
		}
		swap("events.example.com {", fmt.Sprintf("%s {\n\ttls %s %s", p.url, p.cert, p.key))
		return caddyGlobal + text
	}
}

// nginxConfig is the least that nginx needs round a site.
func nginxConfig(p *proxyProcess, site string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "pid %s/pid;\nworker_processes 1;\nevents { worker_connections 256; }\nhttp {\naccess_log off;\n", p.dir)
	for _, module := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "%s_temp_path %s/%s;\n", module, p.dir, module)
	}
	return b.String() + site + "\n}\n"
}

// nginxSite is one location, and what stands beside its server.
func nginxSite(outside, location string) func(p *proxyProcess) string {
	return func(p *proxyProcess) string {
		listen := p.addr + ";"
		if p.https {
			listen = fmt.Sprintf("%s ssl; ssl_certificate %s; ssl_certificate_key %s;", p.addr, p.cert, p.key)
		}
		return nginxConfig(p, fmt.Sprintf("%s\nserver { listen %s location / { %s } }", outside, listen, location))
	}
}

// nginxLocation is a good one but for what is added.
func nginxLocation(upstream, outside, inside string) func(p *proxyProcess) string {
	return nginxSite(outside, fmt.Sprintf(`proxy_pass http://%s; proxy_http_version 1.1; proxy_set_header Connection ""; %s`, upstream, inside))
}

// haproxySite is a frontend and a backend, and what is added to both and to the
// backend alone.
func haproxySite(upstream, defaults, backend string) func(p *proxyProcess) string {
	return func(p *proxyProcess) string {
		return fmt.Sprintf(`defaults
 mode http
 timeout connect 5s
 timeout client 1m
 timeout server 1m
 %s
frontend in
 bind %s
 default_backend out
backend out
 %s
 server tailrace %s
`, defaults, p.addr, backend, upstream)
	}
}

// caddyGlobal keeps Caddy from its admin port and from asking for certificates.
const caddyGlobal = "{\n\tadmin off\n\tauto_https off\n}\n"

func caddySite(directives string) func(p *proxyProcess) string {
	return func(p *proxyProcess) string { return fmt.Sprintf("%s%s {\n%s\n}\n", caddyGlobal, p.url, directives) }
}
