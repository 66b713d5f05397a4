package tailrace_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// bothEngines runs f with the fast engine, where there is one, and without.
func bothEngines(t *testing.T, f func(t *testing.T)) {
	t.Run("fast", f)
	t.Run("portable", f)
}

func isPortable(t testing.TB) bool { return strings.Contains(t.Name(), "/portable") }

// newHub returns a hub over a memory log that ends with the test.
func newHub(t testing.TB, opts *tailrace.Options) *tailrace.Hub {
	t.Helper()
	if opts == nil {
		opts = &tailrace.Options{}
	}
	opts.DisableFastEngine = isPortable(t)
	if opts.DrainWindow == 0 {
		opts.DrainWindow = -1
	}
	h, err := tailrace.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return h
}

// publish appends one event and returns its cursor.
func publish(t testing.TB, h *tailrace.Hub, ev tailrace.Event) tailrace.Cursor {
	t.Helper()
	receipts, err := h.Publish(t.Context(), ev)
	if err != nil {
		t.Fatal(err)
	}
	return receipts[0].Cursor
}

// reader is one open stream.
type reader struct {
	t    testing.TB
	resp *http.Response
	dec  *sse.Decoder
	stop context.CancelFunc
}

// subscribe opens a stream at url with the given headers ("Name: value").
func subscribe(t testing.TB, url string, headers ...string) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &reader{t: t, resp: resp, dec: sse.NewDecoder(resp.Body, nil), stop: cancel}
}

// next returns the next event with its data owned.
func (r *reader) next() sse.Event {
	r.t.Helper()
	var ev sse.Event
	if err := r.dec.Decode(&ev); err != nil {
		r.t.Fatalf("reading the stream: %v", err)
	}
	ev.Data = slices.Clone(ev.Data)
	return ev
}

// expect reads as many events as texts and compares their data.
func (r *reader) expect(texts ...string) {
	r.t.Helper()
	for _, want := range texts {
		if ev := r.next(); string(ev.Data) != want {
			r.t.Fatalf("got event %q %s with data %q, want %q", ev.Type, ev.ID, ev.Data, want)
		}
	}
}

func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestSubscriberGetsWhatIsPublished(t *testing.T) {
	bothEngines(t, testSubscriberGetsWhatIsPublished)
}

func testSubscriberGetsWhatIsPublished(t *testing.T) {
	h := newHub(t, nil)
	url := serve(t, h)
	publish(t, h, tailrace.Event{Topic: "demo", Data: []byte("before")})
	r := subscribe(t, url+"?topic=demo")
	if r.resp.StatusCode != 200 || r.resp.Header.Get("Content-Type") != "text/event-stream" || r.resp.Header.Get("Tailrace-Connection") == "" {
		t.Fatalf("head: %v %v", r.resp.Status, r.resp.Header)
	}
	for i := range 100 {
		publish(t, h, tailrace.Event{Topic: "demo", Data: fmt.Appendf(nil, "event %d", i)})
		publish(t, h, tailrace.Event{Topic: "other", Data: []byte("foreign")})
	}
	for i := range 100 {
		r.expect(fmt.Sprintf("event %d", i))
	}
	last := r.dec.LastEventID()
	r.stop()
	publish(t, h, tailrace.Event{Topic: "demo", Data: []byte("missed")})
	r = subscribe(t, url+"?topic=demo", "Last-Event-ID: "+last)
	r.expect("missed")
}

func TestControlEvents(t *testing.T) { bothEngines(t, testControlEvents) }

func testControlEvents(t *testing.T) {
	h := newHub(t, nil)
	url := serve(t, h)
	r := subscribe(t, url+"?topic=a/**&topic=b&hello=1&meta=1")
	if ev := r.next(); ev.Type != "tailrace.hello" || ev.ID == "" || !strings.Contains(string(ev.Data), `"verdict":"fresh"`) {
		t.Fatalf("hello: %+v %s", ev, ev.Data)
	}
	if ev := r.next(); ev.Type != "tailrace.live" {
		t.Fatalf("live: %+v", ev)
	}
	conn := r.resp.Header.Get("Tailrace-Connection")
	publish(t, h, tailrace.Event{Topic: "a/x", Data: []byte("1")})
	if err := h.Send(t.Context(), conn, &tailrace.Event{Type: "note", Data: []byte("only you")}); err != nil {
		t.Fatal(err)
	}
	publish(t, h, tailrace.Event{Topic: "b", Data: []byte("2")})
	if ev := r.next(); !strings.Contains(string(ev.Data), `"topic":"a/x"`) {
		t.Fatalf("%s", ev.Data)
	}
	if ev := r.next(); ev.Type != "note" {
		t.Fatalf("send came out of order: %+v", ev)
	}
	if ev := r.next(); !strings.Contains(string(ev.Data), `"topic":"b"`) {
		t.Fatalf("%s", ev.Data)
	}
	if err := h.Disconnect(conn, ""); err != nil {
		t.Fatal(err)
	}
	if ev := r.next(); ev.Type != "tailrace.close" {
		t.Fatalf("%+v", ev)
	}
	var ev sse.Event
	if err := r.dec.Decode(&ev); err == nil {
		t.Fatal("stream goes on after Disconnect")
	}
	if err := h.Send(t.Context(), "nobody", &tailrace.Event{}); !errors.Is(err, tailrace.ErrNoConnection) {
		t.Fatal(err)
	}
}
