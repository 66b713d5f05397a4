package logtest

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/tailrace/tailrace"
)

// history is what publishers, trimmers and readers of one log have seen. It is
// safe for concurrent use; check is for afterwards.
type history struct {
	mu     sync.Mutex
	acks   []ack
	trims  []removal
	reads  [][]reading // by reader, in its order
	notes  []error     // what was wrong at once
	clock  int
	latest map[int]uint64 // by publisher: position of its newest acknowledged event
}

// ack is an acknowledged event.
type ack struct {
	publisher int
	topic, id string
	pos       uint64
}

// removal is a Trim or a Delete. What it removed is gone at some time after it
// began.
type removal struct {
	topic string
	upTo  uint64
	began int
}

// reading is a page.
type reading struct {
	sel      tailrace.Selector
	at, next uint64
	events   []tailrace.Event
	reset    *tailrace.Reset
	ended    int // time when it was there
}

func newHistory(readers int) *history {
	return &history{reads: make([][]reading, readers), latest: map[int]uint64{}}
}

func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.notes = append(h.notes, fmt.Errorf(format, args...))
}

func (h *history) acknowledged(acks ...ack) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acks = append(h.acks, acks...)
	for _, a := range acks {
		h.latest[a.publisher] = max(h.latest[a.publisher], a.pos)
	}
}

// removing is called before a removal. The index it returns is for removedUpTo.
func (h *history) removing(topic string, upTo uint64) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	h.trims = append(h.trims, removal{topic, upTo, h.clock})
	return len(h.trims) - 1
}

// removedUpTo says up to where a Delete can have removed events.
func (h *history) removedUpTo(i int, upTo uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trims[i].upTo = upTo
}

func (h *history) read(reader int, r reading) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	r.ended = h.clock
	h.reads[reader] = append(h.reads[reader], r)
}

// settled returns a position at or below which no publisher will repeat an
// event, so that a trim to there frees no id in use.
func (h *history) settled(publishers int) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.latest) < publishers {
		return 0
	}
	least := ^uint64(0)
	for _, pos := range h.latest {
		least = min(least, pos)
	}
	return least
}

// last returns the position of the newest event of s that nothing removed.
func (h *history) last(s tailrace.Selector) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	removed := removals(h.trims)
	var last uint64
	for _, a := range h.acks {
		if a.pos > last && s.Match(a.topic) && !removed.before(a, h.clock+1) {
			last = a.pos
		}
	}
	return last
}

// removalIndex answers what was removed when: by topic, in order of their
// beginning, each with the highest position of all up to it.
type removalIndex map[string][]removal

func removals(all []removal) removalIndex {
	ix := removalIndex{}
	for _, r := range all {
		before := ix[r.topic]
		if n := len(before); n > 0 {
			r.upTo = max(r.upTo, before[n-1].upTo)
		}
		ix[r.topic] = append(before, r)
	}
	return ix
}

// before reports whether something that began before when can have removed a.
func (ix removalIndex) before(a ack, when int) bool {
	rs := ix[a.topic]
	n, _ := slices.BinarySearchFunc(rs, when, func(r removal, when int) int { return cmp.Compare(r.began, when) })
	return n > 0 && rs[n-1].upTo >= a.pos
}

// size says how much there is, to show that a run had something to see.
func (h *history) size() string {
	pages, resets, shown := 0, 0, 0
	for _, reads := range h.reads {
		for _, r := range reads {
			pages++
			shown += len(r.events)
			if r.reset != nil {
				resets++
			}
		}
	}
	return fmt.Sprintf("%d events acknowledged, %d removals; %d pages read with %d events and %d resets",
		len(h.acks), len(h.trims), pages, shown, resets)
}

// check returns what of the promises was broken. final is all that can be read
// of the log in the end.
func (h *history) check(final []tailrace.Event) []error {
	c := checker{history: h, removed: removals(h.trims), errs: slices.Clone(h.notes)}
	c.acknowledgements()
	c.final(final)
	for reader, reads := range h.reads {
		c.reader(reader, reads)
	}
	return c.errs
}

type checker struct {
	*history
	removed removalIndex
	events  []ack // each stored event once, by position
	errs    []error
}

func (c *checker) wrong(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// acknowledgements: each event has one position, each position one event, and
// positions grow with the publisher's time.
func (c *checker) acknowledgements() {
	byID := map[[2]string]ack{}
	byPos := map[uint64]ack{}
	last := map[int]uint64{}
	for _, a := range c.acks {
		if a.pos <= last[a.publisher] {
			c.wrong("publisher %d: %s %s at %d was acknowledged after %d", a.publisher, a.topic, a.id, a.pos, last[a.publisher])
		}
		last[a.publisher] = a.pos
		if o, ok := byID[[2]string{a.topic, a.id}]; ok {
			c.wrong("%s %s is stored twice, at %d and %d", a.topic, a.id, o.pos, a.pos)
		}
		if o, ok := byPos[a.pos]; ok {
			c.wrong("%s %s and %s %s are both at %d", a.topic, a.id, o.topic, o.id, a.pos)
		}
		byID[[2]string{a.topic, a.id}], byPos[a.pos] = a, a
	}
	for _, a := range byPos {
		c.events = append(c.events, a)
	}
	slices.SortFunc(c.events, func(a, b ack) int { return comparePos(a, b.pos) })
}

// final: every acknowledged event is there, or removed, and no other.
func (c *checker) final(final []tailrace.Event) {
	there := map[uint64]bool{}
	for _, ev := range final {
		c.known("the log in the end", &ev)
		there[ev.Cursor.Pos] = true
	}
	for _, a := range c.events {
		if !there[a.pos] && !c.removed.before(a, c.clock+1) {
			c.wrong("%s %s at %d was acknowledged and is not in the log", a.topic, a.id, a.pos)
		}
	}
}

func (c *checker) known(who string, ev *tailrace.Event) {
	i, ok := slices.BinarySearchFunc(c.events, ev.Cursor.Pos, comparePos)
	if !ok || c.events[i].topic != ev.Topic || c.events[i].id != string(ev.Data) {
		c.wrong("%s shows %s %q at %d, which nobody published", who, ev.Topic, ev.Data, ev.Cursor.Pos)
	}
}

func comparePos(a ack, pos uint64) int { return cmp.Compare(a.pos, pos) }

// between returns the events with from < position <= to.
func (c *checker) between(from, to uint64) []ack {
	search := func(pos uint64) int {
		i, found := slices.BinarySearchFunc(c.events, pos, comparePos)
		if found {
			i++
		}
		return i
	}
	i := search(from)
	return c.events[i:max(i, search(to))]
}

// reader: what it saw between resets is what the log had, and each reset is
// one for a reason.
func (c *checker) reader(reader int, reads []reading) {
	var resets []reading
	for n, r := range reads {
		who := fmt.Sprintf("reader %d of %+v, page %d after %d", reader, r.sel, n, r.at)
		if r.next < r.at {
			c.wrong("%s: Next goes back to %d", who, r.next)
		}
		if r.reset != nil {
			resets = append(resets, r)
			c.justified(who, r)
		}
		seen := map[uint64]bool{}
		last := r.at
		for i := range r.events {
			ev := &r.events[i]
			c.known(who, ev)
			if ev.Cursor.Pos <= last || ev.Cursor.Pos > r.next {
				c.wrong("%s to %d: %d follows %d", who, r.next, ev.Cursor.Pos, last)
			}
			if !r.sel.Match(ev.Topic) {
				c.wrong("%s: an event of %s", who, ev.Topic)
			}
			last = ev.Cursor.Pos
			seen[last] = true
		}
		for _, a := range c.between(r.at, r.next) {
			if !seen[a.pos] && r.sel.Match(a.topic) && !c.told(resets, a) {
				c.wrong("%s to %d: silent gap: %s %s at %d is missing", who, r.next, a.topic, a.id, a.pos)
			}
		}
	}
}

// told reports whether one of a reader's resets speaks of the loss of a.
func (c *checker) told(resets []reading, a ack) bool {
	return slices.ContainsFunc(resets, func(r reading) bool {
		return a.pos > r.at && concerns(r.reset, a.topic) && c.removed.before(a, r.ended)
	})
}

func (c *checker) justified(who string, r reading) {
	for _, a := range c.between(r.at, ^uint64(0)) {
		if r.sel.Match(a.topic) && concerns(r.reset, a.topic) && c.removed.before(a, r.ended) {
			return
		}
	}
	c.wrong("%s: reset %+v, but nothing after it was removed", who, *r.reset)
}

func concerns(r *tailrace.Reset, topic string) bool {
	return r.Topics == nil || slices.Contains(r.Topics, topic)
}
