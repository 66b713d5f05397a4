package tailrace_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// long says whether the long forms of the tests are asked for.
var long = os.Getenv("TAILRACE_LONG") == "1"

// patience is how long a test waits for what must come about.
const patience = 30 * time.Second

// smallBuffer is the size of a socket's buffer in tests that fill it, in bytes.
const smallBuffer = 16 << 10

// leavesNothing fails the test if it leaves a goroutine behind. It is called
// first, so that it looks last; tests that run at the same time do not
// disturb it, because goroutines inherit the label of who started them.
func leavesNothing(t testing.TB) {
	pprof.SetGoroutineLabels(pprof.WithLabels(t.Context(), pprof.Labels("test", t.Name())))
	t.Cleanup(func() {
		pprof.SetGoroutineLabels(context.Background()) // this one stays
		label := fmt.Sprintf("{%q:%q}", "test", t.Name())
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			var all bytes.Buffer
			pprof.Lookup("goroutine").WriteTo(&all, 1)
			var left []string
			for stack := range strings.SplitSeq(all.String(), "\n\n") {
				if strings.Contains(stack, label) {
					left = append(left, stack)
				}
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("goroutines are left:\n%s", strings.Join(left, "\n\n"))
				return
			}
		}
	})
}

// site is a hub behind a server. When the test ends, no goroutine of it is
// left and no descriptor of either side.
type site struct {
	*tailrace.Hub
	url  string
	addr string
}

// newSite serves a hub, whose limits are off unless opts sets them; wrap, if
// not nil, wraps it. Server sockets have send buffers of so many bytes; 0 is
// the system's.
func newSite(t *testing.T, opts *tailrace.Options, sendBuffer int, wrap func(*tailrace.Hub) http.Handler) *site {
	t.Helper()
	return startSite(t, opts, wrap, func(srv *httptest.Server) {
		if sendBuffer > 0 {
			srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
				c.(*net.TCPConn).SetWriteBuffer(sendBuffer)
				return ctx
			}
		}
		srv.Start()
	})
}

// startSite is newSite with a server that start starts.
func startSite(t *testing.T, opts *tailrace.Options, wrap func(*tailrace.Hub) http.Handler, start func(*httptest.Server)) *site {
	t.Helper()
	leavesNothing(t)
	s := &site{}
	t.Cleanup(func() {
		waitFor(t, func() bool { return s.sockets(t) == 0 })
	})
	if opts == nil {
		opts = &tailrace.Options{}
	}
	for _, limit := range []*int{&opts.MaxStreams, &opts.MaxStreamsPerPrincipal, &opts.MaxStreamsPerAddr, &opts.ConnectRate} {
		if *limit == 0 {
			*limit = -1
		}
	}
	s.Hub = newHub(t, opts)
	var handler http.Handler = s.Hub
	if wrap != nil {
		handler = wrap(s.Hub)
	}
	srv := httptest.NewUnstartedServer(handler)
	start(srv)
	t.Cleanup(srv.Close)
	s.url, s.addr = srv.URL, srv.Listener.Addr().String()
	return s
}

// sockets counts this process's descriptors of connections to the site, both
// ends, and of its listener.
func (s *site) sockets(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	_, port, _ := net.SplitHostPort(s.addr)
	n, _ := strconv.Atoi(port)
	suffix := fmt.Sprintf(":%04X", n)
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{}
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 9 && (strings.HasSuffix(f[1], suffix) || strings.HasSuffix(f[2], suffix)) {
			ours["socket:["+f[9]+"]"] = true
		}
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n = 0
	for _, e := range list {
		if name, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && ours[name] {
			n++
		}
	}
	return n
}

// client is one stream whose reader decides when it reads.
type client struct {
	*net.TCPConn
	id   string // of the connection
	resp *http.Response
	dec  *sse.Decoder
}

// open subscribes with a query such as "topic=a" and reads the head, not more
// than a few bytes of what follows.
func (s *site) open(query string, headers ...string) (*client, error) {
	d := net.Dialer{Timeout: patience, Control: narrow}
	conn, err := d.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	c := &client{TCPConn: conn.(*net.TCPConn)}
	c.SetDeadline(time.Now().Add(patience))
	lines := append([]string{"GET /?" + query + " HTTP/1.1", "Host: x"}, headers...)
	if _, err = io.WriteString(c, strings.Join(lines, "\r\n")+"\r\n\r\n"); err == nil {
		c.resp, err = http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	c.id = c.resp.Header.Get("Tailrace-Connection")
	c.dec = sse.NewDecoder(c.resp.Body, nil)
	return c, nil
}

// mustOpen is open for the test's own goroutine, closed with the test.
func (s *site) mustOpen(t testing.TB, query string, headers ...string) *client {
	t.Helper()
	c, err := s.open(query, headers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if c.resp.StatusCode != http.StatusOK {
		t.Fatal(c.resp.Status)
	}
	return c
}

// reset closes the connection as a process that is killed with unread input
// does: the peer sees a reset.
func (c *client) reset() {
	c.SetLinger(0)
	c.Close()
}

// next returns the next event; its data holds until the next call.
func (c *client) next(t testing.TB) sse.Event {
	t.Helper()
	var ev sse.Event
	if err := c.dec.Decode(&ev); err != nil {
		t.Fatalf("reading the stream: %v", err)
	}
	return ev
}

// expect reads as many events as texts and compares their data.
func (c *client) expect(t testing.TB, texts ...string) {
	t.Helper()
	for _, want := range texts {
		if ev := c.next(t); string(ev.Data) != want {
			t.Fatalf("event %.60q of type %q, want %.60q", ev.Data, ev.Type, want)
		}
	}
}

// publishAll appends events in batches.
func publishAll(t testing.TB, h *tailrace.Hub, events []tailrace.Event) {
	t.Helper()
	for len(events) > 0 {
		n := min(len(events), 500)
		if _, err := h.Publish(t.Context(), events[:n]...); err != nil {
			t.Fatal(err)
		}
		events = events[n:]
	}
}

// text is the numbered data of one event, n bytes and more.
func text(number, n int) string {
	return strconv.Itoa(number) + " " + strings.Repeat(string(rune('a'+number%26)), n)
}
