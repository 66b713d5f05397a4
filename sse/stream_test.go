package sse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

// accept opens a stream to a recorder and closes it with the test.
func accept(t *testing.T, opts *sse.AcceptOptions) (*ssetest.Recorder, *sse.Stream) {
	t.Helper()
	rec := ssetest.NewRecorder()
	s, err := sse.Accept(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return rec, s
}

func TestStreamOneFlushPerCall(t *testing.T) {
	rec, s := accept(t, &sse.AcceptOptions{Heartbeat: -1})
	frame, err := (&sse.Event{Type: "b", Data: []byte("2")}).AppendText(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&sse.Event{ID: "1", Data: []byte("1")}); err != nil {
		t.Error(err)
	}
	if n, err := s.Write(slices.Repeat(frame, 3)); n != 3*len(frame) || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
	if err := s.Comment("two\nlines"); err != nil {
		t.Error(err)
	}
	want := "id: 1\ndata: 1\n\n" + strings.Repeat("event: b\ndata: 2\n\n", 3) + ":two\n:lines\n"
	if got := string(rec.Bytes()); got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
	var sizes []int
	for _, f := range rec.Flushes() {
		sizes = append(sizes, f.Bytes)
	}
	if want := []int{0, 15, 54, 12}; !slices.Equal(sizes, want) {
		t.Errorf("flushes of %v bytes, want %v", sizes, want)
	}
}

// Over HTTP/1 a deadline serves the writes of half a WriteTimeout; over HTTP/2,
// where it is a timer that resets the stream, it is cleared after each.
func TestStreamDeadlines(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		name    string
		major   int
		timeout time.Duration
		want    []time.Duration // since Accept; negative is none
	}{
		{"default", 1, 0, []time.Duration{-1, 15000 * ms, 20200 * ms, -1}},
		{"set", 1, time.Second, []time.Duration{-1, 1500 * ms, 6500 * ms, 7500 * ms, -1}},
		{"off", 1, -1, []time.Duration{-1}},
		{"HTTP/2", 2, time.Second, []time.Duration{-1, 1000 * ms, -1, 6000 * ms, -1, 6200 * ms, -1, 7000 * ms, -1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				rec := ssetest.NewRecorder()
				r := httptest.NewRequest("GET", "/", nil)
				r.ProtoMajor = tt.major
				s, err := sse.Accept(rec, r, &sse.AcceptOptions{WriteTimeout: tt.timeout, Heartbeat: -1})
				if err != nil {
					t.Fatal(err)
				}
				for _, pause := range []time.Duration{5000 * ms, 200 * ms, 800 * ms} {
					time.Sleep(pause)
					if err := s.Send(&sse.Event{}); err != nil {
						t.Fatal(err)
					}
				}
				s.Close()
				var got []time.Duration
				for _, d := range rec.Deadlines() {
					if d.IsZero() {
						got = append(got, -1)
					} else {
						got = append(got, d.Sub(start))
					}
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("deadlines %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestStreamFailureIsFinal(t *testing.T) {
	rec, s := accept(t, nil)
	cut := errors.New("cut")
	rec.Fail(cut)
	if err := s.Send(&sse.Event{}); err != cut {
		t.Errorf("first Send: %v, want the failure", err)
	}
	<-s.Context().Done()
	if err := context.Cause(s.Context()); err != cut {
		t.Errorf("cause %v, want the failure", err)
	}
	if err := s.Send(&sse.Event{}); err != cut {
		t.Errorf("second Send: %v, want the failure", err)
	}
	if n, err := s.Write([]byte("data\n\n")); n != 0 || err != cut {
		t.Errorf("Write: %d, %v, want the failure", n, err)
	}
	if err := s.Comment(""); err != cut {
		t.Errorf("Comment: %v, want the failure", err)
	}
	s.Close()
	if err := s.Send(&sse.Event{}); err != sse.ErrClosed {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
	if len(rec.Bytes()) > 0 {
		t.Errorf("wrote %q", rec.Bytes())
	}
}

func TestStreamBadEventIsNotFinal(t *testing.T) {
	rec, s := accept(t, nil)
	var field *sse.FieldError
	if err := s.Send(&sse.Event{ID: "a\nb"}); !errors.As(err, &field) || field.Field != "id" {
		t.Errorf("got %v, want a FieldError of the id", err)
	}
	if err := s.Send(&sse.Event{Data: []byte("x")}); err != nil {
		t.Error(err)
	}
	if events := rec.Events(); len(events) != 1 || string(events[0].Data) != "x" {
		t.Errorf("events %v", events)
	}
}

func TestStreamClose(t *testing.T) {
	rec, s := accept(t, nil)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := context.Cause(s.Context()); err != sse.ErrClosed {
		t.Errorf("cause %v, want ErrClosed", err)
	}
	for name, call := range map[string]func() error{
		"Send":    func() error { return s.Send(&sse.Event{}) },
		"Comment": func() error { return s.Comment("") },
		"Write":   func() error { _, err := s.Write([]byte("data\n\n")); return err },
	} {
		if err := call(); err != sse.ErrClosed {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
	if len(rec.Bytes()) > 0 {
		t.Errorf("wrote %q after Close", rec.Bytes())
	}
}

// gatedWriter lets no write through before the gate opens.
type gatedWriter struct {
	*ssetest.Recorder
	entered, gate chan struct{}
	written       atomic.Int32
}

func (w *gatedWriter) Write(p []byte) (int, error) {
	w.entered <- struct{}{}
	<-w.gate
	w.written.Add(1)
	return w.Recorder.Write(p)
}

func TestStreamCloseWaitsForTheCallInProgress(t *testing.T) {
	w := &gatedWriter{Recorder: ssetest.NewRecorder(), entered: make(chan struct{}), gate: make(chan struct{})}
	s, err := sse.Accept(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Send(&sse.Event{}); err != nil {
			t.Error(err)
		}
	})
	<-w.entered
	closed := make(chan int32)
	wg.Go(func() {
		s.Close()
		closed <- w.written.Load()
	})
	select {
	case <-closed:
		t.Error("Close returned while a write was in progress")
	case <-time.After(20 * time.Millisecond): // a Close that does not wait takes less
		close(w.gate)
		if n := <-closed; n != 1 {
			t.Errorf("%d writes before Close returned, want 1", n)
		}
	}
	wg.Wait()
}

func TestHeartbeat(t *testing.T) {
	beat := ":\n"
	t.Run("after an interval without a write", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			rec, s := accept(t, nil)
			start := time.Now()
			time.Sleep(10 * time.Second)
			if err := s.Send(&sse.Event{Data: []byte("x")}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(40 * time.Second)
			synctest.Wait()
			if got, want := string(rec.Bytes()), "data: x\n\n"+beat+beat; got != want {
				t.Errorf("wrote %q, want %q", got, want)
			}
			var at []time.Duration
			for _, f := range rec.Flushes() {
				at = append(at, f.Time.Sub(start)/time.Second)
			}
			if want := []time.Duration{0, 10, 25, 40}; !slices.Equal(at, want) {
				t.Errorf("flushes at %v seconds, want %v", at, want)
			}
		})
	})
	t.Run("not between the writes of a busy stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			rec, s := accept(t, &sse.AcceptOptions{Heartbeat: 2 * time.Second})
			for range 100 {
				time.Sleep(1900 * time.Millisecond)
				if err := s.Send(&sse.Event{}); err != nil {
					t.Fatal(err)
				}
			}
			if c := rec.Comments(); len(c) != 0 {
				t.Errorf("%d heartbeats", len(c))
			}
		})
	})
	t.Run("stops with the stream", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			rec, s := accept(t, nil)
			time.Sleep(20 * time.Second)
			s.Close()
			time.Sleep(time.Hour)
			if got := string(rec.Bytes()); got != beat {
				t.Errorf("wrote %q, want one heartbeat", got)
			}
		})
	})
	t.Run("none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			rec, _ := accept(t, &sse.AcceptOptions{Heartbeat: -1})
			time.Sleep(time.Hour)
			if got := string(rec.Bytes()); got != "" {
				t.Errorf("wrote %q", got)
			}
		})
	})
	t.Run("finds a reader that has gone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			rec, s := accept(t, nil)
			rec.Fail(io.ErrClosedPipe)
			start := time.Now()
			<-s.Context().Done()
			if d := time.Since(start); d != 15*time.Second {
				t.Errorf("Context ended after %v, want 15s", d)
			}
		})
	})
}

func TestStreamCallsNeverMix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec, s := accept(t, &sse.AcceptOptions{Heartbeat: time.Microsecond})
		const writers, each = 8, 200
		var wg sync.WaitGroup
		for i := range writers {
			data := []byte(strings.Repeat(fmt.Sprint(i), 100*i+1))
			frame, err := (&sse.Event{Data: data}).AppendText(nil)
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				for n := range each {
					var err error
					switch n % 3 {
					case 0:
						err = s.Send(&sse.Event{Data: data})
					case 1:
						_, err = s.Write(frame)
					case 2:
						err = s.Comment("c")
					}
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Microsecond)
				}
			})
		}
		wg.Wait()
		count := map[string]int{}
		for _, ev := range rec.Events() {
			count[string(ev.Data)]++
		}
		for i := range writers {
			want := (each+2)/3 + (each+1)/3
			if got := count[strings.Repeat(fmt.Sprint(i), 100*i+1)]; got != want {
				t.Errorf("writer %d: %d whole events, want %d", i, got, want)
			}
		}
		if len(count) != writers {
			t.Errorf("%d different events, want %d", len(count), writers)
		}
	})
}

// nopWriter takes everything at no cost.
type nopWriter struct{ header http.Header }

func (w nopWriter) Header() http.Header            { return w.header }
func (nopWriter) WriteHeader(int)                  {}
func (nopWriter) Write(p []byte) (int, error)      { return len(p), nil }
func (nopWriter) FlushError() error                { return nil }
func (nopWriter) SetWriteDeadline(time.Time) error { return nil }

func TestStreamAllocatesNothing(t *testing.T) {
	s, err := sse.Accept(nopWriter{http.Header{}}, httptest.NewRequest("GET", "/", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	frame := []byte("data: x\n\n")
	ev := &sse.Event{ID: "1", Data: []byte("x")}
	if n := testing.AllocsPerRun(1000, func() { s.Write(frame) }); n != 0 {
		t.Errorf("Write: %v allocations, want 0", n)
	}
	if n := testing.AllocsPerRun(1000, func() { s.Send(ev) }); n != 0 {
		t.Errorf("Send: %v allocations, want 0", n)
	}
}

func BenchmarkStreamWrite(b *testing.B) {
	s, err := sse.Accept(nopWriter{http.Header{}}, httptest.NewRequest("GET", "/", nil), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	frame := []byte("id: 1\ndata: " + strings.Repeat("x", 130) + "\n\n")
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		s.Write(frame)
	}
}
