package sse_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/internal/memhttp"
	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

// serve runs srv in memory and returns a client of it that speaks p. Both end with the test.
func serve(t *testing.T, srv *http.Server, p *http.Protocols) *http.Client {
	t.Helper()
	l := memhttp.Listen()
	srv.Protocols = p
	served := make(chan struct{})
	go func() {
		defer close(served)
		srv.Serve(l)
	}()
	tr := &http.Transport{DialContext: l.Dial, Protocols: p}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		srv.Close()
		<-served
	})
	return &http.Client{Transport: tr}
}

func http1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

func h2c() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// discardLog is for servers whose errors a test provokes.
func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

// open gets a stream.
func open(t *testing.T, hc *http.Client, url string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/event-stream" {
		t.Fatalf("%s, Content-Type %q", resp.Status, got)
	}
	return resp
}

// expect reads n events, numbered from 0, and the end.
func expect(t *testing.T, body io.Reader, n int) {
	t.Helper()
	got := 0
	for ev, err := range sse.Events(body) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprint(got); string(ev.Data) != want {
			t.Fatalf("event %q, want %q", ev.Data, want)
		}
		got++
	}
	if got != n {
		t.Fatalf("the stream ended after %d events, want %d", got, n)
	}
}

// ticker sends n events, each after d, and ends.
func ticker(t *testing.T, n int, d time.Duration, opts *sse.AcceptOptions) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := sse.Accept(w, r, opts)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		for i := range n {
			time.Sleep(d)
			if err := s.Send(&sse.Event{Data: fmt.Append(nil, i)}); err != nil {
				t.Errorf("event %d: %v", i, err)
				return
			}
		}
	}
}

func TestStreamSurvivesTheServersTimeouts(t *testing.T) {
	for name, p := range map[string]*http.Protocols{"HTTP/1.1": http1(), "h2c": h2c()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hc := serve(t, &http.Server{
					Handler:           ticker(t, 10, 700*time.Millisecond, nil),
					ReadTimeout:       time.Second,
					ReadHeaderTimeout: time.Second,
					WriteTimeout:      time.Second,
					IdleTimeout:       time.Second,
				}, p)
				start := time.Now()
				expect(t, open(t, hc, "http://memory.test").Body, 10)
				if d := time.Since(start); d != 7*time.Second {
					t.Errorf("took %v, want 7s", d)
				}
			})
		})
	}
}

func TestStreamHasTheWholeWriteTimeoutForEachWrite(t *testing.T) {
	// Deadlines are set and cleared round each write: a stream that was silent for longer than
	// WriteTimeout goes on.
	for name, p := range map[string]*http.Protocols{"HTTP/1.1": http1(), "h2c": h2c()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := &sse.AcceptOptions{WriteTimeout: time.Second, Heartbeat: -1}
				hc := serve(t, &http.Server{Handler: ticker(t, 3, time.Minute, opts)}, p)
				expect(t, open(t, hc, "http://memory.test").Body, 3)
			})
		})
	}
}

func TestStalledHandlerEndsAfterTheWriteTimeout(t *testing.T) {
	for name, p := range map[string]*http.Protocols{"HTTP/1.1": http1(), "h2c": h2c()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan time.Duration, 1)
				hc := serve(t, &http.Server{ErrorLog: discardLog(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/ticks" {
						ticker(t, 10, time.Second, nil)(w, r)
						return
					}
					s, err := sse.Accept(w, r, &sse.AcceptOptions{WriteTimeout: 2 * time.Second})
					if err != nil {
						t.Error(err)
						return
					}
					defer s.Close()
					big := bytes.Repeat([]byte(":"+strings.Repeat("x", 8190)+"\n"), 8)
					var last time.Time
					for err == nil {
						last = time.Now()
						_, err = s.Write(big)
					}
					<-s.Context().Done()
					ended <- time.Since(last)
				})}, p)
				resp := open(t, hc, "http://memory.test/stall") // and read no more
				defer resp.Body.Close()
				healthy := open(t, hc, "http://memory.test/ticks")
				expect(t, healthy.Body, 10) // over h2c on the same connection
				if d := <-ended; d < 2*time.Second || d > 3*time.Second {
					t.Errorf("the stalled handler ended %v after its last write began, want 2 s to 3 s", d)
				}
			})
		})
	}
}

func TestStalledReaderHarmsNobody(t *testing.T) {
	// 4,000 events of 8 KiB to one client that reads and one that does not, over sockets.
	t.Parallel()
	const n, size = 4000, 8 << 10
	stalledEnded := make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := sse.Accept(w, r, &sse.AcceptOptions{WriteTimeout: 2 * time.Second})
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		frame, err := (&sse.Event{Data: bytes.Repeat([]byte("x"), size)}).AppendText(nil)
		if err != nil {
			t.Error(err)
			return
		}
		for i := 0; i < n && err == nil; i++ {
			_, err = s.Write(frame)
		}
		if r.URL.Path == "/stalled" {
			stalledEnded <- err
		} else if err != nil {
			t.Errorf("healthy client: %v", err)
		}
	}))
	defer srv.Close()
	ssetest.StalledClient(t, srv.URL+"/stalled")
	got := 0
	for ev, err := range sse.Events(open(t, srv.Client(), srv.URL+"/healthy").Body) {
		if err != nil || len(ev.Data) != size {
			t.Fatalf("event of %d bytes, %v", len(ev.Data), err)
		}
		got++
	}
	if got != n {
		t.Errorf("%d events, want %d", got, n)
	}
	if err := <-stalledEnded; err == nil {
		t.Error("the stalled client took everything")
	}
}

func TestClientThatLeavesEndsContext(t *testing.T) {
	for name, p := range map[string]*http.Protocols{"HTTP/1.1": http1(), "h2c": h2c()} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan time.Time, 1)
				hc := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := sse.Accept(w, r, nil)
					if err != nil {
						t.Error(err)
						return
					}
					defer s.Close()
					<-s.Context().Done()
					ended <- time.Now()
				})}, p)
				resp := open(t, hc, "http://memory.test")
				time.Sleep(time.Second)
				left := time.Now()
				resp.Body.Close()
				if d := (<-ended).Sub(left); d > 15*time.Second {
					t.Errorf("Context ended %v after the client had left, want at most a heartbeat", d)
				}
			})
		})
	}
}

// gzipped compresses responses and flushes the compressor with the response, as gzip middleware
// does that is fit for streams.
func gzipped(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		zw := gzip.NewWriter(w)
		defer zw.Close()
		h.ServeHTTP(gzipWriter{w, zw}, r)
	})
}

type gzipWriter struct {
	http.ResponseWriter
	zw *gzip.Writer
}

func (w gzipWriter) Write(p []byte) (int, error) { return w.zw.Write(p) }

func (w gzipWriter) FlushError() error {
	if err := w.zw.Flush(); err != nil {
		return err
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w gzipWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestEventsArriveOneByOne(t *testing.T) {
	// The handler sends an event only when the client has read the one before, so that an event
	// that is held back anywhere ends in a deadlock, which the clock of the test turns into a
	// failure.
	plain := func(h http.Handler) http.Handler { return h }
	tests := []struct {
		name  string
		wrap  func(http.Handler) http.Handler
		proto *http.Protocols
		major int
	}{
		{"HTTP/1.1", plain, http1(), 1},
		{"h2c", plain, h2c(), 2},
		{"unwrap only", ssetest.UnwrapOnly, http1(), 1},
		{"unwrap only, h2c", ssetest.UnwrapOnly, h2c(), 2},
		{"flusher only", ssetest.FlusherOnly, http1(), 1},
		{"gzip that flushes", gzipped, http1(), 1},
		{"gzip that flushes, h2c", gzipped, h2c(), 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				next := make(chan struct{})
				hc := serve(t, &http.Server{Handler: tt.wrap(lockstep(t, next))}, tt.proto)
				resp := open(t, hc, "http://memory.test")
				if resp.ProtoMajor != tt.major {
					t.Errorf("%s, want HTTP/%d", resp.Proto, tt.major)
				}
				readLockstep(t, resp.Body, next)
			})
		})
	}

	t.Run("TLS and HTTP/2", func(t *testing.T) {
		next := make(chan struct{})
		srv := httptest.NewUnstartedServer(lockstep(t, next))
		srv.EnableHTTP2 = true
		srv.StartTLS()
		defer srv.Close()
		resp := open(t, srv.Client(), srv.URL)
		if resp.Proto != "HTTP/2.0" {
			t.Errorf("%s, want HTTP/2.0", resp.Proto)
		}
		readLockstep(t, resp.Body, next)
	})

	t.Run("HTTP/1.0", func(t *testing.T) {
		next := make(chan struct{})
		srv := httptest.NewServer(lockstep(t, next))
		defer srv.Close()
		conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.TransferEncoding) > 0 || resp.ContentLength != -1 {
			t.Errorf("encodings %v, length %d, want the bare body", resp.TransferEncoding, resp.ContentLength)
		}
		readLockstep(t, resp.Body, next)
	})
}

// lockstep sends five events, each when next says so.
func lockstep(t *testing.T, next chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := sse.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		for i := range 5 {
			select {
			case <-next:
			case <-s.Context().Done():
				t.Errorf("the client left before event %d", i)
				return
			}
			if err := s.Send(&sse.Event{Data: fmt.Append(nil, i)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
}

func readLockstep(t *testing.T, body io.Reader, next chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	dec := sse.NewDecoder(body, nil)
	var ev sse.Event
	for i := range 5 {
		select {
		case next <- struct{}{}:
		case <-ctx.Done():
			t.Fatalf("event %d was not sent", i)
		}
		if err := dec.Decode(&ev); err != nil || string(ev.Data) != fmt.Sprint(i) {
			t.Fatalf("event %d: %q, %v", i, ev.Data, err)
		}
	}
	if err := dec.Decode(&ev); err != io.EOF {
		t.Fatalf("at the end: %v, want io.EOF", err)
	}
}

func TestHostilePayloadsArriveAsTheyAre(t *testing.T) {
	// No byte of the data can open a field, end an event or begin a comment. CR LF and CR
	// arrive as LF, the one thing that the format loses.
	payloads := []struct{ data, want string }{
		{"", ""},
		{"\n", "\n"},
		{"a\n", "a\n"},
		{"a\n\nevent: evil\ndata: b", "a\n\nevent: evil\ndata: b"},
		{"a\revent: evil", "a\nevent: evil"},
		{"a\r\n\r\nid: 666\r\n\r\n", "a\n\nid: 666\n\n"},
		{" leading space and trailing ", " leading space and trailing "},
		{": no comment\nretry: 1", ": no comment\nretry: 1"},
		{"NUL \x00 and \u2028 and \u0085", "NUL \x00 and \u2028 and \u0085"},
		{"\ufeffBOM", "\ufeffBOM"},
	}
	synctest.Test(t, func(t *testing.T) {
		hc := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := sse.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for i, p := range payloads {
				if err := s.Comment("comment\n\ndata: evil\r\rdata: evil"); err != nil {
					t.Error(err)
				}
				if err := s.Send(&sse.Event{ID: fmt.Sprint(i), Type: "t", Data: []byte(p.data)}); err != nil {
					t.Error(err)
				}
			}
		})}, http1())
		req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://memory.test", nil)
		conn, err := (&sse.Client{HTTPClient: hc}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		i := 0
		for ev, err := range conn.Events() {
			if err != nil {
				t.Fatal(err)
			}
			if i >= len(payloads) {
				t.Fatalf("one event more: %q", ev.Data)
			}
			if string(ev.Data) != payloads[i].want || ev.Type != "t" || ev.ID != fmt.Sprint(i) {
				t.Errorf("%q arrived as %q, type %q, id %q", payloads[i].data, ev.Data, ev.Type, ev.ID)
			}
			i++
		}
		if i != len(payloads) {
			t.Errorf("%d events, want %d", i, len(payloads))
		}
	})
}
