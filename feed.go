package tailrace

import (
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of one feed's ring, and of what one write joins.
const (
	maxRingFrames = 4096
	maxRingBytes  = 1 << 20
	maxJoin       = 16 << 10 // one TLS record; a subscriber that stalls holds at most one such buffer
)

// feed is the ring of one selection: the frames of its newest events in log
// order, each once. Streams with equal selections share it. It covers the
// interval (from, visible] of the sequence: everything of its selection in
// there is in the ring.
type feed struct {
	key string // of Hub.feeds
	sel Selector

	// ended counts appends that closed a topic of the selection; a stream
	// that sees it move asks the log whether everything has ended.
	ended atomic.Uint64

	mu      sync.Mutex
	from    uint64
	ring    []*frame // by position
	bytes   int64
	joins   [sharedForms]join
	streams map[*stream]struct{} // of the portable engine, and those that begin
	taken   int                  // streams of the fast engine
	idle    time.Time            // since when it has neither

	// fast counts the fast engine's streams by shard; nil without one.
	fast []atomic.Int32
}

// join is a run of frames as one batch, shared by the streams that stand before
// the same frame when the same ones are visible.
type join struct {
	first, limit uint64
	batch        batch
}

// feedKey names a canonical selection. Names and patterns have no control
// characters, so the separators are unambiguous.
func feedKey(s Selector) string {
	return strings.Join(s.Topics, "\n") + "\r" + strings.Join(s.Patterns, "\n")
}

// append adds a frame that is not yet visible and returns the frames that
// fell out of a ring of at most so many. Called with Hub.tailMu held.
func (f *feed) append(fr *frame, atMost int) (dropped []*frame, added bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.ring); n > 0 && f.ring[n-1] == fr {
		return nil, false // another part of the selection had it
	}
	f.ring = append(f.ring, fr)
	f.bytes += fr.size()
	n := 0
	for b := f.bytes; n < len(f.ring)-1 && (b > maxRingBytes || len(f.ring)-n > atMost); n++ {
		b -= f.ring[n].size()
	}
	return f.drop(n), true
}

// drop removes the n oldest frames and returns them. Called with mu held.
func (f *feed) drop(n int) []*frame {
	if n == 0 {
		return nil
	}
	dropped := append([]*frame(nil), f.ring[:n]...)
	for _, fr := range dropped {
		f.bytes -= fr.size()
	}
	f.from = dropped[n-1].pos()
	clear(f.ring[:n])
	f.ring = f.ring[n:]
	if len(f.ring) == 0 {
		f.ring = nil
		f.joins = [sharedForms]join{}
	}
	return dropped
}

// batch is what a stream writes next.
type batch struct {
	chunk  chunk  // the blocks of the events, if there are any; shared, never changed
	end    uint64 // the stream's position once it is written
	events int
}

// next returns what follows pos in the ring up to limit, at most maxJoin bytes
// or one frame. ok is false if pos has fallen out of the ring; then the log
// knows. types, if not nil, are the only event types wanted.
func (f *feed) next(pos, limit uint64, fm form, types map[string]bool) (b batch, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pos < f.from {
		return batch{}, false
	}
	i := sort.Search(len(f.ring), func(i int) bool { return f.ring[i].pos() > pos })
	rest := f.ring[i:]
	if n := len(rest); n == 0 || rest[0].pos() > limit {
		return batch{end: max(pos, limit)}, true
	}
	if types != nil {
		return joinFrames(rest, limit, fm, types), true
	}
	if len(rest) == 1 {
		return batch{chunk: rest[0].block(fm), end: max(limit, rest[0].pos()), events: 1}, true
	}
	j := &f.joins[fm]
	if j.first != rest[0].pos() || j.limit != limit {
		*j = join{first: rest[0].pos(), limit: limit, batch: joinFrames(rest, limit, fm, nil)}
	}
	return j.batch, true
}

// joinFrames joins the frames up to limit, as many as fit.
func joinFrames(frames []*frame, limit uint64, fm form, types map[string]bool) batch {
	b := batch{end: limit}
	size := 0
	var few [32]chunk
	blocks := few[:0]
	for i, fr := range frames {
		if fr.pos() > limit {
			break
		}
		if types != nil && !types[typeName(fr.ev.Type)] {
			continue
		}
		c := fr.block(fm)
		if n := len(c.plain()); len(blocks) > 0 && size+n > maxJoin {
			b.end = frames[i-1].pos()
			break
		} else {
			size += n
		}
		blocks = append(blocks, c)
	}
	if b.events = len(blocks); b.events == 0 {
		return b
	}
	if b.events == 1 {
		b.chunk = blocks[0]
		return b
	}
	buf := newChunk(size)
	for _, c := range blocks {
		buf = append(buf, c.plain()...)
	}
	b.chunk = sealChunk(buf)
	return b
}

// typeName is the name under which an event type is selected.
func typeName(t string) string {
	if t == "" {
		return "message"
	}
	return t
}

// lag counts the frames after pos; ok is false if pos is behind the ring.
func (f *feed) lag(pos uint64) (n int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pos < f.from {
		return 0, false
	}
	i := sort.Search(len(f.ring), func(i int) bool { return f.ring[i].pos() > pos })
	return int64(len(f.ring) - i), true
}
