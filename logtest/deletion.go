package logtest

import (
	"context"
	"fmt"
	"slices"

	"github.com/tailrace/tailrace"
)

func deleteTests() []test {
	return []test{
		{name: "everything goes, with the reason deleted", check: func(e *env) {
			start := e.head()
			e.append(tailrace.Event{Topic: "a", Key: "k", ID: "x", Data: []byte("1")})
			last := e.put("a", "2")
			e.put("b", "3")
			e.delete("a")
			e.wantData(tailrace.Query{}, "3")
			e.wantState(topics("a"), "")
			if i := e.stat("a"); i.Exists || i.Count != 0 {
				e.Errorf("%+v", i)
			}
			if names, _ := e.log.List(e.Context(), tailrace.Selector{}, "", 10); !slices.Equal(names, []string{"b"}) {
				e.Errorf("listed %q", names)
			}
			if n := e.stat("").Topics; n != 1 {
				e.Errorf("%d topics", n)
			}
			p := e.wantReset(tailrace.Query{Select: topics("a"), After: start}, tailrace.Deleted)
			if p.Next != last {
				e.Errorf("Next %v, want the floor %v", p.Next, last)
			}
			e.wantData(tailrace.Query{Select: topics("a"), After: last})
			e.wantReset(tailrace.Query{Select: topics("a"), LastID: "x"}, tailrace.Unknown)
		}},
		{name: "deleting twice is no error", check: func(e *env) {
			e.put("a", "1")
			e.delete("a")
			e.delete("a")
			e.delete("never")
		}},
		{name: "the name can be used again at once", check: func(e *env) {
			start := e.head()
			e.append(tailrace.Event{Topic: "a", ID: "x", Data: []byte("1")})
			e.delete("a")
			zero := tailrace.Cursor{}
			r := e.append(tailrace.Event{Topic: "a", ID: "x", Data: []byte("2"), IfHead: &zero})[0]
			if r.Duplicate {
				e.Errorf("receipt %+v: the new life has an empty id space", r)
			}
			if i := e.stat("a"); !i.Exists || i.Count != 1 || i.Head != r.Cursor {
				e.Errorf("%+v", i)
			}
			p := e.wantReset(tailrace.Query{Select: topics("a"), After: start}, tailrace.Deleted)
			e.wantData(tailrace.Query{Select: topics("a"), After: p.Next, Told: p.Told}, "2")
			e.wantData(tailrace.Query{Select: topics("a")}, "2")
		}},
	}
}

func failureTests() []test {
	return []test{
		{name: "a cancelled append may be repeated with its ids", check: func(e *env) {
			ctx, cancel := context.WithCancel(e.Context())
			cancel()
			var events []tailrace.Event
			for i := range 5 {
				events = append(events, tailrace.Event{Topic: "a", ID: fmt.Sprint(i), Data: []byte(fmt.Sprint(i))})
			}
			if _, err := e.log.Append(ctx, events[:3]); err == nil {
				// It was quick enough: that is an answer too.
				e.Log("the cancelled append was answered")
			}
			for _, r := range e.append(events...) {
				if r.Err != nil || r.Cursor.IsZero() {
					e.Errorf("receipt %+v", r)
				}
			}
			e.wantData(tailrace.Query{Select: topics("a")}, "0", "1", "2", "3", "4")
		}},
		{name: "a cancelled read says so", check: func(e *env) {
			ctx, cancel := context.WithCancel(e.Context())
			cancel()
			if _, err := e.log.Read(ctx, tailrace.Query{}); err != nil && ctx.Err() != nil && err != context.Canceled {
				e.Errorf("error %v", err)
			}
		}},
	}
}
