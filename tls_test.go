package tailrace_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// dialTLS sends a request by hand, from a socket that holds little, and returns
// the connection and what comes behind the head.
func dialTLS(t *testing.T, addr, query string) (*tls.Conn, *bufio.Reader) {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	raw.(*net.TCPConn).SetReadBuffer(8 << 10)
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(c, "GET /?%s HTTP/1.1\r\nHost: x\r\n\r\n", query)
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

// Readers of all speeds over TLS get each event once and in order, and a clean
// end, whatever the sizes.
func TestStreamsOverTLS(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) { bothEngines(t, func(t *testing.T) { testStreamsOverTLS(t, version) }) })
	}
}

func testStreamsOverTLS(t *testing.T, version uint16) {
	h := newHub(t, nil)
	h.SetRingFrames(8)
	srv := httptest.NewUnstartedServer(h)
	srv.Listener = tailrace.NewListener(srv.Listener)
	srv.TLS = &tls.Config{MaxVersion: version}
	srv.StartTLS()
	t.Cleanup(srv.Close)

	const readers, events = 6, 60
	var wg sync.WaitGroup
	for i := range readers {
		_, br := dialTLS(t, srv.Listener.Addr().String(), "topic=a")
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			slow := &slowReader{r: br, rand: r, naps: i}
			chunks := &dechunker{r: bufio.NewReaderSize(slow, 512)}
			dec := sse.NewDecoder(chunks, &sse.DecoderOptions{})
			var ev sse.Event
			for n := range events {
				if err := dec.Decode(&ev); err != nil {
					t.Errorf("reader %d ends at event %d: %v", i, n, err)
					return
				}
				if number, _, _ := strings.Cut(string(ev.Data), " "); number != fmt.Sprint(n) {
					t.Errorf("reader %d: %.20q in place of event %d", i, ev.Data, n)
					return
				}
			}
			for line := ""; line != "0\r\n"; { // the last chunk
				var err error
				if line, err = chunks.r.ReadString('\n'); err != nil {
					t.Errorf("reader %d has no clean end: %v", i, err)
					return
				}
			}
		})
	}
	waitFor(t, func() bool { return h.Count() == readers })
	r := rand.New(rand.NewPCG(2, 2))
	for n := range events {
		size := r.IntN(300)
		if n%20 == 0 {
			size = r.IntN(60_000)
		}
		if _, err := h.Publish(context.Background(), tailrace.Event{Topic: "a", Data: fmt.Appendf(nil, "%d %s", n, strings.Repeat("x", size))}); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return h.Stats().Delivered == readers*events || t.Failed() })
	for info := range h.Connections() {
		h.Disconnect(info.ID, "")
	}
	wg.Wait()
	waitFor(t, func() bool { return h.Count() == 0 })
}

// slowReader pauses now and then.
type slowReader struct {
	r    io.Reader
	rand *rand.Rand
	naps int // how many of 40 reads wait
}

func (r *slowReader) Read(b []byte) (int, error) {
	if r.rand.IntN(40) < r.naps {
		time.Sleep(50 * time.Microsecond)
	}
	return r.r.Read(b)
}
