package server

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// harness is a server on loopback, with a client that never follows redirects.
type harness struct {
	*Server
	t    *testing.T
	url  string
	stop func() error // ends Run and returns what it returned
}

// start runs a server until the test ends. Nil options are those of a test:
// dev mode, a free port, no delays, no log.
func start(t *testing.T, hubOpts *tailrace.Options, opts *Options) *harness {
	t.Helper()
	return run(t, newServer(t, hubOpts, opts))
}

// run runs s until the test ends.
func run(t *testing.T, s *Server) *harness {
	t.Helper()
	addr, err := s.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var result error
	go func() {
		defer close(done)
		result = s.Run(ctx)
	}()
	stop := func() error {
		cancel()
		<-done
		return result
	}
	t.Cleanup(func() { stop() })
	return &harness{Server: s, t: t, url: "http://" + addr.String(), stop: stop}
}

// newServer makes a server that does not run. Without auth it is in dev mode.
func newServer(t *testing.T, hubOpts *tailrace.Options, opts *Options) *Server {
	t.Helper()
	h, o := tailrace.Options{DrainWindow: -1}, Options{DrainDelay: -1}
	if hubOpts != nil {
		h = *hubOpts
	}
	if opts != nil {
		o = *opts
	}
	o.Dev, o.Rules = o.Auth.IsZero(), h.Rules
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	quiet := slog.New(slog.DiscardHandler)
	if h.Logger == nil {
		h.Logger = quiet
	}
	if o.Logger == nil {
		o.Logger = quiet
	}
	var s *Server
	h.OnDisconnect = func(c tailrace.ConnInfo) { s.StreamEnded(c) }
	hub, err := tailrace.New(&h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		hub.Shutdown(ctx)
	})
	if s, err = New(hub, &o); err != nil {
		t.Fatal(err)
	}
	return s
}

// eventually waits for what follows soon from something that was seen.
func (h *harness) eventually(what string, is func() bool) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// answer is a response with its whole body.
type answer struct {
	*http.Response
	body string
}

// do makes a request. target is a path, which is sent as it is; headers are
// name, value, …
func (h *harness) do(method, target, body string, headers ...string) answer {
	h.t.Helper()
	req := h.request(method, target, body, headers...)
	resp, err := client.Do(req)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, target, err)
	}
	return answer{resp, string(text)}
}

var client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       20 * time.Second,
}

func (h *harness) request(method, target, body string, headers ...string) *http.Request {
	h.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.url+target, r)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	return req
}

// wantStatus fails unless the answer has the status.
func (a answer) wantStatus(t *testing.T, status int) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s %s: status %d, want %d: %s", a.Request.Method, a.Request.URL, a.StatusCode, status, a.body)
	}
	return a
}

// wantProblem fails unless the answer is that problem in full form, and
// returns its members.
func (a answer) wantProblem(t *testing.T, name string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("%s %s: status %d, want the problem %s: %q", a.Request.Method, a.Request.URL, a.StatusCode, name, a.body)
	}
	switch {
	case m["type"] != "/docs/problems/"+name:
		t.Fatalf("%s %s: %v, want the problem %s", a.Request.Method, a.Request.URL, m, name)
	case a.Header.Get("Content-Type") != "application/problem+json":
		t.Errorf("problem %s has the type %q", name, a.Header.Get("Content-Type"))
	case m["status"] != float64(a.StatusCode):
		t.Errorf("problem %s says status %v, the answer has %d", name, m["status"], a.StatusCode)
	case m["request_id"] == nil || m["request_id"] != a.Header.Get("Tailrace-Request-Id"):
		t.Errorf("problem %s has request_id %v, the header %q", name, m["request_id"], a.Header.Get("Tailrace-Request-Id"))
	case m["title"] == "" || m["detail"] == "":
		t.Errorf("problem %s lacks title or detail: %v", name, m)
	}
	return m
}

// decode reads a JSON answer.
func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%s %s: %v: %s", a.Request.Method, a.Request.URL, err, a.body)
	}
	return v
}

// subscriber reads the lines of an open stream.
type subscriber struct {
	*http.Response
	t     *testing.T
	lines *bufio.Scanner
}

// open opens a stream; it ends with the test.
func (h *harness) open(target string, headers ...string) *subscriber {
	h.t.Helper()
	resp, err := client.Do(h.request("GET", target, "", headers...))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		text, _ := io.ReadAll(resp.Body)
		h.t.Fatalf("GET %s: %s %s", target, resp.Status, text)
	}
	return &subscriber{resp, h.t, bufio.NewScanner(resp.Body)}
}

// id is the stream's connection id.
func (s *subscriber) id() string { return s.Header.Get("Tailrace-Connection") }

// waitFor reads lines until one begins with prefix, and returns its rest.
func (s *subscriber) waitFor(prefix string) string {
	s.t.Helper()
	for s.lines.Scan() {
		if rest, ok := strings.CutPrefix(s.lines.Text(), prefix); ok {
			return rest
		}
	}
	s.t.Fatalf("the stream ended before %q: %v", prefix, s.lines.Err())
	return ""
}

// rest reads to the end, which must be clean.
func (s *subscriber) rest() []string {
	s.t.Helper()
	var lines []string
	for s.lines.Scan() {
		lines = append(lines, s.lines.Text())
	}
	if err := s.lines.Err(); err != nil {
		s.t.Errorf("the stream broke: %v", err)
	}
	client.CloseIdleConnections() // the server is about to close this one, which the client does not know yet
	return lines
}

func TestPublishedEventReachesSubscriber(t *testing.T) {
	h := start(t, nil, nil)
	sub := h.open("/v1/topics/demo")
	cursor := decode[map[string]any](t, h.do("POST", "/v1/topics/demo", "hello").wantStatus(t, 200))["cursor"]
	if id := sub.waitFor("id: "); id != cursor {
		t.Errorf("the event's id is %q, the publisher was told %q", id, cursor)
	}
	if data := sub.waitFor("data: "); data != "hello" {
		t.Errorf("data is %q", data)
	}
}

func TestDevModeIsLoopbackOnly(t *testing.T) {
	s := newServer(t, nil, &Options{Addr: "0.0.0.0:0"})
	if addr, err := s.Listen(); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("listening on 0.0.0.0 in dev mode gave %v, %v", addr, err)
	}
}

func TestServerWithoutDevIsRefused(t *testing.T) {
	hub := newServer(t, nil, nil).hub
	for _, opts := range []*Options{nil, {}} {
		if _, err := New(hub, opts); err == nil {
			t.Error("a server without any authorisation was made")
		}
	}
}

func TestShutdownEndsStreamsCleanly(t *testing.T) {
	h := start(t, nil, nil)
	plain := h.open("/v1/topics/demo")
	aware := h.open("/v1/topics/demo?hello=1")
	h.do("POST", "/v1/topics/demo", "last")
	plain.waitFor("data: last")
	aware.waitFor("data: last")
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Join(plain.rest(), "\n"); !strings.HasPrefix(lines, "\nretry: ") || strings.Contains(lines, "event:") {
		t.Errorf("a stream ended with %q", lines)
	}
	if lines := strings.Join(aware.rest(), "\n"); !strings.HasPrefix(lines, "\nretry: ") || !strings.Contains(lines, "event: tailrace.drain\n") {
		t.Errorf("a stream that asked for control events ended with %q", lines)
	}
	if _, err := client.Get(h.url + "/livez"); err == nil {
		t.Error("the listener is still open")
	}
	if _, err := h.hub.Log().Read(context.Background(), tailrace.Query{}); err == nil {
		t.Error("the log is still open")
	}
}

func TestNotReadyWhileDraining(t *testing.T) {
	h := start(t, nil, &Options{DrainDelay: time.Hour, DrainMax: 2 * time.Second})
	h.do("GET", "/readyz", "").wantStatus(t, 200)
	sub := h.open("/v1/topics/demo?from=start")
	stopped := make(chan error, 1)
	go func() { stopped <- h.stop() }()
	for h.do("GET", "/readyz", "").StatusCode == 200 {
		runtime.Gosched()
	}
	m := h.do("GET", "/readyz?verbose=1", "").wantProblem(t, "draining")
	if m["checks"] == nil {
		t.Errorf("verbose shows no checks: %v", m)
	}
	h.do("GET", "/livez", "").wantStatus(t, 200)
	h.do("POST", "/v1/topics/demo", "during the delay").wantStatus(t, 200)
	if data := sub.waitFor("data: "); data != "during the delay" {
		t.Errorf("got %q", data)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	sub.waitFor("retry: ")
	sub.rest()
}

// Browsers open connections ahead; net/http would wait for them.
func TestShutdownClosesUnusedConnections(t *testing.T) {
	var c newConns
	unused, peer := net.Pipe()
	used, other := net.Pipe()
	defer other.Close()
	c.track(unused, http.StateNew)
	c.track(used, http.StateNew)
	c.track(used, http.StateActive)
	c.close()
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the unused connection is open: %v", err)
	}
	go used.Write([]byte("x"))
	if _, err := other.Read(make([]byte, 1)); err != nil {
		t.Errorf("a connection in use was closed: %v", err)
	}
}

func TestTLSAndUnencryptedHTTP2(t *testing.T) {
	cert, key := writeCertificate(t)
	for name, opts := range map[string]*Options{
		"tls": {CertFile: cert, KeyFile: key, DrainDelay: -1},
		"h2c": {H2C: true, DrainDelay: -1},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, nil, opts)
			tr := &http.Transport{TLSClientConfig: trust(t, cert), Protocols: new(http.Protocols)}
			defer tr.CloseIdleConnections()
			tr.Protocols.SetHTTP2(true)
			if name == "h2c" {
				tr.Protocols.SetUnencryptedHTTP2(true)
				tr.Protocols.SetHTTP2(false)
			} else {
				h.url = strings.Replace(h.url, "http:", "https:", 1)
			}
			c := &http.Client{Transport: tr}
			resp, err := c.Do(h.request("GET", "/v1/topics/demo", ""))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.ProtoMajor != 2 || resp.StatusCode != 200 || resp.Header.Get("Connection") != "" {
				t.Fatalf("%s %s, Connection %q", resp.Proto, resp.Status, resp.Header.Get("Connection"))
			}
			pub, err := c.Do(h.request("POST", "/v1/topics/demo", "over two"))
			if err != nil {
				t.Fatal(err)
			}
			pub.Body.Close()
			sub := &subscriber{resp, t, bufio.NewScanner(resp.Body)}
			if data := sub.waitFor("data: "); data != "over two" {
				t.Errorf("data is %q", data)
			}
		})
	}
}
