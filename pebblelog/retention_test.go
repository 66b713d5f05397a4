package pebblelog

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tailrace/tailrace"
)

// testClock moves when a test says so.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func newTestClock() *testClock {
	return &testClock{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// memOptions are testOptions on a file system in memory, with short sweeps.
func memOptions() *Options {
	o := testOptions()
	o.fs, o.sweep = vfs.NewMem(), 5*time.Millisecond
	return o
}

func exact(topics ...string) tailrace.Selector { return tailrace.Selector{Topics: topics} }

func mustRead(t testing.TB, l tailrace.Log, q tailrace.Query) tailrace.Page {
	t.Helper()
	p, err := l.Read(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustStat(t testing.TB, l tailrace.Log, topic string) tailrace.Info {
	t.Helper()
	i, err := l.Stat(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// countKind counts the keys of a kind in the store.
func countKind(t testing.TB, l *Log, kind byte) (n int) {
	t.Helper()
	v := l.newView()
	defer v.close()
	it, err := v.snap.NewIter(kindBounds(kind))
	if err != nil {
		t.Fatal(err)
	}
	for it.First(); it.Valid(); it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestForgottenTopicIsFoldedAfterTheCursorLife(t *testing.T) {
	clock := newTestClock()
	o := memOptions()
	o.Now, o.CursorLife = clock.Now, 48*time.Hour
	o.Rules = []tailrace.Rule{{Pattern: "**", Policy: tailrace.Policy{MaxAge: -1, IdleDelete: -1}}}
	l := openTest(t, "log", o)
	idle := mustAppend(t, l, event("idle", "1"))[0].Cursor
	mustAppend(t, l, tailrace.Event{Topic: "a", ID: "x", Key: "k", Data: []byte("1")})
	mustAppend(t, l, event("a", "2"))
	if err := l.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	clock.advance(24 * time.Hour)
	mustAppend(t, l, event("b", "1"))
	if p := mustRead(t, l, tailrace.Query{Select: exact("a"), After: idle}); p.Reset == nil || p.Reset.Reason != tailrace.Deleted {
		t.Errorf("within the cursor life: %+v", p.Reset)
	}
	clock.advance(25 * time.Hour)
	mustAppend(t, l, event("b", "2"))
	eventually(t, "the record is folded", func() bool { return countKind(t, l, kindFloor) == 0 })
	for _, kind := range []byte{kindID, kindKey, kindDue} {
		if n := countKind(t, l, kind); n != 0 {
			t.Errorf("%d keys of kind %c are left", n, kind)
		}
	}
	if n := countKind(t, l, kindTopic); n != 2 {
		t.Errorf("%d rows, want those of idle and b", n)
	}
	check := func(l *Log) {
		t.Helper()
		if p := mustRead(t, l, tailrace.Query{Select: exact("idle"), After: idle}); p.Reset != nil {
			t.Errorf("the idle topic is reset: %+v", *p.Reset)
		}
		if p := mustRead(t, l, tailrace.Query{Select: exact("a"), After: idle}); p.Reset == nil || p.Reset.Reason != tailrace.Trimmed {
			t.Errorf("a cursor from before the forgotten topic: %+v", p.Reset)
		}
		if p := mustRead(t, l, tailrace.Query{Select: tailrace.Selector{Patterns: []string{"*"}}, After: idle}); p.Reset == nil {
			t.Errorf("a pattern from before the forgotten topic has no reset")
		} else if p = mustRead(t, l, tailrace.Query{Select: tailrace.Selector{Patterns: []string{"*"}}, After: p.Next, Told: p.Told}); p.Reset != nil {
			t.Errorf("told twice: %+v", *p.Reset)
		}
	}
	check(l)
	mustAppend(t, l, event("a", "3")) // a new life
	check(l)
	l.Close()
	check(openTest(t, "log", o))
}

func TestNewRulesApplyToWhatIsThere(t *testing.T) {
	for _, restart := range []bool{false, true} {
		clock := newTestClock()
		o := memOptions()
		o.Now = clock.Now
		l := openTest(t, "log", o)
		for i := range 50 {
			mustAppend(t, l, event(fmt.Sprint("age/", i), "1"))
			mustAppend(t, l, event("count", fmt.Sprint(i)))
		}
		eventually(t, "the first rules are applied", func() bool { return countKind(t, l, kindRules) == 1 })
		clock.advance(2 * time.Hour)
		rules := []tailrace.Rule{
			{Pattern: "age/*", Policy: tailrace.Policy{MaxAge: time.Hour}},
			{Pattern: "count", Policy: tailrace.Policy{MaxCount: 3}},
		}
		if restart {
			l.Close()
			o.Rules = rules
			l = openTest(t, "log", o)
		} else if err := l.SetRules(rules); err != nil {
			t.Fatal(err)
		}
		eventually(t, "old events go", func() bool {
			i := mustStat(t, l, "")
			return i.Count == 3
		})
		if got, _ := readAll(t, l, tailrace.Query{}); fmt.Sprint(datas(got)) != "[47 48 49]" {
			t.Errorf("left: %q", datas(got))
		}
	}
}

func TestDiskCapRemovesTheOldestOfTheLog(t *testing.T) {
	o := memOptions()
	o.MaxDisk = 1 << 20
	o.memTable = 256 << 10
	l := openTest(t, "log", o)
	first := mustAppend(t, l, event("old", "1"))[0].Cursor
	noise := make([]byte, 10_000)
	for i := range 300 {
		for j := range noise {
			noise[j] = byte(' ' + rand.IntN(95))
		}
		mustAppend(t, l, event(fmt.Sprint("t/", i%10), string(noise)))
	}
	eventually(t, "events go", func() bool { return mustStat(t, l, "").Bytes < 1<<20 })
	got, _ := readAll(t, l, tailrace.Query{})
	if len(got) == 0 || got[len(got)-1].Cursor.Pos < 301 {
		t.Fatalf("%d events left", len(got))
	}
	for i := range got[1:] {
		// Nothing in between is missing: in log order only the first ones went.
		if got[i+1].Cursor.Pos != got[i].Cursor.Pos+1 && got[i+1].Cursor.Pos-got[i].Cursor.Pos > 50 {
			t.Errorf("%v after %v", got[i+1].Cursor, got[i].Cursor)
		}
	}
	if p := mustRead(t, l, tailrace.Query{Select: exact("old"), After: tailrace.Cursor{Epoch: first.Epoch}}); p.Reset == nil || p.Reset.Reason != tailrace.Trimmed {
		t.Errorf("the removal is not told: %+v", p.Reset)
	}
}

func TestBatchesAreCutBehindWhatIsKept(t *testing.T) {
	o := memOptions()
	l := openTest(t, "log", o)
	for i := range 100 {
		mustAppend(t, l, event("a", fmt.Sprint(i)))
	}
	last := mustAppend(t, l, event("b", "1"))[0].Cursor
	if err := l.Trim(t.Context(), "a", last); err != nil {
		t.Fatal(err)
	}
	eventually(t, "batches go", func() bool { return countKind(t, l, kindBatch) == 2 })
	if got, _ := readAll(t, l, tailrace.Query{Select: tailrace.Selector{Patterns: []string{"*"}}}); len(got) != 1 {
		t.Errorf("read %q", datas(got))
	}
	l.Close()
	l = openTest(t, "log", o)
	if r := mustAppend(t, l, event("a", "new"))[0]; r.Cursor.Pos != last.Pos+2 {
		t.Errorf("position %d, want %d behind the trim", r.Cursor.Pos, last.Pos+2)
	}
}

// TestRemovedEventsAreSteppedOverOnce trims a busy topic among many; a reader of all must
// not step over all of them for each.
func TestRemovedEventsAreSteppedOverOnce(t *testing.T) {
	o := memOptions()
	o.Rules = []tailrace.Rule{{Pattern: "**", Policy: tailrace.Policy{Durability: tailrace.Memory}}}
	o.sweep, o.tailLess = time.Hour, true
	l := openTest(t, "log", o)
	const n = 5_000
	var batch []tailrace.Event
	for i := range n {
		batch = append(batch, event("hot", fmt.Sprint(i)), event(fmt.Sprint("t/", i), "x"))
	}
	rs := mustAppend(t, l, batch...)
	if err := l.Trim(t.Context(), "hot", rs[2*n-4].Cursor); err != nil {
		t.Fatal(err)
	}
	r := &read{l: l, storeView: l.newView(), view: l.tail.visible(), match: matcher{all: true}, epochs: *l.epochs.Load(), limit: 10 * n, bytes: 1 << 30}
	defer r.close()
	w, err := r.openWalk()
	if err != nil {
		t.Fatal(err)
	}
	for i := range n - 1 {
		if found, err := w.seek(1, rs[2*i].Cursor.Pos); found || err != nil {
			t.Fatalf("%d: %v, %v", i, found, err)
		}
	}
	s := w.events.Stats()
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	if calls := s.ForwardSeekCount[0] + s.ForwardSeekCount[1]; calls > 10 {
		t.Errorf("%d seeks for one removed run", calls)
	}
}
