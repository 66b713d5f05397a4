package filter

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// BenchmarkMatch prints what it costs to judge an event of 120 bytes: the
// first time, and again.
func BenchmarkMatch(b *testing.B) {
	const data = `{"id":12345,"total":150.5,"customer":{"name":"Ada","country":"GB"},"tags":["new","paid"],"items":[{"n":1},{"n":5}]}`
	for _, bench := range []struct{ name, text string }{
		{"type", `type == "order"`},
		{"topic and key", `topic startsWith "orders/" && key != ""`},
		{"text", `text contains "paid"`},
		{"pattern", `text matches "\"total\":1[0-9]+"`},
		{"data", `data.total > 100`},
		{"data, deep", `data.customer.country == "GB" && "paid" in data.tags`},
		{"loop", `any(data.items, .n > 4)`},
		{"error", `data.missing.n > 4`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			u := open(b, NewSet(&Options{Clock: free}), &Request{Client: bench.text})
			ev := event(data)
			b.ReportAllocs()
			for b.Loop() {
				u.Match(ev)
			}
		})
	}
	b.Run("known", func(b *testing.B) {
		u := open(b, NewSet(&Options{Clock: free}), &Request{Client: `data.total > 100`})
		ev := event(data)
		ev.Cursor = tailrace.Cursor{Epoch: 1, Pos: 1}
		b.ReportAllocs()
		for b.Loop() {
			u.Match(ev)
		}
	})
}

// free is the clock of a world in which no filter is too expensive.
func free() time.Duration { return 0 }

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := compile(fmt.Sprintf(`type == "order" && data.total > %d`, i), false); err != nil {
			b.Fatal(err)
		}
	}
}

// TestKnownVerdictAllocatesNothing pins the path that all readers but the
// first take.
func TestKnownVerdictAllocatesNothing(t *testing.T) {
	u := open(t, NewSet(nil), &Request{Client: `data.total > 100`})
	ev := event(`{"total":150}`)
	ev.Cursor = tailrace.Cursor{Epoch: 1, Pos: 1}
	if n := testing.AllocsPerRun(100, func() { u.Match(ev) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkParse compares with encoding/json, into the same kind of value.
func BenchmarkParse(b *testing.B) {
	text := []byte(`{"id":12345,"total":150.5,"customer":{"name":"Ada","country":"GB"},"tags":["new","paid"],"items":[{"n":1},{"n":5}]}`)
	b.Run("own", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			parse(text)
		}
	})
	b.Run("encoding/json", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			var v any
			json.Unmarshal(text, &v)
		}
	})
}
