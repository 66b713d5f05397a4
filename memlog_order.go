package tailrace

import "slices"

// memOrder holds events in order of position. Any of them can be removed; the
// place of one that is not the first stays as a hole of 16 bytes until half of
// the places are holes. So adding and removing cost O(1) on average, and a
// look-up one bisection.
type memOrder struct {
	places []memPlace
	live   int
}

type memPlace struct {
	pos uint64
	e   *memEvent // nil is a hole
}

func (o *memOrder) add(e *memEvent) {
	o.places = append(o.places, memPlace{e.Cursor.Pos, e})
	o.live++
}

// after returns the index of the first place beyond pos.
func (o *memOrder) after(pos uint64) int {
	if n := len(o.places); n == 0 || o.places[n-1].pos <= pos {
		return n // the usual case: a reader at the head
	}
	i, found := slices.BinarySearchFunc(o.places, pos, comparePlace)
	if found {
		i++
	}
	return i
}

func comparePlace(p memPlace, pos uint64) int {
	switch {
	case p.pos < pos:
		return -1
	case p.pos > pos:
		return 1
	}
	return 0
}

// first returns the oldest event, nil if there is none.
func (o *memOrder) first() *memEvent {
	if o.live == 0 {
		return nil
	}
	return o.places[0].e // leading holes are cut at once
}

func (o *memOrder) remove(pos uint64) {
	i, found := 0, len(o.places) > 0 && o.places[0].pos == pos
	if !found {
		i, found = slices.BinarySearchFunc(o.places, pos, comparePlace)
	}
	if !found || o.places[i].e == nil {
		return
	}
	o.places[i].e = nil
	o.live--
	for len(o.places) > 0 && o.places[0].e == nil {
		o.places = o.places[1:]
	}
	if len(o.places) > 64 && o.live < len(o.places)/2 {
		kept := make([]memPlace, 0, o.live+o.live/4)
		for _, p := range o.places {
			if p.e != nil {
				kept = append(kept, p)
			}
		}
		o.places = kept
	}
}
