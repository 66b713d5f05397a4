package logtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/tailrace/tailrace"
)

func resetTests() []test {
	return []test{
		{name: "a trim after the start is told", check: func(e *env) {
			start := e.head()
			one := e.put("a", "1")
			two := e.put("a", "2")
			e.put("a", "3")
			e.trim("a", two)
			p := e.wantReset(tailrace.Query{Select: topics("a"), After: start}, tailrace.Trimmed)
			if p.Next != two {
				e.Errorf("one exact topic: Next %v, want its floor %v", p.Next, two)
			}
			if p.Reset.Requested != start.String() {
				e.Errorf("requested %q, want %q", p.Reset.Requested, start)
			}
			e.wantData(tailrace.Query{Select: topics("a"), After: p.Next}, "3")
			if p := e.wantReset(tailrace.Query{Select: topics("a"), LastID: one.String()}, tailrace.Trimmed); p.Reset.Requested != one.String() {
				e.Errorf("requested %q, want %q", p.Reset.Requested, one)
			}
			e.wantData(tailrace.Query{Select: topics("a"), After: two}, "3")
		}},
		{name: "of several topics next skips nothing that is kept", check: func(e *env) {
			e.put("a", "a1")
			start := e.head()
			e.put("b", "b1")
			a2 := e.put("a", "a2")
			e.put("b", "b2")
			e.trim("a", a2)
			for _, s := range []tailrace.Selector{{}, topics("a", "b"), patterns("*"), {Topics: []string{"b"}, Patterns: []string{"a"}}} {
				p := e.wantReset(tailrace.Query{Select: s, After: start}, tailrace.Trimmed)
				if p.Next != start {
					e.Errorf("%+v: Next %v, want the start %v", s, p.Next, start)
				}
				if p.Reset.Topics != nil && !slices.Equal(p.Reset.Topics, []string{"a"}) {
					e.Errorf("%+v: topics %q", s, p.Reset.Topics)
				}
				e.wantData(tailrace.Query{Select: s, After: p.Next, Told: p.Told}, "b1", "b2")
			}
			e.wantData(tailrace.Query{Select: topics("b"), After: start}, "b1", "b2")
			e.wantData(tailrace.Query{Select: patterns("b"), After: start}, "b1", "b2")
		}},
		{name: "a start without cursor knows what was lost before", check: func(e *env) {
			e.put("a", "1")
			e.put("b", "2")
			e.trim("a", e.head())
			for _, s := range []tailrace.Selector{{}, topics("a"), topics("a", "b"), patterns("*")} {
				for _, q := range []tailrace.Query{{}, {Last: 5}, {Since: time.Unix(1, 0)}, {Head: true}} {
					q.Select = s
					if p := e.read(q); p.Reset != nil {
						e.Errorf("%+v: reset %+v", q, *p.Reset)
					}
				}
			}
			e.wantData(tailrace.Query{}, "2")
		}},
		{name: "a loss is told once, a later one again", check: func(e *env) {
			start := e.head()
			var a, b []tailrace.Cursor
			for i := range 6 {
				a = append(a, e.put("a", fmt.Sprint("a", i)))
				b = append(b, e.put("b", fmt.Sprint("b", i)))
			}
			both := []tailrace.Selector{topics("a", "b"), patterns("*"), {}}
			told := make([]uint64, len(both))
			e.trim("a", a[1])
			for i, s := range both {
				p := e.wantReset(tailrace.Query{Select: s, After: start}, tailrace.Trimmed)
				if told[i] = p.Told; p.Told == 0 {
					e.Errorf("%+v: a reset does not set Told", s)
				}
			}
			e.trim("b", b[0])
			for i, s := range both { // the other's loss is a new one
				p := e.wantReset(tailrace.Query{Select: s, After: start, Told: told[i]}, tailrace.Trimmed)
				if !slices.Equal(p.Reset.Topics, []string{"b"}) && p.Reset.Topics != nil {
					e.Errorf("%+v: topics %q, want b alone", s, p.Reset.Topics)
				}
				told[i] = p.Told
			}
			for i, s := range both {
				p := e.read(tailrace.Query{Select: s, After: start, Told: told[i], Limit: 2})
				if !slices.Equal(datas(p.Events), []string{"b1", "a2"}) {
					e.Fatalf("%+v: after both losses are known: %q, reset %+v", s, datas(p.Events), p.Reset)
				}
			}
			e.trim("a", a[3]) // again of a, which was told before
			for i, s := range both {
				p := e.wantReset(tailrace.Query{Select: s, After: a[2], Told: told[i]}, tailrace.Trimmed)
				e.wantData(tailrace.Query{Select: s, After: p.Next, Told: p.Told}, "b2", "b3", "a4", "b4", "a5", "b5")
				e.wantReset(tailrace.Query{Select: s, After: start}, tailrace.Trimmed) // a resume has only its cursor
			}
		}},
		{name: "a loss below the start is none", check: func(e *env) {
			e.put("a", "1")
			two := e.put("a", "2")
			e.put("a", "3")
			e.trim("a", two)
			for _, s := range []tailrace.Selector{topics("a"), patterns("*"), {}} {
				e.wantData(tailrace.Query{Select: s, After: two}, "3")
			}
		}},
		{name: "a trim while a reader is under way is told where it is", check: func(e *env) {
			start := e.head()
			var a []tailrace.Cursor
			for i := range 6 {
				a = append(a, e.put("a", fmt.Sprint(i)))
			}
			for _, s := range []tailrace.Selector{topics("a"), patterns("a"), {}} {
				p := e.read(tailrace.Query{Select: s, After: start, Limit: 2})
				if len(p.Events) != 2 {
					e.Fatalf("%+v: %d events", s, len(p.Events))
				}
			}
			p := e.read(tailrace.Query{After: start, Limit: 2})
			q := e.read(tailrace.Query{After: start, Limit: 4})
			e.trim("a", a[3])
			e.wantReset(tailrace.Query{After: p.Next, Told: p.Told}, tailrace.Trimmed)
			e.wantData(tailrace.Query{After: q.Next, Told: q.Told}, "4", "5")
		}},
		{name: "oldest is before all that is kept", check: func(e *env) {
			start := e.head()
			var a, b []tailrace.Cursor
			for i := range 5 {
				a = append(a, e.put("a", fmt.Sprint("a", i)))
				b = append(b, e.put("b", fmt.Sprint("b", i)))
			}
			e.trim("a", a[3])
			e.trim("b", b[1])
			for _, c := range []struct {
				s     tailrace.Selector
				first tailrace.Cursor
			}{{topics("a"), a[4]}, {topics("a", "b"), b[2]}, {patterns("*"), b[2]}, {tailrace.Selector{}, b[2]}} {
				r := e.wantReset(tailrace.Query{Select: c.s, After: start}, tailrace.Trimmed).Reset
				if r.Oldest.Pos >= c.first.Pos {
					e.Errorf("%+v: oldest %v, but %v is kept", c.s, r.Oldest, c.first)
				}
			}
		}},
		{name: "a cursor of another log", check: func(e *env) {
			e.put("a", "1")
			e.put("b", "2")
			c := e.head()
			c.Epoch ^= 1
			for _, s := range []tailrace.Selector{topics("a"), topics("a", "b"), patterns("*"), {}} {
				for _, q := range []tailrace.Query{{After: c}, {LastID: c.String()}} {
					q.Select = s
					p := e.wantReset(q, tailrace.EpochGap)
					if p.Reset.Requested != c.String() {
						e.Errorf("%+v: requested %q", q, p.Reset.Requested)
					}
					var want []string
					for _, t := range []string{"a", "b"} {
						if s.Match(t) {
							want = append(want, map[string]string{"a": "1", "b": "2"}[t])
						}
					}
					e.wantData(tailrace.Query{Select: s, After: p.Next, Told: p.Told}, want...)
				}
			}
		}},
		{name: "a cursor beyond the head", check: func(e *env) {
			e.put("a", "1")
			c := e.head()
			c.Pos++
			for _, s := range []tailrace.Selector{topics("a"), patterns("*"), {}} {
				p := e.wantReset(tailrace.Query{Select: s, After: c}, tailrace.Ahead)
				e.wantData(tailrace.Query{Select: s, After: p.Next, Told: p.Told}, "1")
			}
		}},
		{name: "an id that nobody has", check: func(e *env) {
			e.append(tailrace.Event{Topic: "a", ID: "x", Data: []byte("1")})
			e.put("b", "2")
			for _, s := range []tailrace.Selector{topics("a"), patterns("*"), {}} {
				p := e.wantReset(tailrace.Query{Select: s, LastID: "y"}, tailrace.Unknown)
				if p.Reset.Requested != "y" {
					e.Errorf("requested %q", p.Reset.Requested)
				}
			}
			p := e.wantReset(tailrace.Query{Select: topics("b"), LastID: "x"}, tailrace.Unknown)
			e.wantData(tailrace.Query{Select: topics("b"), After: p.Next, Told: p.Told}, "2")
		}},
		{name: "after a reset to the oldest there is no second", check: func(e *env) {
			e.put("a", "a1")
			e.put("b", "b1")
			e.put("a", "a2")
			e.put("c", "c1")
			e.trim("a", e.head())
			foreign := e.head()
			foreign.Epoch ^= 1
			for _, s := range []tailrace.Selector{topics("a", "b"), patterns("*"), {}} {
				p := e.wantReset(tailrace.Query{Select: s, After: foreign}, tailrace.EpochGap)
				want := []string{"b1", "c1"}
				if !s.Match("c") {
					want = want[:1]
				}
				e.wantData(tailrace.Query{Select: s, After: p.Next, Told: p.Told}, want...)
			}
		}},
		{name: "deleted, used again and trimmed", check: func(e *env) {
			start := e.head()
			e.put("a", "1")
			e.delete("a")
			e.wantReset(tailrace.Query{Select: topics("a"), After: start}, tailrace.Deleted)
			two := e.put("a", "2")
			e.put("a", "3")
			p := e.wantReset(tailrace.Query{Select: topics("a"), After: start}, tailrace.Deleted)
			e.wantData(tailrace.Query{Select: topics("a"), After: p.Next, Told: p.Told}, "2", "3")
			e.trim("a", two)
			e.wantReset(tailrace.Query{Select: topics("a"), After: start}, tailrace.Trimmed)
			q := e.wantReset(tailrace.Query{Select: topics("a"), After: p.Next, Told: p.Told}, tailrace.Trimmed)
			e.wantData(tailrace.Query{Select: topics("a"), After: q.Next, Told: q.Told}, "3")
		}},
		{name: "the floor of a deleted topic is kept for the cursor life", needs: clock, check: func(e *env) {
			start := e.head()
			e.put("a", "1")
			e.put("b", "1")
			e.delete("a")
			e.clock.advance(6 * 24 * time.Hour)
			fresh := e.put("c", "1")
			e.wantReset(tailrace.Query{Select: topics("a"), After: start}, tailrace.Deleted)
			e.clock.advance(3 * 24 * time.Hour)
			e.put("c", "2")
			e.put("a", "2") // perhaps without memory of its first life
			for _, s := range []tailrace.Selector{topics("a"), patterns("a"), topics("a", "d"), topics("never")} {
				if p := e.read(tailrace.Query{Select: s, After: fresh}); p.Reset != nil {
					e.Errorf("%+v: a cursor of three days is reset: %+v", s, *p.Reset)
				}
			}
			p := e.read(tailrace.Query{Select: topics("a"), After: start})
			if p.Reset == nil {
				e.Errorf("a cursor of nine days, from before the deletion, is not reset: %q", datas(p.Events))
			}
		}},
	}
}

func idleTests() []test {
	return []test{
		{name: "an idle topic never causes a reset", rules: inMemory(), check: func(e *env) {
			e.put("idle/a", "1")
			_, p := e.readAll(tailrace.Query{Select: topics("idle/a")})
			never := e.head()
			events := make([]tailrace.Event, 1000)
			for i := range events {
				events[i] = event(fmt.Sprint("foreign/", i%50), "")
			}
			for i := range size(40, 10_000) {
				rs := e.append(events...)
				switch i % 4 {
				case 1:
					e.trim(fmt.Sprint("foreign/", i/2%50), rs[len(rs)/2].Cursor)
				case 3:
					e.delete(fmt.Sprint("foreign/", i/2%50))
				}
			}
			if e.config.Durable {
				e.restart()
			}
			for _, s := range []tailrace.Selector{topics("idle/a"), patterns("idle/*"), topics("idle/a", "idle/b"), topics("idle/b")} {
				for _, c := range []tailrace.Cursor{p.Next, never} {
					e.wantData(tailrace.Query{Select: s, After: c})
				}
			}
			e.wantData(tailrace.Query{Select: topics("idle/a")}, "1")
			e.put("idle/a", "2")
			e.wantData(tailrace.Query{Select: topics("idle/a"), After: p.Next}, "2")
			e.wantData(tailrace.Query{Select: patterns("idle/**"), After: p.Next}, "2")
			if p := e.read(tailrace.Query{Select: patterns("foreign/*"), After: p.Next}); p.Reset == nil {
				e.Error("a pattern over the trimmed topics is not reset")
			}
		}},
	}
}
