package tailrace

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// replayReaders bounds how many streams read the log at once, so that a storm
// of returning clients cannot starve publishers and live streams.
func replayReaders() int { return 2 * runtime.GOMAXPROCS(0) }

// Pages of the log for a stream that is behind, in bytes of data, and in
// events, whose framing counts too.
const (
	minPage    = 1 << 10
	maxPage    = maxJoin
	pageEvents = 256
)

// maxControl is how many control events may wait on one stream.
const maxControl = 16

// cursorInterval is how often a stream with hello learns its position while
// nothing of its selection happens.
const cursorInterval = 60 * time.Second

// stream is one subscriber: a cursor over the log, never a queue. One goroutine
// at a time runs it and touches the fields without a comment about locks: that
// of its handler in the portable engine, its shard's or a worker's in the fast
// one.
type stream struct {
	hub   *Hub
	sub   *Subscription
	id    string
	info  ConnInfo    // what does not change
	out   *sse.Stream // the portable engine's connection
	fast  *fastConn   // the fast engine's, once it has taken over
	rc    *http.ResponseController
	feed  *feed
	form  form
	types map[string]bool
	skip  OverflowPolicy

	cur      Cursor // everything of the selection up to here is written
	told     uint64
	behind   bool // the log serves it, not the ring
	live     bool // it has been at the head
	ended    uint64
	left     int    // events until the limit; negative: none
	page     *Page  // the first, read before the head went out
	snap     *Query // of the next page while a snapshot is sent
	snapped  int    // events of it so far
	lastData int64  // tick of the last event, for tailrace.cursor
	lastCur  uint64

	pos        atomic.Uint64 // cur.Pos, for others
	sentEvents atomic.Int64
	sentBytes  atomic.Int64
	lastWrite  atomic.Int64 // tick
	beat       atomic.Bool
	closing    atomic.Pointer[ending]
	gone       atomic.Bool // the client of a portable stream has left

	shard  atomic.Pointer[shard] // of the fast engine, once it has taken over
	idle   atomic.Bool           // it waits for wakeup; who turns it false sends
	wakeup chan struct{}
	pass   atomic.Pointer[pass]

	controls atomic.Int32 // len(control)

	mu      sync.Mutex
	control []control // waiting, in order
	done    bool      // the handler is about to return: hands off the writer
}

// ending is a wanted close: kind is one of the reasons of ConnInfo, told what
// the client reads.
type ending struct{ kind, told string }

// control is an event that is not in the log. It goes out after the last
// event at or below barrier and before the first above.
type control struct {
	frame   []byte
	barrier uint64
}

// wakeIn wakes s if it is idle, as one of the streams of p.
func (s *stream) wakeIn(p *pass) {
	if s.idle.CompareAndSwap(true, false) {
		p.pending.Add(1)
		s.pass.Store(p)
		s.wakeup <- struct{}{}
	}
}

// wake wakes s if it is idle. A busy stream looks at everything once more
// before it rests.
func (s *stream) wake() {
	if sh := s.shard.Load(); sh != nil {
		sh.schedule(s)
		return
	}
	if s.idle.CompareAndSwap(true, false) {
		s.wakeup <- struct{}{}
	}
}

// rest waits until there may be something to do.
func (s *stream) rest() {
	if p := s.pass.Swap(nil); p != nil {
		p.finish()
	}
	s.idle.Store(true)
	if s.hasWork() && s.idle.CompareAndSwap(true, false) {
		return
	}
	<-s.wakeup
}

// hasWork reports whether a wake may have been missed before s was idle.
func (s *stream) hasWork() bool {
	return s.hub.visible.Load() > s.cur.Pos || s.feed.ended.Load() != s.ended || s.beat.Load() || s.closing.Load() != nil ||
		s.lost() != nil || s.controls.Load() > 0
}

// lost says that the client has gone.
func (s *stream) lost() error {
	if s.fast != nil {
		return s.fast.err
	}
	if s.gone.Load() {
		return errGone
	}
	return nil
}

// leave is called when the client of a portable stream has gone.
func (s *stream) leave() {
	s.gone.Store(true)
	s.wake()
}

// context ends with the client, where the engine can tell.
func (s *stream) context() context.Context {
	if s.fast != nil {
		return s.hub.ctx
	}
	return s.out.Context()
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
	s.wake()
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

func (s *stream) popControl() []byte {
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
		sh.kill(s)
	} else if !s.done {
		s.rc.SetWriteDeadline(time.Unix(1, 0))
	}
}

// beatIfDue marks s for a heartbeat if it has had no byte for its interval.
func (s *stream) beatIfDue(tick int64) {
	if tick-s.lastWrite.Load() >= int64(s.sub.Heartbeat/time.Second) {
		s.beat.Store(true)
		s.wake()
	}
}

// errEnd is how a step says that the stream is over and why.
type errEnd string

func (e errEnd) Error() string { return string(e) }

// run serves s until it ends and returns the reason.
func (s *stream) run() (reason string) {
	for {
		if e := s.closing.Load(); e != nil {
			s.farewell(e.told)
			return e.kind
		}
		more, err := s.step()
		if err != nil {
			return s.reason(err)
		}
		if !more {
			s.rest()
		}
	}
}

// reason names what ended s.
func (s *stream) reason(err error) string {
	var end errEnd
	switch {
	case errors.As(err, &end):
		return string(end)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "stalled"
	case s.lost() != nil || s.context().Err() != nil:
		return "client"
	}
	return "error"
}

// step writes what is next, if anything, and reports whether there may be more
// to do at once.
func (s *stream) step() (more bool, err error) {
	if err := s.lost(); err != nil {
		return false, err
	}
	if s.snap != nil {
		return true, s.snapshotPage()
	}
	limit := s.hub.visible.Load()
	if b, ok := s.barrier(); ok {
		if b <= s.cur.Pos {
			return true, s.write(s.popControl(), 0)
		}
		limit = min(limit, b)
	}
	if s.behind {
		return true, s.catchUp()
	}
	if limit > s.cur.Pos {
		b, ok := s.feed.next(s.cur.Pos, limit, s.form, s.types)
		if !ok {
			return true, s.overflow()
		}
		if s.left >= 0 && b.events > s.left {
			s.setBehind(true) // the limit falls inside the batch; the page is cut there
			return true, nil
		}
		if err := s.writeBatch(b); err != nil {
			return false, err
		}
		s.moveTo(Cursor{Epoch: s.hub.epoch.Load(), Pos: b.end})
		if err := s.afterEvents(b.events); err != nil {
			return false, err
		}
		if !s.live && b.end >= limit {
			return true, s.atHead()
		}
		return s.fast != nil || b.end < limit, nil // rest looks whether there is more at the head
	}
	if n := s.feed.ended.Load(); n != s.ended {
		s.ended = n
		s.setBehind(true) // ask the log whether all topics have ended
		return true, nil
	}
	if s.beat.Swap(false) {
		if s.sub.Hello && s.hub.tick.Load()-s.lastData >= int64(cursorInterval/time.Second) && s.cur.Pos != s.lastCur {
			s.lastCur, s.lastData = s.cur.Pos, s.hub.tick.Load()
			return true, s.write(controlFrame("cursor", emptyData{}, s.cur.String()), 0)
		}
		return true, s.heartbeat()
	}
	return false, nil
}

func (s *stream) heartbeat() error {
	s.hub.counters.heartbeats.Add(1)
	return s.write(heartbeatLine, 0)
}

// write hands b to the connection as one write and one flush.
func (s *stream) write(b []byte, events int) error {
	if len(b) == 0 {
		return nil
	}
	s.calm()
	if s.fast != nil {
		if err := s.fast.write(b); err != nil {
			return err
		}
	} else if _, err := s.out.Write(b); err != nil {
		return err
	}
	s.wrote(len(b), events)
	return nil
}

// calm forgets a heartbeat that is due: something else is written.
func (s *stream) calm() {
	if s.beat.Load() {
		s.beat.Store(false)
	}
}

// writeBatch writes what came from the ring.
func (s *stream) writeBatch(b batch) error {
	if b.events == 0 {
		return nil
	}
	if s.fast == nil {
		return s.write(b.chunk.plain(), b.events)
	}
	s.calm()
	if err := s.fast.writeChunk(b.chunk.bytes()); err != nil {
		return err
	}
	s.wrote(len(b.chunk.plain()), b.events)
	return nil
}

// wrote counts one write.
func (s *stream) wrote(bytes, events int) {
	tick := s.hub.tick.Load()
	s.lastWrite.Store(tick)
	s.sentBytes.Add(int64(bytes))
	c := &s.hub.counters
	c.sends.Add(1)
	c.sentBytes.Add(int64(bytes))
	if events > 0 {
		s.lastData = tick
		s.sentEvents.Add(int64(events))
		c.delivered.Add(int64(events))
	}
}

func (s *stream) moveTo(c Cursor) {
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
	if !s.live || s.skip == Resume {
		s.setBehind(true)
		return nil
	}
	s.hub.counters.gap(Overflow)
	gap := Gap{Reason: Overflow, Requested: s.cur.String(), Oldest: s.cur.String()}
	if s.skip == Conflate {
		if err := s.write(controlFrame("gap", gap, ""), 0); err != nil {
			return err
		}
		return s.snapshot()
	}
	s.feed.mu.Lock()
	from := s.feed.from
	s.feed.mu.Unlock()
	next := Cursor{Epoch: s.hub.epoch.Load(), Pos: from}
	gap.Oldest = next.String()
	if err := s.write(controlFrame("gap", gap, next.String()), 0); err != nil {
		return err
	}
	s.moveTo(next)
	return nil
}

func (s *stream) setBehind(v bool) {
	if s.behind == v {
		return
	}
	s.behind = v
	if v {
		s.hub.behind.Add(1)
	} else {
		s.hub.behind.Add(-1)
	}
}

// pageBytes shares ReplayBytes among the streams that are behind.
func (h *Hub) pageBytes() int {
	n := h.opts.ReplayBytes / max(1, h.behind.Load())
	return int(min(max(n, minPage), maxPage))
}

// readLog is Log.Read in its turn.
func (h *Hub) readLog(ctx context.Context, q Query) (Page, error) {
	select {
	case h.readers <- struct{}{}:
	case <-ctx.Done():
		return Page{}, ctx.Err()
	}
	defer func() { <-h.readers }()
	return h.log.Read(ctx, q)
}

// catchUp takes one page from the log, cut where a control event waits. There
// is no replay mode: live is the same walk, answered by the ring.
func (s *stream) catchUp() error {
	s.setBehind(true)
	var page Page
	if s.page != nil {
		page, s.page = *s.page, nil // the first page, read before the head went out
	} else {
		var err error
		page, err = s.hub.readLog(s.context(), Query{
			Select: s.feed.sel, After: s.cur, Told: s.told,
			Limit: pageEvents, MaxBytes: s.hub.pageBytes(),
		})
		if err != nil {
			return s.readFailed(err)
		}
	}
	s.told = page.Told
	if page.Reset != nil {
		return s.gap(&page)
	}
	next := page.Next
	if b, ok := s.barrier(); ok && next.Pos > b {
		// A control event goes out in the middle of the page.
		n := 0
		for n < len(page.Events) && page.Events[n].Cursor.Pos <= b {
			n++
		}
		page.Events, page.More, page.Ended = page.Events[:n], true, false
		next.Pos = b
	}
	list := page.Events
	page.Events = nil // a write can take long, and needs the blocks only
	events, err := s.writePage(list, s.form, s.left)
	if err != nil {
		return err
	}
	s.hub.counters.replayed.Add(int64(events))
	s.moveTo(next)
	if err := s.afterEvents(events); err != nil {
		return err
	}
	if page.Ended {
		if err := s.write(controlFrame("end", endData{s.feed.sel.Topics}, s.cur.String()), 0); err != nil {
			return err
		}
		s.farewell("ended")
		return errEnd("ended")
	}
	if !page.More {
		return s.atHead()
	}
	if s.feed.covers(s.cur.Pos) {
		s.setBehind(false)
	} else if events == 0 && s.beat.Swap(false) {
		return s.heartbeat() // a long way through events of others
	}
	return nil
}

// covers reports whether the ring is complete after pos.
func (f *feed) covers(pos uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return pos >= f.from
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
	if s.sub.Hello {
		return s.write(controlFrame("live", emptyData{}, s.cur.String()), 0)
	}
	return nil
}

// pagePool holds buffers of pages. Pages are of about one size; what has grown
// far beyond it is not kept.
var pagePool = sync.Pool{New: func() any {
	b := newChunk(maxPage + maxPage/2)
	return &b
}}

// writePage encodes events that came from the log, those that s wants and at
// most so many (negative: all), and writes them. It says how many they were.
func (s *stream) writePage(list []Event, fm form, most int) (events int, err error) {
	kept := pagePool.Get().(*[]byte)
	buf := (*kept)[:chunkHead]
	for i := range list {
		ev := &list[i]
		if ev.Close && ev.Type == TypeEnd || s.types != nil && !s.types[typeName(ev.Type)] {
			continue
		}
		if events == most {
			break
		}
		buf = appendFrame(buf, ev, fm)
		events++
	}
	if events > 0 {
		c := sealChunk(buf)
		buf = c.buf
		err = s.writeBatch(batch{chunk: c, events: events})
	}
	if cap(buf) <= 4*maxPage && (s.fast == nil || len(s.fast.pending) == 0) {
		*kept = buf
		pagePool.Put(kept)
	}
	return events, err
}

// gap says that history is not complete, and goes on from what there is.
func (s *stream) gap(page *Page) error {
	s.hub.counters.gap(page.Reset.Reason)
	s.moveTo(page.Next)
	id := page.Next.String()
	if s.sub.Snapshot {
		id = "" // a break before the snapshot's end must not hide the gap
	} else if s.sub.OnGapNew {
		head, err := s.hub.readLog(s.context(), Query{Select: s.feed.sel, Head: true})
		if err != nil {
			return s.readFailed(err)
		}
		s.told = 0
		s.moveTo(head.Next)
		id = head.Next.String()
	}
	if err := s.write(controlFrame("gap", NewGap(page.Reset), id), 0); err != nil {
		return err
	}
	if s.sub.Snapshot {
		return s.snapshot()
	}
	return nil
}

// snapshot begins to send the newest event of each key as of one cut, without
// ids; then it goes on after the cut.
func (s *stream) snapshot() error {
	s.hub.counters.snapshots.Add(1)
	s.setBehind(true)
	s.snap, s.snapped = &Query{Select: s.feed.sel, Latest: true, Limit: pageEvents}, 0
	return s.write(controlFrame("snapshot", snapshotData{State: "begin"}, ""), 0)
}

// snapshotPage sends the next page of it. A stream that ends before the last
// one gets a new snapshot when it returns: no id was given.
func (s *stream) snapshotPage() error {
	s.snap.MaxBytes = s.hub.pageBytes()
	page, err := s.hub.readLog(s.context(), *s.snap)
	if err != nil {
		return s.readFailed(err)
	}
	list := page.Events
	page.Events = nil
	events, err := s.writePage(list, s.form|formNoID, -1)
	if err != nil {
		return err
	}
	s.snapped += events
	if page.Mark != "" {
		s.snap.Mark, s.snap.After = page.Mark, page.Next
		return nil
	}
	s.snap = nil
	s.moveTo(page.Next)
	s.told = page.Told
	return s.write(controlFrame("snapshot", snapshotData{State: "end", Count: &s.snapped}, s.cur.String()), 0)
}

// readFailed turns an error of the log into the stream's end: the client
// resumes, and is answered by a log that works or by a status.
func (s *stream) readFailed(err error) error {
	if s.lost() == nil && !errors.Is(err, ErrStopped) {
		s.hub.opts.Logger.Error("tailrace: reading the log for a stream failed", "conn", s.id, "err", err)
	}
	s.farewell("error")
	return errEnd("error")
}

// Bounds of the reconnection time after a wanted close, so that a fleet does
// not return at one moment.
const (
	minFarewell = 500 * time.Millisecond
	maxFarewell = 5 * time.Second
)

func jitter(from, to time.Duration) time.Duration {
	return (from + rand.N(to-from)).Round(time.Millisecond)
}

// farewell ends s at a frame border: when to come back and, for who asked for
// such events, why.
func (s *stream) farewell(reason string) {
	retry := jitter(minFarewell, maxFarewell)
	buf := retryLine(retry)
	if s.sub.Hello && reason != "ended" {
		kind := "close"
		if reason == "drain" {
			kind = "drain"
		}
		buf = append(buf, controlFrame(kind, closeData{retry.Milliseconds(), reason}, "")...)
	}
	s.write(buf, 0) // it ends either way
}
