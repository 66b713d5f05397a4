package pebblelog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
)

func TestTailIsBounded(t *testing.T) {
	o := memOptions()
	o.Rules = []tailrace.Rule{{Pattern: "**", Policy: tailrace.Policy{Durability: tailrace.Memory}}}
	l := openTest(t, "log", o)
	for i := range 2 * tailEvents / 100 {
		var batch []tailrace.Event
		for j := range 100 {
			batch = append(batch, event("a", fmt.Sprint(i*100+j)))
		}
		mustAppend(t, l, batch...)
	}
	for range 20 {
		mustAppend(t, l, event("b", strings.Repeat("x", 1<<20)))
	}
	l.tail.mu.RLock()
	events, bytes, start, head := l.tail.events, l.tail.bytes, l.tail.start, l.tail.view.head
	l.tail.mu.RUnlock()
	if events > tailEvents+chunkEvents || bytes > tailBytes+2*chunkBytes || head-start != uint64(events) {
		t.Errorf("the tail has %d events of %d bytes from %d to %d", events, bytes, start, head)
	}
	got, _ := readAll(t, l, tailrace.Query{MaxBytes: 100 << 20}) // from the store into the tail
	if len(got) != int(head) {
		t.Errorf("%d of %d events", len(got), head)
	}
	for i, e := range got {
		if e.Cursor.Pos != uint64(i+1) {
			t.Fatalf("%v at %d", e.Cursor, i)
		}
	}
}

// TestKeepingUpCostsLittle is the hub's way of reading: all topics, from where it was.
func TestKeepingUpCostsLittle(t *testing.T) {
	l := openTest(t, "log", memOptions())
	at := mustAppend(t, l, event("a", "1"))[0].Cursor
	mustAppend(t, l, event("a", "2"), event("b", "3"))
	q := tailrace.Query{After: at}
	n := testing.AllocsPerRun(100, func() {
		if p, err := l.Read(t.Context(), q); err != nil || len(p.Events) != 2 {
			t.Fatal(err, len(p.Events))
		}
	})
	if n > 3 { // the read, its query, its chunks; no event
		t.Errorf("%v allocations for a page of the tail", n)
	}
}

func TestAppendAllocates(t *testing.T) {
	o := memOptions()
	o.Rules = []tailrace.Rule{{Pattern: "**", Policy: tailrace.Policy{Durability: tailrace.Memory}}}
	l := openTest(t, "log", o)
	events := []tailrace.Event{event("a", "1")}
	n := testing.AllocsPerRun(2000, func() {
		if _, err := l.Append(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	})
	if n > 12 { // one of the receipts, the rest of the store
		t.Errorf("%v allocations for an append", n)
	}
}

func TestWatchersHearOfWhatTheySelect(t *testing.T) {
	l := openTest(t, "log", memOptions())
	heard := map[string]int{}
	for _, s := range []tailrace.Selector{{}, exact("a"), exact("b", "c"), {Patterns: []string{"x/*"}}} {
		stop, err := l.Watch(s, func() { heard[fmt.Sprint(s)]++ })
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	stopped, _ := l.Watch(exact("a"), func() { t.Error("woken after stop") })
	stopped()
	mustAppend(t, l, event("a", ""))
	mustAppend(t, l, event("c", ""), event("x/1", ""))
	if err := l.command(t.Context(), func(*committer) error { return nil }); err != nil { // the wakes are behind it
		t.Fatal(err)
	}
	want := map[string]int{"{[] []}": 2, "{[a] []}": 1, "{[b c] []}": 1, "{[] [x/*]}": 1}
	if fmt.Sprint(heard) != fmt.Sprint(want) {
		t.Errorf("heard %v, want %v", heard, want)
	}
}
