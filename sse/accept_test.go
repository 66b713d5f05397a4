package sse_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

func TestAcceptHeader(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  bool
	}{
		{"none", nil, true},
		{"empty", []string{""}, true},
		{"only commas", []string{" , ,"}, true},
		{"exact", []string{"text/event-stream"}, true},
		{"case", []string{"Text/Event-Stream"}, true},
		{"any", []string{"*/*"}, true},
		{"any text", []string{"text/*"}, true},
		{"other", []string{"application/json"}, false},
		{"similar", []string{"text/event-streams"}, false},
		{"in a list", []string{"text/html, application/xml;q=0.9, */*;q=0.8"}, true},
		{"several lines are one list", []string{"application/json", "text/event-stream"}, true},
		{"several lines without it", []string{"application/json", "text/html"}, false},
		{"parameters", []string{"text/event-stream; charset=utf-8; q=0.1"}, true},
		{"comma in quotes", []string{`application/json; a="b, */*"`}, false},
		{"escaped quote in quotes", []string{`application/json; a="\", */*"`}, false},
		{"refused", []string{"text/event-stream;q=0"}, false},
		{"refused in decimals", []string{"text/event-stream; Q=0.000"}, false},
		{"exact refusal beats any", []string{"text/event-stream;q=0, */*"}, false},
		{"exact refusal beats any, other order", []string{"*/*, text/event-stream;q=0"}, false},
		{"text refusal beats any", []string{"*/*;q=1, text/*;q=0"}, false},
		{"exact beats text refusal", []string{"text/*;q=0, text/event-stream;q=0.2"}, true},
		{"malformed range admits", []string{"text//, application/json"}, true},
		{"malformed quality admits", []string{"text/event-stream;q=never"}, true},
		{"quality that is no number admits", []string{"text/event-stream;q=NaN"}, true},
		{"quality out of range admits", []string{"text/event-stream;q=-1"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest("GET", "/", nil)
			if tt.lines != nil {
				r.Header["Accept"] = tt.lines
			}
			s, err := sse.Accept(w, r, nil)
			if !tt.want {
				if !errors.Is(err, sse.ErrNotAcceptable) || s != nil {
					t.Fatalf("got %v, %v, want ErrNotAcceptable", s, err)
				}
				if w.Code != http.StatusNotAcceptable {
					t.Errorf("status %d, want 406", w.Code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
		})
	}
}

func TestAcceptHead(t *testing.T) {
	tests := []struct {
		name string
		opts *sse.AcceptOptions
		set  http.Header // by the caller, before
		want map[string]string
		body string
	}{
		{
			name: "defaults",
			want: map[string]string{
				"Content-Type":       "text/event-stream",
				"Cache-Control":      "no-cache, no-transform",
				"X-Accel-Buffering":  "no",
				"Tailrace-Heartbeat": "15",
				"Connection":         "",
			},
		},
		{
			name: "the caller's stay, but for the type and the length",
			set: http.Header{
				"Content-Type": {"text/plain"}, "Content-Length": {"7"}, "Cache-Control": {"no-store"},
				"X-Accel-Buffering": {"yes"}, "Tailrace-Heartbeat": {"9"}, "Access-Control-Allow-Origin": {"*"},
			},
			want: map[string]string{
				"Content-Type":                "text/event-stream",
				"Content-Length":              "",
				"Cache-Control":               "no-store",
				"X-Accel-Buffering":           "yes",
				"Tailrace-Heartbeat":          "9",
				"Access-Control-Allow-Origin": "*",
			},
		},
		{
			name: "no heartbeat, with retry",
			opts: &sse.AcceptOptions{Heartbeat: -1, Retry: 2500 * time.Millisecond},
			want: map[string]string{"Tailrace-Heartbeat": ""},
			body: "retry: 2500\n",
		},
		{
			name: "heartbeat in seconds, rounded up",
			opts: &sse.AcceptOptions{Heartbeat: 1100 * time.Millisecond},
			want: map[string]string{"Tailrace-Heartbeat": "2"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := ssetest.NewRecorder()
			for k, v := range tt.set {
				w.Header()[k] = v
			}
			s, err := sse.Accept(w, httptest.NewRequest("GET", "/", nil), tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if w.Code() != http.StatusOK {
				t.Errorf("status %d, want 200", w.Code())
			}
			for k, want := range tt.want {
				if got := w.Header().Get(k); got != want {
					t.Errorf("%s: %q, want %q", k, got, want)
				}
			}
			flushes := w.Flushes()
			if len(flushes) != 1 || flushes[0].Bytes != len(tt.body) {
				t.Errorf("flushes %v, want one of %d bytes", flushes, len(tt.body))
			}
			if got := string(w.Bytes()); got != tt.body {
				t.Errorf("body %q, want %q", got, tt.body)
			}
		})
	}
}

func TestAcceptRefuses(t *testing.T) {
	plain := func(h http.Handler) http.Handler { return h }
	tests := []struct {
		name, method string
		middleware   func(http.Handler) http.Handler
		opts         *sse.AcceptOptions
		want         error // nil is any
		status       int
		header       map[string]string
	}{
		{"options", "OPTIONS", plain, nil, sse.ErrNoStream, 204, map[string]string{"Allow": "GET, HEAD, POST, OPTIONS"}},
		{"head", "HEAD", plain, nil, sse.ErrNoStream, 200, map[string]string{
			"Content-Type": "text/event-stream", "X-Accel-Buffering": "no", "Tailrace-Heartbeat": "15",
		}},
		{"head through what cannot flush", "HEAD", ssetest.Opaque, nil, sse.ErrNoStream, 200, nil},
		{"no flush", "GET", ssetest.Opaque, nil, sse.ErrNoFlush, 500, map[string]string{"Content-Type": "text/plain; charset=utf-8"}},
		{"no flush below unwrap", "GET", func(h http.Handler) http.Handler {
			return ssetest.Opaque(ssetest.UnwrapOnly(h))
		}, nil, sse.ErrNoFlush, 500, nil},
		{"negative retry", "GET", plain, &sse.AcceptOptions{Retry: -1}, nil, 500, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := ssetest.NewRecorder()
			h := tt.middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.Accept(w, r, tt.opts)
				if s != nil || err == nil || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("Accept: %v, %v, want %v", s, err, tt.want)
				}
			}))
			h.ServeHTTP(w, httptest.NewRequest(tt.method, "/", nil))
			if w.Code() != tt.status {
				t.Errorf("status %d, want %d", w.Code(), tt.status)
			}
			for k, want := range tt.header {
				if got := w.Header().Get(k); got != want {
					t.Errorf("%s: %q, want %q", k, got, want)
				}
			}
		})
	}
}

func TestAcceptBehindMiddleware(t *testing.T) {
	middleware := map[string]func(http.Handler) http.Handler{
		"unwrap only":               ssetest.UnwrapOnly,
		"flusher only":              ssetest.FlusherOnly,
		"flusher over unwrap":       func(h http.Handler) http.Handler { return ssetest.UnwrapOnly(ssetest.FlusherOnly(h)) },
		"unwrap under unwrap twice": func(h http.Handler) http.Handler { return ssetest.UnwrapOnly(ssetest.UnwrapOnly(h)) },
	}
	for name, m := range middleware {
		t.Run(name, func(t *testing.T) {
			w := ssetest.NewRecorder()
			m(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := sse.Accept(w, r, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if err := s.Send(&sse.Event{Data: []byte("x")}); err != nil {
					t.Error(err)
				}
			})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			if n := len(w.Flushes()); n != 2 {
				t.Errorf("%d flushes, want 2", n)
			}
		})
	}
}

func TestLastEventID(t *testing.T) {
	tests := []struct {
		name, header, target, want string
	}{
		{"neither", "", "/", ""},
		{"header", "a", "/", "a"},
		{"query", "", "/?x=1&last_event_id=b%20c", "b c"},
		{"header wins", "a", "/?last_event_id=b", "a"},
		{"empty header", "", "/?last_event_id=b", "b"},
		{"NUL in the query", "", "/?last_event_id=b%00", ""},
		{"NUL in the header", "a\x00", "/?last_event_id=b", "b"},
		{"UTF-8", "größe", "/", "größe"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", tt.target, nil)
			r.Header.Set("Last-Event-ID", tt.header)
			if got := sse.LastEventID(r); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzAcceptHeader(f *testing.F) {
	f.Add(`text/html, application/xml;q=0.9, */*;q=0.8`)
	f.Add(`application/json; a="b, \"*/*"`)
	f.Add(`text/event-stream;q=0,,text/*;q=never`)
	f.Add(`text/event-stream;q=NaN`)
	f.Fuzz(func(t *testing.T, line string) {
		// Whatever a client prefers, one that also says that it takes event streams gets one.
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Accept"] = []string{line, "text/event-stream"}
		s, err := sse.Accept(httptest.NewRecorder(), r, &sse.AcceptOptions{Heartbeat: -1})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	})
}
