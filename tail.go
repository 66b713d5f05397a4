package tailrace

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// The tail reads at most this at a time, which bounds how long new feeds and
// subscribers wait for it.
const (
	tailEvents = 1024
	tailBytes  = 4 << 20
)

// tailPoll is how often the tail looks without a hint: Watch may lose one.
const tailPoll = time.Second

// Bounds of the tail's rest; see tail.
const (
	minRest = 200 * time.Microsecond
	maxRest = 20 * time.Millisecond
)

// hint is called by the log after commits. It must not block.
func (h *Hub) hint() {
	select {
	case h.wakeTail <- struct{}{}:
	default:
	}
}

// tail follows the log's head from cur until the hub stops: it puts each event
// into the rings of the feeds that select it, makes it visible and wakes the
// streams.
//
// If more is waiting already after a pass, it rests for as long as the streams
// took to write. So an event that comes alone leaves at once; under load a pass
// finds more events, streams write them together, and the cost of each falls.
func (h *Hub) tail(cur Cursor) {
	poll := time.NewTicker(tailPoll)
	defer poll.Stop()
	rest := time.NewTimer(time.Hour)
	defer rest.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.wakeTail:
		case <-poll.C:
		}
		for more := true; more; {
			var woken *pass
			var err error
			cur, more, woken, err = h.follow(cur)
			if err != nil {
				if h.ctx.Err() == nil {
					h.opts.Logger.Error("tailrace: reading the log's tail failed; trying again", "err", err)
					h.counters.tailErrors.Add(1)
				}
				break
			}
			d := woken.wait(rest)
			if d < minRest || !more && len(h.wakeTail) == 0 {
				continue // nothing waits yet: the next event leaves at once
			}
			rest.Reset(min(d, maxRest))
			select {
			case <-rest.C:
			case <-h.ctx.Done():
				return
			}
		}
	}
}

// follow takes one page of the log into the feeds.
func (h *Hub) follow(cur Cursor) (next Cursor, more bool, woken *pass, err error) {
	h.tailMu.Lock()
	idle := len(h.feeds) == 0
	h.tailMu.Unlock()
	q := Query{After: cur, Head: idle, Limit: tailEvents, MaxBytes: tailBytes}
	if idle {
		q.After = Cursor{}
	}
	page, err := h.log.Read(h.ctx, q)
	if err != nil {
		return cur, false, nil, err
	}
	if page.Reset != nil {
		// Retention has overtaken the tail. No ring can vouch for what lies
		// between, so all begin anew at the head, and each stream reads on
		// from its own cursor: the log tells those whom the loss concerns.
		if page, err = h.log.Read(h.ctx, Query{Head: true}); err != nil {
			return cur, false, nil, err
		}
		h.tailMu.Lock()
		defer h.tailMu.Unlock()
		for _, f := range h.feeds {
			h.release(f.restart(page.Next.Pos))
		}
		h.advance(page.Next)
		return page.Next, false, h.wake(nil), nil
	}

	h.tailMu.Lock()
	defer h.tailMu.Unlock()
	if idle && len(h.feeds) > 0 {
		return cur, true, nil, nil // a feed was made meanwhile and wants its events
	}
	dirty := []*feed{} // not nil, which is all
	var matched []*feed
	for i := range page.Events {
		ev := &page.Events[i]
		matched = h.matcher.appendTo(matched[:0], ev.Topic)
		if len(matched) == 0 {
			continue
		}
		var fr *frame
		for _, f := range matched {
			if ev.Close {
				f.ended.Add(1)
				dirty = appendNew(dirty, f)
				if ev.Type == TypeEnd {
					continue
				}
			}
			if fr == nil {
				fr = &frame{ev: *ev}
			}
			dropped, added := f.append(fr, h.ringFrames)
			h.release(dropped)
			if added {
				if fr.refs++; fr.refs == 1 {
					h.ringUse += fr.size()
				}
				dirty = appendNew(dirty, f)
			}
		}
	}
	h.advance(page.Next)
	if n := len(page.Events); n > 0 {
		h.counters.tailLag.set(time.Since(page.Events[n-1].Time))
	} else {
		h.counters.tailLag.set(0)
	}
	if h.ringUse > h.opts.RingBytes {
		h.shrinkRings()
	}
	return page.Next, page.More, h.wake(dirty), nil
}

// appendNew appends f unless it was the last one appended: runs of events for
// one feed are the usual case, and a feed that comes twice is woken twice at
// no harm.
func appendNew(list []*feed, f *feed) []*feed {
	if n := len(list); n > 0 && list[n-1] == f {
		return list
	}
	return append(list, f)
}

// advance makes everything up to c visible. Called with tailMu held.
func (h *Hub) advance(c Cursor) {
	h.visible.Store(c.Pos)
	if old := h.epoch.Swap(c.Epoch); old != c.Epoch {
		// Positions of two epochs must not meet in one stream: all end, and
		// the log judges their ids when they resume.
		h.endStreams("epoch")
	}
}

// release counts dropped frames out. Called with tailMu held.
func (h *Hub) release(dropped []*frame) {
	for _, fr := range dropped {
		if fr.refs--; fr.refs == 0 {
			h.ringUse -= fr.size()
		}
	}
}

// restart empties the ring: complete from pos on.
func (f *feed) restart(pos uint64) (dropped []*frame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dropped = f.drop(len(f.ring))
	f.from = pos
	return dropped
}

// pass counts the streams that one wake set to work.
type pass struct {
	began   time.Time
	pending atomic.Int64
	done    chan struct{}
}

// wake sets the idle streams of the dirty feeds to work, those with news that
// are busy find it themselves; nil is all feeds. Called with tailMu held.
func (h *Hub) wake(dirty []*feed) *pass {
	p := &pass{began: time.Now(), done: make(chan struct{})}
	p.pending.Store(1) // until all are woken
	if dirty == nil {
		for _, f := range h.feeds {
			dirty = append(dirty, f)
		}
	}
	for _, f := range dirty {
		f.mu.Lock()
		for s := range f.streams {
			if port := s.port.Load(); port != nil {
				port.wakeIn(p)
			}
		}
		f.mu.Unlock()
		h.wakeShards(f)
	}
	h.wakeWaiting()
	return p
}

// waiter is a stream with a control event that is to go out behind a position
// that the tail has not reached.
type waiter struct {
	s       *stream
	barrier uint64
}

// wakeAt has s look at a control event that goes out at barrier: now, so that
// no later event goes before it, and by the tail once barrier is visible.
func (h *Hub) wakeAt(s *stream, barrier uint64) {
	if h.visible.Load() < barrier {
		h.waitersMu.Lock()
		h.waiters = append(h.waiters, waiter{s, barrier})
		h.waitersMu.Unlock()
	}
	s.wake()
}

// wakeWaiting wakes those whose time has come.
func (h *Hub) wakeWaiting() {
	h.waitersMu.Lock()
	defer h.waitersMu.Unlock()
	visible := h.visible.Load()
	h.waiters = slices.DeleteFunc(h.waiters, func(w waiter) bool {
		if w.barrier > visible {
			return false
		}
		w.s.wake()
		return true
	})
	if len(h.waiters) == 0 {
		h.waiters = nil
	}
}

// finish is called by each stream when it has written what it had.
func (p *pass) finish() {
	if p.pending.Add(-1) == 0 {
		close(p.done)
	}
}

// wait returns how long the pass took, at most maxRest: a stream that blocks
// delays nobody for longer, and it is not woken again before it is idle.
func (p *pass) wait(timer *time.Timer) time.Duration {
	if p == nil {
		return 0
	}
	p.finish()
	timer.Reset(maxRest)
	select {
	case <-p.done:
	case <-timer.C:
	}
	return min(time.Since(p.began), maxRest)
}

// join returns the feed of the canonical selection sel with s in it. The feed
// is complete from a position that is visible now.
func (h *Hub) join(sel Selector, s *stream) *feed {
	key := feedKey(sel)
	h.tailMu.Lock()
	defer h.tailMu.Unlock()
	f := h.feeds[key]
	if f == nil {
		for _, part := range [][]string{sel.Topics, sel.Patterns} {
			for i := range part {
				part[i] = strings.Clone(part[i]) // not a piece of a request
			}
		}
		f = &feed{key: key, sel: sel, from: h.visible.Load(), streams: map[*stream]struct{}{}, fast: h.shardCounts()}
		h.feeds[key] = f
		h.matcher.add(f)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.streams[s] = struct{}{}
	return f
}

// leave takes s out of its feed, which the sweeper drops later.
func (h *Hub) leave(f *feed, s *stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.fast != nil {
		f.taken--
	}
	delete(f.streams, s)
	f.idle = time.Now()
}

// feedLinger is how long a feed outlives its last stream, so that one that
// comes back finds its ring.
const feedLinger = 60 * time.Second

// sweepFeeds looks at the portable streams, forgets feeds that nobody has used
// for a while, and of the others what only the streams of one pass share.
func (h *Hub) sweepFeeds(now time.Time) {
	h.tailMu.Lock()
	defer h.tailMu.Unlock()
	for key, f := range h.feeds {
		f.mu.Lock()
		f.joins = [sharedForms]join{}
		for s := range f.streams {
			if port := s.port.Load(); port != nil {
				port.sweep(s, now.Unix())
			}
		}
		if len(f.streams) == 0 && f.taken == 0 && now.Sub(f.idle) >= feedLinger {
			h.release(f.drop(len(f.ring)))
			delete(h.feeds, key)
			h.matcher.remove(f)
		}
		f.mu.Unlock()
	}
}

// shrinkRings empties rings, the coldest first, until the frames in memory are
// at three quarters of the limit. Called with tailMu held.
func (h *Hub) shrinkRings() {
	type cold struct {
		f    *feed
		last uint64
	}
	var feeds []cold
	for _, f := range h.feeds {
		f.mu.Lock()
		if n := len(f.ring); n > 0 {
			feeds = append(feeds, cold{f, f.ring[n-1].pos()})
		}
		f.mu.Unlock()
	}
	slices.SortFunc(feeds, func(a, b cold) int { return cmp.Compare(a.last, b.last) })
	for _, c := range feeds {
		if h.ringUse <= h.opts.RingBytes/4*3 {
			return
		}
		c.f.mu.Lock()
		h.release(c.f.drop(len(c.f.ring)))
		c.f.mu.Unlock()
	}
}

// sweep keeps the coarse clock and looks, once a second, at what is due: heart
// beats, ends of streams, and what nobody uses any more.
func (h *Hub) sweep() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case now := <-t.C:
			h.tick.Store(now.Unix())
			h.sweepFeeds(now)
			h.sweepShards()
			h.pages.tidy(h.pageRoom)
		}
	}
}
