package tailrace

import (
	"context"
	"errors"
	"runtime"
)

// replayReaders bounds how many streams read the log at once, so that a storm
// of returning clients cannot starve publishers and live streams.
func replayReaders() int { return 2 * runtime.GOMAXPROCS(0) }

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

// errTorn ends a stream whose socket has a part of an event that cannot be
// made again: the client drops the part and resumes, and the log answers.
var errTorn = errEnd("stalled")

// catchUp writes one page of the log, cut where a control event waits. There
// is no replay mode: live is the same walk, answered by the ring.
func (s *stream) catchUp() error {
	s.setBehind(true)
	p, err := s.nextPage()
	if err != nil {
		return s.readFailed(err)
	}
	defer p.release()
	if f := s.wants.filter; f != nil && f.Err() != nil {
		s.farewell("forbidden")
		return errEnd("forbidden")
	}
	half := s.half()
	if half != 0 && (p.reset != nil || len(p.marks) == 0 || p.marks[0].pos != half) {
		s.fast.err = errTorn
		return errTorn
	}
	s.told = p.told
	if p.reset != nil {
		return s.gap(p)
	}
	n, next, whole := len(p.marks), p.next.Pos, true
	cut := func(at int, pos uint64) {
		if at < n || pos < next {
			n, next, whole = at, pos, false
		}
	}
	if half != 0 {
		cut(1, half)
	} else if b, ok := s.barrier(); ok {
		cut(p.upTo(b), min(next, b)) // a control event goes out in the middle of the page
	}
	if s.left >= 0 && n > s.left {
		cut(s.left, p.marks[s.left-1].pos)
	}
	if n > 0 {
		if err := s.blocks(p.wire[:p.marks[n-1].end], p.marks[:n]); err != nil {
			return err
		}
	}
	s.cur.Epoch = p.next.Epoch
	s.moveTo(next)
	if err := s.afterEvents(n); err != nil {
		return err
	}
	if p.ended && whole {
		if err := s.text(controlFrame("end", endData{s.feed.sel.Topics}, s.cur.String())); err != nil {
			return err
		}
		s.farewell("ended")
		return errEnd("ended")
	}
	if !p.more && whole {
		return s.atHead()
	}
	if s.feed.covers(s.cur.Pos) || half != 0 && s.live && s.skip != Resume {
		s.setBehind(false) // after the rest of an event it is the policy's turn
	} else if n == 0 && s.beat.Swap(false) {
		return s.heartbeat() // a long way through events of others
	}
	return nil
}

// nextPage returns what follows s in the log.
func (s *stream) nextPage() (*wirePage, error) {
	h := s.hub
	if s.first != nil {
		read := s.first
		s.first = nil
		return newPage(read, s.form, s.fast != nil, &s.wants), nil
	}
	if s.wants.types == nil && (s.fast != nil || s.wants.filter != nil) {
		key := pageKey{s.feed, s.form, s.fast != nil, s.wants.filter, s.cur, s.told}
		return h.pages.get(h, key, h.visible.Load())
	}
	most := maxOwnPage
	if s.fast == nil {
		most = h.pageBytes()
	}
	read, err := h.readLog(s.context(), Query{
		Select: s.feed.sel, After: s.cur, Told: s.told, Limit: pageEvents, MaxBytes: most,
	})
	if err != nil {
		return nil, err
	}
	return newPage(&read, s.form, s.fast != nil, &s.wants), nil
}

// blocks writes events of the log.
func (s *stream) blocks(wire []byte, marks []blockEnd) error {
	if p := s.port.Load(); p != nil {
		return s.writeOut(p, wire, len(marks))
	}
	return s.fastBlocks(wire, marks)
}

// gap says that history is not complete, and goes on from what there is.
func (s *stream) gap(p *wirePage) error {
	s.hub.counters.gap(p.reset.Reason)
	s.setCursor(p.next)
	id := p.next.String()
	if s.snapshot {
		id = "" // a break before the snapshot's end must not hide the gap
	} else if s.gapNew {
		head, err := s.hub.readLog(s.context(), Query{Select: s.feed.sel, Head: true})
		if err != nil {
			return s.readFailed(err)
		}
		s.told = 0
		s.setCursor(head.Next)
		id = head.Next.String()
	}
	if err := s.text(controlFrame("gap", NewGap(p.reset), id)); err != nil {
		return err
	}
	if s.snapshot {
		return s.beginSnapshot()
	}
	return nil
}

// snapshot is the newest event of each key as of one cut, sent page by page.
type snapshot struct {
	next Query // of the next page
	sent int   // events
}

// beginSnapshot begins to send one, without ids; then s goes on after the cut.
func (s *stream) beginSnapshot() error {
	s.hub.counters.snapshots.Add(1)
	s.setBehind(true)
	s.snap = &snapshot{next: Query{Select: s.feed.sel, Latest: true, Limit: pageEvents}}
	return s.text(controlFrame("snapshot", snapshotData{State: "begin"}, ""))
}

// snapshotPage sends the next page of it. A stream that ends before the last
// one gets a new snapshot when it returns: no id was given.
func (s *stream) snapshotPage() error {
	snap := s.snap
	snap.next.MaxBytes = s.hub.pageBytes()
	read, err := s.hub.readLog(s.context(), snap.next)
	if err != nil {
		return s.readFailed(err)
	}
	p := newPage(&read, s.form|formNoID, false, &s.wants)
	if n := len(p.marks); n > 0 {
		snap.sent += n
		err = s.plainBlocks(p.wire, n)
	}
	p.release()
	if err != nil {
		return err
	}
	if read.Mark != "" {
		snap.next.Mark, snap.next.After = read.Mark, read.Next
		return nil
	}
	s.snap = nil
	s.setCursor(read.Next)
	s.told = read.Told
	return s.text(controlFrame("snapshot", snapshotData{State: "end", Count: &snap.sent}, s.cur.String()))
}

// plainBlocks writes events that have no position of their own: what the socket
// does not take waits with the stream.
func (s *stream) plainBlocks(b []byte, events int) error {
	if p := s.port.Load(); p != nil {
		return s.writeOut(p, b, events)
	}
	if err := s.fast.text(newText(b).bytes()); err != nil {
		return err
	}
	s.wrote(engineFast, len(b), events)
	return nil
}

// readFailed turns an error of the log into the stream's end: the client
// resumes, and is answered by a log that works or by a status.
func (s *stream) readFailed(err error) error {
	if s.lost() == nil && !errors.Is(err, ErrStopped) && !errors.Is(err, context.Canceled) {
		s.hub.opts.Logger.Error("tailrace: reading the log for a stream failed", "conn", s.id, "err", err)
	}
	if s.half() == 0 {
		s.farewell("error")
	}
	return errEnd("error")
}
