package tailrace_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

// Whatever stands between, a stream is served or refused with a reason, never
// half.
func TestServedAnyhow(t *testing.T) {
	gzipped := func(unwrap, late bool) func(*tailrace.Hub) http.Handler {
		return func(h *tailrace.Hub) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				zw := gzip.NewWriter(w)
				defer zw.Close()
				encoded := &gzipWriter{w, zw}
				if late {
					h.ServeHTTP(lateEncoder{encoded}, r)
					return
				}
				w.Header().Set("Content-Encoding", "gzip")
				if unwrap {
					h.ServeHTTP(encoded, r)
				} else {
					h.ServeHTTP(struct {
						http.ResponseWriter
						http.Flusher
					}{encoded, encoded}, r)
				}
			})
		}
	}
	wrap := func(f func(http.Handler) http.Handler) func(*tailrace.Hub) http.Handler {
		return func(h *tailrace.Hub) http.Handler { return f(h) }
	}
	for _, c := range []struct {
		name   string
		wrap   func(*tailrace.Hub) http.Handler
		start  func(*httptest.Server)
		header string
		status int // 0 is a stream
	}{
		{name: "gzip with Unwrap", wrap: gzipped(true, false)},
		{name: "gzip without Unwrap", wrap: gzipped(false, false)},
		{name: "gzip that says so with the first byte", wrap: gzipped(true, true)},
		{name: "UnwrapOnly", wrap: wrap(ssetest.UnwrapOnly)},
		{name: "FlusherOnly", wrap: wrap(ssetest.FlusherOnly)},
		{name: "Opaque", wrap: wrap(ssetest.Opaque), status: 500},
		{name: "TimeoutHandler", wrap: wrap(func(h http.Handler) http.Handler { return http.TimeoutHandler(h, time.Minute, "") }), status: 500},
		{name: "HTTP/2 in the clear", start: func(srv *httptest.Server) {
			srv.Config.Protocols = new(http.Protocols)
			srv.Config.Protocols.SetUnencryptedHTTP2(true)
			srv.Start()
			transport := srv.Client().Transport.(*http.Transport)
			transport.Protocols = srv.Config.Protocols
		}},
		{name: "Expect", header: "Expect: 100-continue"},
		{name: "Upgrade", header: "Upgrade: h2c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var http_ *http.Client
			s := startSite(t, nil, c.wrap, func(srv *httptest.Server) {
				if c.start != nil {
					c.start(srv)
				} else {
					srv.Start()
				}
				http_ = srv.Client()
			})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, "GET", s.url+"?topic=a", nil)
			if name, value, ok := strings.Cut(c.header, ": "); ok {
				req.Header.Set(name, value)
			}
			resp, err := http_.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if c.status != 0 {
				if resp.StatusCode != c.status {
					t.Errorf("%s, want %d", resp.Status, c.status)
				}
				return
			}
			waitFor(t, func() bool { return s.Count() == 1 })
			publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte("hello")})
			dec := sse.NewDecoder(resp.Body, nil)
			var ev sse.Event
			if err := dec.Decode(&ev); err != nil || string(ev.Data) != "hello" {
				t.Fatalf("%q %v", ev.Data, err)
			}
			for info := range s.Connections() {
				s.Disconnect(info.ID, "")
			}
			if err := dec.Decode(&ev); err != io.EOF {
				t.Errorf("the end: %v", err)
			}
		})
	}
}

// lateEncoder says how it encodes only when the head goes out.
type lateEncoder struct{ *gzipWriter }

func (w lateEncoder) WriteHeader(status int) {
	w.Header().Set("Content-Encoding", "gzip")
	w.gzipWriter.WriteHeader(status)
}

// A client of HTTP/1.0 gets the stream without chunks.
func TestHTTP10(t *testing.T) { bothEngines(t, testHTTP10) }

func testHTTP10(t *testing.T) {
	s := newSite(t, nil, 0, nil)
	_, br := dial(t, s.url, "GET /?topic=a HTTP/1.0\r\n\r\n")
	waitFor(t, func() bool { return s.Count() == 1 })
	publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte("hello")})
	var ev sse.Event
	if err := sse.NewDecoder(br, nil).Decode(&ev); err != nil || string(ev.Data) != "hello" {
		t.Fatalf("%q %v", ev.Data, err)
	}
	for info := range s.Connections() {
		if info.Engine != "portable" {
			t.Errorf("the %s engine serves", info.Engine)
		}
		s.Disconnect(info.ID, "")
	}
	if rest, err := io.ReadAll(br); err != nil || strings.Contains(string(rest), "0\r\n") {
		t.Errorf("the end: %q %v", rest, err)
	}
}

// overTLS opens a stream on a TLS connection of its own.
func (s *site) overTLS(t *testing.T, query string, headers ...string) (*tls.Conn, *http.Response) {
	t.Helper()
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: patience, Control: narrow}, Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := d.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	lines := append([]string{"GET /?" + query + " HTTP/1.1", "Host: x"}, headers...)
	io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	return conn.(*tls.Conn), resp
}

func startTLS(srv *httptest.Server) { srv.StartTLS() }

// Over TLS a stream has the same events, whether they come from the log or
// live, alone or many at once, small or larger than a record; and a wanted end
// is a whole one: the last chunk, close_notify, nothing else.
func TestStreamOverTLS(t *testing.T) { bothEngines(t, testStreamOverTLS) }

func testStreamOverTLS(t *testing.T) {
	s := startSite(t, nil, nil, startTLS)
	var want []string
	more := func(n int) {
		var events []tailrace.Event
		for range n {
			data := text(len(want), len(want)*len(want)%40_000)
			want = append(want, data)
			events = append(events, tailrace.Event{Topic: "a", Data: []byte(data)})
		}
		publishAll(t, s.Hub, events)
	}
	more(50)
	conn, resp := s.overTLS(t, "topic=a&from=start", "Connection: close") // else net/http keeps it
	dec := sse.NewDecoder(resp.Body, nil)
	read := 0
	expect := func() {
		t.Helper()
		var ev sse.Event
		for ; read < len(want); read++ {
			if err := dec.Decode(&ev); err != nil || string(ev.Data) != want[read] {
				t.Fatalf("event %d is %.40q (%v), want %.40q", read, ev.Data, err, want[read])
			}
		}
	}
	expect()
	for range 50 {
		more(1)
		expect()
	}
	more(200)
	expect()
	for info := range s.Connections() {
		s.Disconnect(info.ID, "")
	}
	var ev sse.Event
	if err := dec.Decode(&ev); err != io.EOF { // of the chunks
		t.Errorf("the end of the body: %v", err)
	}
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF { // of the records
		t.Errorf("behind the body: %d bytes, %v", n, err)
	}
	waitFor(t, func() bool { return s.Count() == 0 })
}

// Over TLS too a client that leaves is forgotten at once, however it does.
func TestClientLeavesOverTLS(t *testing.T) { bothEngines(t, testClientLeavesOverTLS) }

func testClientLeavesOverTLS(t *testing.T) {
	reasons := make(chan string, 10)
	s := startSite(t, &tailrace.Options{OnDisconnect: func(c tailrace.ConnInfo) { reasons <- c.Reason }}, nil, startTLS)
	for name, leave := range map[string]func(*tls.Conn){
		"close":      func(c *tls.Conn) { c.Close() },
		"half-close": func(c *tls.Conn) { c.CloseWrite(); c.NetConn().(*net.TCPConn).CloseWrite() },
		"reset":      func(c *tls.Conn) { c.NetConn().(*net.TCPConn).SetLinger(0); c.NetConn().Close() },
		"in mid-frame": func(c *tls.Conn) {
			publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(text(1, 900_000))})
			io.CopyN(io.Discard, c, 20_000)
			c.NetConn().(*net.TCPConn).SetLinger(0)
			c.NetConn().Close()
		},
	} {
		conn, _ := s.overTLS(t, "topic=a")
		waitFor(t, func() bool { return s.Count() == 1 })
		leave(conn)
		waitFor(t, func() bool { return s.Count() == 0 })
		if r := <-reasons; r != "client" {
			t.Errorf("%s: reason %q", name, r)
		}
	}
}

// A reader over TLS that stalls delays nobody, is cut after StallTimeout, and
// resumes behind its last whole event without a gap.
func TestStalledReaderOverTLS(t *testing.T) { bothEngines(t, testStalledReaderOverTLS) }

func testStalledReaderOverTLS(t *testing.T) {
	t.Parallel()
	reasons := make(chan string, 10)
	s := startSite(t, &tailrace.Options{
		StallTimeout: time.Second,
		OnDisconnect: func(c tailrace.ConnInfo) { reasons <- c.Reason },
	}, nil, startTLS)
	stalled := make([]*http.Response, 3)
	for i := range stalled {
		_, stalled[i] = s.overTLS(t, "topic=a")
	}
	_, healthy := s.overTLS(t, "topic=a")
	dec := sse.NewDecoder(healthy.Body, nil)
	var ev sse.Event
	const n = 120
	for i := range n {
		want := text(i, 100_000)
		publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(want)})
		if err := dec.Decode(&ev); err != nil || string(ev.Data) != want {
			t.Fatalf("event %d: %.40q (%v)", i, ev.Data, err)
		}
	}
	for range stalled {
		if r := <-reasons; r != "stalled" {
			t.Fatalf("the stalled reader ended: %s", r)
		}
	}
	for _, resp := range stalled {
		dec := sse.NewDecoder(resp.Body, nil)
		i := 0
		for ; ; i++ {
			if dec.Decode(&ev) != nil {
				break
			}
			if string(ev.Data) != text(i, 100_000) {
				t.Fatalf("event %d: %.40q", i, ev.Data)
			}
		}
		if i == 0 || i == n {
			t.Fatalf("%d of %d events: nothing was tested", i, n)
		}
		conn, again := s.overTLS(t, "topic=a", "Last-Event-ID: "+dec.LastEventID())
		dec = sse.NewDecoder(again.Body, nil)
		for ; i < n; i++ {
			if err := dec.Decode(&ev); err != nil || string(ev.Data) != text(i, 100_000) {
				t.Fatalf("event %d after the resume: %.40q (%v)", i, ev.Data, err)
			}
		}
		conn.Close()
	}
}

// limitListener lets so many connections be open at once, as that of
// golang.org/x/net/netutil does: a place is given back when its connection is
// closed, whoever closes it, and once.
type limitListener struct {
	net.Listener
	places chan struct{}
	open   atomic.Int32
}

func (l *limitListener) Accept() (net.Conn, error) {
	l.places <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	l.open.Add(1)
	return &limitedConn{Conn: c, l: l}, nil
}

type limitedConn struct {
	net.Conn
	l    *limitListener
	once sync.Once
}

func (c *limitedConn) Close() error {
	c.once.Do(func() { c.l.open.Add(-1); <-c.l.places })
	return c.Conn.Close()
}

// A listener that counts connections counts a stream as long as it is open,
// and not longer, with TLS and without.
func TestLimitListener(t *testing.T) {
	bothEngines(t, func(t *testing.T) {
		t.Run("plain", func(t *testing.T) { testLimitListener(t, false) })
		t.Run("TLS", func(t *testing.T) { testLimitListener(t, true) })
	})
}

func testLimitListener(t *testing.T, secure bool) {
	const limit = 3
	l := &limitListener{places: make(chan struct{}, limit)}
	s := startSite(t, nil, nil, func(srv *httptest.Server) {
		l.Listener = srv.Listener
		srv.Listener = l
		if secure {
			srv.StartTLS()
		} else {
			srv.Start()
		}
	})
	open := func() (io.Closer, *sse.Decoder) {
		if secure {
			conn, resp := s.overTLS(t, "topic=a", "Connection: close")
			return conn, sse.NewDecoder(resp.Body, nil)
		}
		c := s.mustOpen(t, "topic=a", "Connection: close")
		return c, c.dec
	}
	var ev sse.Event
	var conns []io.Closer
	var decs []*sse.Decoder
	for range limit {
		c, d := open()
		conns, decs = append(conns, c), append(decs, d)
	}
	for i := range 20 {
		publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(text(i, 5000))})
		for _, d := range decs {
			if err := d.Decode(&ev); err != nil || string(ev.Data) != text(i, 5000) {
				t.Fatalf("%.40q (%v)", ev.Data, err)
			}
		}
	}
	if n := l.open.Load(); n != limit {
		t.Fatalf("%d connections are counted, %d are open", n, limit)
	}
	// One more is served as soon as one of them has left, or was told to.
	for i := range conns {
		if i%2 == 0 {
			conns[i].Close()
		} else {
			for info := range s.Connections() {
				if err := s.Disconnect(info.ID, ""); err != nil && !errors.Is(err, tailrace.ErrNoConnection) {
					t.Error(err)
				}
			}
		}
		next, _ := open()
		defer next.Close()
	}
	for info := range s.Connections() {
		s.Disconnect(info.ID, "")
	}
	waitFor(t, func() bool { return l.open.Load() == 0 && s.Count() == 0 })
}
