package logtest

import (
	"fmt"
	"strings"
	"time"

	"github.com/tailrace/tailrace"
)

func completenessTests() []test {
	return []test{
		{name: "pages of any size join without gap or overlap", rules: inMemory(), check: func(e *env) {
			var events []tailrace.Event
			for i := range 400 {
				events = append(events, event(fmt.Sprint("t", i%4), fmt.Sprintf("%03d", i)))
			}
			e.append(events[:123]...)
			e.append(events[123:]...)
			for _, s := range []tailrace.Selector{{}, patterns("*"), topics("t1"), topics("t1", "t3"), patterns("t2")} {
				var want []string
				for _, ev := range events {
					if s.Match(ev.Topic) {
						want = append(want, string(ev.Data))
					}
				}
				for _, limit := range []int{0, 1, 2, 3, 99, 100, 101, 400, 1000} {
					q := tailrace.Query{Select: s, Limit: limit}
					if p := e.read(q); limit > 0 && len(p.Events) > limit || limit == 0 && len(p.Events) > 256 {
						e.Errorf("%+v: a page of %d", q, len(p.Events))
					}
					e.wantData(q, want...)
				}
				for _, bytes := range []int{1, 3, 7, 600} {
					q := tailrace.Query{Select: s, MaxBytes: bytes}
					if p := e.read(q); len(p.Events) != min(max(1, bytes/3), len(p.Events)) || len(p.Events) == 0 {
						e.Errorf("%+v: a page of %d", q, len(p.Events))
					}
					e.wantData(q, want...)
				}
			}
		}},
		{name: "a page says whether there is more", check: func(e *env) {
			e.append(event("a", "1"), event("b", "2"), event("a", "3"))
			for _, s := range []tailrace.Selector{topics("a"), patterns("a"), {Topics: []string{"a", "none"}}} {
				if p := e.read(tailrace.Query{Select: s, Limit: 1}); !p.More {
					e.Errorf("%+v: one of two: no More", s)
				}
				if _, p := e.readAll(tailrace.Query{Select: s, Limit: 1}); p.More {
					e.Errorf("%+v: at the end: More", s)
				}
			}
		}},
		{name: "one event is returned, however large", check: func(e *env) {
			big := strings.Repeat("x", 10_000)
			e.append(event("a", big), event("a", big))
			if p := e.read(tailrace.Query{MaxBytes: 10}); len(p.Events) != 1 || !p.More {
				e.Errorf("%d events, more %v", len(p.Events), p.More)
			}
		}},
		{name: "a pattern counts the topics that are gone", check: func(e *env) {
			start := e.head()
			e.put("p/a", "1")
			e.put("p/b", "2")
			e.delete("p/a")
			p := e.wantReset(tailrace.Query{Select: patterns("p/*"), After: start}, tailrace.Deleted)
			e.wantData(tailrace.Query{Select: patterns("p/*"), After: p.Next, Told: p.Told}, "2")
			e.wantReset(tailrace.Query{After: start}, tailrace.Deleted)
			e.wantData(tailrace.Query{Select: patterns("q/*"), After: start})
		}},
	}
}

func resumeTests() []test {
	return []test{
		{name: "every cursor is a place to go on from", check: func(e *env) {
			start := e.head()
			var want []string
			cursors := []tailrace.Cursor{start}
			for i := range 20 {
				if i%2 == 0 {
					cursors = append(cursors, e.put("a", fmt.Sprint(i)))
					want = append(want, fmt.Sprint(i))
				} else {
					e.put("b", "foreign")
				}
			}
			for i, c := range cursors {
				for _, s := range []tailrace.Selector{topics("a"), patterns("a"), topics("a", "c")} {
					e.wantData(tailrace.Query{Select: s, After: c}, want[i:]...)
					e.wantData(tailrace.Query{Select: s, LastID: c.String()}, want[i:]...)
				}
			}
		}},
		{name: "next moves past foreign events", check: func(e *env) {
			e.put("a", "1")
			for range 10 {
				e.put("b", "foreign")
			}
			end := e.head()
			for _, s := range []tailrace.Selector{topics("a"), patterns("a")} {
				_, p := e.readAll(tailrace.Query{Select: s})
				if p.Next.Pos < end.Pos {
					e.Errorf("%+v: read to the end, but Next is %v of %v", s, p.Next, end)
				}
				e.wantData(tailrace.Query{Select: s, After: p.Next})
			}
			e.put("a", "2")
			e.wantData(tailrace.Query{Select: topics("a"), After: end}, "2")
		}},
		{name: "a cursor lives on while nothing matches", needs: clock, rules: inMemory(), check: func(e *env) {
			e.put("a", "1")
			_, p := e.readAll(tailrace.Query{Select: topics("a")})
			for day := range 6 {
				for i := range 20 {
					e.put(fmt.Sprint("foreign/", i), "")
				}
				if day%2 == 0 {
					e.delete("foreign/3")
				}
				e.clock.advance(23 * time.Hour)
			}
			for _, s := range []tailrace.Selector{topics("a"), patterns("a"), topics("a", "b"), patterns("a/**")} {
				e.wantData(tailrace.Query{Select: s, After: p.Next})
			}
			e.put("a", "2")
			e.wantData(tailrace.Query{Select: topics("a"), After: p.Next}, "2")
			e.wantData(tailrace.Query{Select: patterns("a"), After: p.Next}, "2")
		}},
		{name: "a page does bounded work", rules: inMemory(), check: func(e *env) {
			const foreign = 150_000
			events := make([]tailrace.Event, 1000)
			for i := range events {
				events[i] = event(fmt.Sprint("foreign/", i%10), "")
			}
			for range foreign / len(events) {
				e.append(events...)
			}
			e.put("mine", "1")
			q := tailrace.Query{Select: patterns("mine")}
			pages := 1
			for {
				p := e.read(q)
				if !p.More {
					if len(p.Events) != 1 || pages < 2 {
						e.Errorf("%d events after %d pages", len(p.Events), pages)
					}
					return
				}
				if p.Next.Pos <= q.After.Pos && len(p.Events) == 0 {
					e.Fatalf("Next stands still at %v", p.Next)
				}
				q.After, q.Told = p.Next, p.Told
				pages++
			}
		}},
		{name: "from the head", check: func(e *env) {
			e.put("a", "1")
			p := e.read(tailrace.Query{Select: topics("a"), Head: true})
			if len(p.Events) != 0 || p.More || p.Reset != nil {
				e.Errorf("%+v", p)
			}
			e.put("a", "2")
			e.wantData(tailrace.Query{Select: topics("a"), After: p.Next, Told: p.Told}, "2")
		}},
		{name: "the newest n", rules: inMemory(), check: func(e *env) {
			for i := range 20 {
				e.put(fmt.Sprint("t", i%2), fmt.Sprint(i))
			}
			e.wantData(tailrace.Query{Last: 1}, "19")
			e.wantData(tailrace.Query{Last: 3}, "17", "18", "19")
			e.wantData(tailrace.Query{Last: 3, Limit: 1}, "17", "18", "19")
			e.wantData(tailrace.Query{Select: topics("t0"), Last: 2}, "16", "18")
			e.wantData(tailrace.Query{Select: patterns("t1"), Last: 2}, "17", "19")
			e.wantData(tailrace.Query{Select: topics("t0", "t1", "t0"), Last: 2}, "18", "19")
			e.wantData(tailrace.Query{Select: topics("none"), Last: 2})
			e.wantData(tailrace.Query{Select: topics("t0"), Last: 1000}, "0", "2", "4", "6", "8", "10", "12", "14", "16", "18")
			var want []string
			var events []tailrace.Event
			for i := range 1500 {
				events = append(events, event("many", fmt.Sprint(i)))
				if i >= 500 {
					want = append(want, fmt.Sprint(i))
				}
			}
			e.append(events...)
			e.wantData(tailrace.Query{Select: topics("many"), Last: tailrace.MaxLast}, want...)
			e.wantData(tailrace.Query{Last: tailrace.MaxLast}, want...)
		}},
		{name: "the newest n of what is kept", check: func(e *env) {
			e.append(event("a", "1"), event("a", "2"))
			e.trim("a", e.stat("a").Head)
			e.put("a", "3")
			e.wantData(tailrace.Query{Select: topics("a"), Last: 3}, "3")
			e.wantData(tailrace.Query{Select: patterns("a"), Last: 3}, "3")
		}},
		{name: "from a time", needs: clock, check: func(e *env) {
			begin := e.clock.Now()
			for i := range 6 {
				e.put(fmt.Sprint("t", i%2), fmt.Sprint(i))
				e.clock.advance(10 * time.Second)
			}
			all := []string{"0", "1", "2", "3", "4", "5"}
			for i := range 6 {
				at := begin.Add(time.Duration(i) * 10 * time.Second)
				e.wantData(tailrace.Query{Since: at}, all[i:]...)
				e.wantData(tailrace.Query{Since: at.Add(-5 * time.Second), Limit: 2}, all[i:]...)
			}
			e.wantData(tailrace.Query{Since: begin.Add(time.Hour)})
			e.wantData(tailrace.Query{Since: begin.Add(-time.Hour)}, all...)
			e.wantData(tailrace.Query{Select: topics("t1"), Since: begin.Add(20 * time.Second)}, "3", "5")
			e.wantData(tailrace.Query{Select: patterns("t0"), Since: begin.Add(15 * time.Second)}, "2", "4")
			p := e.read(tailrace.Query{Since: begin.Add(time.Hour)})
			e.put("t0", "6")
			e.wantData(tailrace.Query{After: p.Next, Told: p.Told}, "6")
		}},
	}
}
