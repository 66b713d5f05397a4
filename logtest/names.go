package logtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace"
)

// nameTests are about names, limits, selectors and what an event holds.
func nameTests() []test {
	return []test{
		{name: "an event comes back as it was stored", check: func(e *env) {
			want := []tailrace.Event{
				{Topic: "a/b", Type: "t", Key: "k", ID: "id", Data: []byte("line 1\nline 2\r\n\x00ü"), Retry: 1500 * time.Millisecond},
				{Topic: "$sys/ü", Key: "k", Remove: true},
				{Topic: "c"},
			}
			rs := e.append(want...)
			got, _ := e.readAll(tailrace.Query{})
			if len(got) != len(want) {
				e.Fatalf("read %d events, want %d", len(got), len(want))
			}
			for i, w := range want {
				g := got[i]
				if g.Topic != w.Topic || g.Type != w.Type || g.Key != w.Key || g.ID != w.ID ||
					string(g.Data) != string(w.Data) || g.Retry != w.Retry || g.Remove != w.Remove ||
					g.Close || g.IfHead != nil {
					e.Errorf("read %+v, want %+v", g, w)
				}
				if g.Cursor != rs[i].Cursor || !g.Time.Equal(rs[i].Time) || g.Time.IsZero() || rs[i].ID != w.ID {
					e.Errorf("event %d: cursor %v, time %v, receipt %+v", i, g.Cursor, g.Time, rs[i])
				}
			}
		}},
		{name: "limits of texts", rules: rule(tailrace.Policy{MaxEvent: 100}), check: func(e *env) {
			long := func(n int) string { return strings.Repeat("x", n) }
			for _, c := range []struct {
				name  string
				event tailrace.Event
				err   error
			}{
				{"longest topic", tailrace.Event{Topic: long(512)}, nil},
				{"topic too long", tailrace.Event{Topic: long(513)}, tailrace.ErrInvalid},
				{"no topic", tailrace.Event{}, tailrace.ErrInvalid},
				{"control in topic", tailrace.Event{Topic: "a\nb"}, tailrace.ErrInvalid},
				{"topic not UTF-8", tailrace.Event{Topic: "a\xff"}, tailrace.ErrInvalid},
				{"longest id", tailrace.Event{Topic: "a", ID: long(256)}, nil},
				{"id too long", tailrace.Event{Topic: "a", ID: long(257)}, tailrace.ErrInvalid},
				{"NUL in id", tailrace.Event{Topic: "a", ID: "a\x00"}, tailrace.ErrInvalid},
				{"longest type", tailrace.Event{Topic: "a", Type: long(128)}, nil},
				{"type too long", tailrace.Event{Topic: "a", Type: long(129)}, tailrace.ErrInvalid},
				{"line break in type", tailrace.Event{Topic: "a", Type: "a\r"}, tailrace.ErrInvalid},
				{"longest key", tailrace.Event{Topic: "a", Key: long(255)}, nil},
				{"key too long", tailrace.Event{Topic: "a", Key: long(256)}, tailrace.ErrInvalid},
				{"remove without key", tailrace.Event{Topic: "a", Remove: true}, tailrace.ErrInvalid},
				{"data not UTF-8", tailrace.Event{Topic: "a", Data: []byte("\xc3")}, tailrace.ErrInvalid},
				{"largest data", tailrace.Event{Topic: "a", Data: []byte(long(100))}, nil},
				{"data too large", tailrace.Event{Topic: "a", Data: []byte(long(101))}, tailrace.ErrTooLarge},
			} {
				before := e.stat("").Count
				_, err := e.log.Append(e.Context(), []tailrace.Event{event("before", ""), c.event})
				if !errors.Is(err, c.err) || c.err == nil && err != nil {
					e.Errorf("%s: error %v, want %v", c.name, err, c.err)
				}
				if after := e.stat("").Count; c.err != nil && after != before {
					e.Errorf("%s: %d events of the refused call were stored", c.name, after-before)
				}
			}
		}},
		{name: "texts of the greatest length are found again", check: func(e *env) {
			topic, id, key := strings.Repeat("ü", 256), strings.Repeat("i", 256), strings.Repeat("k", 255)
			c := e.append(tailrace.Event{Topic: topic, ID: id, Key: key, Data: []byte("1")})[0].Cursor
			e.append(event(topic, "2"))
			if r := e.append(tailrace.Event{Topic: topic, ID: id})[0]; !r.Duplicate || r.Cursor != c {
				e.Errorf("receipt %+v, want a duplicate of %v", r, c)
			}
			e.wantData(tailrace.Query{Select: topics(topic), LastID: id}, "2")
			if state, _ := e.latest(tailrace.Query{Select: topics(topic)}); len(state) != 1 || state[0].Key != key {
				e.Errorf("snapshot %v", state)
			}
		}},
		{name: "selectors", check: func(e *env) {
			for _, t := range []string{"a", "b", "a/b", "a/c", "a/b/c", "$s", "$s/a"} {
				e.put(t, t)
			}
			for _, c := range []struct {
				s    tailrace.Selector
				want string
			}{
				{tailrace.Selector{}, "a b a/b a/c a/b/c $s $s/a"},
				{topics("a"), "a"},
				{topics("b", "a"), "a b"},
				{topics("a", "a"), "a"},
				{topics("none"), ""},
				{topics("none", "a/b"), "a/b"},
				{patterns("*"), "a b"},
				{patterns("**"), "a b a/b a/c a/b/c"},
				{patterns("a/*"), "a/b a/c"},
				{patterns("a/**"), "a/b a/c a/b/c"},
				{patterns("*/b"), "a/b"},
				{patterns("$s/**"), "$s/a"},
				{patterns("a/*", "a/**"), "a/b a/c a/b/c"},
				{tailrace.Selector{Topics: []string{"b", "a/b"}, Patterns: []string{"a/*"}}, "b a/b a/c"},
				{patterns("none/*"), ""},
			} {
				want := strings.Fields(c.want)
				got, last := e.readAll(tailrace.Query{Select: c.s})
				if !slices.Equal(datas(got), want) {
					e.Errorf("%+v: read %q, want %q", c.s, datas(got), want)
				}
				if last.Next.IsZero() {
					e.Errorf("%+v: Next is zero", c.s)
				}
				names, err := e.log.List(e.Context(), c.s, "", 100)
				slices.Sort(want)
				if err != nil || !slices.Equal(names, want) {
					e.Errorf("%+v: listed %q, %v; want %q", c.s, names, err, want)
				}
			}
		}},
		{name: "list by name in pages", check: func(e *env) {
			var want []string
			var events []tailrace.Event
			for i := range 50 {
				name := fmt.Sprintf("t%d/%02d", i%3, i)
				want = append(want, name)
				events = append(events, event(name, ""))
			}
			slices.Sort(want)
			e.append(events...)
			for _, n := range []int{1, 7, 49, 50, 51} {
				var got []string
				for after := ""; ; after = got[len(got)-1] {
					page, err := e.log.List(e.Context(), tailrace.Selector{}, after, n)
					if err != nil || len(page) > n {
						e.Fatalf("List of %d after %q: %d names, %v", n, after, len(page), err)
					}
					got = append(got, page...)
					if len(page) < n {
						break
					}
				}
				if !slices.Equal(got, want) {
					e.Errorf("in pages of %d: %q, want %q", n, got, want)
				}
			}
			if got, _ := e.log.List(e.Context(), tailrace.Selector{}, "t1/", 1); len(got) != 1 || got[0] != "t1/01" {
				e.Errorf("after a name that is not there: %q", got)
			}
		}},
		{name: "stat", rules: rule(tailrace.Policy{MaxCount: 1000}), check: func(e *env) {
			if i := e.stat("a"); i.Exists || i.Count != 0 || i.Policy.MaxCount != 1000 || i.Policy.MaxAge != tailrace.DefaultMaxAge {
				e.Errorf("unknown topic: %+v", i)
			}
			e.put("b", "xx")
			first := e.put("a", "12345")
			last := e.put("a", "123")
			i := e.stat("a")
			if !i.Exists || i.Closed || i.Head != last || !i.Floor.IsZero() || i.Count != 2 || i.Bytes != 8 && i.Bytes != -1 {
				e.Errorf("topic: %+v", i)
			}
			e.trim("a", first)
			if i := e.stat("a"); i.Floor != first || i.Head != last || i.Count != 1 || i.Bytes != 3 && i.Bytes != -1 {
				e.Errorf("after a trim: %+v", i)
			}
			i = e.stat("")
			if !i.Exists || i.Topics != 2 || i.Count != 2 || i.Head != e.head() {
				e.Errorf("log: %+v, head %v", i, e.head())
			}
		}},
		{name: "nothing is nothing", check: func(e *env) {
			if rs, err := e.log.Append(e.Context(), nil); len(rs) != 0 || err != nil {
				e.Errorf("Append of nothing: %v, %v", rs, err)
			}
			p := e.read(tailrace.Query{})
			if len(p.Events) > 0 || p.More || p.Ended || p.Reset != nil {
				e.Errorf("an empty log: %+v", p)
			}
			if got, _ := e.readAll(tailrace.Query{After: p.Next}); len(got) != 0 {
				e.Errorf("after an empty log: %v", got)
			}
			e.trim("none", tailrace.Cursor{})
			e.delete("none")
			e.put("a", "1")
			e.trim("a", tailrace.Cursor{})
			e.trim("none", e.head())
			foreign := e.head()
			foreign.Epoch ^= 1
			e.trim("a", foreign)
			e.wantData(tailrace.Query{After: p.Next}, "1")
		}},
		{name: "a stopped log says so", check: func(e *env) {
			e.put("a", "1")
			l := e.log
			for range 2 {
				if err := l.Close(); err != nil {
					e.Errorf("Close: %v", err)
				}
			}
			check := func(what string, err error) {
				if !errors.Is(err, tailrace.ErrStopped) {
					e.Errorf("%s: %v", what, err)
				}
			}
			_, err := l.Append(e.Context(), []tailrace.Event{event("a", "2")})
			check("Append", err)
			_, err = l.Read(e.Context(), tailrace.Query{})
			check("Read", err)
			_, err = l.Read(e.Context(), tailrace.Query{Latest: true})
			check("Read of a snapshot", err)
			_, err = l.Stat(e.Context(), "a")
			check("Stat", err)
			_, err = l.List(e.Context(), tailrace.Selector{}, "", 10)
			check("List", err)
			_, err = l.Watch(tailrace.Selector{}, func() {})
			check("Watch", err)
			check("Trim", l.Trim(e.Context(), "a", tailrace.Cursor{}))
			check("Delete", l.Delete(e.Context(), "a"))
		}},
		{name: "rules can change", check: func(e *env) {
			s, ok := e.log.(tailrace.RuleSetter)
			if !ok {
				e.Skip("skipped: no SetRules")
			}
			if err := s.SetRules([]tailrace.Rule{{Pattern: "a/**/b"}}); !errors.Is(err, tailrace.ErrInvalid) {
				e.Errorf("a wrong pattern: %v", err)
			}
			e.put("a", "12345")
			if err := s.SetRules([]tailrace.Rule{{Pattern: "a", Policy: tailrace.Policy{MaxEvent: 3}}, {Pattern: "*", Policy: tailrace.Policy{MaxEvent: 4}}}); err != nil {
				e.Fatal(err)
			}
			for topic, n := range map[string]int{"a": 3, "b": 4} {
				if _, err := e.log.Append(e.Context(), []tailrace.Event{event(topic, strings.Repeat("x", n+1))}); !errors.Is(err, tailrace.ErrTooLarge) {
					e.Errorf("%s: %d bytes: %v", topic, n+1, err)
				}
				e.put(topic, strings.Repeat("x", n))
				if got := e.stat(topic).Policy.MaxEvent; got != n {
					e.Errorf("%s: policy says %d", topic, got)
				}
			}
		}},
	}
}

// wantData reads on from q to the end and checks the events' data.
func (e *env) wantData(q tailrace.Query, want ...string) {
	e.Helper()
	if got := e.data(q); !slices.Equal(got, want) {
		e.Errorf("Read(%+v): %q, want %q", q, got, want)
	}
}
