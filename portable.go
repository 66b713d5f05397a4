package tailrace

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// portable is the connection of a stream that the goroutine of its handler
// serves, and of every stream until the fast engine has taken it over.
type portable struct {
	rc   *http.ResponseController
	out  *sse.Stream // set once the head is out
	gone atomic.Bool // the client has left

	// A write has no deadline of its own, which would cost a tenth of it, over
	// HTTP/2 half: the sweep looks for one that takes too long.
	writing   atomic.Int64 // tick at which a write began that is in progress; 0 is none
	stalled   atomic.Bool  // it took too long
	lastWrite atomic.Int64 // tick
	until     int64        // tick at which it has lived long enough; 0 is none
	ending    int64        // tick at which the sweep found that it is to end
	idle      atomic.Bool  // it waits for wakeup; who turns it false sends
	wakeup    chan struct{}
	pass      atomic.Pointer[pass]
}

func newPortable(w http.ResponseWriter) *portable {
	return &portable{rc: http.NewResponseController(w), wakeup: make(chan struct{}, 1)}
}

// wakeIn wakes s if it is idle, as one of the streams of a pass.
func (p *portable) wakeIn(ps *pass) {
	if p.idle.CompareAndSwap(true, false) {
		ps.pending.Add(1)
		p.pass.Store(ps)
		p.wakeup <- struct{}{}
	}
}

// wake wakes the stream if it is idle. A busy one looks at everything once more
// before it rests.
func (p *portable) wake() {
	if p.idle.CompareAndSwap(true, false) {
		p.wakeup <- struct{}{}
	}
}

// passed counts the stream out of its pass.
func (p *portable) passed() {
	if ps := p.pass.Swap(nil); ps != nil {
		ps.finish()
	}
}

// run serves s until it ends and returns the reason.
func (s *stream) run() (reason string) {
	p := s.port.Load()
	for {
		if e := s.closing.Load(); e != nil {
			s.farewell(e.told)
			return e.kind
		}
		more, err := s.step()
		if err != nil {
			return s.reason(err)
		}
		if more {
			continue
		}
		p.passed()
		p.idle.Store(true)
		if s.hasWork() && p.idle.CompareAndSwap(true, false) {
			continue
		}
		<-p.wakeup
	}
}

// hasWork reports whether a wake may have been missed before s was idle. A
// control event behind a position that is not visible yet waits for the tail.
func (s *stream) hasWork() bool {
	return s.hub.visible.Load() > s.cur.Pos || s.feed.ended.Load() != s.ended || s.beat.Load() || s.closing.Load() != nil || s.change.Load() != nil ||
		s.lost() != nil || s.controlDue(s.cur.Pos)
}

// leave is called when the client of a portable stream has gone.
func (s *stream) leave() {
	p := s.port.Load()
	p.gone.Store(true)
	p.wake()
}

// sweep marks a portable stream for a heartbeat if it has had no byte for its
// interval, and ends it when it has lived long enough. One that does not take
// its farewell gets no longer than farewellTime for it.
func (p *portable) sweep(s *stream, tick int64) {
	switch {
	case s.closing.Load() != nil && p.ending == 0:
		p.ending = tick
	case p.ending != 0 && tick-p.ending > farewellTime:
		s.abort()
	case p.isStalled(s.hub, tick):
		p.stalled.Store(true)
		s.abort()
	case p.until != 0 && tick >= p.until:
		s.endSoon(ending{"max-age", "max-age"})
	}
	if tick-p.lastWrite.Load() >= int64(s.every) {
		s.beat.Store(true)
		p.wake()
	}
}

// isStalled reports whether the write in progress takes too long.
func (p *portable) isStalled(h *Hub, tick int64) bool {
	began := p.writing.Load()
	return began != 0 && tick-began > h.stallTicks()
}

// stallTicks is how long a socket may take nothing, in seconds.
func (h *Hub) stallTicks() int64 { return max(1, int64(h.opts.StallTimeout/time.Second)) }

// writeOut hands b to the connection as one write and one flush.
func (s *stream) writeOut(p *portable, b []byte, events int) error {
	tick := s.hub.tick.Load()
	p.writing.Store(tick)
	_, err := p.out.Write(b)
	p.writing.Store(0)
	if err != nil {
		return err
	}
	p.lastWrite.Store(tick)
	s.wrote(enginePortable, len(b), events)
	return nil
}

// overdue is a time in the past.
var overdue = time.Unix(1, 0)
