package tailrace_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/logtest"
)

func TestMemoryLog(t *testing.T) {
	logtest.Run(t, logtest.Config{
		Open: func(t testing.TB, _ string, rules []tailrace.Rule) tailrace.Log {
			return tailrace.NewMemoryLog(&tailrace.MemoryOptions{MaxBytes: 4 << 30, Rules: rules}) // for a million topics
		},
		Clock: func(t testing.TB, _ string, rules []tailrace.Rule, now func() time.Time) tailrace.Log {
			return tailrace.NewMemoryLog(&tailrace.MemoryOptions{Rules: rules, Now: now})
		},
		Pause: func(l tailrace.Log, fn func(string)) { l.(*tailrace.MemoryLog).SetPause(fn) },
	})
}

func memoryLog(t testing.TB, o *tailrace.MemoryOptions) *tailrace.MemoryLog {
	l := tailrace.NewMemoryLog(o)
	t.Cleanup(func() { l.Close() })
	return l
}

func mustAppend(t testing.TB, l tailrace.Log, events ...tailrace.Event) []tailrace.Receipt {
	t.Helper()
	rs, err := l.Append(context.Background(), events)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func mustRead(t testing.TB, l tailrace.Log, q tailrace.Query) tailrace.Page {
	t.Helper()
	p, err := l.Read(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func exactly(names ...string) tailrace.Selector { return tailrace.Selector{Topics: names} }

func wantWithin(t testing.TB, l *tailrace.MemoryLog, maxBytes int64) {
	t.Helper()
	if used, topics := l.Used(); used > maxBytes || used < 0 {
		t.Fatalf("%d bytes used with %d topics, the limit is %d", used, topics, maxBytes)
	}
}

func TestMemoryLogRemovesTheOldestWhenFull(t *testing.T) {
	const maxBytes = 1 << 20
	l := memoryLog(t, &tailrace.MemoryOptions{MaxBytes: maxBytes})
	idle := mustAppend(t, l, tailrace.Event{Topic: "first", ID: "x"})[0].Cursor
	start := mustRead(t, l, tailrace.Query{Head: true}).Next
	data := []byte(strings.Repeat("x", 100))
	var last tailrace.Cursor
	for i := range 20_000 {
		e := tailrace.Event{Topic: fmt.Sprint("t/", i%100), ID: fmt.Sprint(i), Data: data}
		if i%50 == 0 {
			e.Key = "k"
		}
		last = mustAppend(t, l, e)[0].Cursor
		wantWithin(t, l, maxBytes)
	}
	var kept []tailrace.Event
	for q := (tailrace.Query{}); ; {
		p := mustRead(t, l, q)
		kept = append(kept, p.Events...)
		if q.After, q.Told = p.Next, p.Told; !p.More {
			break
		}
	}
	if len(kept) < 1000 || kept[len(kept)-1].Cursor != last {
		t.Fatalf("%d events kept, the last at %v of %v", len(kept), kept[len(kept)-1].Cursor, last)
	}
	for i := 1; i < len(kept); i++ {
		if was, is := kept[i-1].ID, kept[i].ID; fmt.Sprint(atoi(was)+1) != is {
			t.Fatalf("%s is kept after %s: not the oldest went", is, was)
		}
	}
	for _, s := range []tailrace.Selector{{}, exactly("t/1"), {Patterns: []string{"t/*"}}} {
		if p := mustRead(t, l, tailrace.Query{Select: s, After: start}); p.Reset == nil || p.Reset.Reason != tailrace.Trimmed {
			t.Errorf("%+v: no reset: %+v", s, p)
		}
	}
	// The topic whose one event went, went after the start.
	if p := mustRead(t, l, tailrace.Query{Select: exactly("first"), After: idle}); p.Reset != nil {
		t.Errorf("a reader that had read it is reset: %+v", *p.Reset)
	}
	if r := mustAppend(t, l, tailrace.Event{Topic: "first", ID: "x"})[0]; r.Duplicate {
		t.Error("the id of a removed event is not free")
	}
}

func atoi(s string) (n int) {
	fmt.Sscan(s, &n)
	return n
}

func TestMemoryLogForgetsTopicsWhenFull(t *testing.T) {
	const maxBytes = 1 << 20
	l := memoryLog(t, &tailrace.MemoryOptions{MaxBytes: maxBytes})
	start := mustAppend(t, l, tailrace.Event{Topic: "t/0", Data: []byte("x")})[0].Cursor
	for i := range 50_000 {
		mustAppend(t, l, tailrace.Event{Topic: fmt.Sprint("t/", i), Data: []byte("x")})
		wantWithin(t, l, maxBytes)
	}
	recent := mustRead(t, l, tailrace.Query{Head: true}).Next
	for i := range 100 {
		mustAppend(t, l, tailrace.Event{Topic: fmt.Sprint("new/", i), Data: []byte("x")})
	}
	all := tailrace.Selector{Patterns: []string{"t/*"}}
	if p := mustRead(t, l, tailrace.Query{Select: all, After: start}); p.Reset == nil {
		t.Error("a pattern's old cursor is not reset")
	}
	for _, s := range []tailrace.Selector{all, exactly("t/7"), exactly("never")} {
		if p := mustRead(t, l, tailrace.Query{Select: s, After: recent}); p.Reset != nil {
			t.Errorf("%+v: a recent cursor is reset: %+v", s, *p.Reset)
		}
	}
	// A topic that was given up may have lost events: an old cursor cannot
	// know, also when the name is used again.
	for range 2 {
		if p := mustRead(t, l, tailrace.Query{Select: exactly("t/7"), After: start}); p.Reset == nil {
			t.Error("the old cursor of a topic that was given up is not reset")
		}
		mustAppend(t, l, tailrace.Event{Topic: "t/7", Data: []byte("again")})
	}
	if p := mustRead(t, l, tailrace.Query{Select: exactly("t/7"), After: recent}); p.Reset != nil || len(p.Events) != 2 {
		t.Errorf("a recent cursor reads %+v", p)
	}
}

func TestMemoryLogBoundsDeletedTopics(t *testing.T) {
	const maxBytes = 1 << 20
	l := memoryLog(t, &tailrace.MemoryOptions{MaxBytes: maxBytes})
	mustAppend(t, l, tailrace.Event{Topic: "stays"})
	for i := range 20_000 {
		topic := fmt.Sprint("t/", i)
		mustAppend(t, l, tailrace.Event{Topic: topic, ID: "x", Key: "k"})
		if err := l.Delete(context.Background(), topic); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, l, tailrace.Event{Topic: "stays"})
	wantWithin(t, l, maxBytes)
	if i, _ := l.Stat(context.Background(), ""); i.Topics != 1 || i.Count != 2 {
		t.Errorf("%+v", i)
	}
}

func TestMemoryLogBoundsKeptState(t *testing.T) {
	const maxBytes = 1 << 20
	l := memoryLog(t, &tailrace.MemoryOptions{
		MaxBytes: maxBytes,
		Rules:    []tailrace.Rule{{Pattern: "**", Policy: tailrace.Policy{KeepLatest: true, MaxCount: 10}}},
	})
	for i := range 20_000 {
		mustAppend(t, l, tailrace.Event{Topic: fmt.Sprint("t/", i%3), Key: fmt.Sprint(i), Data: []byte("x")})
		wantWithin(t, l, maxBytes)
	}
	p := mustRead(t, l, tailrace.Query{Latest: true, Limit: 100_000})
	if len(p.Events) < 1000 {
		t.Errorf("a snapshot of %d events", len(p.Events))
	}
	// The same keys again and again take no more.
	before, _ := l.Used()
	for i := range 20_000 {
		mustAppend(t, l, tailrace.Event{Topic: "t/0", Key: fmt.Sprint("same/", i%50), Data: []byte("x")})
	}
	if after, _ := l.Used(); after > before+before/10 {
		t.Errorf("%d bytes used, before %d", after, before)
	}
}

func TestMemoryLogKeepsItsNewestEvent(t *testing.T) {
	l := memoryLog(t, &tailrace.MemoryOptions{MaxBytes: 1000, Rules: []tailrace.Rule{{Pattern: "small", Policy: tailrace.Policy{MaxBytes: 10}}}})
	for _, topic := range []string{"a", "small"} {
		r := mustAppend(t, l, tailrace.Event{Topic: topic, Data: make([]byte, 5000)})[0]
		if p := mustRead(t, l, tailrace.Query{}); len(p.Events) != 1 || p.Events[0].Cursor != r.Cursor {
			t.Errorf("%s: %d events", topic, len(p.Events))
		}
	}
}

func TestMemoryLogGivesUpStateThatIsTooLarge(t *testing.T) {
	l := memoryLog(t, &tailrace.MemoryOptions{MaxBytes: 1000, Rules: []tailrace.Rule{{Pattern: "**", Policy: tailrace.Policy{KeepLatest: true}}}})
	big := mustAppend(t, l, tailrace.Event{Topic: "a", Key: "k", ID: "x", Data: make([]byte, 5000)})[0]
	if err := l.Trim(context.Background(), "a", big.Cursor); err != nil {
		t.Fatal(err)
	}
	if r := mustAppend(t, l, tailrace.Event{Topic: "a", ID: "x"})[0]; !r.Duplicate {
		t.Errorf("receipt %+v", r)
	}
	wantWithin(t, l, 1000)
	if p := mustRead(t, l, tailrace.Query{Latest: true}); len(p.Events) != 0 {
		t.Errorf("a snapshot of %d events", len(p.Events))
	}
}

// TestMemoryLogExpiresInParts has more to expire at once than one hold of the
// lock does; a read shows none of it.
func TestMemoryLogExpiresInParts(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := memoryLog(t, &tailrace.MemoryOptions{
		Now:   func() time.Time { return now },
		Rules: []tailrace.Rule{{Pattern: "**", Policy: tailrace.Policy{MaxAge: time.Hour, IdleDelete: time.Hour}}},
	})
	var events []tailrace.Event
	for i := range 20_000 {
		events = append(events, tailrace.Event{Topic: fmt.Sprint("t/", i%2*i)})
	}
	start := mustRead(t, l, tailrace.Query{Head: true}).Next
	mustAppend(t, l, events...)
	now = now.Add(2 * time.Hour)
	if p := mustRead(t, l, tailrace.Query{}); len(p.Events) != 0 || p.More {
		t.Errorf("%d events after their age", len(p.Events))
	}
	if p := mustRead(t, l, tailrace.Query{After: start}); p.Reset == nil || p.Reset.Topics != nil {
		t.Errorf("%+v, want a reset of more topics than it names", p)
	}
	now = now.Add(2 * time.Hour)
	if i, _ := l.Stat(context.Background(), ""); i.Topics != 0 {
		t.Errorf("%d topics after their idle time", i.Topics)
	}
	now = now.Add(8 * 24 * time.Hour)
	l.Stat(context.Background(), "")
	if used, topics := l.Used(); used != 0 || topics != 0 {
		t.Errorf("%d bytes and %d topics are left after the cursor life", used, topics)
	}
}

func TestMemoryLogBeginsAnEpoch(t *testing.T) {
	a, b := memoryLog(t, nil), memoryLog(t, nil)
	c := mustAppend(t, a, tailrace.Event{Topic: "a"})[0].Cursor
	if c.Epoch == 0 || c.Epoch > tailrace.MaxEpoch || c.Pos == 0 || c.Log != 0 {
		t.Errorf("cursor %+v", c)
	}
	mustAppend(t, b, tailrace.Event{Topic: "a"})
	if p := mustRead(t, b, tailrace.Query{After: c}); p.Reset == nil || p.Reset.Reason != tailrace.EpochGap {
		t.Errorf("a cursor of an earlier start: %+v", p)
	}
}

func TestMemoryLogWakesOutsideItsLocks(t *testing.T) {
	l := memoryLog(t, nil)
	var read int
	var stop func()
	stop, err := l.Watch(tailrace.Selector{}, func() {
		read = len(mustRead(t, l, tailrace.Query{}).Events)
		stop()
	})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, tailrace.Event{Topic: "a"})
	mustAppend(t, l, tailrace.Event{Topic: "a"})
	if read != 1 {
		t.Errorf("the wake read %d events, want the 1 of its append and no second wake", read)
	}
}

func TestMemoryLogAllocations(t *testing.T) {
	l := memoryLog(t, nil)
	ctx := context.Background()
	events := []tailrace.Event{{Topic: "a", Data: []byte("x")}}
	if n := testing.AllocsPerRun(1000, func() { l.Append(ctx, events) }); n > 2 {
		t.Errorf("an append makes %v allocations", n)
	}
	p := mustRead(t, l, tailrace.Query{Head: true})
	q := tailrace.Query{After: p.Next, Told: p.Told}
	if n := testing.AllocsPerRun(1000, func() { l.Read(ctx, q) }); n > 0 {
		t.Errorf("a read at the head makes %v allocations", n)
	}
}
