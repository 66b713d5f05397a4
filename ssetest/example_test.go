package ssetest_test

import (
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

func ExampleRecorder() {
	ticks := sse.HandlerFunc(func(*http.Request) iter.Seq2[sse.Event, error] {
		return func(yield func(sse.Event, error) bool) {
			yield(sse.Event{ID: "1", Data: []byte("tick")}, nil)
			yield(sse.Event{ID: "2", Data: []byte("tock")}, nil)
		}
	})

	rec := ssetest.NewRecorder()
	ticks.ServeHTTP(rec, httptest.NewRequest("GET", "/ticks", nil))

	for _, ev := range rec.Events() {
		fmt.Println(ev.ID, string(ev.Data))
	}
	fmt.Println(len(rec.Flushes()), "flushes")
	// Output:
	// 1 tick
	// 2 tock
	// 3 flushes
}

// A server that asks for patience is obeyed, and in a bubble of testing/synctest it takes no time.
func ExampleNewMemoryServer() {
	test := func(t *testing.T) {
		srv := ssetest.NewMemoryServer(t,
			ssetest.Step{Status: 429, Header: http.Header{"Retry-After": {"20"}}},
			ssetest.Step{Chunks: []string{"data: at last\n\n"}},
		)
		req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := (&sse.Client{HTTPClient: srv.Client()}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		reqs := srv.Requests()
		if waited := reqs[1].Time.Sub(reqs[0].Time); waited < 20*time.Second {
			t.Errorf("waited %v", waited)
		}
	}
	// In a test file: func TestPatience(t *testing.T) { synctest.Test(t, test) }
	_ = func(t *testing.T) { synctest.Test(t, test) }
}
