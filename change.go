package tailrace

import (
	"context"
	"fmt"
	"slices"
)

// Change adds topics and patterns to an open stream and takes some away.
type Change struct {
	Add    []Addition
	Remove []string // as they were given to the stream or added
	Reason string   // told to the client
}

// Addition is a topic or pattern and what the stream gets of its history first:
// what From says, or with Snapshot the newest event of each key.
type Addition struct {
	Part     string
	From     From
	Snapshot bool
}

// Change changes the topics of an open stream, all or nothing. At its own
// position C the stream gets the history that is asked for of what is added, up
// to C, without ids and without what it has had already; then an event
// tailrace.topics with the id C; and after C the events of the new selection.
// So a client that breaks off before that event asks again, and one that
// resumes names the new selection itself.
//
// Change returns C and the new selection when they are written. Errors are
// ErrNoConnection, ErrSlow while another change is under way, an
// [*InvalidError], and that of ctx, after which the change may still happen.
func (h *Hub) Change(ctx context.Context, connID string, c Change) (Cursor, Selector, error) {
	s := h.stream(connID)
	if s == nil {
		return Cursor{}, Selector{}, fmt.Errorf("%w: %q", ErrNoConnection, connID)
	}
	for _, a := range c.Add {
		if _, err := ParseSelector(a.Part); err != nil {
			return Cursor{}, Selector{}, err
		}
	}
	ch := &change{Change: c, done: make(chan changed, 1)}
	s.mu.Lock()
	ended := s.done
	taken := !ended && s.change.CompareAndSwap(nil, ch)
	s.mu.Unlock()
	switch {
	case ended:
		return Cursor{}, Selector{}, fmt.Errorf("%w: %q", ErrNoConnection, connID)
	case !taken:
		return Cursor{}, Selector{}, fmt.Errorf("%w: %q is being changed", ErrSlow, connID)
	}
	s.wake()
	select {
	case r := <-ch.done:
		return r.at, r.sel, r.err
	case <-ctx.Done():
		return Cursor{}, Selector{}, ctx.Err()
	}
}

// change is a Change that a stream works at.
type change struct {
	Change
	done chan changed // gets one

	// The stream's own.
	begun          bool
	target         Selector
	added, removed []string
	stage          int   // of Add
	query          Query // of the next page of its history
}

type changed struct {
	at  Cursor
	sel Selector
	err error
}

// workAt goes one step on with a change.
func (s *stream) workAt(ch *change) error {
	if !ch.begun {
		if err := ch.begin(s.feed.sel, s.hub.opts.MaxSelectors); err != nil {
			s.change.Store(nil)
			ch.done <- changed{err: err}
			return nil
		}
	}
	if ch.stage < len(ch.Add) {
		return s.addHistory(ch)
	}
	s.hub.moveStream(s, ch.target)
	if _, single := ch.target.Single(); !single {
		s.form |= formCursor // an own id is unique in its topic only
	}
	s.told = 0
	s.setBehind(true)
	err := s.text(controlFrame("topics", topicsData{
		Added: ch.added, Removed: ch.removed, Reason: ch.Reason,
		Topics: slices.Concat(s.feed.sel.Topics, s.feed.sel.Patterns),
	}, s.cur.String()))
	s.change.Store(nil)
	ch.done <- changed{at: s.cur, sel: s.feed.sel}
	return err
}

// begin computes the new selection.
func (ch *change) begin(old Selector, most int) error {
	parts := slices.Concat(old.Topics, old.Patterns)
	for _, p := range ch.Remove {
		i := slices.Index(parts, p)
		if i < 0 {
			return &InvalidError{Field: "remove", Reason: fmt.Sprintf("names %q, which the stream does not have", p)}
		}
		parts = slices.Delete(parts, i, i+1)
		ch.removed = append(ch.removed, p)
	}
	for _, a := range ch.Add {
		if !slices.Contains(parts, a.Part) {
			parts = append(parts, a.Part)
			ch.added = append(ch.added, a.Part)
		}
	}
	switch {
	case len(parts) == 0:
		return &InvalidError{Field: "remove", Reason: "leaves no topic; end the stream instead"}
	case len(parts) > most:
		return &InvalidError{Field: "add", Reason: fmt.Sprintf("makes %d topics and patterns, the limit is %d", len(parts), most)}
	}
	target, err := ParseSelector(parts...)
	if err != nil {
		return err
	}
	ch.target, ch.begun = target.Canonical(), true
	ch.startStage()
	return nil
}

// startStage makes the query of the addition that is next.
func (ch *change) startStage() {
	if ch.stage == len(ch.Add) {
		return
	}
	a := &ch.Add[ch.stage]
	sel, _ := ParseSelector(a.Part)
	if a.Snapshot {
		ch.query = Query{Select: sel, Latest: true}
		return
	}
	ch.query = (&Subscription{Select: sel, From: a.From}).query()
}

// addHistory writes one page of what is asked for of an addition.
func (s *stream) addHistory(ch *change) error {
	next := func() error {
		ch.stage++
		ch.startStage()
		return nil
	}
	q := &ch.query
	if q.Head {
		return next()
	}
	q.Limit, q.MaxBytes = pageEvents, s.hub.pageBytes()
	read, err := s.hub.readLog(s.context(), *q)
	if err != nil {
		return s.readFailed(err)
	}
	if read.Reset != nil {
		s.hub.counters.gap(read.Reset.Reason)
		if err := s.text(controlFrame("gap", NewGap(read.Reset), "")); err != nil {
			return err
		}
	}
	// What is after C comes with the new selection, and the old one has brought
	// its own.
	events := make([]Event, 0, len(read.Events))
	beyond := false
	for i := range read.Events {
		ev := &read.Events[i]
		if ev.Cursor.Pos > s.cur.Pos {
			beyond = true
		} else if !s.feed.sel.Match(ev.Topic) {
			events = append(events, *ev)
		}
	}
	p := newPage(&Page{Events: events}, s.form|formNoID, false, &s.wants)
	if n := len(p.marks); n > 0 {
		err = s.plainBlocks(p.wire, n)
	}
	p.release()
	switch {
	case err != nil:
		return err
	case q.Latest && read.Mark != "":
		q.Mark, q.After = read.Mark, read.Next
	case !q.Latest && (read.More || read.Reset != nil) && !beyond:
		*q = Query{Select: q.Select, After: read.Next, Told: read.Told}
	default:
		return next()
	}
	return nil
}

// moveStream puts s into the feed of the canonical selection sel.
func (h *Hub) moveStream(s *stream, sel Selector) {
	old := s.feed
	s.feed = h.join(sel, s)
	s.view.Store(s.feed)
	s.ended = s.feed.ended.Load()
	if s.mayEnd() {
		s.ended--
	}
	if s.fast != nil {
		h.moveTaken(s, old)
	}
	h.leave(old, s)
}
