package logtest

import (
	"errors"

	"github.com/tailrace/tailrace"
)

func closeTests() []test {
	closable := rule(tailrace.Policy{Closable: true})
	end := func(topic, id string) tailrace.Event {
		return tailrace.Event{Topic: topic, ID: id, Data: []byte("end"), Close: true}
	}
	return []test{
		{name: "a closed topic takes no events", rules: closable, check: func(e *env) {
			one := e.append(tailrace.Event{Topic: "a", ID: "x", Data: []byte("1")})[0]
			last := e.append(end("a", "z"))[0]
			rs, err := e.log.Append(e.Context(), []tailrace.Event{event("a", "2")})
			if !errors.Is(err, tailrace.ErrClosed) || len(rs) != 1 || !errors.Is(rs[0].Err, tailrace.ErrClosed) || rs[0].Cursor != last.Cursor {
				e.Errorf("receipts %+v, error %v, want ErrClosed and the last event %v", rs, err, last.Cursor)
			}
			for id, of := range map[string]tailrace.Receipt{"x": one, "z": last} {
				if r := e.append(tailrace.Event{Topic: "a", ID: id})[0]; !r.Duplicate || r.Cursor != of.Cursor {
					e.Errorf("a duplicate id in a closed topic: %+v", r)
				}
			}
			if i := e.stat("a"); !i.Closed {
				e.Errorf("%+v", i)
			}
			e.wantData(tailrace.Query{Select: topics("a")}, "1", "end")
		}},
		{name: "nothing follows the end in its own call", rules: closable, check: func(e *env) {
			rs, err := e.log.Append(e.Context(), []tailrace.Event{end("a", ""), event("a", "late"), event("b", "b")})
			if !errors.Is(err, tailrace.ErrClosed) || len(rs) != 3 || rs[0].Err == nil || rs[1].Err == nil || rs[2].Err != nil {
				e.Errorf("receipts %+v, error %v", rs, err)
			}
			e.wantData(tailrace.Query{}, "b")
			e.append(event("a", "1"), end("a", ""), event("b", "b2"))
			e.wantData(tailrace.Query{Select: topics("a")}, "1", "end")
		}},
		{name: "only where the policy allows it", rules: []tailrace.Rule{{Pattern: "c/*", Policy: tailrace.Policy{Closable: true}}}, check: func(e *env) {
			if _, err := e.log.Append(e.Context(), []tailrace.Event{event("a", "1"), end("a", "")}); !errors.Is(err, tailrace.ErrNotClosable) {
				e.Errorf("error %v", err)
			}
			e.wantData(tailrace.Query{})
			e.append(end("c/a", ""))
		}},
		{name: "readers of exact topics get Ended", rules: closable, check: func(e *env) {
			e.append(event("a", "1"), event("b", "1"))
			start := e.append(event("a", "2"))[0].Cursor
			last := e.append(end("a", ""))[0].Cursor
			if p := e.read(tailrace.Query{Select: topics("a"), Limit: 1}); p.Ended {
				e.Errorf("Ended before the end: %+v", p)
			}
			for _, q := range []tailrace.Query{{}, {After: start}, {After: last}, {Limit: 1}, {Head: true}} {
				q.Select = topics("a")
				if _, p := e.readAll(q); !p.Ended {
					if p = e.read(tailrace.Query{Select: q.Select, After: p.Next, Told: p.Told}); !p.Ended {
						e.Errorf("%+v: not Ended", q)
					}
				}
			}
			for _, s := range []tailrace.Selector{topics("a", "b"), patterns("a"), patterns("*"), {}, topics("none"), topics("a", "none")} {
				if _, p := e.readAll(tailrace.Query{Select: s}); p.Ended {
					e.Errorf("%+v: Ended", s)
				}
			}
			e.append(end("b", ""))
			if _, p := e.readAll(tailrace.Query{Select: topics("a", "b")}); !p.Ended {
				e.Errorf("both are closed: not Ended")
			}
		}},
		{name: "a marker takes a position", rules: closable, check: func(e *env) {
			before := e.put("a", "1")
			m := e.append(tailrace.Event{Topic: "a", Type: tailrace.TypeEnd, Close: true})[0]
			if m.Cursor.Pos <= before.Pos {
				e.Errorf("the marker is at %v, after %v", m.Cursor, before)
			}
			got, p := e.readAll(tailrace.Query{Select: topics("a"), After: before})
			if len(got) != 1 || got[0].Type != tailrace.TypeEnd || !got[0].Close || !p.Ended {
				e.Errorf("read %+v, page %+v", got, p)
			}
		}},
		{name: "delete ends the closed state", rules: closable, check: func(e *env) {
			e.append(end("a", "z"))
			e.delete("a")
			if i := e.stat("a"); i.Closed {
				e.Errorf("%+v", i)
			}
			_, p := e.readAll(tailrace.Query{Select: topics("a")})
			if p.Ended {
				e.Error("Ended after Delete")
			}
			e.put("a", "1")
			e.wantData(tailrace.Query{Select: topics("a")}, "1")
		}},
		{name: "a closed topic stays closed when its events are trimmed", rules: closable, check: func(e *env) {
			start := e.put("a", "1")
			last := e.append(end("a", ""))[0].Cursor
			e.trim("a", last)
			if _, err := e.log.Append(e.Context(), []tailrace.Event{event("a", "2")}); !errors.Is(err, tailrace.ErrClosed) {
				e.Errorf("error %v", err)
			}
			p := e.wantReset(tailrace.Query{Select: topics("a"), After: start}, tailrace.Trimmed)
			if p = e.read(tailrace.Query{Select: topics("a"), After: p.Next, Told: p.Told}); !p.Ended {
				e.Errorf("%+v, want Ended", p)
			}
		}},
		{name: "a refused end closes nothing", rules: closable, check: func(e *env) {
			e.put("a", "1")
			wrong := end("a", "")
			wrong.IfHead = &tailrace.Cursor{}
			if _, err := e.log.Append(e.Context(), []tailrace.Event{wrong}); !errors.Is(err, tailrace.ErrHead) {
				e.Errorf("error %v", err)
			}
			e.put("a", "2")
		}},
	}
}
