package tailrace

import "container/list"

// memEvent is an event in memory. Its Event never changes, so that a reader
// needs the log's lock only to find it.
type memEvent struct {
	Event
	topic *memTopic
	kept  *list.Element // in MemoryLog.retained: below the floor, for snapshots only
}

// What an event and a topic cost besides their texts, roughly: the structures
// of this file and their places in the indexes. They are part of what
// MemoryOptions.MaxBytes bounds, so that many small events or empty topics
// cannot grow memory without limit.
const (
	memEventCost = 224
	memIndexCost = 64 // of its id, and of its key
	memTopicCost = 320
)

func (e *memEvent) cost() int64 {
	n := memEventCost + len(e.Data) + len(e.Type) + len(e.Key) + len(e.ID)
	if e.ID != "" {
		n += memIndexCost
	}
	if e.Key != "" {
		n += memIndexCost
	}
	return int64(n)
}

// memTopic is what the log knows of one name, also of one that is gone, as long
// as cursors from before may ask for it.
type memTopic struct {
	name   string
	policy *Policy
	events []*memEvent // above floor, in order
	bytes  int64       // data of events
	state  *memState   // nil without keys

	head    uint64 // last event of this life, kept or not
	floor   uint64 // newest event removed
	stamp   uint64 // position of the last raise of floor
	deleted bool   // Delete made that raise
	closed  bool
	gone    bool // deleted or forgotten: only floor and stamp count

	appended int64 // time of the last append, ns
	raised   int64 // time of the last raise, ns

	due     int64 // when sweep must look again at the earliest, ns
	dueAt   int   // index in the heap, -1 if it is not there
	inOrder *list.Element
	inEmpty *list.Element
}

// memState is the newest event of each key.
type memState struct {
	keys  map[string]*memEvent
	order memOrder // the same events
}

// last returns the position of the topic's last event if that is kept.
func (t *memTopic) last() uint64 {
	if t.head > t.floor {
		return t.head
	}
	if t.state != nil {
		if n := len(t.state.order.places); n > 0 {
			if p := t.state.order.places[n-1]; p.e != nil && p.pos == t.head {
				return t.head
			}
		}
	}
	return 0
}

// after returns the events beyond pos.
func (t *memTopic) after(pos uint64) []*memEvent {
	lo, hi := 0, len(t.events)
	if hi == 0 || t.events[hi-1].Cursor.Pos <= pos {
		return nil
	}
	for lo < hi {
		if mid := (lo + hi) / 2; t.events[mid].Cursor.Pos <= pos {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return t.events[lo:]
}
