package tailrace

import (
	"container/heap"
	"math"
	"time"
)

// memDue is a heap of topics by due. A topic's due may be too early, never too
// late.
type memDue []*memTopic

func (h memDue) Len() int           { return len(h) }
func (h memDue) Less(i, j int) bool { return h[i].due < h[j].due }
func (h memDue) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].dueAt, h[j].dueAt = i, j
}
func (h *memDue) Push(x any) {
	t := x.(*memTopic)
	t.dueAt = len(*h)
	*h = append(*h, t)
}
func (h *memDue) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.dueAt = -1
	return t
}

// schedule puts t where sweep will find it in time. Appends to a topic that
// has events do not change when its oldest is due.
func (l *MemoryLog) schedule(t *memTopic) {
	due, any := l.nextDue(t)
	switch {
	case !any && t.dueAt >= 0:
		heap.Remove(&l.due, t.dueAt)
	case !any:
	case t.dueAt < 0:
		t.due = due
		heap.Push(&l.due, t)
	case t.due != due:
		t.due = due
		heap.Fix(&l.due, t.dueAt)
	}
}

// nextDue says when t has something to expire: its oldest event, or itself.
func (l *MemoryLog) nextDue(t *memTopic) (ns int64, any bool) {
	p := t.policy
	switch {
	case t.gone:
		return later(t.raised, l.cursorLife), true
	case len(t.events) > 0:
		// Some slack lets many events of a topic go at once.
		slack := min(time.Minute, p.MaxAge/8)
		return later(later(t.events[0].Time.UnixNano(), p.MaxAge), slack), p.MaxAge > 0
	case t.state != nil && len(t.state.keys) > 0:
		return 0, false
	}
	return later(max(t.appended, t.raised), p.IdleDelete), p.IdleDelete > 0
}

// later adds without overflow.
func later(ns int64, d time.Duration) int64 {
	if d > 0 && ns > math.MaxInt64-int64(d) {
		return math.MaxInt64
	}
	return ns + int64(d)
}

// sweepSlice bounds the topics and events that one hold of the lock expires:
// about a millisecond.
const sweepSlice = 4096

// sweep expires what is due, up to sweepSlice.
func (l *MemoryLog) sweep() {
	for budget := sweepSlice; budget > 0 && l.isDue(l.clock); budget-- {
		t := l.due[0]
		due, any := l.nextDue(t)
		switch {
		case !any || due > l.clock: // it was only looked at too early
		case t.gone:
			l.fold(t)
			continue
		case len(t.events) > 0:
			oldest := l.clock - int64(t.policy.MaxAge)
			n := 0
			for n < min(budget, len(t.events)) && t.events[n].Time.UnixNano() <= oldest {
				n++
			}
			l.removeFirst(t, n, false)
			budget -= n
		default:
			l.forget(t)
		}
		l.schedule(t)
	}
	l.sealRaise()
}

// isDue reports whether sweep has something to do at the time now.
func (l *MemoryLog) isDue(now int64) bool { return len(l.due) > 0 && l.due[0].due <= now }

// retain removes what is over the counts of t's policy. It waits until a
// quarter more is there, so that it seldom runs.
func (l *MemoryLog) retain(t *memTopic) {
	p := t.policy
	n, count, bytes := 0, int64(len(t.events)), t.bytes
	if p.MaxCount > 0 && count > p.MaxCount+p.MaxCount/4 {
		for ; count > p.MaxCount; count-- {
			bytes -= int64(len(t.events[n].Data))
			n++
		}
	}
	if p.MaxBytes > 0 && bytes > p.MaxBytes+p.MaxBytes/4 {
		// The newest event stays, whatever its size: it was just accepted.
		for ; bytes > p.MaxBytes && n < len(t.events)-1; n++ {
			bytes -= int64(len(t.events[n].Data))
		}
	}
	l.removeFirst(t, n, false)
}

// evict keeps the whole log within its bytes: the oldest events of the log go
// first, however young. Topics without events may take half; beyond that the
// records of those that were emptied first are given up.
func (l *MemoryLog) evict() {
	if l.used <= l.maxBytes {
		return
	}
	// Some more than needed, so that not every append does this.
	goal := l.maxBytes - l.maxBytes>>10
	for l.used > goal {
		idle := l.empty.Front()
		if idle != nil && l.topicCost > l.maxBytes/2 {
			l.fold(idle.Value.(*memTopic))
			continue
		}
		first, kept := l.events.first(), l.retained.Front()
		switch {
		case kept != nil && (first == nil || kept.Value.(*memEvent).Cursor.Pos < first.Cursor.Pos):
			e := kept.Value.(*memEvent)
			l.dropState(e)
			l.drop(e)
			l.settle(e.topic)
			l.schedule(e.topic)
		case l.events.live > 1:
			l.removeFirst(first.topic, 1, true)
			if len(first.topic.events) == 0 {
				l.schedule(first.topic)
			}
		case idle != nil:
			l.fold(idle.Value.(*memTopic))
		default:
			l.sealRaise()
			return
		}
	}
	l.sealRaise()
}

// removeFirst removes the n oldest events of t and raises its floor. The
// newest of a key is kept for snapshots if the policy says so, unless all says
// that it must go too. The caller ends with sealRaise.
func (l *MemoryLog) removeFirst(t *memTopic, n int, all bool) {
	if n == 0 {
		return
	}
	for i, e := range t.events[:n] {
		t.events[i] = nil
		t.floor = e.Cursor.Pos
		t.bytes -= int64(len(e.Data))
		l.bytes -= int64(len(e.Data))
		l.events.remove(e.Cursor.Pos)
		if e.Key != "" && t.state != nil && t.state.keys[e.Key] == e {
			if t.policy.KeepLatest && !all {
				e.kept = l.retained.PushBack(e)
				continue
			}
			l.dropState(e)
		}
		l.drop(e)
	}
	t.events = t.events[n:]
	if len(t.events) == 0 {
		t.events = nil
	}
	l.raise(t, false)
}

// drop forgets an event that is in no order any more.
func (l *MemoryLog) drop(e *memEvent) {
	l.ids.remove(e)
	l.used -= e.cost()
}

// dropState takes e out of the state of its topic.
func (l *MemoryLog) dropState(e *memEvent) {
	s := e.topic.state
	delete(s.keys, e.Key)
	s.order.remove(e.Cursor.Pos)
	if e.kept != nil {
		l.retained.Remove(e.kept)
		e.kept = nil
	}
}

// raise records that the floor of t went up. All raises until sealRaise share
// one position.
func (l *MemoryLog) raise(t *memTopic, deleted bool) {
	if !l.raising {
		l.raising = true
		l.pos++
		l.stamp = l.pos
	}
	t.stamp, t.deleted, t.raised = l.stamp, deleted, l.clock
	l.floor = max(l.floor, t.floor)
	if t.inOrder == nil {
		t.inOrder = l.raised.PushBack(t)
	} else {
		l.raised.MoveToBack(t.inOrder)
	}
	l.settle(t)
}

func (l *MemoryLog) sealRaise() { l.raising = false }

// settle puts t into the list of topics without events, or takes it out.
func (l *MemoryLog) settle(t *memTopic) {
	empty := len(t.events) == 0 && (t.state == nil || len(t.state.keys) == 0)
	switch {
	case empty && t.inEmpty == nil:
		t.inEmpty = l.empty.PushBack(t)
		t.state = nil
	case !empty && t.inEmpty != nil:
		l.empty.Remove(t.inEmpty)
		t.inEmpty = nil
	}
}

// forget makes t a topic that is not there, but for its floor.
func (l *MemoryLog) forget(t *memTopic) {
	if !t.gone {
		t.gone, t.closed, t.head = true, false, 0
		l.live--
	}
}

// fold gives up the record of a topic without events. Its floor becomes part
// of the one that stands for all topics without a record.
func (l *MemoryLog) fold(t *memTopic) {
	l.forget(t)
	l.foldedFloor = max(l.foldedFloor, t.floor)
	l.foldedStamp = max(l.foldedStamp, t.stamp)
	l.empty.Remove(t.inEmpty)
	if t.inOrder != nil {
		l.raised.Remove(t.inOrder)
	}
	if t.dueAt >= 0 {
		heap.Remove(&l.due, t.dueAt)
	}
	delete(l.topics, t.name)
	l.names.remove(t)
	l.used -= memTopicCost + int64(len(t.name))
	l.topicCost -= memTopicCost + int64(len(t.name))
}
