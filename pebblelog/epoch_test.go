package pebblelog

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tailrace/tailrace"
)

func TestPatternsMeet(t *testing.T) {
	for _, c := range []struct {
		p, q string
		want bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a/*", "a/b", true},
		{"a/*", "*/b", true},
		{"a/*", "a", false},
		{"a/**", "a/b/c", true},
		{"a/**", "a", false},
		{"a/**", "*/*/c", true},
		{"**", "a/b", true},
		{"**", "$a/b", false},
		{"$a/**", "$a/b", true},
		{"a/*/c", "a/b", false},
		{"a/**", "b/**", false},
	} {
		if got := patternsMeet(c.p, c.q); got != c.want {
			t.Errorf("%s and %s: %v", c.p, c.q, got)
		}
		if got := patternsMeet(c.q, c.p); got != c.want {
			t.Errorf("%s and %s: %v", c.q, c.p, got)
		}
	}
}

func TestEpochRecord(t *testing.T) {
	for _, e := range []epoch{
		{n: 1, id: 7, first: 1},
		{n: 2, id: tailrace.MaxEpoch, first: 1 << 40, end: 1 << 41, how: endCrash, jumps: []jump{{1, 2}, {3, 1 << 50}}, lossy: []string{"a/**", "b"}},
	} {
		b := appendEpoch(nil, &e)
		got, err := parseEpoch(epochKey(nil, e.n), b)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(e) {
			t.Errorf("%+v, %v, want %+v", got, err, e)
		}
		for i := range b {
			if _, err := parseEpoch(epochKey(nil, e.n), b[:i]); !errors.Is(err, errRecord) {
				t.Errorf("cut to %d of %d bytes: %v", i, len(b), err)
			}
		}
	}
}

func TestResume(t *testing.T) {
	es := epochs{
		{id: 1, first: 1, end: 100, how: endCrash, lossy: []string{"m/**"}, jumps: []jump{{50, 80}}},
		{id: 2, first: 1000, end: 1100, how: endDamage},
		{id: 3, first: 2000},
	}
	const head = 2500
	for _, c := range []struct {
		what   string
		cursor tailrace.Cursor
		sel    tailrace.Selector
		pos    uint64
		known  bool
		reason tailrace.Reason
	}{
		{"today", tailrace.Cursor{Epoch: 3, Pos: 2100}, tailrace.Selector{}, 2100, true, ""},
		{"today, of an old position", tailrace.Cursor{Epoch: 3, Pos: 7}, tailrace.Selector{}, 7, true, ""},
		{"ahead", tailrace.Cursor{Epoch: 3, Pos: 2501}, tailrace.Selector{}, 0, false, tailrace.Ahead},
		{"unknown epoch", tailrace.Cursor{Epoch: 9, Pos: 1}, tailrace.Selector{}, 0, false, tailrace.EpochGap},
		{"another sequence", tailrace.Cursor{Log: 1, Epoch: 3, Pos: 2100}, tailrace.Selector{}, 0, false, tailrace.EpochGap},
		{"before the end of an old one", tailrace.Cursor{Epoch: 1, Pos: 100}, tailrace.Selector{}, 100, true, ""},
		{"in a jump", tailrace.Cursor{Epoch: 1, Pos: 51}, tailrace.Selector{}, 50, true, tailrace.EpochGap},
		{"at the end of a jump", tailrace.Cursor{Epoch: 1, Pos: 80}, tailrace.Selector{}, 50, true, tailrace.EpochGap},
		{"behind a jump", tailrace.Cursor{Epoch: 1, Pos: 81}, tailrace.Selector{}, 81, true, ""},
		{"beyond a crash, all", tailrace.Cursor{Epoch: 1, Pos: 101}, tailrace.Selector{}, 100, true, tailrace.EpochGap},
		{"beyond a crash, lossy", tailrace.Cursor{Epoch: 1, Pos: 101}, exact("m/1"), 100, true, tailrace.EpochGap},
		{"beyond a crash, lossy pattern", tailrace.Cursor{Epoch: 1, Pos: 101}, tailrace.Selector{Patterns: []string{"*/1"}}, 100, true, tailrace.EpochGap},
		{"beyond a crash, synced", tailrace.Cursor{Epoch: 1, Pos: 101}, exact("f/1"), 100, true, ""},
		{"beyond damage, synced", tailrace.Cursor{Epoch: 2, Pos: 1101}, exact("f/1"), 1100, true, tailrace.EpochGap},
	} {
		pos, known, reason := es.resume(c.cursor, c.sel, head)
		if pos != c.pos || known != c.known || reason != c.reason {
			t.Errorf("%s: %d, %v, %q; want %d, %v, %q", c.what, pos, known, reason, c.pos, c.known, c.reason)
		}
	}
	for pos, want := range map[uint64]uint64{1: 1, 999: 1, 1000: 2, 1999: 2, 2000: 3} {
		if got := es.cursor(pos).Epoch; got != want {
			t.Errorf("position %d is of epoch %d, want %d", pos, got, want)
		}
	}
}

func TestHeadFileSurvivesATornWrite(t *testing.T) {
	fs := vfs.NewMem()
	h, err := openHead(fs, "head")
	if err != nil || h.last != (headMark{}) {
		t.Fatal(h.last, err)
	}
	for pos := range uint64(5) {
		if err := h.write(9, pos, pos == 4); err != nil {
			t.Fatal(err)
		}
	}
	h.close()
	if h, err = openHead(fs, "head"); err != nil || h.last != (headMark{9, 4, 5, true}) {
		t.Fatal(h.last, err)
	}
	if _, err := h.f.WriteAt([]byte("torn"), headSlot*(5%2)+4); err != nil {
		t.Fatal(err)
	}
	h.close()
	if h, err = openHead(fs, "head"); err != nil || h.last != (headMark{9, 3, 4, false}) {
		t.Errorf("after a torn write: %+v, %v", h.last, err)
	}
	h.close()
}

// TestIdleCrashesDoNotGrowTheRecord opens and abandons a log many times.
func TestIdleCrashesDoNotGrowTheRecord(t *testing.T) {
	fs := vfs.NewCrashableMem()
	o := testOptions()
	o.fs = fs
	l := openTest(t, "log", o)
	last := mustAppend(t, l, event("a", "1"))[0].Cursor
	for range 5 {
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
		l.Close()
		o.fs = fs
		l = openTest(t, "log", o)
		if n := len(l.epochs.Load().today().jumps); n != 1 {
			t.Fatalf("%d jumps", n)
		}
	}
	r := mustAppend(t, l, event("a", "2"))[0]
	if r.Cursor.Epoch != last.Epoch || r.Cursor.Pos <= last.Pos+5*jumpSize {
		t.Errorf("%v after %v and 5 crashes", r.Cursor, last)
	}
	if p := mustRead(t, l, tailrace.Query{After: last}); p.Reset != nil || len(p.Events) != 1 {
		t.Errorf("resume over the jump: %+v", p)
	}
	if p := mustRead(t, l, tailrace.Query{After: tailrace.Cursor{Epoch: last.Epoch, Pos: last.Pos + 1}}); p.Reset == nil || p.Next.Pos != last.Pos {
		t.Errorf("a cursor inside the jump: %+v", p)
	}
}

// TestOpenReadsLittle opens a log of many events and counts what is read.
func TestOpenReadsLittle(t *testing.T) {
	fs := &countingFS{FS: vfs.NewMem()}
	o := testOptions()
	o.fs, o.memTable = fs, 256<<10
	o.Rules = []tailrace.Rule{{Pattern: "**", Policy: tailrace.Policy{Durability: tailrace.Memory}}}
	l := openTest(t, "log", o)
	data := make([]byte, 500)
	for i := range data {
		data[i] = byte('a' + i%26)
	}
	for i := range 20 {
		var batch []tailrace.Event
		for j := range 200 {
			batch = append(batch, tailrace.Event{Topic: fmt.Sprintf("t/%d", i*200+j), Data: fmt.Appendf(nil, "%d%s", i*j, data)})
		}
		mustAppend(t, l, batch...)
	}
	if err := l.db.Flush(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	fs.read.Store(0)
	o.sweep = 1 << 50
	openTest(t, "log", o)
	if n := fs.read.Load(); n > 512<<10 {
		t.Errorf("%d bytes were read to open a log of 2 MB", n)
	}
}
