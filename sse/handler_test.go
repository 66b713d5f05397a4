package sse_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

func TestHandlerFunc(t *testing.T) {
	failure := errors.New("out of ticks")
	one := sse.Event{ID: "1", Data: []byte("x")}
	events := func(evs []sse.Event, err error) sse.HandlerFunc {
		return func(*http.Request) iter.Seq2[sse.Event, error] {
			return func(yield func(sse.Event, error) bool) {
				for _, ev := range evs {
					if !yield(ev, nil) {
						return
					}
				}
				if err != nil {
					yield(sse.Event{}, err)
				}
			}
		}
	}
	tests := []struct {
		name   string
		method string
		f      sse.HandlerFunc
		status int
		body   string
		logged string // part of the log; "" is nothing logged
	}{
		{"events", "GET", events([]sse.Event{one, {Data: []byte("y")}}, nil), 200, "id: 1\ndata: x\n\ndata: y\n\n", ""},
		{"none", "GET", events(nil, nil), 200, "", ""},
		{"POST", "POST", events([]sse.Event{one}, nil), 200, "id: 1\ndata: x\n\n", ""},
		{"nil", "GET", func(*http.Request) iter.Seq2[sse.Event, error] { return nil }, 204, "", ""},
		{"error", "GET", events([]sse.Event{one}, failure), 200, "id: 1\ndata: x\n\n", "out of ticks"},
		{"an event that cannot be written", "GET", events([]sse.Event{one, {ID: "a\nb"}, one}, nil), 200, "id: 1\ndata: x\n\n", "id contains"},
		{"HEAD runs nothing", "HEAD", func(*http.Request) iter.Seq2[sse.Event, error] { panic("it runs") }, 200, "", ""},
		{"OPTIONS runs nothing", "OPTIONS", func(*http.Request) iter.Seq2[sse.Event, error] { panic("it runs") }, 204, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			rec := ssetest.NewRecorder()
			h := sse.Handler(tt.f, &sse.AcceptOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			h.ServeHTTP(rec, httptest.NewRequest(tt.method, "/ticks", nil))
			if rec.Code() != tt.status {
				t.Errorf("status %d, want %d", rec.Code(), tt.status)
			}
			if got := string(rec.Bytes()); got != tt.body {
				t.Errorf("body %q, want %q", got, tt.body)
			}
			if tt.logged == "" && log.Len() > 0 || !strings.Contains(log.String(), tt.logged) {
				t.Errorf("log %q, want %q", log.String(), tt.logged)
			}
		})
	}
}

func TestHandlerRequestContextIsTheStreams(t *testing.T) {
	rec := ssetest.NewRecorder()
	cut := errors.New("cut")
	var log bytes.Buffer
	var cause error
	h := sse.Handler(func(r *http.Request) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			rec.Fail(cut)
			yield(sse.Event{}, nil) // the loop ends, and the iterator with it
			<-r.Context().Done()
			cause = context.Cause(r.Context())
		}
	}, &sse.AcceptOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	h.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	if cause != cut {
		t.Errorf("the context ended by %v, want the failed write", cause)
	}
	if log.Len() > 0 {
		t.Errorf("a client that leaves was logged: %s", log.String())
	}
}

func TestHandlerDoesNotLogTheEndOfTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var log bytes.Buffer
	h := sse.Handler(func(r *http.Request) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			cancel()
			yield(sse.Event{}, r.Context().Err())
		}
	}, &sse.AcceptOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	h.ServeHTTP(ssetest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil))
	if log.Len() > 0 {
		t.Errorf("logged: %s", log.String())
	}
}

func TestHandlerHeadBeforeTheFirstEvent(t *testing.T) {
	first := make(chan struct{})
	srv := httptest.NewServer(sse.HandlerFunc(func(*http.Request) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			<-first
			yield(sse.Event{Data: []byte("x")}, nil)
		}
	}))
	defer srv.Close()
	resp, err := http.Get(srv.URL) // returns with the head
	close(first)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != "data: x\n\n" || err != nil {
		t.Errorf("body %q, %v", body, err)
	}
}
