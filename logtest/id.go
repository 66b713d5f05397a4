package logtest

import (
	"fmt"
	"sync"

	"github.com/tailrace/tailrace"
)

func idTests() []test {
	id := func(topic, id, data string) tailrace.Event {
		return tailrace.Event{Topic: topic, ID: id, Data: []byte(data)}
	}
	wantDuplicate := func(e *env, r, of tailrace.Receipt) {
		e.Helper()
		if !r.Duplicate || r.Cursor != of.Cursor || r.Err != nil || !r.Time.IsZero() || r.ID != of.ID {
			e.Errorf("receipt %+v, want a duplicate of %+v", r, of)
		}
	}
	return []test{
		{name: "an id is stored once", check: func(e *env) {
			first := e.append(id("a", "x", "1"))[0]
			if first.Duplicate || first.ID != "x" {
				e.Errorf("receipt %+v", first)
			}
			e.put("a", "2")
			wantDuplicate(e, e.append(id("a", "x", "1"))[0], first)
			wantDuplicate(e, e.append(id("a", "x", "other content"))[0], first)
			wantDuplicate(e, e.append(event("b", ""), id("a", "x", "1"))[1], first)
			e.wantData(tailrace.Query{Select: topics("a")}, "1", "2")
		}},
		{name: "in the same call", check: func(e *env) {
			rs := e.append(id("a", "x", "1"), id("a", "y", "2"), id("a", "x", "3"), id("b", "x", "4"))
			wantDuplicate(e, rs[2], rs[0])
			e.wantData(tailrace.Query{}, "1", "2", "4")
		}},
		{name: "by many at once", check: func(e *env) {
			const publishers = 32
			rs := make([]tailrace.Receipt, publishers)
			var wg sync.WaitGroup
			for i := range rs {
				wg.Go(func() {
					r, err := e.log.Append(e.Context(), []tailrace.Event{id("a", "x", fmt.Sprint(i)), event("b", "")})
					if err != nil {
						e.Error(err)
						return
					}
					rs[i] = r[0]
				})
			}
			wg.Wait()
			stored := 0
			for _, r := range rs {
				if r.Cursor != rs[0].Cursor {
					e.Errorf("receipts %+v and %+v", r, rs[0])
				}
				if !r.Duplicate {
					stored++
				}
			}
			if got := e.data(tailrace.Query{Select: topics("a")}); stored != 1 || len(got) != 1 {
				e.Errorf("%d receipts say stored, %d events are", stored, len(got))
			}
		}},
		{name: "ids of two topics are two", check: func(e *env) {
			a := e.append(id("a", "x", "1"))[0]
			b := e.append(id("b", "x", "2"))[0]
			if b.Duplicate || b.Cursor == a.Cursor {
				e.Errorf("receipt %+v", b)
			}
			e.append(event("a", "3"), event("b", "4"))
			e.wantData(tailrace.Query{Select: topics("a"), LastID: "x"}, "3")
			e.wantData(tailrace.Query{Select: topics("b"), LastID: "x"}, "4")
			// Of several the lowest counts.
			e.wantData(tailrace.Query{Select: topics("b", "a"), LastID: "x"}, "2", "3", "4")
			e.wantData(tailrace.Query{Select: patterns("*"), LastID: "x"}, "2", "3", "4")
			e.wantData(tailrace.Query{LastID: "x"}, "2", "3", "4")
		}},
		{name: "an id is free when its event is removed", check: func(e *env) {
			first := e.append(id("a", "x", "1"))[0]
			y := e.append(id("a", "y", "2"))[0]
			e.trim("a", first.Cursor)
			e.wantReset(tailrace.Query{Select: topics("a"), LastID: "x"}, tailrace.Unknown)
			wantDuplicate(e, e.append(id("a", "y", ""))[0], y)
			again := e.append(id("a", "x", "3"))[0]
			if again.Duplicate || again.Cursor == first.Cursor {
				e.Errorf("receipt %+v", again)
			}
			e.wantData(tailrace.Query{Select: topics("a")}, "2", "3")
			e.delete("a")
			if r := e.append(id("a", "y", "4"))[0]; r.Duplicate {
				e.Errorf("receipt %+v after Delete", r)
			}
			e.wantData(tailrace.Query{Select: topics("a"), LastID: "y"})
		}},
		{name: "an id that looks like a cursor of this log is stored as another", check: func(e *env) {
			c := e.put("a", "1")
			e.put("a", "2")
			for _, text := range []string{c.String(), tailrace.Cursor{Epoch: c.Epoch, Pos: 1 << 40}.String()} {
				r := e.append(id("a", text, "own"))[0]
				if r.ID != "="+text || r.Duplicate {
					e.Errorf("receipt %+v, want the id =%s", r, text)
				}
				wantDuplicate(e, e.append(id("a", text, "own"))[0], r)
				all, _ := e.readAll(tailrace.Query{Select: topics("a"), LastID: c.String()})
				if len(all) == 0 || string(all[0].Data) != "2" {
					e.Errorf("%q as last id was not taken as a cursor: %q", c, datas(all))
				}
				e.put("a", "after")
				e.wantData(tailrace.Query{Select: topics("a"), LastID: r.ID}, "after")
				e.trim("a", e.stat("a").Head)
				c = e.put("a", "1")
				e.put("a", "2")
			}
		}},
		{name: "an id that looks like a cursor of another log is an id", check: func(e *env) {
			c := e.put("a", "1")
			c.Epoch ^= 2
			r := e.append(id("a", c.String(), "2"))[0]
			if r.ID != c.String() {
				e.Errorf("receipt %+v", r)
			}
			e.put("a", "3")
			e.wantData(tailrace.Query{Select: topics("a"), LastID: c.String()}, "3")
			e.wantReset(tailrace.Query{Select: topics("b"), LastID: c.String()}, tailrace.EpochGap)
		}},
		{name: "an id is unique as long as KeepLatest keeps its event", rules: rule(tailrace.Policy{KeepLatest: true}), check: func(e *env) {
			k := e.append(tailrace.Event{Topic: "a", ID: "x", Key: "k", Data: []byte("1")})[0]
			last := e.append(id("a", "y", "2"))[0]
			e.trim("a", last.Cursor)
			wantDuplicate(e, e.append(tailrace.Event{Topic: "a", ID: "x", Key: "k"})[0], k)
			if r := e.append(id("a", "y", "3"))[0]; r.Duplicate {
				e.Errorf("receipt %+v", r)
			}
			e.append(tailrace.Event{Topic: "a", Key: "k", Data: []byte("4")}) // takes the place of x
			if r := e.append(tailrace.Event{Topic: "a", ID: "x", Data: []byte("5")})[0]; r.Duplicate {
				e.Errorf("receipt %+v after a newer event of the key", r)
			}
		}},
		{name: "the wire id goes on where it was", check: func(e *env) {
			e.append(id("a", "x", "1"), event("a", "2"), id("a", "y", "3"), event("a", "4"))
			all, _ := e.readAll(tailrace.Query{Select: topics("a")})
			for i := range all {
				e.wantData(tailrace.Query{Select: topics("a"), LastID: all[i].WireID()}, datas(all[i+1:])...)
			}
		}},
	}
}
