package logtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace"
)

func retentionTests() []test {
	return []test{
		{name: "by count", rules: []tailrace.Rule{{Pattern: "few", Policy: tailrace.Policy{MaxCount: 20, Durability: tailrace.Memory}}}, check: func(e *env) {
			start := e.head()
			var last tailrace.Cursor
			for i := range 200 {
				last = e.put("few", fmt.Sprint(i))
				if i%10 == 0 {
					e.put("other", fmt.Sprint(i))
				}
			}
			// Fewer than the policy allows are never removed; how many more
			// there are depends on the last sweep.
			e.eventually("25 events at most", func() bool { return e.stat("few").Count <= 25 })
			got, _ := e.readAll(tailrace.Query{Select: topics("few")})
			if len(got) < 20 || got[len(got)-1].Cursor != last {
				e.Errorf("%d events to %v kept", len(got), got[len(got)-1].Cursor)
			}
			p := e.wantReset(tailrace.Query{Select: topics("few"), After: start}, tailrace.Trimmed)
			if e.stat("few").Floor != p.Next {
				e.Errorf("floor %v, Next %v", e.stat("few").Floor, p.Next)
			}
			if n := e.stat("other").Count; n != 20 {
				e.Errorf("%d of 20 events of another topic", n)
			}
			e.wantData(tailrace.Query{Select: topics("other"), After: start}, e.data(tailrace.Query{Select: topics("other")})...)
		}},
		{name: "by bytes", rules: []tailrace.Rule{{Pattern: "few", Policy: tailrace.Policy{MaxBytes: 10_000, Durability: tailrace.Memory}}}, check: func(e *env) {
			start := e.head()
			for range 100 {
				e.put("few", strings.Repeat("x", 500))
			}
			e.eventually("25 events at most", func() bool { return e.stat("few").Count <= 25 })
			if got := e.data(tailrace.Query{Select: topics("few")}); len(got) < 20 {
				e.Errorf("%d events kept", len(got))
			}
			e.wantReset(tailrace.Query{Select: topics("few"), After: start}, tailrace.Trimmed)
		}},
		{name: "by age", needs: clock, rules: []tailrace.Rule{{Pattern: "short", Policy: tailrace.Policy{MaxAge: time.Hour}}}, check: func(e *env) {
			start := e.head()
			e.put("short", "1")
			e.put("long", "1")
			e.clock.advance(30 * time.Minute)
			two := e.put("short", "2")
			e.clock.advance(29 * time.Minute)
			e.wantData(tailrace.Query{Select: topics("short")}, "1", "2")
			e.wantData(tailrace.Query{Select: topics("short"), After: start}, "1", "2")
			e.clock.advance(2 * time.Minute) // the first is 61 minutes old
			e.eventually("the first has gone", func() bool {
				return slices.Equal(e.data(tailrace.Query{Select: topics("short")}), []string{"2"})
			})
			p := e.wantReset(tailrace.Query{Select: topics("short"), After: start}, tailrace.Trimmed)
			e.wantData(tailrace.Query{Select: topics("short"), After: p.Next, Told: p.Told}, "2")
			e.clock.advance(30 * time.Minute)
			e.eventually("all have gone", func() bool { return len(e.data(tailrace.Query{Select: topics("short")})) == 0 })
			e.wantData(tailrace.Query{Select: topics("short"), After: two})
			e.wantData(tailrace.Query{}, "1")
			e.wantData(tailrace.Query{Select: topics("long"), After: start}, "1")
		}},
		{name: "no limit is none", needs: clock, rules: rule(tailrace.Policy{MaxAge: -1, IdleDelete: -1}), check: func(e *env) {
			start := e.head()
			e.put("a", "1")
			e.clock.advance(1000 * 24 * time.Hour)
			e.put("b", "2")
			e.wantData(tailrace.Query{After: start}, "1", "2")
		}},
		{name: "a topic without events is forgotten, and resets nobody", needs: clock,
			rules: []tailrace.Rule{{Pattern: "a", Policy: tailrace.Policy{MaxAge: time.Hour, IdleDelete: 48 * time.Hour}}, {Pattern: "**", Policy: tailrace.Policy{MaxAge: -1}}},
			check: func(e *env) {
				e.put("a", "1")
				_, p := e.readAll(tailrace.Query{Select: topics("a")})
				e.put("b", "1")
				e.clock.advance(2 * time.Hour)
				e.put("b", "2")
				e.eventually("the event has gone", func() bool { return e.stat("a").Count == 0 })
				if !e.stat("a").Exists {
					e.Error("forgotten after two hours of 48")
				}
				e.clock.advance(50 * time.Hour)
				e.put("b", "3")
				e.eventually("the topic is forgotten", func() bool { return !e.stat("a").Exists })
				if names, _ := e.log.List(e.Context(), tailrace.Selector{}, "", 10); !slices.Equal(names, []string{"b"}) {
					e.Errorf("listed %q", names)
				}
				if n := e.stat("").Topics; n != 1 {
					e.Errorf("%d topics", n)
				}
				// Who had read it all has lost nothing, now and for the cursor life.
				e.wantData(tailrace.Query{Select: topics("a"), After: p.Next})
				e.put("a", "2")
				e.wantData(tailrace.Query{Select: topics("a"), After: p.Next}, "2")
			}},
		{name: "retention spares KeepLatest", rules: rule(tailrace.Policy{KeepLatest: true, MaxCount: 4, Durability: tailrace.Memory}), check: func(e *env) {
			for i := range 3 {
				e.append(tailrace.Event{Topic: "a", Key: fmt.Sprint(i), Data: []byte(fmt.Sprint(i))})
			}
			for range 50 {
				e.put("a", "x")
			}
			e.eventually("5 events at most", func() bool { return e.stat("a").Count <= 5+3 })
			e.wantState(topics("a"), "0=0 1=1 2=2")
			for _, d := range e.data(tailrace.Query{Select: topics("a")}) {
				if d != "x" {
					e.Errorf("%q is below the floor and was read", d)
				}
			}
		}},
	}
}

// eventually waits for what a sweep of the engine must do.
func (e *env) eventually(what string, ok func() bool) {
	e.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			e.Fatalf("not in 10 s: %s", what)
		}
	}
}
