package ssetest

import (
	"bufio"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// stalledBuffer is the receive buffer of a StalledClient, in bytes: small, but large enough that
// the system does not dole the bytes out with its persist timer when the client reads on.
const stalledBuffer = 16 << 10

// StalledClient sends a GET request for an event stream to rawURL, an http URL, reads the head
// and then reads no more; its receive buffer is small. A test that wants it to read on reads from
// the connection that it returns, which has the raw HTTP/1.1 body. The connection is closed with
// the test.
func StalledClient(t testing.TB, rawURL string) net.Conn {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatalf("ssetest: %v", err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, 10*time.Second)
	if err != nil {
		t.Fatalf("ssetest: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(stalledBuffer)
	}
	req, err := http.NewRequest("GET", rawURL, nil)
	if err != nil {
		t.Fatalf("ssetest: %v", err)
	}
	req.Header.Set("Accept", "text/event-stream")
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if err := req.Write(conn); err != nil {
		t.Fatalf("ssetest: %v", err)
	}
	// One byte at a time, so that nothing of the body is read.
	if _, err := http.ReadResponse(bufio.NewReaderSize(oneByteReader{conn}, 16), req); err != nil {
		t.Fatalf("ssetest: %v", err)
	}
	_ = conn.SetDeadline(time.Time{})
	return conn
}

type oneByteReader struct{ conn net.Conn }

func (r oneByteReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return r.conn.Read(p[:1])
}
