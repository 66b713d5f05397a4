package tailrace_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tailrace/tailrace"
)

// evenFilter lets the events through whose data begins with an even digit.
type evenFilter struct {
	judged atomic.Int64
	broken atomic.Bool
}

func (f *evenFilter) Match(ev *tailrace.Event) bool {
	f.judged.Add(1)
	return len(ev.Data) > 0 && (ev.Data[len(ev.Data)-1]-'0')%2 == 0
}

func (f *evenFilter) Err() error {
	if f.broken.Load() {
		return errors.New("too expensive")
	}
	return nil
}

// filtered serves h with f as the filter of every subscription that says so.
func filtered(t *testing.T, h *tailrace.Hub, f tailrace.Filter) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sub, err := tailrace.ParseSubscription(r, 128)
		if err != nil {
			t.Error(err)
			return
		}
		if r.Header.Get("X-Filter") != "" {
			sub.Filter = f
		}
		h.Serve(w, r, sub)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// Streams with one filter get what it lets through, in order, live and from
// history; an event is judged about once however many they are; and streams
// without it get everything.
func TestFilteredStreams(t *testing.T) { bothEngines(t, testFilteredStreams) }

func testFilteredStreams(t *testing.T) {
	h := newHub(t, nil)
	f := &evenFilter{}
	url := filtered(t, h, f)
	const streams, events = 40, 200
	var readers []*reader
	for range streams {
		readers = append(readers, subscribe(t, url+"?topic=a", "X-Filter: 1"))
	}
	all := subscribe(t, url+"?topic=a")
	for n := range events {
		publish(t, h, tailrace.Event{Topic: "a", Data: fmt.Append(nil, n)})
	}
	for n := range events {
		all.expect(fmt.Sprint(n))
	}
	for _, r := range readers {
		for n := 0; n < events; n += 2 {
			r.expect(fmt.Sprint(n))
		}
	}
	if n := f.judged.Load(); n > events {
		t.Errorf("%d events were judged %d times for %d streams", events, n, streams)
	}

	// Nothing matches for a long way, and then the cursor is beyond it.
	subscribe(t, url+"?topic=a&from=start&hello=1", "X-Filter: 1")
	for range 200 {
		publish(t, h, tailrace.Event{Topic: "a", Data: []byte("1")})
	}
	waitFor(t, func() bool {
		for info := range h.Connections() {
			if info.LagEvents != 0 {
				return false
			}
		}
		return true
	})
	old := subscribe(t, url+"?topic=a&from=start", "X-Filter: 1")
	for n := 0; n < events; n += 2 {
		old.expect(fmt.Sprint(n))
	}
	publish(t, h, tailrace.Event{Topic: "a", Data: []byte("last 0")})
	old.expect("last 0")

	// A filter that has become useless ends its streams and no other.
	f.broken.Store(true)
	publish(t, h, tailrace.Event{Topic: "a", Data: []byte("2")})
	for string(all.next().Data) != "2" {
	}
	waitFor(t, func() bool { return h.Count() == 1 })
}

func TestFilteredPages(t *testing.T) {
	h := newHub(t, nil)
	url := filtered(t, h, &evenFilter{})
	for n := range 50 {
		publish(t, h, tailrace.Event{Topic: "a", Data: fmt.Append(nil, n)})
	}
	var got []string
	next := ""
	for more := true; more; {
		r := subscribe(t, url+"?topic=a&format=json&limit=7&last_event_id="+next, "X-Filter: 1")
		var page struct {
			Events []struct{ Data string }
			Next   string
			More   bool
		}
		if err := json.NewDecoder(r.resp.Body).Decode(&page); err != nil {
			t.Fatal(err)
		}
		if r.resp.Header.Get("Cache-Control") != "no-store" {
			t.Error("a filtered page may be kept")
		}
		for _, ev := range page.Events {
			got = append(got, ev.Data)
		}
		next, more = page.Next, page.More
	}
	var want []string
	for n := 0; n < 50; n += 2 {
		want = append(want, fmt.Sprint(n))
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%v", got)
	}
}

// What a subscription holds is given back once, however it ends.
func TestSubscriptionEndsOnce(t *testing.T) { bothEngines(t, testSubscriptionEndsOnce) }

func testSubscriptionEndsOnce(t *testing.T) {
	h := newHub(t, &tailrace.Options{MaxStreams: 1})
	var ended atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sub, err := tailrace.ParseSubscription(r, 128)
		if err != nil {
			t.Error(err)
			return
		}
		sub.OnEnd = func() { ended.Add(1) }
		h.Serve(w, r, sub)
	}))
	t.Cleanup(srv.Close)
	stream := subscribe(t, srv.URL+"?topic=a")
	waitFor(t, func() bool { return h.Count() == 1 })
	for want, query := range []string{"?topic=a", "?topic=a&format=json", "?topic=a&filter=true"} {
		subscribe(t, srv.URL+query) // refused, a page, not served here
		if waitFor(t, func() bool { return ended.Load() == int64(want+1) }); h.Count() != 1 {
			t.Fatal("the first stream has ended")
		}
	}
	stream.stop()
	waitFor(t, func() bool { return h.Count() == 0 && ended.Load() == 4 })
}
