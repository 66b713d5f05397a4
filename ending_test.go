package tailrace_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// A stream that takes no byte ends soon after Disconnect, not when it has
// stalled for StallTimeout.
func TestDisconnectOfAFullSocket(t *testing.T) { bothEngines(t, testDisconnectOfAFullSocket) }

func testDisconnectOfAFullSocket(t *testing.T) {
	t.Parallel()
	reasons := make(chan string, 1)
	s := newSite(t, &tailrace.Options{
		StallTimeout: 10 * time.Minute,
		OnDisconnect: func(c tailrace.ConnInfo) { reasons <- c.Reason },
	}, smallBuffer, nil)
	c := s.mustOpen(t, "topic=a")
	for i := range 40 {
		publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(text(i, 100_000))})
	}
	waitFor(t, func() bool { info, _ := s.Connection(c.id); return info.LagEvents > 20 })
	if err := s.Disconnect(c.id, ""); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-reasons:
		if r != "disconnected" {
			t.Errorf("reason %q", r)
		}
	case <-time.After(patience):
		t.Fatal("the stream goes on")
	}
	waitFor(t, func() bool { return s.Count() == 0 })
}

// A second request that arrives while the first is being looked at is never
// parsed and never answered.
func TestPipelinedDuringTheHandler(t *testing.T) {
	needsFastEngine(t) // else it is net/http's business
	in, out := make(chan struct{}), make(chan struct{})
	s := newSite(t, &tailrace.Options{OnConnect: func(tailrace.ConnInfo) { in <- struct{}{}; <-out }}, 0, nil)
	for i := range 20 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, rawRequest)
		<-in
		io.WriteString(conn, "POST /?topic=a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nevil")
		if i%2 == 0 {
			time.Sleep(time.Millisecond) // net/http reads a byte ahead, or not
		}
		out <- struct{}{}
		// What net/http has read ends the stream; what it has not is ignored.
		end := time.AfterFunc(time.Millisecond, func() {
			for info := range s.Connections() {
				s.Disconnect(info.ID, "")
			}
		})
		rest, err := io.ReadAll(conn)
		end.Stop()
		if err != nil || !strings.HasSuffix(string(rest), "\r\n0\r\n\r\n") || strings.Count(string(rest), "HTTP/1.1") != 1 {
			t.Fatalf("%q %v", rest, err)
		}
		waitFor(t, func() bool { return s.Count() == 0 })
	}
}
