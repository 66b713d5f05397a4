package doctor

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// site is a hub behind what a test puts before it.
type site struct {
	hub *tailrace.Hub
	url string
}

// serve runs a hub with heartbeats each second until the test ends. between
// stands for what lies between it and its clients.
func serve(t *testing.T, between func(http.Handler) http.Handler) site {
	t.Helper()
	hub, err := tailrace.New(&tailrace.Options{Heartbeat: time.Second, DrainWindow: -1})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /v1/events", hub)
	mux.Handle("POST /v1/events", hub.PublishHandler())
	var h http.Handler = mux
	if between != nil {
		h = between(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := hub.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return site{hub, s.URL}
}

// found returns the checks that found something of a level.
func found(r *Report, level Level) string {
	var names []string
	for _, f := range r.Findings {
		if f.Level == level && !slices.Contains(names, f.Check) {
			names = append(names, f.Check)
		}
	}
	return strings.Join(names, " ")
}

// tell is all that a report says.
func tell(r *Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		b.WriteString(strings.Join([]string{string(f.Level), f.Check, f.What, "|", f.How, "|", f.Change}, " ") + "\n")
	}
	return b.String()
}

func isStream(r *http.Request) bool { return r.Header.Get("Accept") == "text/event-stream" }

// changeHead calls change before the head of each answer to a stream leaves.
func changeHead(change func(http.Header)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isStream(r) {
				w = &headChanger{w, change, false}
			}
			next.ServeHTTP(w, r)
		})
	}
}

type headChanger struct {
	http.ResponseWriter
	change  func(http.Header)
	changed bool
}

func (w *headChanger) WriteHeader(status int) {
	if !w.changed {
		w.changed = true
		w.change(w.Header())
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *headChanger) Flush() { http.NewResponseController(w.ResponseWriter).Flush() }

// streams answers streams in the place of what is behind.
func streams(answer http.HandlerFunc) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isStream(r) {
				answer(w, r)
			} else {
				next.ServeHTTP(w, r)
			}
		})
	}
}

// everything answers all requests in the place of what is behind.
func everything(answer http.HandlerFunc) func(http.Handler) http.Handler {
	return func(http.Handler) http.Handler { return answer }
}

// body passes what streams carry through filter, line by line; a line that
// filter makes nil is left out.
func body(filter func(line []byte) []byte) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isStream(r) {
				w = &lineFilter{ResponseWriter: w, filter: filter}
			}
			next.ServeHTTP(w, r)
		})
	}
}

type lineFilter struct {
	http.ResponseWriter
	filter func([]byte) []byte
	rest   []byte
}

func (w *lineFilter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		if _, err := w.ResponseWriter.Write(w.filter(w.rest[:i+1])); err != nil {
			return 0, err
		}
		w.rest = w.rest[i+1:]
	}
}

func (w *lineFilter) Flush() { http.NewResponseController(w.ResponseWriter).Flush() }

// buffered keeps what a stream carries until it ends.
func buffered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isStream(r) {
			w = struct{ http.ResponseWriter }{w} // without Flush
			b := &buffer{ResponseWriter: w}
			next.ServeHTTP(b, r)
			w.Write(b.Bytes())
			return
		}
		next.ServeHTTP(w, r)
	})
}

type buffer struct {
	http.ResponseWriter
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { return b.Buffer.Write(p) }
func (b *buffer) WriteHeader(int)             {}
func (b *buffer) Flush()                      {}

// compressed keeps what a stream carries in a compressor until it ends, for
// those who accept gzip.
func compressed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isStream(r) && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close()
			w = &compressor{w, z}
		}
		next.ServeHTTP(w, r)
	})
}

type compressor struct {
	http.ResponseWriter
	z io.Writer
}

func (c *compressor) Write(p []byte) (int, error) { return c.z.Write(p) }
func (c *compressor) Flush()                      { http.NewResponseController(c.ResponseWriter).Flush() }

// cut ends streams at an age.
func cut(age time.Duration) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !isStream(r) {
				next.ServeHTTP(w, r)
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), age)
			defer cancel()
			next.ServeHTTP(struct {
				http.ResponseWriter
				http.Flusher
			}{w, w.(http.Flusher)}, r.WithContext(ctx))
			if ctx.Err() != nil {
				panic(http.ErrAbortHandler)
			}
		})
	}
}

// atMost refuses streams over a number.
func atMost(n int32) func(http.Handler) http.Handler {
	var open atomic.Int32
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if isStream(r) {
				defer open.Add(-1)
				if open.Add(1) > n {
					http.Error(w, "busy", http.StatusServiceUnavailable)
					return
				}
				w = struct { // a takeover would end the handler at once
					http.ResponseWriter
					http.Flusher
				}{w, w.(http.Flusher)}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// cross answers as a server with CORS does, after change.
func cross(change func(preflight bool, h http.Header)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			preflight := r.Method == http.MethodOptions
			if origin := r.Header.Get("Origin"); origin == testOrigin {
				h.Set("Access-Control-Allow-Origin", origin)
				h.Set("Vary", "Origin")
				if preflight {
					h.Set("Access-Control-Allow-Headers", "Authorization, Last-Event-ID")
				} else {
					h.Set("Access-Control-Expose-Headers", "Tailrace-Heartbeat")
				}
			}
			change(preflight, h)
			if preflight {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

const testOrigin = "https://app.example.com"

// TestFaultsAreNamed: each fault on the way is named by its check, and no other
// check calls a fault.
func TestFaultsAreNamed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		between func(http.Handler) http.Handler
		opts    Options
		faults  string
		advice  string
		says    string // somewhere in the report
		err     error
	}{
		{name: "nothing between", says: "ok resume a stream goes on"},
		{name: "a topic that is in use", opts: Options{Topic: "used"}, says: "events arrive at once"},
		{name: "read only", opts: Options{ReadOnly: true}, says: "an unknown id is answered with a gap"},
		{name: "publishing refused", between: refusePublishing, says: "unseen buffering nothing can be published to doctor/"},

		{name: "a buffer", between: buffered, faults: "buffering", says: "5 came together when the stream ended"},
		{name: "a buffer, read only", between: buffered, opts: Options{ReadOnly: true}, faults: "buffering", says: "the head of a stream and its first line"},
		{name: "a slow pipe", between: slow, faults: "buffering", says: "events are delayed"},
		{name: "a compressor", between: compressed, faults: "compression", says: "Content-Encoding is gzip"},

		{name: "no heartbeats", between: body(without(":\n")), opts: Options{Wait: 5 * time.Second}, faults: "heartbeat", says: "none came in 5"},
		{name: "heartbeats rewritten", between: body(func(line []byte) []byte {
			return bytes.Replace(line, []byte(":\n"), []byte(": ping\n"), 1)
		}), opts: Options{Wait: 2500 * time.Millisecond}, advice: "heartbeat", says: `the line ": ping"`},
		{name: "streams cut", between: cut(700 * time.Millisecond), opts: Options{ReadOnly: true}, faults: "idle", says: "ms without a byte"},
		{name: "streams cut at an age", between: cut(4500 * time.Millisecond), opts: Options{Wait: 6 * time.Second, ReadOnly: true}, faults: "idle", says: "heartbeats come each 1s"},

		{name: "Last-Event-ID lost", between: loseID, faults: "resume", says: "went on at"},
		{name: "Last-Event-ID lost, read only", between: loseID, opts: Options{ReadOnly: true}, faults: "resume", says: "answered as if there were none"},

		{name: "type rewritten", between: changeHead(func(h http.Header) { h.Set("Content-Type", "text/plain") }), faults: "stream", says: `Content-Type is "text/plain"`},
		{name: "204", between: streams(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), faults: "stream", says: "204"},
		{name: "streams redirected", between: streams(http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP), faults: "stream", says: "to /elsewhere"},
		{name: "Cache-Control rewritten", between: changeHead(func(h http.Header) { h.Set("Cache-Control", "public, max-age=60") }), faults: "headers", says: "max-age=60"},
		{name: "no-transform removed", between: changeHead(func(h http.Header) { h.Set("Cache-Control", "no-cache") }), advice: "headers"},
		{name: "headers removed", between: changeHead(func(h http.Header) { h.Del("Tailrace-Connection") }), advice: "headers"},
		{name: "a cache", between: changeHead(func(h http.Header) { h.Set("Age", "3"); h.Set("Tailrace-Connection", "same") }), faults: "headers", says: "cache plays one stream"},
		{name: "two types", between: changeHead(func(h http.Header) { h.Add("Content-Type", "text/plain") }), faults: "headers", says: "Content-Type comes twice"},

		{name: "everything redirected", between: everything(http.RedirectHandler("https://x.invalid/", http.StatusMovedPermanently).ServeHTTP), faults: "reach", says: "to https://x.invalid/"},
		{name: "a page for everything", between: everything(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }), faults: "reach", says: "not the API"},
		{name: "bad gateway", between: everything(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }), faults: "reach", err: ErrUnreachable},
		{name: "refused", between: everything(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }), faults: "reach", err: ErrRefused},
		{name: "another clock", between: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
				next.ServeHTTP(w, r)
			})
		}, faults: "clock", says: "differ by"},

		{name: "few streams", between: atMost(4), faults: "streams", says: "it is answered 503"},

		{name: "CORS", between: cross(func(bool, http.Header) {}), opts: Options{Origin: testOrigin}, says: "may subscribe and resume"},
		{name: "CORS not allowed", opts: Options{Origin: testOrigin}, faults: "cors", says: "OPTIONS is answered 405"},
		{name: "CORS twice", between: cross(func(_ bool, h http.Header) { h.Add("Access-Control-Allow-Origin", "*") }),
			opts: Options{Origin: testOrigin}, faults: "cors", says: "comes twice"},
		{name: "CORS without Last-Event-ID", between: cross(func(preflight bool, h http.Header) {
			if preflight {
				h.Set("Access-Control-Allow-Headers", "Authorization")
			}
		}), opts: Options{Origin: testOrigin}, faults: "cors", says: "may not send last-event-id"},
		{name: "CORS with a star for everything", between: cross(func(_ bool, h http.Header) { h.Set("Access-Control-Allow-Headers", "*") }),
			opts: Options{Origin: testOrigin}, faults: "cors", says: "may not send authorization"},
		{name: "CORS exposes nothing", between: cross(func(_ bool, h http.Header) { h.Del("Access-Control-Expose-Headers") }),
			opts: Options{Origin: testOrigin}, faults: "cors", says: "may not read the server's headers"},
		{name: "CORS for all", between: cross(func(_ bool, h http.Header) { h.Set("Access-Control-Allow-Origin", "*") }), advice: "cors"},
	}
	// They wait for most of their time, so there are more at once than cores.
	type result struct {
		report *Report
		err    error
	}
	results := make([]chan result, len(tests))
	places := make(chan struct{}, 6)
	for i, tc := range tests {
		results[i] = make(chan result, 1)
		s := serve(t, tc.between)
		for range 3 { // events of others, of this type, and older than the examination
			if _, err := s.hub.Publish(t.Context(), tailrace.Event{Topic: "used", Type: probeType, Data: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		tc.opts.URL = s.url
		go func() {
			places <- struct{}{}
			defer func() { <-places }()
			r, err := Examine(t.Context(), tc.opts)
			results[i] <- result{r, err}
		}()
	}
	for i, tc := range tests {
		got := <-results[i]
		r, err := got.report, got.err
		t.Run(tc.name, func(t *testing.T) {
			if !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if got := found(r, Fault); got != tc.faults {
				t.Errorf("faults %q, want %q", got, tc.faults)
			}
			if got := found(r, Advice); got != tc.advice {
				t.Errorf("advice %q, want %q", got, tc.advice)
			}
			if text := tell(r); !strings.Contains(text, tc.says) {
				t.Errorf("the report lacks %q", tc.says)
			}
			if t.Failed() {
				t.Log("\n" + tell(r))
			}
		})
	}
}

func without(line string) func([]byte) []byte {
	return func(l []byte) []byte {
		if string(l) == line {
			return nil
		}
		return l
	}
}

func loseID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Last-Event-Id")
		next.ServeHTTP(w, r)
	})
}

func refusePublishing(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// slow passes on what streams carry after a while.
func slow(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isStream(r) {
			w = &delayer{w}
		}
		next.ServeHTTP(w, r)
	})
}

type delayer struct{ http.ResponseWriter }

func (d *delayer) Write(p []byte) (int, error) {
	time.Sleep(2 * lateAfter)
	return d.ResponseWriter.Write(p)
}

func (d *delayer) Flush() { http.NewResponseController(d.ResponseWriter).Flush() }

// TestHTTP10IsAFault: whoever answers in HTTP/1.0 is told of.
func TestHTTP10IsAFault(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.WriteString(conn, "HTTP/1.0 404 Not Found\r\n\r\n")
			}
			conn.Close()
		}
	}()
	defer func() { l.Close(); <-done }()
	r, err := Examine(t.Context(), Options{URL: l.Addr().String()})
	if err != nil || found(r, Fault) != "reach http" || r.Protocol != "HTTP/1.0" {
		t.Errorf("%v, %q\n%s", err, r.Protocol, tell(r))
	}
}

func TestNothingListens(t *testing.T) {
	t.Parallel()
	r, err := Examine(t.Context(), Options{URL: "127.0.0.1:1"})
	if !errors.Is(err, ErrUnreachable) || found(r, Fault) != "reach" {
		t.Errorf("%v\n%s", err, tell(r))
	}
}

func TestOptionsThatAreWrong(t *testing.T) {
	for _, o := range []Options{
		{URL: ""}, {URL: "ftp://x"}, {URL: "http://"}, {URL: "http://x/v1/topics/demo"}, {URL: "http://x/v1"}, {URL: "http://x?topic=a"},
		{URL: "x", Origin: "app.example.com"}, {URL: "x", Origin: "https://app.example.com/"},
	} {
		if r, err := Examine(t.Context(), o); err == nil || len(r.Findings) > 0 {
			t.Errorf("%+v: %v, %s", o, err, tell(r))
		}
	}
}

// TestInterrupted: the end of its context ends an examination.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if _, err := Examine(ctx, Options{URL: s.url, Wait: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// TestCachesKeepOriginsApart: an answer for one origin says so to caches.
func TestCachesKeepOriginsApart(t *testing.T) {
	for vary, want := range map[string]int{"": 1, "Accept": 1, "Accept, Origin": 0, "origin": 0} {
		resp := &http.Response{Header: http.Header{
			"Access-Control-Allow-Origin":   {testOrigin},
			"Access-Control-Expose-Headers": {"Tailrace-Heartbeat"},
			"Vary":                          {vary},
		}}
		if faults := requestFaults(resp, testOrigin); len(faults) != want {
			t.Errorf("Vary %q: %v", vary, faults)
		}
	}
}

func TestProxyTellsItsName(t *testing.T) {
	for _, tc := range []struct {
		header http.Header
		kind   string
	}{
		{http.Header{"Server": {"nginx/1.22.1"}}, "nginx"},
		{http.Header{"Server": {"Caddy"}}, "caddy"},
		{http.Header{"Via": {"1.1 Caddy"}}, "caddy"},
		{http.Header{"Server": {"cloudflare"}, "Cf-Ray": {"1"}}, "cloudflare"},
		{http.Header{"X-Envoy-Upstream-Service-Time": {"3"}}, "envoy"},
		{http.Header{"Server": {"Apache"}}, ""},
		{http.Header{}, ""},
	} {
		if p := proxyOf(tc.header); p.kind != tc.kind {
			t.Errorf("%v is %q, want %q", tc.header, p.kind, tc.kind)
		}
	}
}
