package tailrace

import (
	"math/rand/v2"
	"runtime"
	"time"
)

// group is the streams of one shard, feed and form. Most are in step: they have
// the same position and want the next event of the ring and nothing else, so
// that a pass writes the same bytes to each and keeps one position for all. The
// others stand apart and run by themselves until they are in step again.
type group struct {
	feed *feed
	form form

	pos     uint64   // of those in step; written with shard.state held
	sent    totals   // to each of them since the group was made; likewise
	wrote   int64    // tick of the last write to them
	ended   uint64   // closed topics that they know of
	members []member // in step
	apart   []*stream
	late    bool // in shard.late
}

// member is what a write needs. A descriptor below 0 is of a stream over TLS,
// which the slot finds.
type member struct{ fd, slot int32 }

// totals count events and bytes on the wire.
type totals struct{ events, bytes int64 }

// group returns the group of s, made if need be.
func (sh *shard) group(s *stream) *group {
	list := sh.groups[s.feed]
	for _, g := range list {
		if g.form == s.form {
			return g
		}
	}
	g := &group{feed: s.feed, form: s.form}
	sh.groups[s.feed] = append(list, g)
	return g
}

// dropGroup forgets a group without streams.
func (sh *shard) dropGroup(g *group) {
	list := sh.groups[g.feed]
	for i := range list {
		if list[i] == g {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(sh.groups, g.feed)
	} else {
		sh.groups[g.feed] = list
	}
}

// keepsStep reports whether s wants nothing but the next events of its ring.
func (s *stream) keepsStep() bool {
	c := s.fast
	return s.live && !s.behind && s.snap == nil && s.wants.isAll() && s.left < 0 &&
		!c.full && c.half == 0 && c.pending == nil && c.err == nil && c.reason == "" &&
		s.closing.Load() == nil && s.change.Load() == nil && s.controls.Load() == 0 && !s.beat.Load()
}

// comeInStep puts a stream that rests among those in step, if it is. The group
// may have to come to where the stream is first; it does at the end of the pass.
func (sh *shard) comeInStep(s *stream) {
	c := s.fast
	g := c.group
	if c.inStep || !s.keepsStep() {
		return
	}
	if len(g.members) == 0 {
		sh.state.Lock()
		g.pos, g.ended = s.cur.Pos, s.ended
		sh.state.Unlock()
	}
	if g.pos != s.cur.Pos || g.ended != s.ended {
		comes := g.pos < sh.limit && s.cur.Pos == sh.limit || g.ended != g.feed.ended.Load()
		if comes && !g.late {
			g.late = true
			sh.late = append(sh.late, g)
		}
		return
	}
	sh.leaveApart(s)
	m := member{fd: c.fd, slot: c.slot}
	if c.tls != nil {
		m.fd = -1
	}
	sh.state.Lock()
	c.inStep, c.base = true, g.sent
	sh.state.Unlock()
	c.at = int32(len(g.members))
	g.members = append(g.members, m)
}

// stepOut takes s from those in step; it stands apart, where they are.
func (sh *shard) stepOut(s *stream) {
	c := s.fast
	if !c.inStep {
		return
	}
	g := c.group
	sh.state.Lock()
	s.moveTo(g.pos)
	s.sentEvents.Add(g.sent.events - c.base.events)
	s.sentBytes.Add(g.sent.bytes - c.base.bytes)
	c.inStep = false
	sh.state.Unlock()
	if g.sent != c.base {
		c.wrote = max(c.wrote, g.wrote)
		s.lastData = max(s.lastData, g.wrote)
	}
	last := len(g.members) - 1
	m := g.members[last]
	g.members[c.at] = m
	sh.slots[m.slot].s.fast.at = c.at
	g.members = g.members[:last]
	c.at = int32(len(g.apart))
	g.apart = append(g.apart, s)
}

func (sh *shard) leaveApart(s *stream) {
	c := s.fast
	g := c.group
	last := len(g.apart) - 1
	g.apart[c.at] = g.apart[last]
	g.apart[c.at].fast.at = c.at
	g.apart[last] = nil
	if g.apart = g.apart[:last]; last == 0 && cap(g.apart) > 64 {
		g.apart = nil
	}
}

// regroup moves s, which stands apart, to the group that it belongs to now.
func (sh *shard) regroup(s *stream) {
	c := s.fast
	sh.leaveApart(s)
	if g := c.group; len(g.members) == 0 && len(g.apart) == 0 {
		sh.dropGroup(g)
	}
	c.group = sh.group(s)
	c.at = int32(len(c.group.apart))
	c.group.apart = append(c.group.apart, s)
}

// missed is a stream that a write in step did not serve whole.
type missed struct {
	s   *stream
	n   int // bytes taken
	err error
}

// deliver writes what is visible to the streams of g.
func (sh *shard) deliver(g *group) {
	for len(g.members) > 0 && g.pos < sh.limit {
		if !sh.deliverInStep(g) {
			break
		}
	}
	if n := g.feed.ended.Load(); n != g.ended {
		sh.breakStep(g)
		g.ended = n
	}
	for i := len(g.apart) - 1; i >= 0; i-- {
		if i < len(g.apart) { // others may have gone meanwhile
			if c := g.apart[i].fast; !c.working && !c.full {
				sh.turn(g.apart[i])
			}
		}
	}
}

// breakStep has all that are in step run by themselves.
func (sh *shard) breakStep(g *group) {
	for len(g.members) > 0 {
		sh.stepOut(sh.slots[g.members[len(g.members)-1].slot].s)
	}
}

// deliverInStep writes the next bytes to all in step and reports whether they
// went on.
func (sh *shard) deliverInStep(g *group) bool {
	frames, end, ok := g.feed.after(sh.frames[:0], g.pos, sh.limit, maxWrite, nil)
	sh.frames = frames
	if !ok {
		sh.breakStep(g)
		return false
	}
	if len(frames) == 0 {
		sh.state.Lock()
		g.pos = end
		sh.state.Unlock()
		return true
	}
	wire := sh.join(frames, g.form)
	n := len(g.members)
	first := rand.IntN(n) // so that none is always last
	for i := range n {
		at := first + i
		if at >= n {
			at -= n
		}
		m := g.members[at]
		var took int
		var err error
		full := false
		if m.fd >= 0 {
			took, err = writeSome(int(m.fd), wire)
		} else {
			c := sh.slots[m.slot].s.fast
			took, err = c.write(wire)
			full = c.full // it may have taken all, with a part still waiting
		}
		if full || took < len(wire) {
			sh.missed = append(sh.missed, missed{sh.slots[m.slot].s, took, err})
		}
		if i%64 == 63 {
			runtime.Gosched()
		}
	}
	now := time.Now()
	if t := frames[0].ev.Time; !t.IsZero() {
		sh.hub.counters.delivery.observe(now.Sub(t))
	}
	served := int64(n - len(sh.missed))
	sh.hub.counters.deliver(engineFast, delivered{sends: served, events: served * int64(len(frames)), bytes: served * int64(len(wire))})
	g.wrote = sh.hub.tick.Load()
	sh.wrote = true

	// Those that were not served whole stay where they were, and then stand
	// where their sockets are.
	for i := range sh.missed {
		m := &sh.missed[i]
		s := m.s
		sh.stepOut(s)
		if m.err != nil {
			s.fast.err = m.err
			continue
		}
		if m.n > 0 {
			s.wrote(engineFast, m.n, s.took(m.n, sh.marks))
		}
		sh.isFull(s)
	}
	clear(sh.frames)
	sh.state.Lock()
	g.pos = end
	g.sent.events += int64(len(frames))
	g.sent.bytes += int64(len(wire))
	sh.state.Unlock()
	for i := range sh.missed {
		if sh.missed[i].err != nil {
			sh.turn(sh.missed[i].s)
		}
		sh.missed[i] = missed{}
	}
	sh.missed = sh.missed[:0]
	return true
}

// join returns frames in one piece, with their marks: the frame itself, or
// bytes that the next join overwrites.
func (sh *shard) join(frames []*frame, fm form) []byte {
	sh.marks = sh.marks[:0]
	if len(frames) == 1 {
		wire := frames[0].block(fm).bytes()
		sh.marks = append(sh.marks, blockEnd{frames[0].pos(), len(wire)})
		return wire
	}
	sh.joined = sh.joined[:0]
	for _, fr := range frames {
		sh.joined = append(sh.joined, fr.block(fm).bytes()...)
		sh.marks = append(sh.marks, blockEnd{fr.pos(), len(sh.joined)})
	}
	return sh.joined
}
