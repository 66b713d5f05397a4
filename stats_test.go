package tailrace

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// statsHub is a hub for tests that count by themselves.
func statsHub(t *testing.T) *Hub {
	t.Helper()
	h, err := New(&Options{DrainWindow: -1, ReplayBytes: 1000, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Shutdown(context.Background()) })
	return h
}

func TestCountingAllocatesNothing(t *testing.T) {
	var c counters
	for name, f := range map[string]func(){
		"deliver":      func() { c.deliver(engineFast, delivered{sends: 3, events: 12, bytes: 4000}) },
		"delivery":     func() { c.delivery.observe(time.Millisecond) },
		"pass":         func() { c.pass.observe(time.Millisecond) },
		"rest":         func() { c.rest.add(time.Millisecond) },
		"tail lag":     func() { c.tailLag.set(time.Millisecond) },
		"full":         func() { c.full.Add(1) },
		"replay page":  func() { c.replayPage(replayCache); c.replayWait.observe(1) },
		"control":      func() { c.control(controlBroadcast, controlSkipped) },
		"fast refused": func() { c.fastRefused(fastHTTP2) },
		"reject":       func() { c.reject(rejectRate, true) },
		"resume":       func() { c.resume(true) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestDeliverLosesNothing(t *testing.T) {
	const workers, each = 8, 2000
	h := statsHub(t)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for range each {
				h.counters.deliver(engineKind(i%2), delivered{sends: 1, events: 4, bytes: 1000})
			}
		})
	}
	wg.Go(func() {
		var last int64
		for range 100 {
			if n := h.Stats().Delivered; n < last {
				t.Errorf("%d events after %d", n, last)
			} else {
				last = n
			}
		}
	})
	wg.Wait()
	const n = workers / 2 * each
	s, want := h.Stats(), EngineStats{Sends: n, Events: 4 * n, Bytes: 1000 * n}
	if s.Fast != want || s.Portable != want {
		t.Errorf("fast %+v, portable %+v, want %+v", s.Fast, s.Portable, want)
	}
	if s.Sends != 2*n || s.Delivered != 8*n || s.SentBytes != 2000*n {
		t.Errorf("together %d sends, %d events, %d bytes", s.Sends, s.Delivered, s.SentBytes)
	}
}

func TestStatsNameWhatWasCounted(t *testing.T) {
	h := statsHub(t)
	c := &h.counters
	for why := range rejectReasons {
		for range why + 1 {
			c.reject(why, false)
		}
		c.reject(why, true)
	}
	for why := range fastRefusals {
		for range why + 1 {
			c.fastRefused(why)
		}
	}
	c.replayPage(replayCache)
	c.replayPage(replayLog)
	c.replayPage(replayLog)
	h.pages.bytes = 300
	c.control(controlSend, controlQueued)
	c.control(controlSend, controlSlow)
	c.control(controlSend, controlSlow)
	c.control(controlBroadcast, controlSkipped)
	c.resume(false)
	c.resume(true)
	c.resume(true)
	c.rest.add(time.Second)
	c.rest.add(time.Second)
	c.tailLag.set(3 * time.Second)
	c.tailLag.set(time.Second)
	c.full.Add(2)
	c.ringMisses.Add(3)
	c.panics.Add(4)

	s := h.Stats()
	check := func(name string, got, want map[string]int64) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	check("rejected", s.Rejected, map[string]int64{"draining": 1, "capacity": 2, "principal": 3, "address": 4, "rate": 5})
	check("soft", s.SoftRejects, map[string]int64{"draining": 1, "capacity": 1, "principal": 1, "address": 1, "rate": 1})
	check("fast refused", s.FastRefused, map[string]int64{
		"http2": 1, "protocol": 2, "request": 3, "wrapper": 4, "encoding": 5, "listener": 6, "descriptors": 7, "off": 8,
	})
	check("replay pages", s.ReplayPages, map[string]int64{"cache": 1, "log": 2})
	check("the rest", map[string]int64{
		"rejects": s.Rejects, "replay used": s.ReplayUsed, "replay free": s.ReplayFree,
		"send queued": s.Send.Queued, "send slow": s.Send.Slow, "broadcast skipped": s.Broadcast.Skipped,
		"resumes": s.Resumes, "resume gaps": s.ResumeGaps, "rest": int64(s.Rest), "tail lag": int64(s.TailLag),
		"full": s.FullConnections, "ring misses": s.RingMisses, "panics": s.Panics,
	}, map[string]int64{
		"rejects": 20, "replay used": 300, "replay free": 700,
		"send queued": 1, "send slow": 2, "broadcast skipped": 1,
		"resumes": 3, "resume gaps": 2, "rest": int64(2 * time.Second), "tail lag": int64(time.Second),
		"full": 2, "ring misses": 3, "panics": 4,
	})
}

func TestCensus(t *testing.T) {
	h := statsHub(t)
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	for _, target := range []string{
		"?topic=a", "?topic=a", "?topic=b", "?topic=a&topic=b", "?topic=orders/*", "?topic=a&topic=x/**",
	} {
		resp, err := http.Get(srv.URL + target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	c := h.Census()
	if want := map[string]int{"topic": 2, "set": 1, "pattern": 2}; !maps.Equal(c.Feeds, want) {
		t.Errorf("feeds %v, want %v", c.Feeds, want)
	}
	sum := 0
	for _, protocols := range c.Streams {
		for _, n := range protocols {
			sum += n
		}
	}
	if got := c.Streams["fast"]["HTTP/1.1"] + c.Streams["portable"]["HTTP/1.1"]; got != 6 || sum != 6 {
		t.Errorf("%d streams, %d with HTTP/1.1: %v", sum, got, c.Streams)
	}
	if got := slices.Sorted(maps.Keys(c.Behind)); !slices.Equal(got, []string{"<10s", "<1s", "<60s", "more"}) {
		t.Errorf("ages %q", got)
	}
}

func TestBehindAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "<1s", time.Second - 1: "<1s", time.Second: "<10s", 10*time.Second - 1: "<10s",
		10 * time.Second: "<60s", time.Minute - 1: "<60s", time.Minute: "more", time.Hour: "more",
	} {
		if got := behindAge(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

func BenchmarkDeliver(b *testing.B) {
	var c counters
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.deliver(engineFast, delivered{sends: 1, events: 1, bytes: 250})
		}
	})
}
