package logtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace"
)

// scheduleTests stop the engine at its named points and let something else
// happen there. Without that, the races that they look for hardly ever show.
func scheduleTests() []test {
	tests := []test{{name: "random pauses", needs: pause, rules: loadRules(), check: func(e *env) {
		o := load{publishers: 8, calls: size(40, 500), readers: size(16, 64), seed: seed(e)}
		longest := time.Duration(size(1, 4)) * time.Millisecond
		e.config.Pause(e.log, func(string) {
			if rand.IntN(4) == 0 {
				time.Sleep(rand.N(longest))
			}
		})
		defer e.config.Pause(e.log, nil)
		e.wantRight(o.run(e, e.log))
	}}}
	for _, s := range []struct {
		point, name string
		check       func(e *env, point string)
	}{
		{"read.floors", "trim", readDuring((*env).trimSome)},
		{"read.floors", "delete", readDuring((*env).deleteSome)},
		{"read.floors", "append", readDuring((*env).appendSome)},
		{"read.slice", "trim", readDuring((*env).trimSome)},
		{"read.slice", "delete", readDuring((*env).deleteSome)},
		{"read.slice", "append", readDuring((*env).appendSome)},
		{"trim.floor", "read", func(e *env, point string) {
			start := e.fill()
			for _, s := range scheduleSelectors {
				e.during(point, e.trimSome, func() { e.chase(s, start) })
			}
		}},
		{"trim.floor", "append", func(e *env, point string) {
			start := e.fill()
			e.during(point, e.deleteSome, e.appendSome)
			for _, s := range scheduleSelectors {
				e.chase(s, start)
			}
		}},
		{"append.commit", "read", func(e *env, point string) {
			start := e.fill()
			for _, s := range scheduleSelectors {
				e.during(point, e.appendSome, func() { e.chase(s, start) })
				e.chase(s, start)
			}
		}},
		{"append.commit", "trim", func(e *env, point string) {
			start := e.fill()
			e.during(point, e.appendSome, e.trimSome)
			for _, s := range scheduleSelectors {
				e.chase(s, start)
			}
		}},
		{"append.commit", "delete", func(e *env, point string) {
			start := e.fill()
			e.during(point, e.appendSome, e.deleteSome)
			for _, s := range scheduleSelectors {
				e.chase(s, start)
			}
		}},
		{"append.commit", "the same id", sameIDDuring},
		{"id.claim", "the same id", sameIDDuring},
		{"latest.page", "append and trim", func(e *env, point string) {
			for i := range 20 {
				e.append(tailrace.Event{Topic: "t/1", Key: fmt.Sprint(i % 7), Data: []byte(fmt.Sprint(i))})
			}
			state := map[string]string{}
			e.during(point, func() {
				snapshot, p := e.latest(tailrace.Query{Select: topics("t/1"), Limit: 3})
				keep(state, snapshot)
				e.Logf("snapshot to %v", p.Next)
				for q := (tailrace.Query{Select: topics("t/1"), After: p.Next, Told: p.Told}); ; q.After, q.Told = p.Next, p.Told {
					if p = e.read(q); p.Reset != nil {
						state = nil // it was told, and reads a new snapshot
						return
					}
					keep(state, p.Events)
					if !p.More {
						return
					}
				}
			}, func() {
				e.append(tailrace.Event{Topic: "t/1", Key: "3", Data: []byte("new")}, tailrace.Event{Topic: "t/1", Key: "4", Remove: true})
			})
			all, _ := e.readAll(tailrace.Query{Select: topics("t/1")})
			want := map[string]string{}
			keep(want, all)
			if state != nil && fmt.Sprint(state) != fmt.Sprint(want) {
				// The tail may have ended before the append began.
				delete(state, "t/1 3")
				delete(state, "t/1 4")
				delete(want, "t/1 3")
				delete(want, "t/1 4")
				if fmt.Sprint(state) != fmt.Sprint(want) {
					e.Errorf("snapshot and tail give %v, the log %v", state, want)
				}
			}
		}},
	} {
		tests = append(tests, test{name: s.point + ", " + s.name, needs: pause, rules: inMemory(), check: func(e *env) { s.check(e, s.point) }})
	}
	return tests
}

var scheduleSelectors = []tailrace.Selector{topics("t/1"), topics("t/0", "t/1"), patterns("t/*"), {}}

// fill writes enough that a page is made in several parts, and returns where it
// began.
func (e *env) fill() tailrace.Cursor {
	e.Helper()
	start := e.head()
	var events []tailrace.Event
	for i := range 4000 {
		events = append(events, event(fmt.Sprint("t/", i%3), fmt.Sprint(i)))
	}
	e.append(events...)
	return start
}

func (e *env) appendSome() {
	e.Helper()
	e.append(event("t/0", "late"), event("t/1", "late"))
}

// trimSome leaves a few events of t/1.
func (e *env) trimSome() {
	e.Helper()
	upTo := e.head()
	upTo.Pos -= min(upTo.Pos, 50)
	e.trim("t/1", upTo)
}

func (e *env) deleteSome() {
	e.Helper()
	e.delete("t/1")
}

// during runs main, and at its first arrival at point other, in a goroutine of
// its own: where the engine holds a lock, other has to wait for main.
func (e *env) during(point string, main, other func()) {
	e.Helper()
	var once atomic.Bool
	var wg sync.WaitGroup
	e.config.Pause(e.log, func(at string) {
		if at != point || !once.CompareAndSwap(false, true) {
			return
		}
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			other()
		})
		select {
		case <-done:
		case <-time.After(20 * time.Millisecond):
		}
	})
	main()
	wg.Wait()
	e.config.Pause(e.log, nil)
	if !once.Load() {
		e.Skipf("skipped: the engine has no point %s", point)
	}
}

// readDuring returns a schedule in which other happens inside a read.
func readDuring(other func(e *env)) func(e *env, point string) {
	return func(e *env, point string) {
		start := e.fill()
		for _, s := range scheduleSelectors {
			if point == "read.slice" && len(s.Patterns) == 0 && !s.IsZero() {
				continue // exact topics need no parts
			}
			e.during(point, func() { e.chase(s, start) }, func() { other(e) })
			e.chase(s, start)
			e.appendSome()
			start = e.fill()
		}
	}
}

// chase reads from start to the end and checks that nothing is missing without
// a reset.
func (e *env) chase(s tailrace.Selector, start tailrace.Cursor) {
	e.Helper()
	var seen []uint64
	resets := 0
	q := tailrace.Query{Select: s, After: start, Limit: 3000}
	for {
		p := e.read(q)
		if p.Reset != nil {
			resets++
		}
		for _, ev := range p.Events {
			if n := len(seen); n > 0 && seen[n-1] >= ev.Cursor.Pos {
				e.Errorf("%+v: %d after %d", s, ev.Cursor.Pos, seen[n-1])
			}
			seen = append(seen, ev.Cursor.Pos)
		}
		q.After, q.Told = p.Next, p.Told
		if !p.More && p.Reset == nil {
			break
		}
	}
	// What is kept must have been seen, and if nothing was told, all.
	kept, _ := e.readAll(tailrace.Query{Select: s, Limit: 5000})
	if resets == 0 {
		kept = e.published()
	}
	for _, ev := range kept {
		pos := ev.Cursor.Pos
		if _, ok := slices.BinarySearch(seen, pos); !ok && s.Match(ev.Topic) && pos > start.Pos && pos <= q.After.Pos {
			e.Errorf("%+v: silent gap: read from %d to %d with %d resets, without %s %q at %d",
				s, start.Pos, q.After.Pos, resets, ev.Topic, ev.Data, pos)
			return
		}
	}
}

// sameIDDuring appends an id while an append of it is under way.
func sameIDDuring(e *env, point string) {
	var rs [2]tailrace.Receipt
	ev := tailrace.Event{Topic: "a", ID: "x", Data: []byte("1")}
	e.during(point, func() { rs[0] = e.append(ev)[0] }, func() { rs[1] = e.append(ev)[0] })
	if rs[0].Cursor != rs[1].Cursor || rs[0].Duplicate == rs[1].Duplicate {
		e.Errorf("receipts %+v and %+v, want one stored and its duplicate", rs[0], rs[1])
	}
	e.wantData(tailrace.Query{}, "1")
}
