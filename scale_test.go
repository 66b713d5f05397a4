package tailrace_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// crowd is many streams, and which topics each has.
type crowd struct {
	streams int
	topics  int
	events  int // of each topic
	query   func(stream int) string
	has     func(stream int) []int // its topics
}

// Each event reaches each stream that selects it once and in order, however
// many streams a topic has, topics a stream, or topics there are. The same with
// more of everything is in package e2e.
func TestCrowd(t *testing.T) { bothEngines(t, testCrowd) }

func testCrowd(t *testing.T) {
	n := 200
	if long {
		n = 1000
	}
	for name, c := range map[string]crowd{
		"many streams of one topic": {
			streams: 2 * n, topics: 1, events: 10,
			query: func(int) string { return "topic=c/0" },
			has:   func(int) []int { return []int{0} },
		},
		"many topics a stream": {
			streams: n, topics: 1000, events: 1,
			query: func(i int) string {
				var parts []string
				for k := range 20 {
					parts = append(parts, fmt.Sprint("topic=c/", (i+k*49)%1000))
				}
				return strings.Join(parts, "&")
			},
			has: func(i int) (list []int) {
				for k := range 20 {
					list = append(list, (i+k*49)%1000)
				}
				return list
			},
		},
		"many topics, a stream for one in ten": {
			streams: n, topics: 10 * n, events: 1,
			query: func(i int) string { return fmt.Sprint("topic=c/", 10*i) },
			has:   func(i int) []int { return []int{10 * i} },
		},
		"many patterns": {
			streams: n, topics: n, events: 2,
			query: func(i int) string {
				return fmt.Sprintf("topic=c/%d&topic=*/%d&topic=c%d/**&topic=c/%d/*", i, (i+1)%n, i, i)
			},
			has: func(i int) []int { return []int{i, (i + 1) % n} },
		},
	} {
		t.Run(name, func(t *testing.T) { c.test(t) })
	}
}

func (c crowd) test(t *testing.T) {
	s := newSite(t, nil, 0, nil)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var events []tailrace.Event
	streamsOf := make([][]int, c.topics)
	for i := range c.streams {
		for _, topic := range c.has(i) {
			streamsOf[topic] = append(streamsOf[topic], i)
		}
	}
	want := make([][]string, c.streams)
	for n := range c.events {
		for _, topic := range r.Perm(c.topics) {
			data := fmt.Sprint(topic, " ", n)
			events = append(events, tailrace.Event{Topic: fmt.Sprint("c/", topic), Data: []byte(data)})
			for _, i := range streamsOf[topic] {
				want[i] = append(want[i], data)
			}
		}
	}
	streams := make([]*client, c.streams)
	var opening sync.WaitGroup
	for w := range 4 {
		opening.Go(func() {
			for i := w; i < c.streams; i += 4 {
				var err error
				if streams[i], err = s.open(c.query(i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	opening.Wait()
	if t.Failed() {
		return
	}
	var readers sync.WaitGroup
	for i, stream := range streams {
		readers.Go(func() {
			defer stream.Close()
			var ev sse.Event
			for k, w := range want[i] {
				if err := stream.dec.Decode(&ev); err != nil || string(ev.Data) != w {
					t.Errorf("stream %d, event %d: %q (%v), want %q", i, k, ev.Data, err, w)
					return
				}
			}
			// One more that all have would show what came too often.
			if err := s.Send(t.Context(), stream.id, &tailrace.Event{Data: []byte("end")}); err != nil {
				t.Errorf("stream %d: %v", i, err)
			} else if err := stream.dec.Decode(&ev); err != nil || string(ev.Data) != "end" {
				t.Errorf("stream %d: %q (%v) after everything", i, ev.Data, err)
			}
		})
	}
	for batch := range slices.Chunk(events, 200) {
		publishAll(t, s.Hub, batch)
	}
	readers.Wait()
	waitFor(t, func() bool { return s.Count() == 0 })
	distinct := map[string]bool{}
	for i := range c.streams {
		distinct[c.query(i)] = true
	}
	if got := s.Stats().Feeds; got != len(distinct) {
		t.Errorf("%d feeds for %d selections", got, len(distinct))
	}
}

// BenchmarkMatchManyPatterns measures what an event costs from Publish until
// the hub has looked who wants it, beside 10,000 streams of patterns that begin
// with other names, and reports the ratio to a hub without streams of patterns.
func BenchmarkMatchManyPatterns(b *testing.B) {
	const patterns, batch = 10_000, 500
	newBenchHub := func(n int) *tailrace.Hub {
		h, err := tailrace.New(&tailrace.Options{
			Log:        tailrace.NewMemoryLog(&tailrace.MemoryOptions{MaxBytes: 8 << 20}),
			MaxStreams: -1, MaxStreamsPerAddr: -1, ConnectRate: -1, DrainWindow: -1,
		})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		var streams sync.WaitGroup
		b.Cleanup(func() {
			cancel()
			streams.Wait()
			h.Shutdown(context.Background())
		})
		open := func(query string) {
			streams.Go(func() {
				h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/?"+query, nil))
			})
		}
		open("topic=here/eu/price") // else the hub reads nothing
		for i := range n {
			open(fmt.Sprintf("topic=tenant%d/*/price", i))
		}
		for h.Count() < n+1 {
			time.Sleep(time.Millisecond)
		}
		return h
	}
	events := make([]tailrace.Event, batch)
	for i := range events {
		events[i] = tailrace.Event{Topic: fmt.Sprintf("other%d/eu/price", i), Data: []byte("1")}
	}
	round := func(h *tailrace.Hub) time.Duration {
		began := time.Now()
		rs, err := h.Publish(b.Context(), slices.Clone(events)...)
		if err != nil {
			b.Fatal(err)
		}
		for last := rs[len(rs)-1].Cursor.Pos; h.Visible() < last; {
			time.Sleep(10 * time.Microsecond)
		}
		return time.Since(began)
	}
	none, many := newBenchHub(0), newBenchHub(patterns)
	with, without := time.Hour, time.Hour // the best of each, which others disturb least
	for b.Loop() {
		with = min(with, round(many))
		without = min(without, round(none))
	}
	b.ReportMetric(float64(with)/float64(without), "ratio")
	b.ReportMetric(float64(with.Nanoseconds())/batch, "ns/event")
}
