package logtest

import (
	"errors"
	"fmt"

	"github.com/tailrace/tailrace"
)

func restartTests() []test {
	all := func(name string, rules []tailrace.Rule, check func(e *env)) test {
		return test{name: name, needs: durable, rules: rules, check: check}
	}
	return []test{
		all("events and cursors", nil, func(e *env) {
			e.append(tailrace.Event{Topic: "a", Type: "t", Key: "k", ID: "x", Data: []byte("1"), Retry: 1})
			e.put("b", "2")
			mid := e.put("a", "3")
			before, end := e.readAll(tailrace.Query{})
			e.restart()
			after, _ := e.readAll(tailrace.Query{})
			if len(after) != len(before) {
				e.Fatalf("%d events of %d", len(after), len(before))
			}
			for i := range after {
				b, a := before[i], after[i]
				if !b.Time.Equal(a.Time) {
					e.Errorf("time %v, was %v", a.Time, b.Time)
				}
				if b.Cursor != a.Cursor || name(&b) != name(&a) || b.Type != a.Type || b.Retry != a.Retry {
					e.Errorf("%+v, was %+v", a, b)
				}
			}
			e.wantData(tailrace.Query{After: end.Next})
			next := e.append(event("a", "4"))[0]
			if next.Cursor.Epoch != mid.Epoch || next.Cursor.Pos <= end.Next.Pos || next.Time.Before(before[2].Time) {
				e.Errorf("the next event is %+v, after %v", next, end.Next)
			}
			e.wantData(tailrace.Query{After: end.Next}, "4")
			e.wantData(tailrace.Query{Select: topics("a"), After: mid}, "4")
			e.wantData(tailrace.Query{Select: patterns("*"), LastID: before[0].Cursor.String()}, "2", "3", "4")
		}),
		all("ids", nil, func(e *env) {
			first := e.append(tailrace.Event{Topic: "a", ID: "x", Data: []byte("1")})[0]
			e.append(tailrace.Event{Topic: "a", ID: "gone", Data: []byte("0")})
			e.append(tailrace.Event{Topic: "b", ID: "gone", Data: []byte("b")})
			e.delete("b")
			shaped := e.append(tailrace.Event{Topic: "a", ID: first.Cursor.String(), Data: []byte("2")})[0]
			e.restart()
			if r := e.append(tailrace.Event{Topic: "a", ID: "x"})[0]; !r.Duplicate || r.Cursor != first.Cursor {
				e.Errorf("receipt %+v", r)
			}
			if r := e.append(tailrace.Event{Topic: "a", ID: first.Cursor.String()})[0]; !r.Duplicate || r.ID != shaped.ID {
				e.Errorf("receipt %+v, want a duplicate of %+v", r, shaped)
			}
			if r := e.append(tailrace.Event{Topic: "b", ID: "gone"})[0]; r.Duplicate {
				e.Errorf("receipt %+v", r)
			}
			e.wantData(tailrace.Query{Select: topics("a"), LastID: "x"}, "0", "2")
		}),
		all("floors and what was told", nil, func(e *env) {
			start := e.head()
			one := e.put("a", "1")
			e.put("a", "2")
			e.put("b", "3")
			e.put("c", "4")
			e.trim("a", one)
			e.delete("b")
			both := topics("a", "c")
			told := e.wantReset(tailrace.Query{Select: both, After: start}, tailrace.Trimmed)
			e.restart()
			e.wantReset(tailrace.Query{Select: both, After: start}, tailrace.Trimmed)
			e.wantData(tailrace.Query{Select: both, After: told.Next, Told: told.Told}, "2", "4")
			e.wantReset(tailrace.Query{Select: topics("b"), After: start}, tailrace.Deleted)
			e.wantReset(tailrace.Query{Select: patterns("*"), After: start}, tailrace.Trimmed)
			e.wantData(tailrace.Query{Select: topics("c"), After: start}, "4")
			if i := e.stat("a"); i.Floor != one || i.Count != 1 {
				e.Errorf("%+v", i)
			}
			if i := e.stat("b"); i.Exists {
				e.Errorf("%+v", i)
			}
		}),
		all("closed topics and keys", rule(tailrace.Policy{Closable: true, KeepLatest: true}), func(e *env) {
			e.append(tailrace.Event{Topic: "a", Key: "x", Data: []byte("1")}, tailrace.Event{Topic: "a", Key: "y", Data: []byte("2")},
				tailrace.Event{Topic: "a", Key: "y", Remove: true})
			e.append(tailrace.Event{Topic: "a", Key: "z", Data: []byte("3"), Close: true})
			e.trim("a", e.head())
			e.append(tailrace.Event{Topic: "b", Key: "x", Data: []byte("4")})
			e.restart()
			e.wantState(topics("a"), "x=1 z=3")
			e.wantState(tailrace.Selector{}, "x=1 x=4 z=3")
			if _, err := e.log.Append(e.Context(), []tailrace.Event{event("a", "late")}); !errors.Is(err, tailrace.ErrClosed) {
				e.Errorf("error %v", err)
			}
			if _, p := e.readAll(tailrace.Query{Select: topics("a")}); !p.Ended {
				e.Errorf("%+v, want Ended", p)
			}
		}),
		all("many times", inMemory(), func(e *env) {
			start := e.head()
			var want []string
			for i := range 5 {
				for j := range 10 {
					d := fmt.Sprint(i, ".", j)
					e.put(fmt.Sprint("t", j%2), d)
					want = append(want, d)
				}
				e.restart()
				e.wantData(tailrace.Query{After: start}, want...)
				if n := e.stat("").Count; n != int64(len(want)) {
					e.Errorf("%d events, want %d", n, len(want))
				}
			}
		}),
	}
}

func scaleTests() []test {
	return []test{{name: "many topics", rules: inMemory(), check: func(e *env) {
		n := size(20_000, 1_000_000)
		start := e.head()
		events := make([]tailrace.Event, 0, 1000)
		for i := 0; i < n; i++ {
			if events = append(events, event(fmt.Sprintf("s/%07d", i), "x")); len(events) == cap(events) {
				e.append(events...)
				events = events[:0]
			}
		}
		e.append(events...)
		if i := e.stat(""); i.Topics != int64(n) || i.Count != int64(n) {
			e.Errorf("%+v, want %d topics", i, n)
		}
		names := 0
		for after := ""; ; {
			page, err := e.log.List(e.Context(), tailrace.Selector{}, after, 5000)
			if err != nil {
				e.Fatal(err)
			}
			for _, name := range page {
				if name <= after || name != fmt.Sprintf("s/%07d", names) {
					e.Fatalf("name %d is %q, after %q", names, name, after)
				}
				after = name
				names++
			}
			if len(page) < 5000 {
				break
			}
		}
		if names != n {
			e.Errorf("listed %d topics of %d", names, n)
		}
		all, _ := e.readAll(tailrace.Query{Select: patterns("s/*"), After: start, Limit: 10_000, MaxBytes: 1 << 30})
		if len(all) != n {
			e.Errorf("read %d events of %d", len(all), n)
		}
		e.wantData(tailrace.Query{Select: topics(fmt.Sprintf("s/%07d", n/2)), After: start}, "x")
	}}}
}
