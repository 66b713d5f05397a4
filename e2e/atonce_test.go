package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

// path is a way from a server to its clients.
type path struct {
	events, publish string // URLs
	client          *http.Client
	major           int // of HTTP
}

// TestStreamsArriveAtOnce: whatever is between, the head of a stream arrives
// before its first event, and each event before the next is published, also
// when the stream is older than the server's time limit for an answer.
func TestStreamsArriveAtOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		open func(t *testing.T) path
	}{
		{"a bare hub", func(t *testing.T) path { return overHub(t, nil, nil) }},
		{"write timeout", func(t *testing.T) path {
			return overHub(t, nil, func(s *httptest.Server) {
				s.Config.WriteTimeout, s.Config.ReadTimeout = time.Second, time.Second
			})
		}},
		{"middleware with Unwrap", func(t *testing.T) path { return overHub(t, ssetest.UnwrapOnly, nil) }},
		{"middleware with Flush", func(t *testing.T) path { return overHub(t, ssetest.FlusherOnly, nil) }},
		{"write timeout and middleware", func(t *testing.T) path {
			return overHub(t, ssetest.UnwrapOnly, func(s *httptest.Server) { s.Config.WriteTimeout = time.Second })
		}},
		{"write timeout, TLS and HTTP/2", func(t *testing.T) path {
			p := overHub(t, nil, func(s *httptest.Server) {
				s.Config.WriteTimeout = time.Second
				s.EnableHTTP2 = true
				s.StartTLS()
			})
			p.major = 2
			return p
		}},
		{"the command", func(t *testing.T) path { return overServer(startServer(t)) }},
		{"the command, TLS and HTTP/2", overTLS},
		{"the command, HTTP/2 without TLS", func(t *testing.T) path {
			p := overServer(startServer(t, "--listen.h2c"))
			transport := &http.Transport{Protocols: new(http.Protocols)}
			transport.Protocols.SetUnencryptedHTTP2(true)
			p.client, p.major = &http.Client{Transport: transport}, 2
			return p
		}},
		{"the command behind nginx", func(t *testing.T) path {
			p := overServer(startServer(t))
			front := nginx(t, strings.TrimSuffix(p.publish, "/v1/topics/demo"))
			p.events, p.publish = front+"/v1/events?topic=demo", front+"/v1/topics/demo"
			return p
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := test.open(t)
			t.Cleanup(p.client.CloseIdleConnections)
			p.stream(t)
		})
	}
}

// stream publishes and reads in lock step.
func (p *path) stream(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, p.events, nil)
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != p.major {
		t.Fatalf("%s %s, want 200 and HTTP/%d", resp.Status, resp.Proto, p.major)
	}
	dec := sse.NewDecoder(resp.Body, nil)
	var slowest time.Duration
	opened := time.Now()
	for n := 0; n < 5 || time.Since(opened) < 2200*time.Millisecond; n++ {
		begin := time.Now()
		post, _ := http.NewRequestWithContext(ctx, http.MethodPost, p.publish, strings.NewReader(strconv.Itoa(n)))
		answer, err := p.client.Do(post)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Fatal(answer.Status)
		}
		var ev sse.Event
		if err := dec.Decode(&ev); err != nil {
			t.Fatalf("after %v, event %d: %v", time.Since(opened), n, err)
		}
		if string(ev.Data) != strconv.Itoa(n) {
			t.Fatalf("event %q, want %d", ev.Data, n)
		}
		slowest = max(slowest, time.Since(begin))
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("from the publisher to the reader in at most %v", slowest.Round(time.Microsecond))
}

// overHub serves a hub in this process, at /events, and publishing at /publish.
// wrap is the middleware; configure may change the server and start it.
func overHub(t *testing.T, wrap func(http.Handler) http.Handler, configure func(*httptest.Server)) path {
	hub, err := tailrace.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /publish", hub.PublishHandler())
	var handler http.Handler = hub.Middleware("/events")(mux)
	if wrap != nil {
		handler = wrap(handler)
	}
	s := httptest.NewUnstartedServer(handler)
	if configure != nil {
		configure(s)
	}
	if s.URL == "" {
		s.Start()
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTime)
		defer cancel()
		if err := hub.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return path{s.URL + "/events?topic=demo", s.URL + "/publish?topic=demo", s.Client(), 1}
}

func overServer(s *server) path {
	return path{s.url("/v1/events?topic=demo"), s.url("/v1/topics/demo"), &http.Client{Transport: &http.Transport{}}, 1}
}

// overTLS borrows the certificate that package httptest has for its servers.
func overTLS(t *testing.T) path {
	lender := httptest.NewTLSServer(nil)
	defer lender.Close()
	pair := lender.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
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
	s := newServer(t, "--listen.tls.cert_file", write("cert.pem", "CERTIFICATE", pair.Certificate[0]),
		"--listen.tls.key_file", write("key.pem", "PRIVATE KEY", key))
	s.scheme = "https"
	s.start()
	roots := x509.NewCertPool()
	roots.AddCert(lender.Certificate())
	p := overServer(s)
	p.major = 2
	p.client.Transport = &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: "example.com"},
	}
	return p
}

// places are the lines of nginx's own configuration that name places of the
// system.
var places = regexp.MustCompile(`(?m)^[ \t]*(user|pid|error_log|access_log|include /etc/nginx/sites-enabled)\b.*$`)

// nginx runs a stock nginx before upstream until the test ends, and returns its
// URL. Its configuration is the distribution's, but for its places and for one
// location that passes everything on.
func nginx(t *testing.T, upstream string) string {
	t.Helper()
	binary, err := exec.LookPath("nginx")
	if err != nil {
		binary = "/usr/sbin/nginx"
	}
	stock, err := os.ReadFile("/etc/nginx/nginx.conf")
	if err != nil {
		t.Fatalf("this test needs nginx: make deps, or apt-get install nginx (%v)", err)
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", loopback()+":0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var site bytes.Buffer
	for _, module := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&site, "%s_temp_path %s/%s;\n", module, dir, module)
	}
	fmt.Fprintf(&site, "server { listen %s; location / { proxy_pass %s; } }\n", addr, upstream)
	sited := false
	conf := places.ReplaceAllStringFunc(string(stock), func(line string) string {
		switch name, _, _ := strings.Cut(strings.TrimSpace(line), " "); name {
		case "pid", "error_log":
			return fmt.Sprintf("%s %s/%s;", name, dir, name)
		case "access_log":
			return "access_log off;"
		case "include":
			sited = true
			return site.String()
		}
		return "" // user: only root has the choice
	})
	if !sited {
		t.Fatalf("nginx.conf without sites:\n%s", stock)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(context.Background(), binary, "-c", file, "-e", filepath.Join(dir, "error.log"), "-g", "daemon off;")
	stderr := &output{}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // which ends its workers as well
		<-exited
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("nginx says:\n%s\n%s", stderr, text)
		}
	})
	for deadline := time.Now().Add(startTime); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return "http://" + addr
		}
		select {
		case <-exited:
			t.Fatalf("nginx did not come up:\n%s", stderr)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
