package tailrace_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// asUser serves h to clients that say who they are and where they come from.
func asUser(t *testing.T, h *tailrace.Hub) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from := r.Header.Get("X-From"); from != "" {
			r.RemoteAddr = from
		}
		sub, err := tailrace.ParseSubscription(r, 10)
		if err != nil {
			t.Error(err)
			return
		}
		sub.Principal = r.Header.Get("X-User")
		h.Serve(w, r, sub)
	})
}

// countingLog counts reads.
type countingLog struct {
	tailrace.Log
	reads atomic.Int64
}

func (l *countingLog) Read(ctx context.Context, q tailrace.Query) (tailrace.Page, error) {
	if !q.Select.IsZero() { // not the hub's own
		l.reads.Add(1)
	}
	return l.Log.Read(ctx, q)
}

// Over each limit, a client that names itself gets the status and a browser a
// soft refusal; who is not over it gets in; nobody is ended for another; and a
// stream that ends makes room.
func TestLimitsOnStreams(t *testing.T) {
	for _, tt := range []struct {
		name         string
		opts         tailrace.Options
		first, other []string // who fills the limit; who is not over it, nil: nobody
		also         []string // counts as first
		problem      string
		status       int
	}{
		{
			name: "node", opts: tailrace.Options{MaxStreams: 1},
			first: []string{"X-User: ada"}, also: []string{"X-User: bob", "X-From: 192.0.2.9:1"},
			problem: "at-capacity", status: 503,
		},
		{
			name: "principal", opts: tailrace.Options{MaxStreamsPerPrincipal: 1},
			first: []string{"X-User: ada"}, also: []string{"X-User: ada", "X-From: 192.0.2.9:1"}, other: []string{"X-User: bob"},
			problem: "too-many-connections", status: 429,
		},
		{
			name: "address", opts: tailrace.Options{MaxStreamsPerAddr: 1},
			first: []string{"X-From: 192.0.2.9:1"}, also: []string{"X-From: 192.0.2.9:2", "X-User: ada"}, other: []string{"X-From: 192.0.2.8:1"},
			problem: "too-many-connections", status: 429,
		},
		{
			name: "mapped address", opts: tailrace.Options{MaxStreamsPerAddr: 1},
			first: []string{"X-From: 192.0.2.9:1"}, also: []string{"X-From: [::ffff:192.0.2.9]:1"}, other: []string{"X-From: @"},
			problem: "too-many-connections", status: 429,
		},
		{
			name: "network of IPv6", opts: tailrace.Options{MaxStreamsPerAddr: 1},
			first: []string{"X-From: [2001:db8:0:1::1]:1"}, also: []string{"X-From: [2001:db8:0:1:ff::2]:2"}, other: []string{"X-From: [2001:db8:0:2::1]:1"},
			problem: "too-many-connections", status: 429,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bothEngines(t, func(t *testing.T) {
				log := &countingLog{Log: tailrace.NewMemoryLog(nil)}
				t.Cleanup(func() { log.Close() })
				opts := tt.opts
				opts.Log = log
				h := newHub(t, &opts)
				url := serve(t, asUser(t, h))
				first := subscribe(t, url+"?topic=a", tt.first...)
				reads, feeds := log.reads.Load(), h.Stats().Feeds

				refusedByStatus(t, subscribe(t, url+"?topic=b", append(tt.also, "User-Agent: curl/8")...), tt.status, tt.problem)
				refusedByStatus(t, subscribe(t, url+"?topic=b", append(tt.also, "User-Agent: Mozilla/5.0", "Tailrace-Client: x")...), tt.status, tt.problem)
				refusedByStatus(t, subscribe(t, url+"?topic=b&hello=1", append(tt.also, "User-Agent: Mozilla/5.0")...), tt.status, tt.problem)
				refusedSoftly(t, subscribe(t, url+"?topic=b", append(tt.also, "User-Agent: Mozilla/5.0 (X11)")...), "busy", 1000, 10000)
				if s := h.Stats(); s.Rejects != 4 || s.Connections != 1 || s.Connects != 1 || s.Feeds != feeds || log.reads.Load() != reads {
					t.Errorf("refusals cost something: %+v, %d reads of the log", s, log.reads.Load()-reads)
				}
				if tt.other != nil {
					subscribe(t, url+"?topic=a", tt.other...).opened()
				}
				publish(t, h, tailrace.Event{Topic: "a", Data: []byte("still there")})
				first.expect("still there")

				first.resp.Body.Close()
				var again *reader
				waitFor(t, func() bool {
					again = subscribe(t, url+"?topic=a", append(tt.also, "User-Agent: curl/8")...)
					return again.resp.StatusCode == 200
				})
				publish(t, h, tailrace.Event{Topic: "a", Data: []byte("in its place")})
				again.expect("in its place")
			})
		})
	}
}

// The rate is that of the node, whoever comes.
func TestLimitOnNewStreams(t *testing.T) { bothEngines(t, testLimitOnNewStreams) }

func testLimitOnNewStreams(t *testing.T) {
	h := newHub(t, &tailrace.Options{ConnectRate: 1, ConnectBurst: 3})
	url := serve(t, asUser(t, h))
	for i := range 1000 {
		r := subscribe(t, url+"?topic=a", "X-User: "+strconv.Itoa(i), "User-Agent: curl/8")
		if r.resp.StatusCode == 200 {
			continue
		}
		if i < 3 {
			t.Errorf("stream %d is refused, 3 may come at once", i+1)
		}
		refusedByStatus(t, r, 503, "at-capacity")
		waitFor(t, func() bool {
			return subscribe(t, url+"?topic=a", "User-Agent: curl/8").resp.StatusCode == 200
		})
		return
	}
	t.Error("nobody is refused")
}

// A negative limit is none, the defaults are far from a few clients, and who
// has no name or no address has no limit of that kind.
func TestStreamsWithoutLimits(t *testing.T) {
	for name, tt := range map[string]struct {
		opts    tailrace.Options
		headers []string
	}{
		"none":         {tailrace.Options{MaxStreams: -1, MaxStreamsPerPrincipal: -1, MaxStreamsPerAddr: -1, ConnectRate: -1}, []string{"X-User: ada"}},
		"defaults":     {tailrace.Options{}, []string{"X-User: ada"}},
		"no principal": {tailrace.Options{MaxStreamsPerPrincipal: 1}, nil},
		"no address":   {tailrace.Options{MaxStreamsPerAddr: 1}, []string{"X-From: @"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, &tt.opts)
			url := serve(t, asUser(t, h))
			for range 20 {
				subscribe(t, url+"?topic=a", tt.headers...).opened()
			}
		})
	}
}

// While streams are drained, new ones are refused in the same two ways.
func TestDrainRefusesNewStreams(t *testing.T) { bothEngines(t, testDrainRefusesNewStreams) }

func testDrainRefusesNewStreams(t *testing.T) {
	h, err := tailrace.New(&tailrace.Options{DrainWindow: time.Hour, DisableFastEngine: isPortable(t)})
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, h)
	streams := []*reader{subscribe(t, url+"?topic=a"), subscribe(t, url+"?topic=a")}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Shutdown(ctx) }()
	waitFor(t, h.Draining)
	for range 3 { // one of the two streams is still open all the while
		refusedByStatus(t, subscribe(t, url+"?topic=a", "User-Agent: curl/8"), 503, "draining")
		refusedSoftly(t, subscribe(t, url+"?topic=a", "User-Agent: Mozilla/5.0"), "draining", 500, 5000)
	}
	if h.Count() == 0 {
		t.Error("the drain did not take its time")
	}
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("Shutdown: %v", err)
	}
	for _, r := range streams {
		if _, err := io.Copy(io.Discard, r.resp.Body); err != nil {
			t.Errorf("a stream broke: %v", err)
		}
	}
}

// opened fails unless r is an open stream.
func (r *reader) opened() {
	r.t.Helper()
	if r.resp.StatusCode != 200 || r.resp.Header.Get("Tailrace-Connection") == "" {
		body, _ := io.ReadAll(r.resp.Body)
		r.t.Fatalf("no stream: %s %s", r.resp.Status, body)
	}
}

// refusedByStatus fails unless r is the problem, with a time to come back.
func refusedByStatus(t *testing.T, r *reader, status int, name string) {
	t.Helper()
	body, err := io.ReadAll(r.resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p struct{ Type string }
	if json.Unmarshal(body, &p) != nil || p.Type != "/docs/problems/"+name || r.resp.StatusCode != status {
		t.Fatalf("got %s %s, want %d %s", r.resp.Status, body, status, name)
	}
	if after, err := strconv.Atoi(r.resp.Header.Get("Retry-After")); err != nil || after < 1 || after > 10 {
		t.Errorf("Retry-After is %q", r.resp.Header.Get("Retry-After"))
	}
	if !r.resp.Close {
		t.Error("the connection is kept")
	}
}

// refusedSoftly fails unless r is an empty stream that says when to come back,
// in milliseconds.
func refusedSoftly(t *testing.T, r *reader, word string, least, most int) {
	t.Helper()
	body, err := io.ReadAll(r.resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutPrefix(string(body), ": "+word+"\nretry: ")
	ms, err := strconv.Atoi(strings.TrimSuffix(text, "\n"))
	if !ok || err != nil || ms < least || ms > most {
		t.Errorf("the body is %q", body)
	}
	h := r.resp.Header
	if r.resp.StatusCode != 200 || h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store" || !r.resp.Close {
		t.Errorf("%s, %v, close %v", r.resp.Status, h, r.resp.Close)
	}
}
