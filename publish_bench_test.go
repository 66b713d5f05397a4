package tailrace

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// discard is a ResponseWriter that costs next to nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header             { return d.header }
func (d *discard) Write(p []byte) (int, error)     { return len(p), nil }
func (d *discard) WriteHeader(int)                 {}
func (d *discard) SetReadDeadline(time.Time) error { return nil }

// onceBody is a body that can be read again after rewind.
type onceBody struct{ bytes.Reader }

func (*onceBody) Close() error { return nil }

// publishOnce returns a function that publishes one small raw body through the
// handler, without a server around it.
func publishOnce(tb testing.TB) func() {
	h := newUploadHub(tb, nullLog{NewMemoryLog(nil)})
	data := bytes.Repeat([]byte("x"), 150)
	body := &onceBody{}
	r := httptest.NewRequestWithContext(tb.Context(), "POST", "/v1/topics/demo", body)
	r.Body, r.ContentLength = body, int64(len(data))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "*/*")
	r.Header.Set("User-Agent", "curl/8")
	topics := []string{"demo"}
	w := &discard{header: http.Header{}}
	return func() {
		body.Reset(data)
		clear(w.header)
		h.ServePublish(w, r, topics)
	}
}

// nullLog acknowledges and keeps nothing.
type nullLog struct{ Log }

var nullCursor = Cursor{Epoch: 1 << 40, Pos: 123456}

func (nullLog) Append(ctx context.Context, events []Event) ([]Receipt, error) {
	return []Receipt{{Cursor: nullCursor, Time: time.Unix(1_800_000_000, 0)}}, nil
}

func TestAllocationsOfAPublish(t *testing.T) {
	publish := publishOnce(t)
	// The body, the request's state, the answer and the cursor's text; contexts
	// and the timer of the wait for the log; the receipts.
	const most = 12
	if n := testing.AllocsPerRun(1000, publish); n > most {
		t.Errorf("%v allocations, want at most %d", n, most)
	}
}

// BenchmarkPublishHandler is what the handler costs within a request.
func BenchmarkPublishHandler(b *testing.B) {
	publish := publishOnce(b)
	b.ReportAllocs()
	for b.Loop() {
		publish()
	}
}

// BenchmarkPublishHTTP is a publish over loopback, and floor the same request
// to a handler that reads the body and answers with as many bytes: the ratio of
// the two is what publishing adds to net/http. The client writes and reads
// bytes, so that nearly all that is measured is the server.
func BenchmarkPublishHTTP(b *testing.B) {
	h := newUploadHub(b, nil)
	topics := []string{"demo"}
	answer := []byte(`{"cursor":"0000000001.a","time":"2026-01-01T00:00:00.000Z","duplicate":false}` + "\n")
	for _, bb := range []struct {
		name    string
		handler http.HandlerFunc
	}{
		{"floor", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Tailrace-Cursor", "0000000001.a")
			w.Write(answer)
		}},
		{"publish", func(w http.ResponseWriter, r *http.Request) { h.ServePublish(w, r, topics) }},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := httptest.NewServer(bb.handler)
			defer s.Close()
			request := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 150\r\n\r\n%0150d", 1)
			c, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			buf := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				c.Write(request)
				// The answer is one segment, and its body ends with a brace.
				for n := 0; n < 2 || buf[n-2] != '}'; {
					m, err := c.Read(buf[n:])
					if err != nil {
						b.Fatal(err)
					}
					n += m
				}
			}
		})
	}
}
