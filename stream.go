package tailrace

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxControl is how many control events may wait on one stream.
const maxControl = 16

// cursorInterval is how often a stream with hello learns its position while
// nothing of its selection happens, in seconds.
const cursorInterval = 60

// stream is one subscriber: a cursor over the log, never a queue. One goroutine
// at a time runs it and touches the fields without a comment about locks: that
// of its handler in the portable engine, its shard's or a worker's in the fast
// one. Its connection is port or fast.
type stream struct {
	hub   *Hub
	feed  *feed
	id    string
	from  *peer
	wants choice
	skip  OverflowPolicy
	onEnd func() // of the subscription
	form  form

	opened   bool // OnConnect has been told
	hello    bool // all control events
	snapshot bool // a gap is followed by a snapshot
	gapNew   bool // or by what is new
	live     bool // it has been at the head
	behind   bool // the log serves it, not the ring

	every    uint16 // seconds of silence until a heartbeat
	cur      Cursor // everything of the selection up to here is written
	told     uint64
	ended    uint64    // closed topics of the feed that it knows of
	left     int       // events until the limit; negative: none
	first    *Page     // read before the head went out
	snap     *snapshot // while one is sent
	lastData int64     // tick of the last event, for tailrace.cursor
	lastCur  uint64

	pos        atomic.Uint64 // cur.Pos, for others
	sentEvents atomic.Int64
	sentBytes  atomic.Int64
	since      atomic.Int64 // tick since which it is behind; 0 is not
	beat       atomic.Bool  // a heartbeat is due
	closing    atomic.Pointer[ending]
	change     atomic.Pointer[change] // of its topics, under way
	view       atomic.Pointer[feed]   // feed, for others

	port  atomic.Pointer[portable]
	fast  *fastConn
	shard atomic.Pointer[shard] // set once fast is

	mu       sync.Mutex
	control  []control    // waiting, in order; guarded by mu
	done     bool         // the handler is about to return: hands off the writer; guarded by mu
	controls atomic.Int32 // len(control)
}

// peer is what is known of a client. It does not change.
type peer struct {
	principal, addr, agent, client, protocol string

	opened time.Time
}

// ending is a wanted close: kind is one of the reasons of ConnInfo, told what
// the client reads.
type ending struct{ kind, told string }

// control is an event that is not in the log. It goes out after the last
// event at or below barrier and before the first above.
type control struct {
	frame   chunk
	barrier uint64
}

// wake has s look for something to do.
func (s *stream) wake() {
	if p := s.port.Load(); p != nil {
		p.wake()
	} else if sh := s.shard.Load(); sh != nil {
		sh.schedule(s)
	}
}

// lost says that the client has gone.
func (s *stream) lost() error {
	if s.fast != nil {
		return s.fast.err
	}
	if s.port.Load().gone.Load() {
		return errGone
	}
	return nil
}

// context ends with the client, where the engine can tell.
func (s *stream) context() context.Context {
	if s.fast != nil {
		return s.hub.ctx
	}
	return s.port.Load().out.Context()
}

// enqueue adds a control event, if there is room.
func (s *stream) enqueue(c control) bool {
	s.mu.Lock()
	ok := len(s.control) < maxControl
	if ok {
		s.control = append(s.control, c)
		s.controls.Store(int32(len(s.control)))
	}
	s.mu.Unlock()
	if ok {
		s.hub.wakeAt(s, c.barrier)
	}
	return ok
}

// barrier is the position at which the first waiting control event goes out.
func (s *stream) barrier() (uint64, bool) {
	if s.controls.Load() == 0 {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.control[0].barrier, true
}

// controlDue reports whether a control event is to go out at pos.
func (s *stream) controlDue(pos uint64) bool {
	b, ok := s.barrier()
	return ok && b <= pos
}

func (s *stream) popControl() chunk {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.control[0].frame
	if s.control = s.control[1:]; len(s.control) == 0 {
		s.control = nil
	}
	s.controls.Store(int32(len(s.control)))
	return f
}

// endSoon asks s to end at the next frame border. The first to ask decides.
func (s *stream) endSoon(e ending) {
	if s.closing.CompareAndSwap(nil, &e) {
		s.wake()
	}
}

// abort ends a stream that does not take its farewell: a write in progress
// fails at once.
func (s *stream) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sh := s.shard.Load(); sh != nil {
		s.fast.killed.Store(true)
		sh.schedule(s)
	} else if p := s.port.Load(); p != nil && !s.done {
		p.rc.SetWriteDeadline(overdue)
	}
}

// errEnd is how a step says that the stream is over and why.
type errEnd string

func (e errEnd) Error() string { return string(e) }

// errFull is how a step says that the socket takes no more now.
var errFull = errors.New("tailrace: the socket is full")

// reason names what ended s.
func (s *stream) reason(err error) string {
	var end errEnd
	switch {
	case errors.As(err, &end):
		return string(end)
	case errors.Is(err, os.ErrDeadlineExceeded) && s.closing.Load() != nil:
		return s.closing.Load().kind // it had its time for the farewell
	case s.hasStalled():
		return "stalled"
	case s.lost() != nil || s.context().Err() != nil:
		return "client"
	}
	return "error"
}

// hasStalled reports whether a write of a portable stream took too long.
func (s *stream) hasStalled() bool {
	p := s.port.Load()
	return p != nil && p.stalled.Load()
}

// limit is the position up to which s may look for news.
func (s *stream) limit() uint64 {
	if s.fast != nil {
		return s.shard.Load().limit
	}
	return s.hub.visible.Load()
}

// half is the position of an event of which the socket has taken a part; 0 is
// none. Nothing else may go out before the rest of it.
func (s *stream) half() uint64 {
	if s.fast != nil {
		return s.fast.half
	}
	return 0
}

// step writes what is next, if anything, and reports whether there may be more
// to do at once. In the fast engine it ends with errFull when the socket takes
// no more; the stream then stands where the socket does.
func (s *stream) step() (more bool, err error) {
	if err := s.lost(); err != nil {
		return false, err
	}
	if s.snap != nil {
		return true, s.snapshotPage()
	}
	half := s.half()
	if ch := s.change.Load(); ch != nil && half == 0 && s.first == nil {
		return true, s.workAt(ch)
	}
	if half == 0 && s.controlDue(s.cur.Pos) {
		return true, s.text(s.popControl())
	}
	if s.behind {
		return true, s.catchUp()
	}
	limit := s.limit()
	if half != 0 {
		limit = half
	} else if b, ok := s.barrier(); ok {
		limit = min(limit, b)
	}
	if limit > s.cur.Pos {
		if s.wants.filter != nil {
			return true, s.catchUp() // where streams share what a filter has said
		}
		return s.fromRing(limit)
	}
	if n := s.feed.ended.Load(); n != s.ended {
		s.ended = n
		s.setBehind(true) // ask the log whether all topics have ended
		return true, nil
	}
	if s.beat.Swap(false) {
		if tick := s.hub.tick.Load(); s.hello && tick-s.lastData >= cursorInterval && s.cur.Pos != s.lastCur {
			s.lastCur, s.lastData = s.cur.Pos, tick
			return true, s.text(controlFrame("cursor", emptyData{}, s.cur.String()))
		}
		return true, s.heartbeat()
	}
	return false, nil
}

// fromRing writes what the ring has up to limit.
func (s *stream) fromRing(limit uint64) (more bool, err error) {
	var end uint64
	var events int
	if s.fast != nil {
		end, events, err = s.fastRing(limit)
	} else {
		end, events, err = s.portableRing(limit)
	}
	if err == errFallen {
		return true, s.overflow()
	}
	if err == errCut {
		s.setBehind(true) // the limit falls inside the batch; the page is cut there
		return true, nil
	}
	if err != nil {
		return false, err
	}
	s.moveTo(end)
	if err := s.afterEvents(events); err != nil {
		return false, err
	}
	if !s.live && end >= limit {
		return true, s.atHead()
	}
	return s.fast != nil || end < limit, nil // who rests looks whether there is more at the head
}

// What the ring of a feed cannot serve.
var (
	errFallen = errors.New("tailrace: the position has fallen out of the ring")
	errCut    = errors.New("tailrace: the batch has more events than are wanted")
)

func (s *stream) portableRing(limit uint64) (end uint64, events int, err error) {
	b, ok := s.feed.next(s.cur.Pos, limit, s.form, s.wants.types)
	switch {
	case !ok:
		return 0, 0, errFallen
	case s.left >= 0 && b.events > s.left:
		return 0, 0, errCut
	case b.events == 0:
		return b.end, 0, nil
	}
	return b.end, b.events, s.writeOut(s.port.Load(), b.plain, b.events)
}

func (s *stream) heartbeat() error {
	s.hub.counters.heartbeats.Add(1)
	return s.text(heartbeatLine)
}

// text writes what is not of the log.
func (s *stream) text(c chunk) error {
	if p := s.port.Load(); p != nil {
		return s.writeOut(p, c.plain(), 0)
	}
	if err := s.fast.text(c.bytes()); err != nil {
		return err
	}
	s.wrote(engineFast, len(c.plain()), 0)
	return nil
}

// wrote counts one write.
func (s *stream) wrote(e engineKind, bytes, events int) {
	tick := s.hub.tick.Load()
	if s.fast != nil {
		s.fast.wrote = tick
	}
	s.beat.Store(false)
	s.sentBytes.Add(int64(bytes))
	s.hub.counters.deliver(e, delivered{sends: 1, events: int64(events), bytes: int64(bytes)})
	if events > 0 {
		s.lastData = tick
		s.sentEvents.Add(int64(events))
		if s.behind {
			s.hub.counters.replayed.Add(int64(events))
		}
	}
}

func (s *stream) moveTo(pos uint64) {
	s.cur.Pos = pos
	s.pos.Store(pos)
}

func (s *stream) setCursor(c Cursor) {
	s.cur = c
	s.pos.Store(c.Pos)
}

// afterEvents counts events against the limit.
func (s *stream) afterEvents(n int) error {
	if s.left < 0 {
		return nil
	}
	if s.left -= n; s.left > 0 {
		return nil
	}
	s.farewell("limit")
	return errEnd("limit")
}

// overflow applies the policy to a stream that has fallen out of its ring.
func (s *stream) overflow() error {
	if s.live {
		s.hub.counters.ringMisses.Add(1)
	}
	if !s.live || s.skip == Resume || s.half() != 0 {
		s.setBehind(true)
		return nil
	}
	s.hub.counters.gap(Overflow)
	gap := Gap{Reason: Overflow, Requested: s.cur.String(), Oldest: s.cur.String()}
	if s.skip == Conflate {
		if err := s.text(controlFrame("gap", gap, "")); err != nil {
			return err
		}
		return s.beginSnapshot()
	}
	s.feed.mu.Lock()
	from := s.feed.from
	s.feed.mu.Unlock()
	s.moveTo(from)
	gap.Oldest = s.cur.String()
	return s.text(controlFrame("gap", gap, s.cur.String()))
}

func (s *stream) setBehind(v bool) {
	if s.behind == v {
		return
	}
	s.behind = v
	if v {
		s.since.Store(s.hub.tick.Load())
		s.hub.behind.Add(1)
	} else {
		s.since.Store(0)
		s.hub.behind.Add(-1)
	}
}

// atHead turns s over to its ring.
func (s *stream) atHead() error {
	s.told = 0
	if s.feed.covers(s.cur.Pos) {
		s.setBehind(false)
	}
	if s.live {
		return nil
	}
	s.live = true
	if s.hello {
		return s.text(controlFrame("live", emptyData{}, s.cur.String()))
	}
	return nil
}

// Bounds of the reconnection time after a wanted close, so that a fleet does
// not return at one moment.
const (
	minFarewell = 500 * time.Millisecond
	maxFarewell = 5 * time.Second
)

// farewellTime is what a connection that takes nothing gets for its farewell, in
// seconds.
const farewellTime = 1

func jitter(from, to time.Duration) time.Duration {
	return (from + rand.N(to-from)).Round(time.Millisecond)
}

// farewell ends s at a frame border: when to come back and, for who asked for
// such events, why.
func (s *stream) farewell(reason string) {
	retry := jitter(minFarewell, maxFarewell)
	buf := newChunk(128)
	buf = append(buf, retryLine(retry)...)
	if s.hello && reason != "ended" {
		kind := "close"
		if reason == "drain" {
			kind = "drain"
		}
		buf = append(buf, controlFrame(kind, closeData{retry.Milliseconds(), reason}, "").plain()...)
	}
	s.text(sealChunk(buf)) // it ends either way
}
