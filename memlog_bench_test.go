package tailrace_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/tailrace/tailrace"
)

// Targets: an append of one event to one of 1,000 topics in at most 1 µs and 2
// allocations, also while the oldest events go; a million topics with one
// event of 200 bytes in at most 700 MiB, the event included.

func benchmarkTopics(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("bench/topic/%07d", i)
	}
	return names
}

func BenchmarkMemoryAppend(b *testing.B) {
	names := benchmarkTopics(1000)
	data := make([]byte, 200)
	for i := range data {
		data[i] = 'x'
	}
	for _, c := range []struct {
		name     string
		maxBytes int64
		policy   tailrace.Policy
		event    tailrace.Event
	}{
		{name: "growing", maxBytes: 1 << 40},
		{name: "evicting", maxBytes: 16 << 20},
		{name: "trimming by count", maxBytes: 1 << 40, policy: tailrace.Policy{MaxCount: 100}},
		{name: "with key", maxBytes: 16 << 20, event: tailrace.Event{Key: "state"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := tailrace.NewMemoryLog(&tailrace.MemoryOptions{
				MaxBytes: c.maxBytes,
				Rules:    []tailrace.Rule{{Pattern: "**", Policy: c.policy}},
			})
			defer l.Close()
			ctx := context.Background()
			events := []tailrace.Event{c.event}
			events[0].Data = data
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				events[0].Topic = names[i%len(names)]
				if _, err := l.Append(ctx, events); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
	b.Run("own ids", func(b *testing.B) {
		l := tailrace.NewMemoryLog(&tailrace.MemoryOptions{MaxBytes: 16 << 20})
		defer l.Close()
		events := []tailrace.Event{{Data: data}}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			events[0].Topic, events[0].ID = names[i%len(names)], fmt.Sprint(i)
			if _, err := l.Append(context.Background(), events); err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
}

// BenchmarkMemoryTail is what a hub does: an append, and a read of all topics
// from where it was.
func BenchmarkMemoryTail(b *testing.B) {
	names := benchmarkTopics(1000)
	for _, batch := range []int{1, 16} {
		b.Run(fmt.Sprint(batch, " events"), func(b *testing.B) {
			l := tailrace.NewMemoryLog(nil)
			defer l.Close()
			ctx := context.Background()
			events := make([]tailrace.Event, batch)
			p, _ := l.Read(ctx, tailrace.Query{Head: true})
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				for j := range events {
					events[j] = tailrace.Event{Topic: names[(i+j)%len(names)], Data: []byte("x")}
				}
				if _, err := l.Append(ctx, events); err != nil {
					b.Fatal(err)
				}
				p, _ = l.Read(ctx, tailrace.Query{After: p.Next, Told: p.Told})
				if len(p.Events) != batch {
					b.Fatalf("%d events, reset %+v", len(p.Events), p.Reset)
				}
				i += batch
			}
		})
	}
}

// BenchmarkMemoryRead replays a log of 200,000 events in 1,000 topics, and
// reports the events of the selection that it reads in a second.
func BenchmarkMemoryRead(b *testing.B) {
	names := benchmarkTopics(1000)
	l := tailrace.NewMemoryLog(nil)
	defer l.Close()
	ctx := context.Background()
	events := make([]tailrace.Event, 1000)
	for range 200 {
		for j := range events {
			events[j] = tailrace.Event{Topic: names[j], Data: []byte("x")}
		}
		if _, err := l.Append(ctx, events); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		s    tailrace.Selector
	}{
		{"one topic", tailrace.Selector{Topics: names[:1]}},
		{"128 topics", tailrace.Selector{Topics: names[:128]}},
		{"a pattern of all", tailrace.Selector{Patterns: []string{"bench/**"}}},
		{"a pattern of one in ten", tailrace.Selector{Patterns: []string{names[0], names[1], "x/*", "bench/topic/00000*"}, Topics: names[:98]}},
		{"all", tailrace.Selector{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			read := 0
			for b.Loop() {
				for q := (tailrace.Query{Select: c.s}); ; {
					p, err := l.Read(ctx, q)
					if err != nil || p.Reset != nil {
						b.Fatal(err, p.Reset)
					}
					read += len(p.Events)
					if q.After, q.Told = p.Next, p.Told; !p.More {
						break
					}
				}
			}
			b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkMemoryTopics reports what a million topics with one event take.
func BenchmarkMemoryTopics(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		l := tailrace.NewMemoryLog(&tailrace.MemoryOptions{MaxBytes: 1 << 40})
		ctx := context.Background()
		for i := range n {
			data := make([]byte, 200)
			for j := range data {
				data[j] = 'x'
			}
			if _, err := l.Append(ctx, []tailrace.Event{{Topic: fmt.Sprintf("bench/topic/%07d", i), Data: data}}); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		l.Close()
	}
}
