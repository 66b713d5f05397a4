package tailrace

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// epollET is syscall.EPOLLET as the kernel has it, without a sign.
const epollET = 1 << 31

// turnSteps is how much one stream may do before others have their turn.
const turnSteps = 16

// shard owns sockets. Its goroutine alone writes to them, but for a stream
// that a worker has.
type shard struct {
	hub   *Hub
	index int
	poll  *os.File // epoll set, itself watched by the runtime's poller
	epfd  int
	wake  chan struct{}
	ended *streamQueue // their places are to be given back
	size  atomic.Int64 // streams

	mu   sync.Mutex // guards news
	news news

	state sync.Mutex // guards what ConnInfo needs of groups, for others

	// The goroutine's own.
	seen   news   // of this pass; swapped with news, so that none is made anew
	limit  uint64 // visible position of this pass
	tick   uint32 // unix seconds
	wrote  bool
	slots  []slot
	free   []int32
	groups map[*feed][]*group
	late   []*group
	swept  int // slots of an unfinished sweep

	// Room for one delivery.
	frames []*frame
	marks  []blockEnd
	joined []byte
	missed []missed
}

// news is what others want of a shard.
type news struct {
	added []*stream // with s.fast.failed
	back  []*stream // from the workers, likewise
	inbox []*stream
	ready []syscall.EpollEvent
	dirty []*feed
	sweep bool
	stop  bool
}

// slot is where an epoll event finds its stream; gen tells a stale one. What a
// sweep looks at is here, so that it is one walk. Times are ticks, 0 is none.
type slot struct {
	s     *stream
	gen   uint32
	quiet uint32 // nothing was written since, at the latest
	full  uint32 // the socket has taken nothing since
	until uint32 // end of its life
	every uint16
}

func (sh *shard) signal() {
	select {
	case sh.wake <- struct{}{}:
	default:
	}
}

// schedule asks for a turn of s.
func (sh *shard) schedule(s *stream) {
	sh.mu.Lock()
	queued := s.fast.queued
	s.fast.queued = true
	if !queued {
		sh.news.inbox = append(sh.news.inbox, s)
	}
	sh.mu.Unlock()
	if !queued {
		sh.signal()
	}
}

// add hands a stream that has begun to the shard; err is how that went.
func (sh *shard) add(s *stream, err error) {
	s.fast.failed = err
	sh.mu.Lock()
	sh.news.added = append(sh.news.added, s)
	sh.mu.Unlock()
	sh.signal()
}

// giveBack returns a stream from a worker.
func (sh *shard) giveBack(s *stream, err error) {
	s.fast.failed = err
	sh.mu.Lock()
	sh.news.back = append(sh.news.back, s)
	sh.mu.Unlock()
	sh.signal()
}

// watch hands on what epoll says.
func (sh *shard) watch() {
	rc, err := sh.poll.SyscallConn()
	if err != nil {
		return
	}
	events := make([]syscall.EpollEvent, 256)
	for {
		n := 0
		err := rc.Read(func(fd uintptr) bool {
			n, _ = syscall.EpollWait(int(fd), events, 0)
			return n > 0
		})
		if err != nil {
			return // closed
		}
		sh.mu.Lock()
		sh.news.ready = append(sh.news.ready, events[:n]...)
		sh.mu.Unlock()
		sh.signal()
	}
}

// run is the shard's goroutine. A pass serves what has news; if there is more
// after it, the shard rests for as long as it took, so that events gather.
func (sh *shard) run() {
	rest := time.NewTimer(time.Hour)
	defer rest.Stop()
	count := &sh.hub.counters
	for range sh.wake {
		began := time.Now()
		if !sh.pass() {
			return
		}
		if !sh.wrote {
			continue
		}
		d := time.Since(began)
		count.pass.observe(d)
		if d < minRest {
			continue
		}
		if len(sh.wake) == 0 {
			runtime.Gosched() // publishers first: what they have joins the next pass
			if len(sh.wake) == 0 {
				continue
			}
		}
		d = min(d, maxRest)
		count.rest.add(d)
		rest.Reset(d)
		select {
		case <-rest.C:
		case <-sh.hub.ctx.Done():
		}
	}
}

// pass takes all news and serves it; it reports false when the shard is to
// stop.
func (sh *shard) pass() bool {
	// The position comes first: a control event that was queued before an event
	// was published is then in the news, and goes out before that event.
	sh.limit = sh.hub.visible.Load()
	sh.tick = uint32(sh.hub.tick.Load())
	sh.wrote = false
	sh.mu.Lock()
	sh.news, sh.seen = sh.seen, sh.news
	for _, s := range sh.seen.inbox {
		s.fast.queued = false
	}
	sh.mu.Unlock()
	n := &sh.seen
	if n.stop {
		return false
	}
	for _, s := range n.added {
		sh.register(s)
	}
	for _, s := range n.back {
		sh.takeBack(s)
	}
	for i := range n.ready {
		sh.event(&n.ready[i])
	}
	for _, s := range n.inbox {
		sh.turn(s)
	}
	for _, f := range n.dirty {
		for _, g := range sh.groups[f] {
			sh.deliver(g)
		}
	}
	for len(sh.late) > 0 {
		g := sh.late[len(sh.late)-1]
		sh.late = sh.late[:len(sh.late)-1]
		g.late = false
		sh.deliver(g)
	}
	if n.sweep {
		sh.sweep()
	}
	n.reset()
	return true
}

// reset empties n and keeps its room, but not what a storm has left.
func (n *news) reset() {
	*n = news{
		added: emptied(n.added), back: emptied(n.back), inbox: emptied(n.inbox),
		ready: emptied(n.ready), dirty: emptied(n.dirty),
	}
}

func emptied[T any](list []T) []T {
	if cap(list) > 4096 {
		return nil
	}
	clear(list)
	return list[:0]
}

// register puts a stream that has just been taken over into epoll and the
// group of its feed, and runs it.
func (sh *shard) register(s *stream) {
	c := s.fast
	if n := len(sh.free); n > 0 {
		c.slot = sh.free[n-1]
		sh.free = sh.free[:n-1]
	} else {
		c.slot = int32(len(sh.slots))
		sh.slots = append(sh.slots, slot{})
	}
	sl := &sh.slots[c.slot]
	*sl = slot{s: s, gen: sl.gen + 1, quiet: sh.tick, every: earlier(s.every), until: uint32(s.hub.lifeEnd(int64(sh.tick)))}
	c.group = sh.group(s)
	c.at = int32(len(c.group.apart))
	c.group.apart = append(c.group.apart, s)
	if c.err == nil {
		ev := syscall.EpollEvent{
			Events: syscall.EPOLLRDHUP | syscall.EPOLLOUT | epollET,
			Fd:     c.slot, Pad: int32(sl.gen),
		}
		if err := syscall.EpollCtl(sh.epfd, syscall.EPOLL_CTL_ADD, int(c.fd), &ev); err != nil {
			c.err = errGone
		}
	}
	sh.ran(s)
}

// takeBack goes on with a stream that a worker had.
func (sh *shard) takeBack(s *stream) {
	c := s.fast
	c.working = false
	if g := c.group; g.feed != s.feed || g.form != s.form {
		sh.regroup(s)
	}
	if c.gone {
		c.err = errGone
	}
	if c.room || !c.full {
		sh.hasRoom(s)
	}
	sh.wrote = true
	sh.ran(s)
}

// ran goes on with a stream that ran elsewhere.
func (sh *shard) ran(s *stream) {
	c := s.fast
	if err := c.failed; err != nil {
		c.failed = nil
		if err != errFull {
			sh.finish(s, s.reason(err))
		}
	}
	if c.full {
		sh.isFull(s)
	}
	sh.turn(s)
}

// isFull notes since when the socket of s takes nothing.
func (sh *shard) isFull(s *stream) {
	s.fast.full = true
	sl := &sh.slots[s.fast.slot]
	if sl.full == 0 {
		sh.hub.counters.full.Add(1)
	}
	sl.full = sh.tick
}

// hasRoom notes that it may take something again.
func (sh *shard) hasRoom(s *stream) {
	s.fast.full = false
	sl := &sh.slots[s.fast.slot]
	if sl.full != 0 {
		sh.hub.counters.full.Add(-1)
	}
	sl.full = 0
}

// event takes what epoll says of one socket. Edge-triggered writability comes
// only after a write that found the socket full, and once at the start.
func (sh *shard) event(ev *syscall.EpollEvent) {
	sl := &sh.slots[ev.Fd]
	if sl.s == nil || sl.gen != uint32(ev.Pad) {
		return
	}
	s := sl.s
	c := s.fast
	gone := ev.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
	switch {
	case c.working:
		c.gone = c.gone || gone
		c.room = true
	case gone:
		sh.stepOut(s)
		c.err = errGone
		sh.turn(s)
	case c.full:
		sh.hasRoom(s)
		sh.turn(s)
	}
}

// turn runs s until it has nothing to do, its socket is full, or the log has
// to be asked, which a worker does.
func (sh *shard) turn(s *stream) {
	c := s.fast
	if c.working || c.slot < 0 {
		return // a worker has it and gives it back; or it has ended
	}
	sh.stepOut(s)
	if c.killed.Load() {
		c.err = errGone
	}
	for steps := 0; ; {
		if c.err != nil {
			sh.end(s)
			return
		}
		if c.full {
			if s.closing.Load() != nil && c.farewell == 0 {
				c.farewell = sh.tick
			}
			return // until epoll says that there is room
		}
		if len(c.pending) > 0 {
			if progress, err := c.flush(); err == nil && c.full && progress {
				sh.isFull(s)
			}
			continue
		}
		if c.reason != "" {
			sh.end(s)
			return
		}
		if c.half == 0 {
			if e := s.closing.Load(); e != nil {
				s.farewell(e.told)
				sh.finish(s, e.kind)
				continue
			}
		}
		if s.wants.filter != nil && s.cur.Pos < sh.limit {
			s.setBehind(true) // filters never run here
		}
		if s.behind || s.snap != nil || s.change.Load() != nil {
			c.working, c.room = true, false
			if s.wants.filter != nil {
				sh.hub.shards.filters.put(s)
			} else {
				sh.hub.shards.behind.put(s)
			}
			return
		}
		more, err := s.guardedStep()
		sh.wrote = true
		switch {
		case err == errFull || err == nil && c.full:
			sh.isFull(s)
			continue
		case err != nil:
			sh.finish(s, s.reason(err))
			continue
		}
		if steps++; more && steps < turnSteps {
			continue
		}
		if more || s.controlDue(sh.hub.visible.Load()) {
			sh.schedule(s)
		} else {
			sh.comeInStep(s)
		}
		return
	}
}

// finish lets s end once everything is written, with a clean end of the body.
func (sh *shard) finish(s *stream, reason string) {
	c := s.fast
	c.reason = reason
	c.farewell = sh.tick
	if c.half != 0 {
		c.err = errGone // in the middle of an event there is no clean end
	}
	if c.err == nil {
		c.text(lastChunk)
	}
	if c.full {
		sh.isFull(s)
	}
}

// end closes the socket and gives the stream's place back.
func (sh *shard) end(s *stream) {
	c := s.fast
	if c.reason == "" {
		c.reason = "client"
		if e := s.closing.Load(); e != nil && c.killed.Load() {
			c.reason = e.kind
		}
	}
	sh.stepOut(s)
	sh.leaveApart(s)
	if g := c.group; len(g.members) == 0 && len(g.apart) == 0 {
		sh.dropGroup(g)
	}
	sh.hasRoom(s)
	sl := &sh.slots[c.slot]
	*sl = slot{gen: sl.gen + 1}
	sh.free = append(sh.free, c.slot)
	c.slot = -1
	sh.size.Add(-1)
	s.feed.fast[sh.index].Add(-1)
	c.close()
	c.pending = nil
	sh.ended.put(s)
}

// reap gives back the places of streams that have ended. It is apart from the
// shard because it calls the user's hook.
func (sh *shard) reap() {
	for {
		s, _ := sh.ended.take()
		if s == nil {
			return
		}
		s.hub.forget(s, s.fast.reason)
	}
}
