package tailrace

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMemOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var o memOrder
	var want []uint64
	pos := uint64(0)
	for range 20_000 {
		if r.IntN(100) < 52 || len(want) == 0 {
			pos += 1 + uint64(r.IntN(3))
			o.add(&memEvent{Event: Event{Cursor: Cursor{Pos: pos}}})
			want = append(want, pos)
		} else {
			i := r.IntN(len(want))
			if r.IntN(3) == 0 {
				i = 0
			}
			o.remove(want[i])
			want = slices.Delete(want, i, i+1)
			o.remove(pos + 1) // is not there
		}
		if o.live != len(want) {
			t.Fatalf("%d live, want %d", o.live, len(want))
		}
		if len(want) > 0 && o.first().Cursor.Pos != want[0] || len(want) == 0 && o.first() != nil {
			t.Fatalf("first is %v, want %v", o.first(), want)
		}
		if len(o.places) > 2*len(want)+64 {
			t.Fatalf("%d places for %d events", len(o.places), len(want))
		}
		after := uint64(r.IntN(int(pos) + 2))
		var got []uint64
		for _, p := range o.places[o.after(after):] {
			if p.pos <= after {
				t.Fatalf("%d is not after %d", p.pos, after)
			}
			if p.e != nil {
				got = append(got, p.pos)
			}
		}
		i, found := slices.BinarySearch(want, after)
		if found {
			i++
		}
		if !slices.Equal(got, want[i:]) {
			t.Fatalf("after %d: %d, want %d", after, got, want[i:])
		}
		if len(want) > 300 {
			for _, p := range want[:200] {
				o.remove(p)
			}
			want = want[200:]
		}
	}
}

func TestMemNames(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var ns memNames
	topics := map[string]*memTopic{}
	add := func(name string) {
		if topics[name] == nil {
			topics[name] = &memTopic{name: name}
			ns.add(topics[name])
		}
	}
	check := func() {
		t.Helper()
		var want []string
		for name := range topics {
			want = append(want, name)
		}
		slices.Sort(want)
		for _, from := range []string{"", "n/1", "n/50", "n/7", "zzz"} {
			i, _ := slices.BinarySearch(want, from)
			var got []string
			for topic := range ns.from(from) {
				got = append(got, topic.name)
			}
			if !slices.Equal(got, want[i:]) {
				t.Fatalf("from %q: %d names, want %d", from, len(got), len(want[i:]))
			}
		}
		for _, b := range ns.blocks {
			if len(b) == 0 || len(b) > memNamesBlock {
				t.Fatalf("a block of %d", len(b))
			}
		}
	}
	check()
	for i := range 3000 { // in order
		add(fmt.Sprintf("n/%05d", i))
	}
	if n := len(ns.blocks); n > 3000/memNamesBlock+1 {
		t.Errorf("%d blocks for 3000 names in order", n)
	}
	check()
	for i := range 6000 {
		add(fmt.Sprint("n/", r.IntN(10_000)))
		if name := fmt.Sprint("n/", r.IntN(10_000)); i%3 == 0 && topics[name] != nil {
			ns.remove(topics[name])
			delete(topics, name)
		}
		if i%500 == 0 {
			check()
		}
	}
	for name, topic := range topics {
		ns.remove(topic)
		ns.remove(topic)
		delete(topics, name)
	}
	check()
}
