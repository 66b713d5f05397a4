package tailrace

import (
	"math/rand/v2"
	"time"
)

// sweepTime is how long a shard sweeps at most; the rest comes a second later.
const sweepTime = 250 * time.Millisecond

// earlier draws the interval of a stream's heartbeat up to two seconds short,
// so that an event to all is not followed by a beat to all.
func earlier(every uint16) uint16 {
	return every - uint16(rand.IntN(min(3, int(every))))
}

// sweep looks for heartbeats that are due, sockets that stall, and streams that
// have lived long enough.
func (sh *shard) sweep() {
	began := time.Now()
	stall := uint32(sh.hub.stallTicks())
	for n := range sh.slots {
		if sh.swept >= len(sh.slots) {
			sh.swept = 0
		}
		if n%64 == 63 && time.Since(began) > sweepTime {
			return
		}
		sl := &sh.slots[sh.swept]
		sh.swept++
		switch {
		case sl.s == nil:
		case sl.full != 0:
			sh.sweepFull(sl, stall)
		case sl.until != 0 && sh.tick >= sl.until:
			sl.until = 0
			sl.s.endSoon(ending{"max-age", "max-age"})
		case sh.tick-sl.quiet >= uint32(sl.every):
			sh.beat(sl)
		}
	}
}

// sweepFull cuts a stream whose socket has taken nothing for too long.
func (sh *shard) sweepFull(sl *slot, stall uint32) {
	s := sl.s
	c := s.fast
	switch {
	case c.working || !c.full:
	case c.farewell != 0 && sh.tick-c.farewell > farewellTime:
		c.err = errGone
		if e := s.closing.Load(); e != nil && c.reason == "" {
			c.reason = e.kind
		}
		sh.end(s)
	case sh.tick-sl.full > stall:
		c.err, c.reason = errGone, "stalled"
		sh.end(s)
	}
}

// beat sends a heartbeat, unless something was written meanwhile.
func (sh *shard) beat(sl *slot) {
	s := sl.s
	c := s.fast
	if c.working {
		sl.quiet = sh.tick
		s.beat.Store(true) // between two pages of foreign events
		return
	}
	wrote := c.wrote
	if c.inStep && c.group.sent != c.base {
		wrote = max(wrote, c.group.wrote)
	}
	sl.quiet = max(sl.quiet, uint32(wrote))
	if sh.tick-sl.quiet < uint32(sl.every) {
		return
	}
	sl.quiet = sh.tick
	if c.inStep && !s.hello && c.tls == nil {
		sh.hub.counters.heartbeats.Add(1)
		if n, err := writeSome(int(c.fd), heartbeatLine.bytes()); n == len(heartbeatLine.bytes()) {
			sh.hub.counters.deliver(engineFast, delivered{sends: 1, bytes: int64(n)})
			return
		} else if sh.stepOut(s); err != nil {
			c.err = err
		} else {
			c.pending = heartbeatLine.bytes()[n:]
			sh.isFull(s)
		}
	} else {
		sh.stepOut(s)
		s.beat.Store(true)
	}
	sh.turn(s)
}
