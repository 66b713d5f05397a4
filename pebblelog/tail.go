package pebblelog

import (
	"sync"

	"github.com/tailrace/tailrace"
)

// Bounds of the tail. They cost at most about 12 MiB; a reader that is further behind than that
// reads from the store, most of it from the store's own memory.
const (
	tailEvents  = 16384
	tailBytes   = 8 << 20
	tailRaises  = 1024
	chunkEvents = 256
	chunkBytes  = tailBytes / 8 // chunks go whole, and share memory
)

// tail is what readers see of the log's end: the visible position, and in memory the newest
// events and raises of floors, so that those who keep up never touch the store.
type tail struct {
	mu     sync.RWMutex // guards what follows
	view   view
	chunks []chunk // ascending
	events int     // in chunks
	bytes  int     // of their data
	start  uint64  // all events in (start, view.head] are in chunks
	raises []raised
	known  uint64 // all raises with a stamp above it are in raises
}

// view is a visible state of the log.
type view struct {
	head   uint64 // reads stop here
	time   int64  // of the last batch, unix nanoseconds
	stamp  uint64 // of the newest raise, or 0
	totals totals
}

// chunk is a run of events at consecutive positions. Its events never change.
type chunk struct {
	first  uint64
	events []tailrace.Event
	bytes  int
	more   bool // of read: there are chunks behind the one copied
}

func (c *chunk) last() uint64 { return c.first + uint64(len(c.events)) - 1 }

// raised is a floor that was raised.
type raised struct {
	stamp, floor uint64
	topic        string
}

// publish makes a committed batch visible. events may continue the memory of the last chunk.
func (t *tail) publish(v view, first uint64, events []tailrace.Event, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.view = v
	if len(events) == 0 {
		return
	}
	if n := len(t.chunks); n > 0 && t.chunks[n-1].joins(first, events) {
		c := &t.chunks[n-1]
		c.events = c.events[:len(c.events)+len(events)]
		c.bytes += bytes
	} else {
		t.chunks = append(t.chunks, chunk{first: first, events: events, bytes: bytes})
	}
	t.events += len(events)
	t.bytes += bytes
	drop := 0
	for len(t.chunks)-drop > 1 && (t.events > tailEvents || t.bytes > tailBytes) {
		c := &t.chunks[drop]
		t.start = c.last()
		t.events -= len(c.events)
		t.bytes -= c.bytes
		*c = chunk{}
		drop++
	}
	t.chunks = t.chunks[drop:]
}

// joins reports whether events stand right behind c's, in positions and in memory.
func (c *chunk) joins(first uint64, events []tailrace.Event) bool {
	n := len(c.events)
	return first == c.first+uint64(n) && c.bytes < chunkBytes && cap(c.events) >= n+len(events) && &c.events[:n+1][n] == &events[0]
}

// raise notes raises that are about to be written: from then on those whom they concern are
// served by the store, which removes the events and raises the floor at once.
func (t *tail) raise(raises []raised) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if drop := len(t.raises) + len(raises) - tailRaises; drop > 0 {
		// A stamp may be shared by many raises; those left of it are of no use, nor do they harm.
		if drop >= len(t.raises) {
			t.known = raises[len(raises)-1].stamp
			t.raises = nil
			return
		}
		t.known = t.raises[drop-1].stamp
		t.raises = append([]raised(nil), t.raises[drop:]...)
	}
	t.raises = append(t.raises, raises...)
}

func (t *tail) visible() view {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.view
}

// read appends to dst the chunks that hold the events after pos, up to about most of them, and
// returns the raises that concern a start there. With ok false the tail does not reach back to
// pos.
func (t *tail) read(pos uint64, most int, dst []chunk) (v view, chunks []chunk, raises []raised, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	v = t.view
	if pos < t.start || pos < t.known {
		return v, nil, nil, false
	}
	i := len(t.chunks)
	for i > 0 && t.chunks[i-1].last() > pos {
		i--
	}
	for ; i < len(t.chunks) && most > 0; i++ {
		dst = append(dst, t.chunks[i])
		most -= len(t.chunks[i].events)
		if t.chunks[i].first <= pos {
			most += int(pos + 1 - t.chunks[i].first)
		}
	}
	if i < len(t.chunks) {
		dst[len(dst)-1].more = true
	}
	i = len(t.raises)
	for i > 0 && t.raises[i-1].stamp > pos {
		i--
	}
	return v, dst, t.raises[i:len(t.raises):len(t.raises)], true
}
