package sse

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"
)

// The benchmarks report a ratio to a ceiling that is measured on the same bytes
// in the same run: xIndexByte is the share of the speed of one bytes.IndexByte
// per line, which is the least that a reader of lines can do; xMemmove that of
// copying the bytes once.

const tokens = 10000

// tokenStream is what a model server sends: events of about 150 bytes.
func tokenStream(withID bool) []byte {
	var b []byte
	for i := range tokens {
		ev := Event{Data: fmt.Appendf(nil, `{"id":"chatcmpl-9fKx2","object":"chat.completion.chunk","created":1762937000,"choices":[{"index":0,"delta":{"content":" token %d"}}]}`, i)}
		if withID {
			ev.ID = fmt.Sprintf("k3x9-%08d", i)
		}
		b, _ = ev.AppendText(b)
	}
	return b
}

// A ratio compares the best runs of a benchmark and of its ceiling. The runs
// take turns, so that both meet the same noise.
type ratio struct {
	ceiling             func()
	bestOwn, bestOfThat time.Duration
	runs                int
}

func newRatio(ceiling func()) *ratio {
	ceiling()
	return &ratio{ceiling: ceiling, bestOwn: 1 << 62, bestOfThat: 1 << 62}
}

// lap takes the time of one run that began at start, and now and then runs the
// ceiling.
func (r *ratio) lap(b *testing.B, start time.Time) {
	r.bestOwn = min(r.bestOwn, time.Since(start))
	if r.runs++; r.runs%8 == 1 {
		b.StopTimer()
		start = time.Now()
		r.ceiling()
		r.bestOfThat = min(r.bestOfThat, time.Since(start))
		b.StartTimer()
	}
}

func (r *ratio) report(b *testing.B, unit string) {
	b.ReportMetric(float64(r.bestOfThat)/float64(r.bestOwn), unit)
}

func splitLines(stream []byte) {
	n := 0
	for rest := stream; len(rest) > 0; n++ {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
	}
	sink += n
}

var sink int

func benchmarkBorrowed(b *testing.B, stream []byte, events int, ratio *ratio) {
	r := bytes.NewReader(stream)
	d := NewDecoder(r, nil)
	var ev Event
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		r.Reset(stream)
		d.Reset(r)
		n := 0
		for d.Decode(&ev) == nil {
			n++
		}
		if n != events {
			b.Fatalf("%d events, want %d", n, events)
		}
		ratio.lap(b, start)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range []struct {
		name   string
		withID bool
	}{{"tokens", false}, {"tokens-new-ids", true}} {
		stream := tokenStream(c.withID)
		b.Run(c.name+"/borrowed", func(b *testing.B) {
			ratio := newRatio(func() { splitLines(stream) })
			benchmarkBorrowed(b, stream, tokens, ratio)
			ratio.report(b, "xIndexByte")
		})
		b.Run(c.name+"/owned", func(b *testing.B) {
			ratio := newRatio(func() { splitLines(stream) })
			r := bytes.NewReader(stream)
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				r.Reset(stream)
				n := 0
				for _, err := range Events(r) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != tokens {
					b.Fatalf("%d events, want %d", n, tokens)
				}
				ratio.lap(b, start)
			}
			ratio.report(b, "xIndexByte")
		})
	}
}

func BenchmarkDecode64K(b *testing.B) {
	ev := Event{Data: bytes.Repeat([]byte("0123456789abcdef"), 4<<10)}
	frame, _ := ev.AppendText(nil)
	const events = 64
	stream := bytes.Repeat(frame, events)
	dst := make([]byte, len(frame))
	ratio := newRatio(func() {
		for rest := stream; len(rest) > 0; {
			rest = rest[copy(dst, rest):]
		}
	})
	benchmarkBorrowed(b, stream, events, ratio)
	ratio.report(b, "xMemmove")
}

func BenchmarkEncode(b *testing.B) {
	for _, c := range []struct {
		name string
		ev   Event
	}{
		{"150", Event{ID: "k3x9-00000001", Type: "delta", Data: bytes.Repeat([]byte("0123456789"), 15)}},
		{"64K", Event{ID: "k3x9-00000001", Type: "delta", Data: bytes.Repeat([]byte("0123456789abcdef"), 4<<10)}},
		{"64K-lines", Event{Data: bytes.Repeat([]byte("0123456789abcde\n"), 4<<10)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			buf, _ := c.ev.AppendText(nil)
			dst := make([]byte, len(c.ev.Data))
			const runs = 100 // per lap: one is too short for the clock
			ratio := newRatio(func() {
				for range runs {
					copy(dst, c.ev.Data)
				}
			})
			b.SetBytes(int64(len(buf) * runs))
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				for range runs {
					buf, _ = c.ev.AppendText(buf[:0])
				}
				ratio.lap(b, start)
			}
			b.ReportMetric(float64(ratio.bestOwn.Nanoseconds())/runs, "ns/event")
			b.ReportMetric(float64(ratio.bestOwn)/float64(ratio.bestOfThat), "memmoves")
		})
	}
}

// BenchmarkDecodeChunks reads one event of 1 MiB in reads of several sizes: the
// time per byte must not grow with the event.
func BenchmarkDecodeChunks(b *testing.B) {
	ev := Event{Data: bytes.Repeat([]byte("0123456789abcdef"), 64<<10)}
	stream, _ := ev.AppendText(nil)
	for _, size := range []int{1, 64, 4096, len(stream)} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				d := NewDecoder(&cutReader{data: stream, size: size}, nil)
				if err := d.Decode(&ev); err != nil {
					b.Fatal(err)
				}
				if err := d.Decode(&ev); err != io.EOF {
					b.Fatal(err)
				}
			}
		})
	}
}
