package pebblelog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tailrace/tailrace"
)

// eventually waits for what the sweeper does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func datas(events []tailrace.Event) (s []string) {
	for _, e := range events {
		s = append(s, string(e.Data))
	}
	return s
}

func TestFailedSyncStopsTheLog(t *testing.T) {
	for _, tailLess := range []bool{false, true} {
		fs := newShim(vfs.Default)
		dir := t.TempDir()
		o := testOptions()
		fatal := make(chan error, 10)
		o.fs, o.OnFatal, o.tailLess = fs, func(err error) { fatal <- err }, tailLess
		l := openTest(t, dir, o)
		kept := mustAppend(t, l, event("a", "1"))[0]

		fs.mu.Lock()
		fs.fail = true
		fs.mu.Unlock()
		_, err := l.Append(t.Context(), []tailrace.Event{event("a", "2")})
		if err == nil || errors.Is(err, tailrace.ErrStopped) || !errors.Is(err, errSync) {
			t.Fatalf("append whose sync fails: %v, want an unknown outcome", err)
		}
		if err := <-fatal; !errors.Is(err, errSync) {
			t.Errorf("OnFatal: %v", err)
		}
		if _, err := l.Append(t.Context(), []tailrace.Event{event("a", "3")}); !errors.Is(err, tailrace.ErrStopped) {
			t.Errorf("append to a stopped log: %v", err)
		}
		if err := l.Trim(t.Context(), "a", kept.Cursor); !errors.Is(err, tailrace.ErrStopped) {
			t.Errorf("trim of a stopped log: %v", err)
		}
		if got, next := readAll(t, l, tailrace.Query{}); len(got) != 1 || next != kept.Cursor {
			t.Errorf("read of a stopped log: %q to %v, want what was visible", datas(got), next)
		}
		if i, err := l.Stat(t.Context(), "a"); err != nil || i.Count != 1 || i.Head != kept.Cursor {
			t.Errorf("stat of a stopped log: %+v, %v", i, err)
		}
		fs.mu.Lock()
		again := fs.broken
		fs.mu.Unlock()
		if again != 0 {
			t.Errorf("%d syncs after one that failed", again)
		}
		l.Close()
		if len(fatal) != 0 {
			t.Errorf("OnFatal was called again")
		}
		o.fs = nil
		l = openTest(t, dir, o)
		if p, err := l.Read(t.Context(), tailrace.Query{After: kept.Cursor}); err != nil || p.Reset != nil {
			t.Errorf("after the last acknowledged event: %+v, %v", p.Reset, err)
		}
		if r := mustAppend(t, l, event("a", "4"))[0]; r.Cursor.Pos <= kept.Cursor.Pos+jumpSize {
			t.Errorf("position %d after %d and an unclean stop: no jump", r.Cursor.Pos, kept.Cursor.Pos)
		}
	}
}

func TestNoSpaceWithoutReserveStopsTheLog(t *testing.T) {
	fs := newShim(vfs.Default)
	dir := t.TempDir()
	o := testOptions()
	o.fs = fs
	l := openTest(t, dir, o)
	mustAppend(t, l, event("a", "1"))
	fs.setRoom(10_000)
	var acked []string
	for i := range 1000 {
		data := fmt.Sprint(i, strings.Repeat("x", 100))
		if _, err := l.Append(t.Context(), []tailrace.Event{event("a", data)}); err != nil {
			if errors.Is(err, tailrace.ErrFull) {
				break
			}
			if l.stopped.Load() == nil {
				t.Fatalf("append: %v, and the log goes on", err)
			}
			break
		}
		acked = append(acked, data)
	}
	if len(acked) == 0 || len(acked) == 1000 {
		t.Fatalf("%d appends were accepted", len(acked))
	}
	if got, _ := readAll(t, l, tailrace.Query{Limit: 1000}); len(got) != 1+len(acked) {
		t.Errorf("%d events visible, %d acknowledged", len(got), 1+len(acked))
	}
	l.Close()
	fs.setRoom(-1)
	got, _ := readAll(t, openTest(t, dir, o), tailrace.Query{Limit: 1000})
	if len(got) < 1+len(acked) {
		t.Errorf("%d events after a restart, %d acknowledged", len(got), 1+len(acked))
	}
}

func TestNoSpaceWithReserveGivesErrFull(t *testing.T) {
	fs := newShim(vfs.Default)
	o := testOptions()
	o.fs, o.Reserve, o.MinFree, o.sweep = fs, 1<<20, 1, 10*time.Millisecond
	l := openTest(t, t.TempDir(), o)
	first := mustAppend(t, l, event("a", "1"))[0]
	fs.setFree(500_000) // too little to make the reserve again
	fs.setRoom(20_000)
	acked := 1
	var err error
	for range 2000 {
		if _, err = l.Append(t.Context(), []tailrace.Event{event("a", strings.Repeat("x", 100))}); err != nil {
			break
		}
		acked++
	}
	if !errors.Is(err, tailrace.ErrFull) {
		t.Fatalf("after %d appends: %v, want ErrFull", acked, err)
	}
	if got, _ := readAll(t, l, tailrace.Query{}); len(got) != acked {
		t.Errorf("%d events, %d acknowledged", len(got), acked)
	}
	if err := l.Trim(t.Context(), "a", first.Cursor); err != nil {
		t.Errorf("trim on a full disk: %v", err)
	}
	fs.setRoom(-1)
	fs.setFree(50e9)
	eventually(t, "accepted again", func() bool {
		_, err := l.Append(t.Context(), []tailrace.Event{event("a", "y")})
		return err == nil
	})
	if l.disk.spent.Load() {
		t.Error("the reserve was not made again")
	}
}

func TestLowDiskGivesErrFull(t *testing.T) {
	fs := newShim(vfs.Default)
	o := testOptions()
	o.fs, o.MinFree, o.sweep = fs, 1e9, 10*time.Millisecond
	fs.setFree(3e9)
	l := openTest(t, t.TempDir(), o)
	append1 := func() error {
		_, err := l.Append(t.Context(), []tailrace.Event{event("a", "1")})
		return err
	}
	if err := append1(); err != nil {
		t.Fatal(err)
	}
	fs.setFree(0.9e9)
	eventually(t, "full", func() bool { return errors.Is(append1(), tailrace.ErrFull) })
	if !l.Metrics().Full {
		t.Error("Metrics.Full is not set")
	}
	got, next := readAll(t, l, tailrace.Query{})
	if len(got) == 0 {
		t.Error("nothing can be read")
	}
	if err := l.Trim(t.Context(), "a", next); err != nil {
		t.Errorf("trim: %v", err)
	}
	fs.setFree(1.1e9) // above the limit, but not by a quarter
	sweeps := l.Metrics().Sweeps
	eventually(t, "two sweeps", func() bool { return l.Metrics().Sweeps > sweeps+2 })
	if err := append1(); !errors.Is(err, tailrace.ErrFull) {
		t.Errorf("at 1.1 times the limit: %v", err)
	}
	fs.setFree(1.3e9)
	eventually(t, "accepted again", func() bool { return append1() == nil })
}

// TestPowerCut drops what was not synced, at random moments.
func TestPowerCut(t *testing.T) {
	rules := []tailrace.Rule{
		{Pattern: "m/**", Policy: tailrace.Policy{Durability: tailrace.Memory}},
		{Pattern: "i/**", Policy: tailrace.Policy{Durability: tailrace.Interval}},
	}
	for _, lossy := range []bool{false, true} {
		t.Run(fmt.Sprint("lossy ", lossy), func(t *testing.T) {
			for round := range 10 {
				mem := vfs.NewCrashableMem()
				o := testOptions()
				o.fs, o.Rules = mem, rules
				l := openTest(t, "log", o)
				topics := []string{"f/1", "f/2"}
				if lossy {
					topics = append(topics, "m/1", "i/1")
				}
				var mu sync.Mutex
				acked := map[string][]tailrace.Cursor{}
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for p := range 8 {
					wg.Go(func() {
						topic := topics[p%len(topics)]
						for ctx.Err() == nil {
							rs, err := l.Append(ctx, []tailrace.Event{event(topic, "x")})
							if err != nil {
								return
							}
							mu.Lock()
							acked[topic] = append(acked[topic], rs[0].Cursor)
							mu.Unlock()
						}
					})
				}
				time.Sleep(time.Duration(5+rand.IntN(30)) * time.Millisecond)
				mu.Lock()
				before := map[string]int{}
				for topic, cs := range acked {
					before[topic] = len(cs)
				}
				mu.Unlock()
				crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50}[round%2], RNG: rand.New(rand.NewPCG(1, uint64(round)))})
				cancel()
				wg.Wait()
				l.Close()

				o.fs = crashed
				l = openTest(t, "log", o)
				for topic, cs := range acked {
					checkAfterCrash(t, l, topic, cs[:before[topic]], strings.HasPrefix(topic, "f/"))
				}
			}
		})
	}
}

// checkAfterCrash checks that acknowledged events of a topic are there, each once and in
// order, or, if the class allows, that who has seen one that is lost is told.
func checkAfterCrash(t testing.TB, l *Log, topic string, acked []tailrace.Cursor, safe bool) (lost int) {
	t.Helper()
	sel := tailrace.Selector{Topics: []string{topic}}
	got, _ := readAll(t, l, tailrace.Query{Select: sel, Limit: 10_000, MaxBytes: 1 << 30})
	kept := map[tailrace.Cursor]bool{}
	for i, e := range got {
		kept[e.Cursor] = true
		if i > 0 && got[i-1].Cursor.Pos >= e.Cursor.Pos {
			t.Fatalf("%s: %v after %v", topic, e.Cursor, got[i-1].Cursor)
		}
	}
	for i, c := range acked {
		if !kept[c] {
			lost++
			if safe {
				t.Fatalf("%s: %v was acknowledged and is lost", topic, c)
			}
		}
		if kept[c] && i%97 != 0 && i < len(acked)-3 {
			continue
		}
		p, err := l.Read(context.Background(), tailrace.Query{Select: sel, After: c})
		if err != nil {
			t.Fatal(err)
		}
		if kept[c] && p.Reset != nil {
			t.Fatalf("%s: reset %+v after %v, which is kept", topic, *p.Reset, c)
		}
		if !kept[c] && (p.Reset == nil || p.Reset.Reason != tailrace.EpochGap) {
			t.Fatalf("%s: a silent gap after %v, which is lost: %+v", topic, c, p)
		}
	}
	return lost
}

func TestStoreFatalOnTheCommitter(t *testing.T) {
	l := openTest(t, t.TempDir(), nil)
	mustAppend(t, l, event("a", "1"))
	err := l.command(t.Context(), func(c *committer) error {
		(&storeLogger{l}).Fatalf("commit error: %v", errSync)
		return nil
	})
	if err == nil {
		t.Error("the command succeeded")
	}
	if _, err := l.Append(t.Context(), []tailrace.Event{event("a", "2")}); !errors.Is(err, tailrace.ErrStopped) {
		t.Errorf("append: %v", err)
	}
	if got, _ := readAll(t, l, tailrace.Query{}); len(got) != 1 {
		t.Errorf("read %q", datas(got))
	}
	l.Close()
}

func TestStoreFatalElsewhereEndsTheProcess(t *testing.T) {
	o := testOptions()
	exits := make(chan int, 1)
	o.exit = func(code int) { exits <- code }
	l := openTest(t, t.TempDir(), o)
	(&storeLogger{l}).Fatalf("MANIFEST flush failed: %v", errSync)
	if len(exits) != 1 || l.stopped.Load() == nil {
		t.Error("the process goes on")
	}
}

func TestCloseEndsAllGoroutines(t *testing.T) {
	count := func() int {
		b := make([]byte, 1<<20)
		return strings.Count(string(b[:runtime.Stack(b, true)]), "cockroachdb/pebble") + strings.Count(string(b[:runtime.Stack(b, true)]), "pebblelog.(*sweeper)")
	}
	before := count()
	dir := t.TempDir()
	for range 3 {
		l := openTest(t, dir, nil)
		mustAppend(t, l, event("a", "1"))
		stop, err := l.Watch(tailrace.Selector{}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all goroutines end", func() bool { return count() <= before })
}
