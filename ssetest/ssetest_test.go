package ssetest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

func TestRecorderShowsWhatIsFlushed(t *testing.T) {
	rec := ssetest.NewRecorder()
	io.WriteString(rec, "data: a\n\n:note\ndata: ha")
	if len(rec.Bytes()) != 0 || len(rec.Events()) != 0 {
		t.Errorf("%q was seen before the flush", rec.Bytes())
	}
	if err := http.NewResponseController(rec).Flush(); err != nil {
		t.Fatal(err)
	}
	if ev := rec.Events(); len(ev) != 1 || string(ev[0].Data) != "a" {
		t.Errorf("events %v, want one", ev)
	}
	if c := rec.Comments(); len(c) != 1 || c[0] != "note" {
		t.Errorf("comments %q, want one", c)
	}
	if f := rec.Flushes(); len(f) != 1 || f[0].Bytes != 23 {
		t.Errorf("flushes %v, want one of 23 bytes", f)
	}
	if rec.Code() != http.StatusOK {
		t.Errorf("status %d", rec.Code())
	}
}

func TestRecorderFailsOnce(t *testing.T) {
	rec, cut := ssetest.NewRecorder(), errors.New("cut")
	rec.Fail(cut)
	if n, err := rec.Write([]byte("x")); n != 0 || err != cut {
		t.Errorf("got %d, %v, want the failure", n, err)
	}
	if n, err := rec.Write([]byte("x")); n != 1 || err != nil {
		t.Errorf("got %d, %v, want success again", n, err)
	}
}

func TestRecorderWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := ssetest.NewRecorder()
		go func() {
			s, err := sse.Accept(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			for range 3 {
				time.Sleep(time.Second)
				s.Send(&sse.Event{})
			}
		}()
		start := time.Now()
		if err := rec.Wait(t.Context(), 2); err != nil || time.Since(start) != 2*time.Second {
			t.Errorf("%v after %v, want 2s", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := rec.Wait(ctx, 4); err != context.DeadlineExceeded {
			t.Errorf("got %v, want the error of the context", err)
		}
	})
}

func TestMiddlewareKinds(t *testing.T) {
	tests := []struct {
		name             string
		wrap             func(http.Handler) http.Handler
		flush, deadlines bool
	}{
		{"UnwrapOnly", ssetest.UnwrapOnly, true, true},
		{"FlusherOnly", ssetest.FlusherOnly, true, false},
		{"Opaque", ssetest.Opaque, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				rc := http.NewResponseController(w)
				if err := rc.Flush(); (err == nil) != tt.flush {
					t.Errorf("Flush: %v", err)
				}
				if err := rc.SetWriteDeadline(time.Time{}); (err == nil) != tt.deadlines {
					t.Errorf("SetWriteDeadline: %v", err)
				}
			})).ServeHTTP(ssetest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		})
	}
}

func TestServerPlaysItsScript(t *testing.T) {
	script := []ssetest.Step{
		{Chunks: []string{"data: a\n\n", "data: b\n\n"}},
		{Status: 503, Header: http.Header{"retry-after": {"3"}}, Chunks: []string{"later"}},
		{Chunks: []string{"data: c\n\n"}, Then: ssetest.Abort},
		{Then: ssetest.Hold},
	}
	play := func(t *testing.T, srv *ssetest.Server, hc *http.Client, major int) {
		do := func(method, body string) *http.Response {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), method, srv.URL, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := hc.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		resp := do("POST", "ask")
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || string(body) != "data: a\n\ndata: b\n\n" || err != nil {
			t.Errorf("first: %s, %q, %v", resp.Status, body, err)
		}
		if resp.ProtoMajor != major {
			t.Errorf("%s, want HTTP/%d", resp.Proto, major)
		}
		resp = do("GET", "")
		body, err = io.ReadAll(resp.Body)
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "3" || string(body) != "later" || err != nil {
			t.Errorf("second: %s, %q, %v", resp.Status, body, err)
		}
		resp = do("GET", "")
		body, err = io.ReadAll(resp.Body)
		if string(body) != "data: c\n\n" || err == nil {
			t.Errorf("third: %q, %v, want a broken end", body, err)
		}
		resp.Body.Close()
		resp = do("GET", "") // which comes although the response is held
		resp.Body.Close()
		resp = do("GET", "")
		resp.Body.Close()
		if resp.StatusCode != 204 {
			t.Errorf("after the script: %s, want 204", resp.Status)
		}
		reqs := srv.Requests()
		if len(reqs) != 5 || reqs[0].Method != "POST" || string(reqs[0].Body) != "ask" || reqs[1].Method != "GET" || reqs[0].Time.IsZero() {
			t.Errorf("requests %+v", reqs)
		}
	}
	t.Run("HTTP/1.1", func(t *testing.T) {
		srv := ssetest.NewServer(t, script...)
		play(t, srv, srv.Client(), 1)
	})
	t.Run("HTTP/2", func(t *testing.T) {
		srv := ssetest.NewServer(t, script...)
		play(t, srv, srv.HTTP2Client(), 2)
	})
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := ssetest.NewMemoryServer(t, script...)
			play(t, srv, srv.Client(), 1)
		})
	})
	t.Run("memory, HTTP/2", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := ssetest.NewMemoryServer(t, script...)
			play(t, srv, srv.HTTP2Client(), 2)
		})
	})
}

func TestStalledClientStallsAndReadsOn(t *testing.T) {
	const size = 64 << 20 // more than any socket buffers
	stalled, ended := make(chan struct{}), make(chan error, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		w.WriteHeader(200)
		rc.Flush()
		chunk, sent, err := make([]byte, 64<<10), 0, error(nil)
		for err == nil && sent < size {
			rc.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			_, err = w.Write(chunk)
			sent += len(chunk)
		}
		close(stalled)
		ended <- err
	}))
	defer srv.Close()
	conn := ssetest.StalledClient(t, srv.URL)
	<-stalled
	if err := <-ended; err == nil {
		t.Error("the client took everything")
	}
	if n, err := io.Copy(io.Discard, conn); n == 0 || n >= size {
		t.Errorf("then it read %d bytes, %v", n, err)
	}
}
