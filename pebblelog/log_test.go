package pebblelog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/tailrace/tailrace"
)

var (
	_ tailrace.Log        = (*Log)(nil)
	_ tailrace.RuleSetter = (*Log)(nil)
)

// testOptions are quiet and need no room on the disk.
func testOptions() *Options {
	return &Options{MinFree: -1, Reserve: -1, Logger: slog.New(slog.DiscardHandler)}
}

func openTest(t testing.TB, dir string, o *Options) *Log {
	t.Helper()
	if o == nil {
		o = testOptions()
	}
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func event(topic, data string) tailrace.Event {
	return tailrace.Event{Topic: topic, Data: []byte(data)}
}

func mustAppend(t testing.TB, l tailrace.Log, events ...tailrace.Event) []tailrace.Receipt {
	t.Helper()
	rs, err := l.Append(context.Background(), events)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// readAll reads from q on until nothing is left.
func readAll(t testing.TB, l tailrace.Log, q tailrace.Query) (events []tailrace.Event, next tailrace.Cursor) {
	t.Helper()
	for {
		p, err := l.Read(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		if p.Reset != nil {
			t.Fatalf("reset %+v from %+v", *p.Reset, q)
		}
		events = append(events, p.Events...)
		q = tailrace.Query{Select: q.Select, After: p.Next, Told: p.Told, Limit: q.Limit}
		if !p.More {
			return events, p.Next
		}
	}
}

func TestEventsSurviveClose(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, dir, nil)
	var want []tailrace.Event
	for i := range 300 {
		e := tailrace.Event{Topic: fmt.Sprintf("a/%d", i%7), Type: "tick", Key: fmt.Sprint("k", i%3), ID: fmt.Sprint("id", i), Data: fmt.Append(nil, i), Retry: 5e9}
		r := mustAppend(t, l, e)[0]
		e.Cursor, e.Time = r.Cursor, r.Time
		want = append(want, e)
	}
	check := func(l *Log) {
		t.Helper()
		for _, s := range []tailrace.Selector{{}, {Patterns: []string{"a/*"}}, {Topics: []string{"a/0", "a/1", "a/2", "a/3", "a/4", "a/5", "a/6"}}} {
			got, _ := readAll(t, l, tailrace.Query{Select: s, Limit: 64})
			if len(got) != len(want) {
				t.Fatalf("%+v: %d events, want %d", s, len(got), len(want))
			}
			for i := range got {
				g, w := got[i], want[i]
				if !g.Time.Equal(w.Time) || string(g.Data) != string(w.Data) {
					t.Fatalf("%d: %+v, want %+v", i, g, w)
				}
				g.Time, g.Data, w.Data = w.Time, nil, nil
				if fmt.Sprintf("%+v", g) != fmt.Sprintf("%+v", w) {
					t.Fatalf("%d: %+v, want %+v", i, g, w)
				}
			}
		}
	}
	check(l)
	epoch := l.epochs.Load().today().id
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openTest(t, dir, nil)
	if e := l.epochs.Load().today().id; e != epoch {
		t.Errorf("a clean stop made a new epoch")
	}
	check(l)
	if r := mustAppend(t, l, event("a/0", "x"))[0]; r.Cursor.Pos != 301 {
		t.Errorf("position %d after a clean stop, want 301", r.Cursor.Pos)
	}
}

func TestSecondOpenNamesTheHolder(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, dir, nil)
	_, err := Open(dir, testOptions())
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.PID != os.Getpid() || inUse.Host == "" {
		t.Fatalf("second open: %v", err)
	}
	l.Close()
	openTest(t, dir, nil)
}

func TestUnknownFormatIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/format", []byte("tailrace log 99\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, testOptions()); !errors.Is(err, ErrFormat) {
		t.Fatalf("open: %v", err)
	}
}

func TestCloseWhileAppendsRun(t *testing.T) {
	dir := t.TempDir()
	l := openTest(t, dir, nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	stored := map[string]bool{}
	for p := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", p, i)
				_, err := l.Append(t.Context(), []tailrace.Event{{Topic: "t", ID: id}})
				if err != nil {
					if !errors.Is(err, tailrace.ErrStopped) {
						t.Errorf("append: %v", err)
					}
					return
				}
				mu.Lock()
				stored[id] = true
				n := len(stored)
				mu.Unlock()
				if n == 200 {
					go l.Close()
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(t.Context(), tailrace.Query{}); !errors.Is(err, tailrace.ErrStopped) {
		t.Errorf("read after close: %v", err)
	}
	got, _ := readAll(t, openTest(t, dir, nil), tailrace.Query{})
	seen := map[string]bool{}
	for _, e := range got {
		seen[e.ID] = true
	}
	for id := range stored {
		if !seen[id] {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	if len(seen) != len(got) {
		t.Errorf("%d ids, %d events", len(seen), len(got))
	}
}
