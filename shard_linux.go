package tailrace

import (
	"math/rand/v2"
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
	size  atomic.Int64 // streams

	mu    sync.Mutex // guards what follows
	added []*stream  // with s.fast.failed
	back  []*stream  // from the workers, likewise
	inbox []*stream
	ready []syscall.EpollEvent
	dirty []*feed
	sweep bool
	ended bool

	// The goroutine's own.
	slots []slot
	free  []int32
	lists map[*feed][]*stream
}

// slot is where an epoll event finds its stream; gen tells a stale one.
type slot struct {
	s   *stream
	gen uint32
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
		sh.inbox = append(sh.inbox, s)
	}
	sh.mu.Unlock()
	if !queued {
		sh.signal()
	}
}

// kill ends s now, whatever it still has to say.
func (sh *shard) kill(s *stream) {
	sh.mu.Lock()
	s.fast.killed = true
	sh.mu.Unlock()
	sh.schedule(s)
}

// wakeShards tells the shards that f has news.
func (h *Hub) wakeShards(f *feed) {
	if !h.shards.started.Load() {
		return
	}
	for i, sh := range h.shards.list {
		if f.fast[i].Load() == 0 {
			continue
		}
		sh.mu.Lock()
		sh.dirty = appendNew(sh.dirty, f)
		sh.mu.Unlock()
		sh.signal()
	}
}

// sweepShards makes each shard look for heartbeats that are due and sockets
// that stall.
func (h *Hub) sweepShards() {
	if !h.shards.started.Load() {
		return
	}
	for _, sh := range h.shards.list {
		sh.mu.Lock()
		sh.sweep = true
		sh.mu.Unlock()
		sh.signal()
	}
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
		sh.ready = append(sh.ready, events[:n]...)
		sh.mu.Unlock()
		sh.signal()
	}
}

// run is the shard's goroutine. A pass serves what has news; if there is more
// after it, the shard rests for as long as it took, so that events gather.
func (sh *shard) run() {
	rest := time.NewTimer(time.Hour)
	defer rest.Stop()
	for range sh.wake {
		began := time.Now()
		wrote, ended := sh.pass()
		if ended {
			return
		}
		d := time.Since(began)
		if !wrote || d < minRest {
			continue
		}
		if len(sh.wake) == 0 {
			runtime.Gosched() // publishers first: what they have joins the next pass
			if len(sh.wake) == 0 {
				continue
			}
		}
		rest.Reset(min(d, maxRest))
		select {
		case <-rest.C:
		case <-sh.hub.ctx.Done():
		}
	}
}

// pass takes all news and serves it.
func (sh *shard) pass() (wrote, ended bool) {
	sh.mu.Lock()
	added, back, inbox, ready, dirty, sweep := sh.added, sh.back, sh.inbox, sh.ready, sh.dirty, sh.sweep
	sh.added, sh.back, sh.inbox, sh.ready, sh.dirty, sh.sweep = nil, nil, nil, nil, nil, false
	for _, s := range inbox {
		s.fast.queued = false
	}
	ended = sh.ended
	sh.mu.Unlock()
	if ended {
		return false, true
	}
	for _, s := range added {
		sh.register(s)
	}
	for _, s := range back {
		c := s.fast
		c.working = false
		if c.gone {
			c.err = errGone
		}
		if c.failed != nil {
			sh.finish(s, s.reason(c.failed))
		}
		sh.turn(s)
		wrote = true
	}
	for i := range ready {
		sh.event(&ready[i])
	}
	for _, s := range inbox {
		sh.turn(s)
	}
	for _, f := range dirty {
		if sh.deliver(f) {
			wrote = true
		}
	}
	if sweep {
		sh.sweepStalled()
	}
	return wrote, false
}

// register puts a stream that has just been taken over into epoll and the
// list of its feed, and runs it.
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
	sl.s = s
	sl.gen++
	c.at = len(sh.lists[s.feed])
	sh.lists[s.feed] = append(sh.lists[s.feed], s)
	ev := syscall.EpollEvent{
		Events: syscall.EPOLLRDHUP | syscall.EPOLLOUT | epollET,
		Fd:     c.slot, Pad: int32(sl.gen),
	}
	if c.err != nil {
		sh.turn(s)
		return
	}
	if err := syscall.EpollCtl(sh.epfd, syscall.EPOLL_CTL_ADD, c.fd, &ev); err != nil {
		c.err = errGone
	}
	if c.failed != nil {
		sh.finish(s, s.reason(c.failed))
	}
	sh.turn(s)
}

// add hands a stream that has begun to the shard; err is how that went.
func (sh *shard) add(s *stream, err error) {
	s.fast.failed = err
	sh.mu.Lock()
	sh.added = append(sh.added, s)
	sh.mu.Unlock()
	sh.signal()
}

// giveBack returns a stream from a worker.
func (sh *shard) giveBack(s *stream, err error) {
	sh.mu.Lock()
	s.fast.failed = err
	sh.back = append(sh.back, s)
	sh.mu.Unlock()
	sh.signal()
}

// event takes what epoll says of one socket. Edge-triggered writability comes
// only after a write that found the socket full, and once at the start.
func (sh *shard) event(ev *syscall.EpollEvent) {
	sl := sh.slots[ev.Fd]
	if sl.s == nil || sl.gen != uint32(ev.Pad) {
		return
	}
	c := sl.s.fast
	if ev.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		if c.working {
			c.gone = true
			return
		}
		c.err = errGone
		sh.turn(sl.s)
		return
	}
	if !c.working && len(c.pending) > 0 {
		sh.turn(sl.s)
	}
}

// deliver writes what is visible to the streams of f that keep up, the same
// bytes to each that stands where they stand, and gives the others a turn.
func (sh *shard) deliver(f *feed) (wrote bool) {
	n := len(sh.lists[f])
	if n == 0 {
		return false
	}
	limit := sh.hub.visible.Load()
	epoch := sh.hub.epoch.Load()
	tick := sh.hub.tick.Load()
	var b batch
	var from uint64
	var fm form
	have := false
	var sends, bytes, events int64
	first := rand.IntN(n) // so that none is always last
	for i := range n {
		list := sh.lists[f]
		if len(list) < n {
			// Some have ended, and others stand in their place now: once more.
			sh.mu.Lock()
			sh.dirty = append(sh.dirty, f)
			sh.mu.Unlock()
			sh.signal()
			break
		}
		s := list[(first+i)%n]
		c := s.fast
		switch {
		case c.working || len(c.pending) > 0:
			continue // it will look by itself
		case !s.keepsUp():
			sh.turn(s)
			wrote = true
			continue
		case s.cur.Pos >= limit:
			continue
		}
		if !have || from != s.cur.Pos || fm != s.form {
			next, ok := f.next(s.cur.Pos, limit, s.form, nil)
			if !ok {
				sh.turn(s)
				continue
			}
			b, from, fm, have = next, s.cur.Pos, s.form, true
		}
		if b.events > 0 {
			if c.writeChunk(b.chunk.bytes()) != nil {
				sh.turn(s)
				continue
			}
			if len(c.pending) > 0 {
				c.since = tick
			}
			s.calm()
			size := int64(len(b.chunk.plain()))
			s.lastWrite.Store(tick)
			s.lastData = tick
			s.sentBytes.Add(size)
			s.sentEvents.Add(int64(b.events))
			sends, bytes, events = sends+1, bytes+size, events+int64(b.events)
			wrote = true
		}
		s.moveTo(Cursor{Epoch: epoch, Pos: b.end})
		if b.end < limit || f.ended.Load() != s.ended {
			sh.turn(s)
		}
		if i%64 == 63 {
			runtime.Gosched()
		}
	}
	count := &sh.hub.counters
	count.sends.Add(sends)
	count.sentBytes.Add(bytes)
	count.delivered.Add(events)
	return wrote
}

// keepsUp reports whether s wants nothing but the next events of its ring.
func (s *stream) keepsUp() bool {
	return s.live && !s.behind && s.snap == nil && s.types == nil && s.left < 0 &&
		s.fast.err == nil && s.fast.reason == "" && s.closing.Load() == nil && s.controls.Load() == 0
}

// turn runs s until it has nothing to do, its socket is full, or the log has
// to be asked, which a worker does.
func (sh *shard) turn(s *stream) {
	c := s.fast
	if c.working || c.slot < 0 {
		return // a worker has it and gives it back; or it has ended
	}
	if sh.isKilled(c) {
		c.err = errGone
	}
	for steps := 0; ; {
		if c.err != nil {
			if c.reason == "" {
				c.reason = "client"
			}
			sh.end(s, c.reason)
			return
		}
		if len(c.pending) > 0 {
			progress, err := c.flush()
			if err != nil {
				continue
			}
			if progress || c.since == 0 {
				c.since = sh.hub.tick.Load()
			}
			if len(c.pending) > 0 {
				return // until epoll says that there is room
			}
			c.since = 0
			continue
		}
		if c.reason != "" {
			sh.end(s, c.reason)
			return
		}
		if e := s.closing.Load(); e != nil {
			s.farewell(e.told)
			sh.finish(s, e.kind)
			continue
		}
		if s.behind || s.snap != nil {
			c.working = true
			sh.hub.shards.queue.put(s)
			return
		}
		more, err := s.guardedStep()
		if err != nil {
			sh.finish(s, s.reason(err))
			continue
		}
		if !more {
			return
		}
		if steps++; steps == turnSteps {
			sh.schedule(s)
			return
		}
	}
}

func (sh *shard) isKilled(c *fastConn) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return c.killed
}

// finish lets s end once everything is written, with a clean end of the body.
func (sh *shard) finish(s *stream, reason string) {
	c := s.fast
	c.reason = reason
	c.ending = sh.hub.tick.Load()
	if c.err == nil {
		c.writeChunk(lastChunk)
	}
}

// end closes the socket and gives the stream's place back.
func (sh *shard) end(s *stream, reason string) {
	c := s.fast
	clean := c.err == nil
	sl := &sh.slots[c.slot]
	sl.s = nil
	sl.gen++
	sh.free = append(sh.free, c.slot)
	c.slot = -1
	list := sh.lists[s.feed]
	last := len(list) - 1
	list[c.at] = list[last]
	list[c.at].fast.at = c.at
	list[last] = nil
	if last > 0 {
		sh.lists[s.feed] = list[:last]
	} else {
		delete(sh.lists, s.feed)
	}
	sh.size.Add(-1)
	s.feed.fast[sh.index].Add(-1)
	closeSocket(c.fd, clean)
	c.pending = nil
	sh.hub.shards.wg.Go(func() { sh.hub.forget(s, reason) }) // it calls the user's hook
}

// sweepStalled ends streams whose sockets take nothing.
func (sh *shard) sweepStalled() {
	now := sh.hub.tick.Load()
	stall := max(1, int64(sh.hub.opts.StallTimeout/time.Second))
	for i := range sh.slots {
		s := sh.slots[i].s
		if s == nil {
			continue
		}
		c := s.fast
		if c.working || len(c.pending) == 0 {
			continue
		}
		switch {
		case c.ending != 0 && now-c.ending > int64(drainGrace/time.Second):
			reason := c.reason
			c.err = errGone
			sh.end(s, reason)
		case now-c.since > stall:
			c.err, c.reason = errGone, "stalled"
			sh.end(s, "stalled")
		}
	}
}
