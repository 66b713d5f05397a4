package tailrace

import (
	"container/list"
	"context"
	"crypto/rand"
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of MemoryOptions.
const (
	DefaultMemoryBytes = 256 << 20          // of a process that has other things to keep
	DefaultCursorLife  = 7 * 24 * time.Hour // a browser tab left open over a week's holiday
)

// MemoryOptions are the settings of a memory log.
type MemoryOptions struct {
	// MaxBytes bounds what all events and topics take, their bookkeeping
	// included: some 224 bytes an event, 64 for its id and its key each, 320 a
	// topic. Beyond it the oldest events of the log go first, however young.
	// When the records of topics take more than half, those of topics without
	// events go too, and with them what the log knows of a topic's past:
	// whether it was closed, and until where it was trimmed, so that old
	// cursors of it are reset. Default 256 MiB.
	MaxBytes int64

	// Rules give topics their policies. NewMemoryLog takes them as they are;
	// SetRules checks its own. Default none.
	Rules []Rule

	// Now is the clock. Default time.Now.
	Now func() time.Time

	// CursorLife is how long the log remembers until where a deleted or
	// forgotten topic was trimmed. Default 7 days.
	CursorLife time.Duration
}

// MemoryLog is a [Log] in memory. It needs NewMemoryLog. It begins a new epoch
// at each start, so that cursors of an earlier one are told that they are; all
// durability classes act as Memory.
//
// It has no goroutine: what a policy's age makes due is removed by the appends
// and reads that come later, at most a minute or an eighth of the age late. An
// append holds the log for well under a microsecond an event, a read for the
// time it takes to find its events.
type MemoryLog struct {
	now        func() time.Time
	epoch      uint64
	maxBytes   int64
	cursorLife time.Duration

	watchers memWatchers
	pages    sync.Pool                          // *memRead
	pause    atomic.Pointer[func(point string)] // of the tests: called at named points, outside mu

	mu       sync.RWMutex // guards all below
	stopped  bool
	rules    Rules     // as set
	policies []*Policy // of rules, with defaults
	fallback *Policy   // of topics without a rule

	pos     uint64 // newest position taken, by an event or a raise of floors
	stamp   uint64 // position of the newest raise
	floor   uint64 // highest floor
	raising bool   // the raises of this call have their position
	clock   int64  // newest time given, ns

	topics map[string]*memTopic
	names  memNames // the same topics
	live   int      // those that are not gone
	events memOrder
	ids    memIDs
	due    memDue

	raised   list.List // *memTopic by stamp; those without a raise are not in it
	empty    list.List // *memTopic without events, those that were emptied first in front
	retained list.List // *memEvent of a KeepLatest topic below its floor, in the order of trimming

	foldedFloor, foldedStamp uint64 // of all topics without a record

	bytes     int64 // data of events
	used      int64 // what MaxBytes bounds
	topicCost int64 // the topics' part of used
}

var (
	_ Log        = (*MemoryLog)(nil)
	_ RuleSetter = (*MemoryLog)(nil)
)

// NewMemoryLog returns an empty log. Nil options are defaults.
func NewMemoryLog(o *MemoryOptions) *MemoryLog {
	if o == nil {
		o = &MemoryOptions{}
	}
	l := &MemoryLog{
		now:        o.Now,
		epoch:      newEpoch(),
		maxBytes:   o.MaxBytes,
		cursorLife: o.CursorLife,
		topics:     map[string]*memTopic{},
		ids:        memIDs{},
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.maxBytes <= 0 {
		l.maxBytes = DefaultMemoryBytes
	}
	if l.cursorLife <= 0 {
		l.cursorLife = DefaultCursorLife
	}
	l.useRules(o.Rules)
	return l
}

// newEpoch returns 48 random bits that are not all zero.
func newEpoch() uint64 {
	for {
		var b [8]byte
		rand.Read(b[2:]) // never fails
		if e := binary.BigEndian.Uint64(b[:]); e != 0 {
			return e
		}
	}
}

// Append implements [Log].
func (l *MemoryLog) Append(ctx context.Context, events []Event) ([]Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// What a policy does not limit is checked before the lock: the data may be
	// long.
	for i := range events {
		if err := events[i].Check(&Policy{MaxEvent: math.MaxInt, Closable: true}); err != nil {
			return nil, err
		}
		if i > 0 && events[i].IfHead != nil {
			return nil, &InvalidError{Field: "if_head", Reason: "is allowed on the first event of a call only"}
		}
	}
	receipts, err := l.commit(events)
	if receipts != nil {
		l.pauseAt("append.commit")
		l.watchers.wake(events, receipts)
	}
	return receipts, err
}

// commit stores what is accepted. The receipts are nil if the whole call was
// refused.
func (l *MemoryLog) commit(events []Event) ([]Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil, ErrStopped
	}
	l.tick()
	l.sweep()
	var buf [8]*memTopic
	rows := buf[:0]
	for i := range events {
		e := &events[i]
		t := l.topics[e.Topic]
		rows = append(rows, t)
		p := l.policy(t, e.Topic)
		if len(e.Data) > p.MaxEvent || e.Close && !p.Closable {
			return nil, e.Check(p)
		}
	}
	var first error
	refused := l.refuse(events, rows)
	receipts := make([]Receipt, len(events))
	for i := range events {
		e, r := &events[i], &receipts[i]
		t := rows[i]
		if t == nil && i > 0 { // an earlier event of the call may have made it
			t = l.topics[e.Topic]
		}
		r.ID = l.storedID(e.ID)
		if same := l.ids.find(t, r.ID); same != nil {
			r.Cursor, r.Duplicate = same.Cursor, true
			continue
		}
		if err := refused[e.Topic]; err != nil {
			r.Err = err
			if t != nil {
				r.Cursor = l.topicLast(t)
			}
			if first == nil {
				first = err
			}
			continue
		}
		stored := l.store(t, e, r.ID)
		r.Cursor, r.Time = stored.Cursor, stored.Time
		rows[i] = stored.topic
	}
	for _, t := range rows {
		if t != nil {
			l.retain(t)
		}
	}
	l.evict()
	l.sealRaise()
	return receipts, first
}

// refuse returns the errors of the topics that take none of the new events of
// the call; nil, as nearly always, if there are none.
func (l *MemoryLog) refuse(events []Event, rows []*memTopic) map[string]error {
	var refused map[string]error
	refuse := func(topic string, err error) {
		if refused == nil {
			refused = map[string]error{}
		}
		if refused[topic] == nil {
			refused[topic] = err
		}
	}
	var ends map[string]bool        // topics that an earlier event of the call closes
	var seen map[[2]string]struct{} // ids of the call, once ends is there
	isNew := func(t *memTopic, e *Event) bool {
		id := l.storedID(e.ID)
		if l.ids.find(t, id) != nil {
			return false
		}
		_, again := seen[[2]string{e.Topic, id}]
		return !again
	}
	note := func(e *Event) {
		if e.ID != "" {
			seen[[2]string{e.Topic, l.storedID(e.ID)}] = struct{}{}
		}
	}
	for i := range events {
		e, t := &events[i], rows[i]
		if (t == nil || !t.closed) && e.IfHead == nil && !e.Close && ends == nil {
			continue // nothing to refuse: the usual case
		}
		if e.Close && ends == nil {
			ends, seen = map[string]bool{}, map[[2]string]struct{}{}
			for j := range events[:i] {
				note(&events[j])
			}
		}
		if !isNew(t, e) {
			continue
		}
		switch {
		case t != nil && t.closed || ends[e.Topic]:
			refuse(e.Topic, ErrClosed)
		case e.IfHead != nil:
			var head Cursor
			if t != nil {
				head = l.topicLast(t)
			}
			if *e.IfHead != head {
				refuse(e.Topic, ErrHead)
			}
		}
		if ends != nil {
			note(e)
			ends[e.Topic] = ends[e.Topic] || e.Close
		}
	}
	return refused
}

// store appends one event to t, which is nil if the topic has no record.
func (l *MemoryLog) store(t *memTopic, ev *Event, id string) *memEvent {
	if t == nil {
		t = &memTopic{
			name:   ev.Topic,
			policy: l.policy(nil, ev.Topic),
			gone:   true,
			floor:  l.foldedFloor, // of an earlier life, perhaps
			stamp:  l.foldedStamp,
			dueAt:  -1,
		}
		l.topics[t.name] = t
		l.names.add(t)
		cost := memTopicCost + int64(len(t.name))
		l.used += cost
		l.topicCost += cost
	}
	if t.gone {
		t.gone = false
		l.live++
	}
	l.pos++
	e := &memEvent{Event: *ev, topic: t}
	e.Topic, e.ID, e.IfHead = t.name, id, nil
	e.Cursor = l.cursor(l.pos)
	e.Time = time.Unix(0, l.clock).UTC()

	t.events = append(t.events, e)
	t.bytes += int64(len(e.Data))
	t.head = l.pos
	t.closed = e.Close
	t.appended = l.clock
	l.events.add(e)
	l.ids.add(e)
	l.bytes += int64(len(e.Data))
	l.used += e.cost()
	if e.Key != "" {
		l.setState(e)
	}
	l.settle(t)
	if len(t.events) == 1 {
		l.schedule(t)
	}
	return e
}

// setState makes e the newest event of its key.
func (l *MemoryLog) setState(e *memEvent) {
	s := e.topic.state
	if s == nil {
		s = &memState{keys: map[string]*memEvent{}}
		e.topic.state = s
	}
	if old := s.keys[e.Key]; old != nil {
		below := old.kept != nil
		l.dropState(old)
		if below {
			l.drop(old)
		}
	}
	if !e.Remove {
		s.keys[e.Key] = e
		s.order.add(e)
	}
}

// tick advances the log's clock, which never goes back.
func (l *MemoryLog) tick() { l.clock = max(l.clock, l.now().UnixNano()) }

func (l *MemoryLog) cursor(pos uint64) Cursor { return Cursor{Epoch: l.epoch, Pos: pos} }

// topicLast returns the cursor of the topic's last event, zero if that is not
// kept.
func (l *MemoryLog) topicLast(t *memTopic) Cursor {
	if pos := t.last(); pos != 0 {
		return l.cursor(pos)
	}
	return Cursor{}
}

// storedID keeps an own id from being read as a cursor of this log.
func (l *MemoryLog) storedID(id string) string {
	if c, err := ParseCursor(id); err == nil && c.Epoch == l.epoch {
		return "=" + id
	}
	return id
}

// policy returns the policy of the topic t, or of the name if t is nil.
func (l *MemoryLog) policy(t *memTopic, name string) *Policy {
	if t != nil {
		return t.policy
	}
	for i := range l.rules {
		if MatchPattern(l.rules[i].Pattern, name) {
			return l.policies[i]
		}
	}
	return l.fallback
}

// SetRules implements [RuleSetter]. What the new policies do not keep is
// removed at once.
func (l *MemoryLog) SetRules(rules []Rule) error {
	if err := Rules(rules).Check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return ErrStopped
	}
	l.tick()
	l.useRules(rules)
	for _, t := range l.topics {
		t.policy = l.policy(nil, t.name)
		l.dropUnkept(t)
		l.retain(t)
		l.schedule(t)
	}
	l.sealRaise()
	return nil
}

// dropUnkept removes what only a KeepLatest kept, if t's policy has it no more.
func (l *MemoryLog) dropUnkept(t *memTopic) {
	if t.state == nil || t.policy.KeepLatest {
		return
	}
	for _, e := range t.state.keys {
		if e.kept != nil {
			l.dropState(e)
			l.drop(e)
		}
	}
	l.settle(t)
}

func (l *MemoryLog) useRules(rules []Rule) {
	l.rules = append(Rules(nil), rules...)
	l.policies = nil
	for _, r := range l.rules {
		p := r.Policy.WithDefaults()
		l.policies = append(l.policies, &p)
	}
	p := Policy{}.WithDefaults()
	l.fallback = &p
}

// Trim implements [Log].
func (l *MemoryLog) Trim(ctx context.Context, topic string, upTo Cursor) error {
	return l.change(ctx, topic, func(t *memTopic) {
		if upTo.Epoch != l.epoch || upTo.Log != 0 {
			return
		}
		l.removeFirst(t, len(t.events)-len(t.after(upTo.Pos)), false)
	})
}

// Delete implements [Log].
func (l *MemoryLog) Delete(ctx context.Context, topic string) error {
	return l.change(ctx, topic, func(t *memTopic) {
		if t.gone {
			return
		}
		l.removeFirst(t, len(t.events), true)
		if t.state != nil {
			for _, e := range t.state.keys {
				l.dropState(e)
				l.drop(e)
			}
		}
		l.raise(t, true)
		l.forget(t)
	})
}

func (l *MemoryLog) change(ctx context.Context, topic string, f func(*memTopic)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := CheckTopic(topic); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return ErrStopped
	}
	l.tick()
	if t := l.topics[topic]; t != nil {
		f(t)
		l.schedule(t)
		l.sealRaise()
	}
	return nil
}

// Watch implements [Log]. It is made for few watchers: each append asks all.
func (l *MemoryLog) Watch(s Selector, wake func()) (stop func(), err error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.stopped {
		return nil, ErrStopped
	}
	return l.watchers.add(s, wake), nil
}

// Close implements [Log]. What the log held is given up.
func (l *MemoryLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.topics, l.ids, l.due, l.names, l.events = nil, nil, nil, memNames{}, memOrder{}
	l.raised.Init()
	l.empty.Init()
	l.retained.Init()
	return nil
}

func (l *MemoryLog) pauseAt(point string) {
	if f := l.pause.Load(); f != nil {
		(*f)(point)
	}
}

// view locks for reading a log that shows nothing expired.
func (l *MemoryLog) view() error {
	now := l.now().UnixNano()
	l.mu.RLock()
	for !l.stopped && l.isDue(max(now, l.clock)) {
		l.mu.RUnlock()
		l.mu.Lock()
		if !l.stopped {
			l.clock = max(l.clock, now)
			l.sweep()
		}
		l.mu.Unlock()
		l.mu.RLock()
	}
	if l.stopped {
		l.mu.RUnlock()
		return ErrStopped
	}
	return nil
}
