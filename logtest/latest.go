package logtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tailrace/tailrace"
)

func latestTests() []test {
	keyed := func(topic, key, data string) tailrace.Event {
		return tailrace.Event{Topic: topic, Key: key, Data: []byte(data)}
	}
	removed := func(topic, key string) tailrace.Event {
		return tailrace.Event{Topic: topic, Key: key, Remove: true}
	}
	return []test{
		{name: "the newest event of each topic and key", check: func(e *env) {
			e.append(keyed("a", "x", "1"), keyed("a", "y", "2"), event("a", "no key"), keyed("b", "x", "3"), keyed("a", "x", "4"))
			e.wantState(topics("a"), "x=4 y=2")
			e.wantState(topics("b"), "x=3")
			e.wantState(patterns("*"), "x=3 x=4 y=2")
			e.wantState(tailrace.Selector{}, "x=3 x=4 y=2")
			e.wantState(topics("b", "a", "none"), "x=3 x=4 y=2")
			e.wantState(topics("none"), "")
		}},
		{name: "removed keys are left out", check: func(e *env) {
			e.append(keyed("a", "x", "1"), keyed("a", "y", "2"), removed("a", "x"), removed("a", "never"))
			e.wantState(topics("a"), "y=2")
			e.append(keyed("a", "x", "3"))
			e.wantState(topics("a"), "x=3 y=2")
		}},
		{name: "pages of one cut", check: func(e *env) {
			var events []tailrace.Event
			for i := range 30 {
				events = append(events, keyed(fmt.Sprint("t", i%3), fmt.Sprintf("k%02d", i), "old"))
			}
			e.append(events...)
			for _, s := range []tailrace.Selector{topics("t0", "t1", "t2"), patterns("*"), {}, topics("t1")} {
				all, _ := e.readAll(tailrace.Query{Select: s})
				var want []string
				for _, ev := range all {
					want = append(want, ev.Key)
				}
				slices.Sort(want)
				for _, limit := range []int{1, 2, 7, 10, 30, 31} {
					got, p := e.latest(tailrace.Query{Select: s, Limit: limit})
					var keys []string
					for _, ev := range got {
						keys = append(keys, ev.Key)
					}
					slices.Sort(keys)
					if !slices.Equal(keys, want) || p.Next.Pos < all[len(all)-1].Cursor.Pos {
						e.Errorf("%+v in pages of %d: %q to %v, want %q", s, limit, keys, p.Next, want)
					}
				}
			}
		}},
		{name: "what changes after the cut follows it", check: func(e *env) {
			for i := range 6 {
				e.append(keyed("a", fmt.Sprint(i), "old"))
			}
			for _, s := range []tailrace.Selector{topics("a"), patterns("a")} {
				state := map[string]string{}
				p := e.read(tailrace.Query{Select: s, Latest: true, Limit: 2})
				cut := p.Next
				keep(state, p.Events)
				e.append(keyed("a", "0", "new"), keyed("a", "5", "new"), keyed("a", "6", "new"), removed("a", "4"))
				for p.Mark != "" {
					p = e.read(tailrace.Query{Select: s, Latest: true, Limit: 2, After: p.Next, Mark: p.Mark, Told: p.Told})
					for _, ev := range p.Events {
						if ev.Cursor.Pos > cut.Pos {
							e.Errorf("%+v: %v is beyond the cut %v", s, ev.Cursor, cut)
						}
					}
					keep(state, p.Events)
				}
				if p.Next != cut {
					e.Errorf("%+v: the last Next is %v, the cut %v", s, p.Next, cut)
				}
				tail, _ := e.readAll(tailrace.Query{Select: s, After: cut, Told: p.Told})
				keep(state, tail)
				all, _ := e.readAll(tailrace.Query{Select: s})
				want := map[string]string{}
				keep(want, all)
				if fmt.Sprint(state) != fmt.Sprint(want) {
					e.Errorf("%+v: snapshot and tail give %v, the log %v", s, state, want)
				}
			}
		}},
		{name: "a loss between the pages is told after the cut", check: func(e *env) {
			for i := range 6 {
				e.append(keyed("a", fmt.Sprint(i), "old"))
			}
			p := e.read(tailrace.Query{Select: topics("a"), Latest: true, Limit: 2})
			newest := e.append(keyed("a", "5", "new"))[0].Cursor
			e.trim("a", newest)
			for p.Mark != "" {
				p = e.read(tailrace.Query{Select: topics("a"), Latest: true, Limit: 2, After: p.Next, Mark: p.Mark, Told: p.Told})
			}
			e.wantReset(tailrace.Query{Select: topics("a"), After: p.Next, Told: p.Told}, tailrace.Trimmed)
		}},
		{name: "a trim takes keys with it", check: func(e *env) {
			e.append(keyed("a", "x", "1"))
			c := e.append(keyed("a", "y", "2"))[0].Cursor
			e.append(keyed("a", "y", "3"))
			e.trim("a", c)
			e.wantState(topics("a"), "y=3")
		}},
		{name: "KeepLatest outlives trimming", rules: rule(tailrace.Policy{KeepLatest: true}), check: func(e *env) {
			e.append(keyed("a", "x", "1"), keyed("a", "y", "2"), keyed("a", "z", "3"), removed("a", "z"), event("a", "none"), keyed("b", "x", "b"))
			start := e.append(keyed("a", "y", "4"))[0].Cursor
			e.trim("a", start)
			e.wantState(topics("a"), "x=1 y=4")
			e.wantState(patterns("*"), "x=1 x=b y=4")
			e.wantData(tailrace.Query{Select: topics("a")}) // below the floor: for snapshots only
			e.wantData(tailrace.Query{Select: patterns("*")}, "b")
			e.append(keyed("a", "x", "5"), removed("a", "y"))
			e.wantState(topics("a"), "x=5")
			e.trim("a", e.head())
			e.wantState(topics("a"), "x=5")
			e.delete("a")
			e.wantState(topics("a"), "")
			e.wantState(tailrace.Selector{}, "x=b")
		}},
		{name: "the first page's bytes", check: func(e *env) {
			for i := range 10 {
				e.append(keyed("a", fmt.Sprint(i), strings.Repeat("x", 100)))
			}
			p := e.read(tailrace.Query{Select: topics("a"), Latest: true, MaxBytes: 250})
			if len(p.Events) < 1 || len(p.Events) > 2 || p.Mark == "" {
				e.Errorf("%d events of 100 bytes, mark %q", len(p.Events), p.Mark)
			}
			if all, _ := e.latest(tailrace.Query{Select: topics("a"), MaxBytes: 250}); len(all) != 10 {
				e.Errorf("%d events in all", len(all))
			}
		}},
		{name: "a snapshot's cursor is one of this log", check: func(e *env) {
			e.append(keyed("a", "x", "1"))
			_, p := e.latest(tailrace.Query{Select: topics("a")})
			e.wantData(tailrace.Query{Select: topics("a"), After: p.Next, Told: p.Told})
			e.append(keyed("a", "x", "2"))
			e.wantData(tailrace.Query{Select: topics("a"), After: p.Next, Told: p.Told}, "2")
		}},
	}
}

// keep applies events to a state.
func keep(state map[string]string, events []tailrace.Event) {
	for _, ev := range events {
		switch {
		case ev.Key == "":
		case ev.Remove:
			delete(state, ev.Topic+" "+ev.Key)
		default:
			state[ev.Topic+" "+ev.Key] = string(ev.Data)
		}
	}
}

// wantState reads a snapshot, in one page and in pages of one, and checks its
// keys and data.
func (e *env) wantState(s tailrace.Selector, want string) {
	e.Helper()
	for _, limit := range []int{0, 1} {
		events, _ := e.latest(tailrace.Query{Select: s, Limit: limit})
		var got []string
		for _, ev := range events {
			got = append(got, ev.Key+"="+string(ev.Data))
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			e.Errorf("snapshot of %+v in pages of %d: %q, want %q", s, limit, strings.Join(got, " "), want)
		}
	}
}
