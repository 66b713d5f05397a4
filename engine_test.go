package tailrace_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

func needsFastEngine(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the fast engine is for Linux")
	}
}

// engineOf returns the engine of the only open stream.
func engineOf(t *testing.T, h *tailrace.Hub) string {
	t.Helper()
	for info := range h.Connections() {
		return info.Engine
	}
	t.Fatal("no stream is open")
	return ""
}

func TestWhichEngineServes(t *testing.T) {
	needsFastEngine(t)
	gzipped := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zw := gzip.NewWriter(w)
			defer zw.Close()
			next.ServeHTTP(&gzipWriter{w, zw}, r)
		})
	}
	for _, c := range []struct {
		name  string
		wrap  func(http.Handler) http.Handler
		start func(*httptest.Server)
		want  string
	}{
		{"bare", nil, nil, "fast"},
		{"mux", func(next http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/", next)
			return mux
		}, nil, "fast"},
		{"wrapped with Unwrap", ssetest.UnwrapOnly, nil, "fast"},
		{"wrapped with Flush only", ssetest.FlusherOnly, nil, "portable"},
		{"gzip with Unwrap", gzipped, nil, "portable"},
		{"TLS", nil, func(s *httptest.Server) { s.StartTLS() }, "portable"},
		{"TLS over NewListener", nil, func(s *httptest.Server) {
			s.Listener = tailrace.NewListener(s.Listener)
			s.StartTLS()
		}, "fast"},
		{"NewListener", nil, func(s *httptest.Server) {
			s.Listener = tailrace.NewListener(s.Listener)
			s.Start()
		}, "fast"},
		{"HTTP/2", nil, func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() }, "portable"},
		{"a listener that wraps", nil, func(s *httptest.Server) {
			s.Listener = wrappingListener{s.Listener}
			s.Start()
		}, "portable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHub(t, nil)
			var handler http.Handler = h
			if c.wrap != nil {
				handler = c.wrap(h)
			}
			srv := httptest.NewUnstartedServer(handler)
			if c.start != nil {
				c.start(srv)
			} else {
				srv.Start()
			}
			defer srv.Close()
			resp, err := srv.Client().Get(srv.URL + "?topic=a")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if c.want == "fast" {
				waitFor(t, func() bool { return engineOf(t, h) == "fast" }) // it takes over after the head
			}
			publish(t, h, tailrace.Event{Topic: "a", Data: []byte("hello")})
			for ev, err := range sse.Events(resp.Body) {
				if err != nil || string(ev.Data) != "hello" {
					t.Errorf("%q %v", ev.Data, err)
				}
				break
			}
			if got := engineOf(t, h); got != c.want {
				t.Errorf("the %s engine serves, not the %s one", got, c.want)
			}
		})
	}
}

type gzipWriter struct {
	http.ResponseWriter
	zw *gzip.Writer
}

func (w *gzipWriter) Write(b []byte) (int, error) { return w.zw.Write(b) }
func (w *gzipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *gzipWriter) Flush()                      { w.zw.Flush(); http.NewResponseController(w.ResponseWriter).Flush() }

type wrappingListener struct{ net.Listener }

func (l wrappingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return struct{ net.Conn }{c}, err
}

// dial sends a request by hand and returns the connection behind the head.
func dial(t *testing.T, url, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			return c, br
		}
	}
}

const rawRequest = "GET /?topic=a HTTP/1.1\r\nHost: x\r\n\r\n"

// Both engines send the same bytes, once the chunks are taken apart.
func TestEnginesSendTheSameBytes(t *testing.T) {
	var bodies [2][]byte
	log := tailrace.NewMemoryLog(nil)
	defer log.Close()
	for i := range bodies {
		h, err := tailrace.New(&tailrace.Options{Log: log, DisableFastEngine: i == 1, DrainWindow: -1})
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(h)
		if i == 0 {
			for n := range 300 {
				publish(t, h, tailrace.Event{Topic: "a", Type: "x", ID: fmt.Sprint(n % 100), Key: fmt.Sprint(n % 7), Data: bytes.Repeat([]byte("line\n"), n%50)})
			}
		}
		r := subscribe(t, srv.URL+"?topic=a&from=start&limit=100")
		if bodies[i], err = io.ReadAll(r.resp.Body); err != nil {
			t.Fatal(err)
		}
		h.Shutdown(t.Context())
		srv.Close()
	}
	clean := func(b []byte) string { // the jittered times differ
		_, rest, _ := strings.Cut(string(b), "\n")
		return rest[:strings.LastIndex(rest, "retry:")]
	}
	if a, b := clean(bodies[0]), clean(bodies[1]); a != b || len(a) < 1000 {
		t.Errorf("fast %d bytes, portable %d", len(a), len(b))
	}
}

// Bytes behind the request are never parsed and never answered, and a second
// request on such a connection is not served.
func TestPipelinedBytesAreNotServed(t *testing.T) {
	needsFastEngine(t) // else they are net/http's business
	h := newHub(t, nil)
	url := serve(t, h)
	_, br := dial(t, url, rawRequest+"POST /?topic=a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	rest, err := io.ReadAll(br)
	if err != nil || !strings.HasSuffix(string(rest), "0\r\n\r\n") || strings.Contains(string(rest), "HTTP/1.1") {
		t.Fatalf("%q %v", rest, err)
	}
	waitFor(t, func() bool { return h.Count() == 0 })

	c, br := dial(t, url, rawRequest)
	waitFor(t, func() bool { return engineOf(t, h) == "fast" }) // before that the bytes would end it too
	io.WriteString(c, strings.Repeat("junk", 1000))
	publish(t, h, tailrace.Event{Topic: "a", Data: []byte("still served")})
	waitFor(t, func() bool { return h.Stats().Delivered == 1 })
	for info := range h.Connections() {
		h.Disconnect(info.ID, "")
	}
	rest, err = io.ReadAll(br)
	if err != nil || !strings.Contains(string(rest), "still served") || !strings.HasSuffix(string(rest), "0\r\n\r\n") {
		t.Fatalf("%q %v", rest, err)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come about")
		}
	}
}

func TestClientThatLeavesIsForgotten(t *testing.T) { bothEngines(t, testClientLeaves) }

func testClientLeaves(t *testing.T) {
	reasons := make(chan string, 10)
	h := newHub(t, &tailrace.Options{OnDisconnect: func(c tailrace.ConnInfo) { reasons <- c.Reason }})
	url := serve(t, h)
	for _, leave := range []func(net.Conn){
		func(c net.Conn) { c.Close() },
		func(c net.Conn) { c.(*net.TCPConn).CloseWrite() },
		func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() },
	} {
		c, _ := dial(t, url, rawRequest)
		waitFor(t, func() bool { return h.Count() == 1 })
		leave(c)
		waitFor(t, func() bool { return h.Count() == 0 })
		if r := <-reasons; r != "client" {
			t.Errorf("reason %q", r)
		}
	}
}

// A reader that stalls costs the others nothing, is cut after StallTimeout,
// and resumes without loss.
func TestStalledReaderIsCutAndResumes(t *testing.T) { bothEngines(t, testStalledReader) }

func testStalledReader(t *testing.T) {
	reasons := make(chan string, 10)
	h := newHub(t, &tailrace.Options{
		StallTimeout: time.Second,
		OnDisconnect: func(c tailrace.ConnInfo) { reasons <- c.Reason },
	})
	url := serve(t, h)
	stalled := ssetest.StalledClient(t, url+"/?topic=a&ids=cursor")
	healthy := subscribe(t, url+"?topic=a")
	text := strings.Repeat("x", 50_000)
	const n = 200
	go func() {
		for i := range n {
			h.Publish(context.Background(), tailrace.Event{Topic: "a", Data: fmt.Appendf(nil, "%d %s", i, text)})
		}
	}()
	for i := range n {
		if ev := healthy.next(); !strings.HasPrefix(string(ev.Data), fmt.Sprintf("%d ", i)) {
			t.Fatalf("event %d begins with %.10q", i, ev.Data)
		}
	}
	if r := <-reasons; r != "stalled" {
		t.Fatalf("the stalled reader ended: %s", r)
	}
	// What it has is a prefix; with its last id it gets the rest.
	stalled.SetReadDeadline(time.Now().Add(10 * time.Second))
	got, last := 0, ""
	count := func(r io.Reader, most int) {
		d := sse.NewDecoder(r, &sse.DecoderOptions{LastEventID: last})
		var ev sse.Event
		for got < most && d.Decode(&ev) == nil {
			if !strings.HasPrefix(string(ev.Data), fmt.Sprintf("%d ", got)) {
				t.Fatalf("event %d begins with %.10q", got, ev.Data)
			}
			got++
		}
		last = d.LastEventID()
	}
	count(&dechunker{r: bufio.NewReader(stalled)}, n)
	if got == n {
		t.Fatal("the stalled reader has got everything; nothing was tested")
	}
	if got == 0 {
		last = "" // then it starts over
	}
	from := "&from=start"
	resumed := subscribe(t, url+"?topic=a&ids=cursor"+from, "Last-Event-ID: "+last)
	count(resumed.resp.Body, n)
	if got != n {
		t.Fatalf("%d of %d events", got, n)
	}
}

// dechunker reads chunked data until it breaks off.
type dechunker struct {
	r    *bufio.Reader
	left int
}

func (d *dechunker) Read(p []byte) (int, error) {
	if d.left == 0 {
		line, err := d.r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line == "\r\n" {
			return d.Read(p)
		}
		if _, err := fmt.Sscanf(line, "%x", &d.left); err != nil || d.left == 0 {
			return 0, io.EOF
		}
	}
	n, err := d.r.Read(p[:min(len(p), d.left)])
	d.left -= n
	return n, err
}

// Descriptors and memory come back after many have come and gone.
func TestManyComeAndGo(t *testing.T) { bothEngines(t, testManyComeAndGo) }

func testManyComeAndGo(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("counts descriptors in /proc")
	}
	h := newHub(t, nil)
	url := serve(t, h)
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	warm, _ := dial(t, url, rawRequest)
	waitFor(t, func() bool { return h.Count() == 1 })
	publish(t, h, tailrace.Event{Topic: "a", Data: []byte("x")})
	waitFor(t, func() bool { return h.Stats().Delivered == 1 }) // the engine stands
	before := open()
	for range 5 {
		var conns []net.Conn
		for range 100 {
			c, _ := dial(t, url, rawRequest)
			conns = append(conns, c)
		}
		publish(t, h, tailrace.Event{Topic: "a", Data: []byte("x")})
		for _, c := range conns {
			c.Close()
		}
		waitFor(t, func() bool { return h.Count() == 1 })
	}
	waitFor(t, func() bool { return open() <= before })
	warm.Close()
	waitFor(t, func() bool { return h.Count() == 0 })
}

// panickingLog panics when the topic boom is read for a second page.
type panickingLog struct{ tailrace.Log }

func (l panickingLog) Read(ctx context.Context, q tailrace.Query) (tailrace.Page, error) {
	if topic, ok := q.Select.Single(); ok && topic == "boom" && !q.After.IsZero() {
		panic("boom")
	}
	return l.Log.Read(ctx, q)
}

func TestPanicEndsOneStream(t *testing.T) { bothEngines(t, testPanicEndsOneStream) }

func testPanicEndsOneStream(t *testing.T) {
	log := tailrace.NewMemoryLog(nil)
	t.Cleanup(func() { log.Close() })
	h := newHub(t, &tailrace.Options{Log: panickingLog{log}, Logger: slog.New(slog.DiscardHandler)})
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Start()
	t.Cleanup(srv.Close)
	healthy := subscribe(t, srv.URL+"?topic=a")
	for range 1000 {
		publish(t, h, tailrace.Event{Topic: "boom", Data: []byte("x")})
	}
	broken := subscribe(t, srv.URL+"?topic=boom&from=start")
	io.Copy(io.Discard, broken.resp.Body) // it ends
	publish(t, h, tailrace.Event{Topic: "a", Data: []byte("unharmed")})
	healthy.expect("unharmed")
	waitFor(t, func() bool { return h.Count() == 1 })
}
