package tailrace

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// randomName returns a short name, or a pattern if stars are allowed.
func randomName(r *rand.Rand, stars bool) string {
	segs := []string{"a", "b", "$s", "**x", ""}
	if stars {
		segs = append(segs, "*", "*")
	}
	parts := make([]string, 1+r.IntN(3))
	for i := range parts {
		parts[i] = segs[r.IntN(len(segs))]
	}
	if stars && r.IntN(3) == 0 {
		parts = append(parts, "**")
	}
	if name := strings.Join(parts, "/"); name != "" {
		return name
	}
	return "a"
}

func TestMatcherFindsExactlyTheFeedsThatSelect(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m := newMatcher()
	var feeds []*feed
	for step := range 3000 {
		if len(feeds) < 40 && r.IntN(2) == 0 {
			f := &feed{}
			for range 1 + r.IntN(4) {
				if r.IntN(2) == 0 {
					f.sel.Topics = append(f.sel.Topics, randomName(r, false))
				} else if p := randomName(r, true); CheckPattern(p) == nil {
					f.sel.Patterns = append(f.sel.Patterns, p)
				}
			}
			f.sel = f.sel.Canonical()
			m.add(f)
			feeds = append(feeds, f)
		} else if len(feeds) > 0 {
			i := r.IntN(len(feeds))
			m.remove(feeds[i])
			feeds = slices.Delete(feeds, i, i+1)
		}
		topic := randomName(r, false)
		got := map[*feed]bool{}
		for _, f := range m.appendTo(nil, topic) {
			got[f] = true
		}
		for _, f := range feeds {
			if got[f] != f.sel.Match(topic) {
				t.Fatalf("step %d: topic %q, selector %+v: matcher says %v", step, topic, f.sel, got[f])
			}
			delete(got, f)
		}
		if len(got) > 0 {
			t.Fatalf("step %d: a feed that is gone was found", step)
		}
	}
	for _, f := range feeds {
		m.remove(f)
	}
	if !m.root.empty() || len(m.topics) > 0 || len(m.all) > 0 || m.size != 0 {
		t.Fatalf("an empty matcher holds %+v", m)
	}
}

func TestCoversIsStrongerThanMatch(t *testing.T) {
	for _, c := range []struct {
		p, q string
		want bool
	}{
		{"**", "a", true}, {"**", "a/**", true}, {"**", "*", true}, {"**", "$a/*", false},
		{"a/**", "a/*", true}, {"a/**", "a/b/**", true}, {"a/**", "a", false}, {"a/*", "a/**", false},
		{"a/*", "a/*", true}, {"*/b", "a/b", true}, {"*/b", "*/b", true}, {"*/b", "a/*", false},
		{"$s/**", "$s/x", true}, {"$s/**", "$s/**", true}, {"a", "a", true}, {"a", "*", false},
	} {
		if got := Covers(c.p, c.q); got != c.want {
			t.Errorf("covers(%q, %q) = %v", c.p, c.q, got)
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 20000 {
		p, q, name := randomName(r, true), randomName(r, true), randomName(r, false)
		if CheckPattern(p) != nil || CheckPattern(q) != nil {
			continue
		}
		if Covers(p, q) && MatchPattern(q, name) && !MatchPattern(p, name) {
			t.Fatalf("%q covers %q, and %q matches only the second", p, q, name)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	m := newMatcher()
	for i := range 100_000 {
		m.add(&feed{sel: Selector{Patterns: []string{fmt.Sprintf("tenant%d/*/price", i)}}})
	}
	var dst []*feed
	b.ReportAllocs()
	for b.Loop() {
		dst = m.appendTo(dst[:0], "tenant777/eu/price")
	}
	if len(dst) != 1 {
		b.Fatal(len(dst))
	}
}
