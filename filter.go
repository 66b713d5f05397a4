package tailrace

import "sync"

// Filter chooses among the events of a selection by what they are. Filters that
// are equal (==) are one: however many streams have it, an event is judged
// about once. Match is called from several goroutines at once, never by one
// that serves streams without a filter; one that is slow delays only its like.
type Filter interface {
	// Match reports whether a subscriber gets ev, which it must not change or
	// keep.
	Match(ev *Event) bool

	// Err says why the filter serves no longer; its streams end then. Nil is the
	// usual case.
	Err() error
}

// choice is which events of its selection a stream gets. The zero choice is
// all.
type choice struct {
	types  map[string]bool // nil is all
	filter Filter          // nil is none; of a stream it is a *judge
}

func (c *choice) isAll() bool { return c.types == nil && c.filter == nil }

// wants reports whether ev is to be sent. What only closes a topic is no event
// for subscribers.
func (c *choice) wants(ev *Event) bool {
	if ev.Close && ev.Type == TypeEnd || c.types != nil && !c.types[typeName(ev.Type)] {
		return false
	}
	return c.filter == nil || c.filter.Match(ev)
}

// judge is a filter that remembers what it has said of the newest events: the
// pages of streams that stand at different places overlap, and an event is
// judged once for all of them.
type judge struct {
	Filter
	streams int // guarded by judges.mu

	mu   sync.Mutex
	said [1024]verdict // by position
}

type verdict struct {
	pos   uint64
	match bool
}

// Match implements [Filter].
func (j *judge) Match(ev *Event) bool {
	pos := ev.Cursor.Pos
	v := &j.said[pos%uint64(len(j.said))]
	j.mu.Lock()
	defer j.mu.Unlock() // while it judges, too: others wait for what it says
	if v.pos != pos {
		*v = verdict{pos, j.Filter.Match(ev)}
	}
	return v.match
}

// judges are those of the open streams.
type judges struct {
	mu   sync.Mutex
	list map[Filter]*judge
}

// of returns the judge of f for one stream more.
func (js *judges) of(f Filter) *judge {
	js.mu.Lock()
	defer js.mu.Unlock()
	j := js.list[f]
	if j == nil {
		j = &judge{Filter: f}
		if js.list == nil {
			js.list = map[Filter]*judge{}
		}
		js.list[f] = j
	}
	j.streams++
	return j
}

// leave counts one of j's streams out.
func (js *judges) leave(j *judge) {
	js.mu.Lock()
	defer js.mu.Unlock()
	if j.streams--; j.streams == 0 {
		delete(js.list, j.Filter)
	}
}
