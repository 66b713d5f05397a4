package logtest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tailrace/tailrace"
)

func orderTests() []test {
	return []test{
		{name: "positions grow in order of commit over all topics", check: func(e *env) {
			var want []string
			var last tailrace.Receipt
			for i := range 30 {
				d := fmt.Sprint(i)
				want = append(want, d)
				r := e.append(event("t"+fmt.Sprint(i%3), d))[0]
				if r.Cursor.Pos <= last.Cursor.Pos || r.Time.Before(last.Time) {
					e.Fatalf("receipt %+v after %+v", r, last)
				}
				last = r
			}
			for _, s := range []tailrace.Selector{{}, patterns("*"), topics("t2", "t0", "t1")} {
				got, _ := e.readAll(tailrace.Query{Select: s})
				if !slices.Equal(datas(got), want) {
					e.Errorf("%+v: %q", s, datas(got))
				}
				for i := 1; i < len(got); i++ {
					if got[i].Cursor.Pos <= got[i-1].Cursor.Pos || got[i].Time.Before(got[i-1].Time) {
						e.Errorf("%+v: %v at %v follows %v at %v", s, got[i].Cursor, got[i].Time, got[i-1].Cursor, got[i-1].Time)
					}
				}
			}
			e.wantData(tailrace.Query{Select: topics("t1")}, "1", "4", "7", "10", "13", "16", "19", "22", "25", "28")
		}},
		{name: "receipts are in order of the events", check: func(e *env) {
			rs := e.append(event("a", "1"), event("b", "2"), event("a", "3"))
			got, _ := e.readAll(tailrace.Query{Select: topics("a")})
			if len(got) != 2 || got[0].Cursor != rs[0].Cursor || got[1].Cursor != rs[2].Cursor {
				e.Errorf("receipts %v, read %v", rs, got)
			}
			if b, _ := e.readAll(tailrace.Query{Select: topics("b")}); len(b) != 1 || b[0].Cursor != rs[1].Cursor {
				e.Errorf("receipts %v, read %v", rs, b)
			}
		}},
		{name: "events of one append and topic have no other between them", rules: inMemory(), check: func(e *env) {
			const batch = 5
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() {
					for i := range 20 {
						var events []tailrace.Event
						for range batch {
							events = append(events, event("a", fmt.Sprint(w, "/", i)), event("b", ""))
						}
						if _, err := e.log.Append(e.Context(), events); err != nil {
							e.Error(err)
						}
					}
				})
			}
			wg.Wait()
			got := e.data(tailrace.Query{Select: topics("a")})
			if len(got) != 8*20*batch {
				e.Fatalf("%d events", len(got))
			}
			for i := 0; i < len(got); i += batch {
				for _, d := range got[i : i+batch] {
					if d != got[i] {
						e.Fatalf("one call is parted: %q", got[i:i+batch])
					}
				}
			}
		}},
		{name: "an invalid event refuses the whole call", check: func(e *env) {
			_, err := e.log.Append(e.Context(), []tailrace.Event{event("a", "1"), event("b", "2"), {Topic: "a", Data: []byte("\xff")}})
			if !errors.Is(err, tailrace.ErrInvalid) {
				e.Errorf("error %v", err)
			}
			e.wantData(tailrace.Query{})
		}},
		{name: "events of one topic are stored all or none", rules: rule(tailrace.Policy{Closable: true}), check: func(e *env) {
			e.append(tailrace.Event{Topic: "closed", Close: true, Data: []byte("end")})
			rs, err := e.log.Append(e.Context(), []tailrace.Event{event("a", "1"), event("closed", "2"), event("a", "3"), event("closed", "4")})
			if !errors.Is(err, tailrace.ErrClosed) || len(rs) != 4 {
				e.Fatalf("receipts %v, error %v", rs, err)
			}
			for i, want := range []error{nil, tailrace.ErrClosed, nil, tailrace.ErrClosed} {
				if !errors.Is(rs[i].Err, want) || want == nil && rs[i].Err != nil {
					e.Errorf("receipt %d: %v, want %v", i, rs[i].Err, want)
				}
			}
			e.wantData(tailrace.Query{}, "end", "1", "3")
		}},
		{name: "compare and append", check: func(e *env) {
			ifHead := func(c tailrace.Cursor, topic, data string) ([]tailrace.Receipt, error) {
				ev := event(topic, data)
				ev.IfHead = &c
				return e.log.Append(e.Context(), []tailrace.Event{ev, event(topic, data+"+"), event("other", data)})
			}
			want := func(rs []tailrace.Receipt, err error, last tailrace.Cursor) {
				e.Helper()
				if !errors.Is(err, tailrace.ErrHead) || len(rs) != 3 {
					e.Fatalf("receipts %v, error %v", rs, err)
				}
				for _, r := range rs[:2] {
					if !errors.Is(r.Err, tailrace.ErrHead) || r.Cursor != last {
						e.Errorf("receipt %+v, want the last event %v", r, last)
					}
				}
				if rs[2].Err != nil {
					e.Errorf("another topic of the call: %v", rs[2].Err)
				}
			}
			rs, err := ifHead(tailrace.Cursor{}, "a", "1")
			if err != nil {
				e.Fatalf("the first event of a topic: %v", err)
			}
			head := rs[1].Cursor
			rs, err = ifHead(tailrace.Cursor{}, "a", "2")
			want(rs, err, head)
			rs, err = ifHead(rs[2].Cursor, "a", "3")
			want(rs, err, head)
			if rs, err = ifHead(head, "a", "4"); err != nil {
				e.Fatalf("after %v: %v", head, err)
			}
			rs2, err := ifHead(head, "a", "5")
			want(rs2, err, rs[1].Cursor)
			e.wantData(tailrace.Query{Select: topics("a")}, "1", "1+", "4", "4+")
			e.trim("a", rs[1].Cursor)
			if _, err = ifHead(tailrace.Cursor{}, "a", "6"); err != nil {
				e.Errorf("after all was trimmed: %v", err)
			}
		}},
		{name: "the duplicate check comes before the head's", check: func(e *env) {
			zero := tailrace.Cursor{}
			ev := tailrace.Event{Topic: "a", ID: "x", IfHead: &zero}
			first := e.append(ev)[0]
			if r := e.append(ev)[0]; !r.Duplicate || r.Cursor != first.Cursor {
				e.Errorf("receipt %+v", r)
			}
		}},
		{name: "time does not go back with the clock", needs: clock, check: func(e *env) {
			e.put("a", "1")
			e.clock.advance(-time.Hour)
			e.put("a", "2")
			e.clock.advance(2 * time.Hour)
			e.put("a", "3")
			got, _ := e.readAll(tailrace.Query{})
			if len(got) != 3 || got[1].Time.Before(got[0].Time) || !got[2].Time.After(got[1].Time) {
				e.Errorf("times %v", got)
			}
		}},
	}
}

func visibilityTests() []test {
	return []test{
		{name: "what is acknowledged is seen, and the head does not go back", rules: inMemory(), check: func(e *env) {
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				var last tailrace.Cursor
				for {
					p, err := e.log.Read(e.Context(), tailrace.Query{Head: true})
					if err != nil || p.Next.Pos < last.Pos || len(p.Events) > 0 {
						e.Errorf("head %v after %v, %d events, error %v", p.Next, last, len(p.Events), err)
						return
					}
					last = p.Next
					select {
					case <-stop:
						return
					default:
					}
				}
			})
			var publishers sync.WaitGroup
			for w := range 4 {
				publishers.Go(func() {
					topic := fmt.Sprint("t", w)
					for i := range 100 {
						rs, err := e.log.Append(e.Context(), []tailrace.Event{event(topic, fmt.Sprint(i))})
						if err != nil {
							e.Error(err)
							return
						}
						s := topics(topic)
						if i%2 == 0 {
							s = patterns("*")
						}
						before := rs[0].Cursor
						before.Pos--
						p, err := e.log.Read(e.Context(), tailrace.Query{Select: s, After: before, Limit: 1})
						if err != nil || len(p.Events) != 1 || p.Events[0].Cursor != rs[0].Cursor {
							e.Errorf("a read after the append of %v: %v, %v", rs[0].Cursor, p, err)
							return
						}
						if p, err := e.log.Read(e.Context(), tailrace.Query{Head: true}); err != nil || p.Next.Pos < rs[0].Cursor.Pos {
							e.Errorf("head %v after the append of %v, %v", p.Next, rs[0].Cursor, err)
							return
						}
					}
				})
			}
			publishers.Wait()
			close(stop)
			wg.Wait()
		}},
	}
}
