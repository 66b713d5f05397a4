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
	maxWrite      = 64 << 10
	maxJoin       = 16 << 10 // of a portable stream: one that stalls holds such a buffer
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
	batch        batch // of the portable engine
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

// batch is what a portable stream writes next.
type batch struct {
	plain  []byte // the blocks of the events; shared, never changed
	end    uint64 // the stream's position once they are written
	events int
}

// next returns what follows pos in the ring up to limit, at most maxJoin bytes
// or one frame. ok is false if pos has fallen out of the ring; then the log
// knows. types, if not nil, are the only event types wanted.
func (f *feed) next(pos, limit uint64, fm form, types map[string]bool) (b batch, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rest, ok := f.rest(pos)
	if !ok {
		return batch{}, false
	}
	if len(rest) == 0 || rest[0].pos() > limit {
		return batch{end: max(pos, limit)}, true
	}
	if types != nil {
		return joinFrames(rest, limit, fm, types), true
	}
	if len(rest) == 1 {
		return batch{plain: rest[0].block(fm).plain(), end: max(limit, rest[0].pos()), events: 1}, true
	}
	j := &f.joins[fm]
	if j.first != rest[0].pos() || j.limit != limit {
		*j = join{first: rest[0].pos(), limit: limit, batch: joinFrames(rest, limit, fm, nil)}
	}
	return j.batch, true
}

// rest returns the frames after pos; ok is false if some have fallen out of the
// ring. Called with mu held.
func (f *feed) rest(pos uint64) (frames []*frame, ok bool) {
	if pos < f.from {
		return nil, false
	}
	if n := len(f.ring); n == 0 || f.ring[n-1].pos() <= pos {
		return nil, true
	}
	i := sort.Search(len(f.ring), func(i int) bool { return f.ring[i].pos() > pos })
	return f.ring[i:], true
}

// after appends the frames that follow pos up to limit to dst, in most bytes or
// one frame, and says where the stream stands once they are written. ok is
// false if pos has fallen out of the ring.
func (f *feed) after(dst []*frame, pos, limit uint64, most int, types map[string]bool) (frames []*frame, end uint64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rest, ok := f.rest(pos)
	if !ok {
		return dst, 0, false
	}
	frames, end = appendFrames(dst, rest, limit, most, types)
	return frames, max(pos, end), true
}

// appendFrames appends the frames up to limit that are of types and fit into
// most bytes, one at least, to dst; end is the position before the next one.
func appendFrames(dst, frames []*frame, limit uint64, most int, types map[string]bool) (_ []*frame, end uint64) {
	size := 0
	for i, fr := range frames {
		if fr.pos() > limit {
			break
		}
		if types != nil && !types[typeName(fr.ev.Type)] {
			continue
		}
		size += fr.blockSize()
		if len(dst) > 0 && size > most {
			return dst, frames[i-1].pos()
		}
		dst = append(dst, fr)
	}
	return dst, limit
}

// joinFrames joins the frames up to limit, as many as fit.
func joinFrames(frames []*frame, limit uint64, fm form, types map[string]bool) batch {
	var few [32]*frame
	list, end := appendFrames(few[:0], frames, limit, maxJoin, types)
	b := batch{end: end, events: len(list)}
	switch len(list) {
	case 0:
	case 1:
		b.plain = list[0].block(fm).plain()
	default:
		size := 0
		for _, fr := range list {
			size += len(fr.block(fm).plain())
		}
		b.plain = make([]byte, 0, size)
		for _, fr := range list {
			b.plain = append(b.plain, fr.block(fm).plain()...)
		}
	}
	return b
}

// covers reports whether the ring is complete after pos.
func (f *feed) covers(pos uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return pos >= f.from
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
	rest, ok := f.rest(pos)
	return int64(len(rest)), ok
}
