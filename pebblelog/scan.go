package pebblelog

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tailrace/tailrace"
)

// matcher is a Selector made ready for many names.
type matcher struct {
	all    bool
	single string
	set    map[string]struct{}
	sel    tailrace.Selector
}

func newMatcher(s tailrace.Selector) matcher {
	m := matcher{all: s.IsZero(), sel: s}
	if name, ok := s.Single(); ok {
		m.single = name
	} else if len(s.Topics) > 8 {
		m.set = make(map[string]struct{}, len(s.Topics))
		for _, t := range s.Topics {
			m.set[t] = struct{}{}
		}
		m.sel.Topics = nil
	}
	return m
}

func (m *matcher) match(topic string) bool {
	switch {
	case m.all:
		return true
	case m.single != "":
		return m.single == topic
	case m.set != nil:
		if _, ok := m.set[topic]; ok {
			return true
		}
		return len(m.sel.Patterns) > 0 && m.sel.Match(topic)
	}
	return m.sel.Match(topic)
}

// batches iterates over the batches of the sequence.
func (r *read) batches() (*pebble.Iterator, error) {
	return r.snap.NewIter(&pebble.IterOptions{
		LowerBound: batchKey(nil, r.l.firstBatch.Load()), UpperBound: []byte{kindBatch + 1},
	})
}

// run iterates over the visible events of a topic after pos.
func (r *read) run(w *row, pos uint64) (*pebble.Iterator, error) {
	return r.snap.NewIter(&pebble.IterOptions{
		LowerBound: eventKey(nil, w.t, max(pos, w.floor)+1),
		UpperBound: eventKey(nil, w.t, r.view.head+1),
	})
}

// merge reads exact topics, oldest event first.
func (r *read) merge() (more bool, err error) {
	type run struct {
		it  *pebble.Iterator
		pos uint64 // of the event at it; maxPos at the end
	}
	var runs []run
	defer func() {
		for _, u := range runs {
			err = errors.Join(err, u.it.Close())
		}
	}()
	at := func(u *run) {
		u.pos = maxPos
		if u.it.Valid() {
			u.pos = keyNumber(u.it.Key(), 1)
		}
	}
	for i := range r.rows {
		w := &r.rows[i]
		if w.t == 0 || w.head <= r.pos {
			continue
		}
		it, err := r.run(w, r.pos)
		if err != nil {
			return false, err
		}
		u := run{it: it}
		it.First()
		at(&u)
		runs = append(runs, u)
	}
	for {
		next := maxIndex
		least := uint64(maxPos)
		for i := range runs {
			if runs[i].pos < least {
				next, least = i, runs[i].pos
			}
		}
		if next == maxIndex {
			break
		}
		u := &runs[next]
		if u.pos > r.pos { // else the topic was named twice
			full, err := r.takeFrom(u.it, u.pos)
			if full || err != nil {
				return true, err
			}
			r.pos = u.pos
		}
		u.it.Next()
		at(u)
	}
	for _, u := range runs {
		if err := u.it.Error(); err != nil {
			return false, err
		}
	}
	r.pos = r.view.head
	return false, nil
}

const maxIndex = int(^uint(0) >> 1)

// takeFrom adds the event at it to the page, unless that is full.
func (r *read) takeFrom(it *pebble.Iterator, pos uint64) (full bool, err error) {
	v, err := it.ValueAndErr()
	if err != nil {
		return false, err
	}
	rec, err := parseRecord(v)
	if err != nil {
		return false, err
	}
	return !r.takeRecord(&rec, pos), nil
}

// takeRecord adds an event to the page, unless that is full.
func (r *read) takeRecord(rec *record, pos uint64) bool {
	if r.isFull(len(rec.data)) {
		return false
	}
	n := len(r.events)
	if n == cap(r.events) {
		rest := r.bytes/max(1, len(rec.data)) + 1 // as many as will come if all are like this one
		r.events = slices.Grow(r.events, min(r.limit, max(16, min(3*n, rest))))
	}
	r.events = r.events[:n+1]
	r.dec.event(&r.events[n], rec)
	r.events[n].Cursor = r.epochs.cursor(pos)
	r.bytes -= len(rec.data)
	return true
}

// decoder makes events of records. It copies data into memory shared by the events of a page,
// and texts that repeat only once.
type decoder struct {
	arena      []byte
	topic, typ string
}

const arenaSize = 32 << 10

func (d *decoder) event(e *tailrace.Event, rec *record) {
	if string(rec.topic) != d.topic {
		d.topic = string(rec.topic)
	}
	if string(rec.typ) != d.typ {
		d.typ = string(rec.typ)
	}
	e.Topic, e.Type, e.Key, e.ID = d.topic, d.typ, string(rec.key), string(rec.id)
	e.Data, e.Retry = d.copy(rec.data), rec.retry
	e.Remove, e.Close = rec.flags&recRemove != 0, rec.flags&recClose != 0
	e.Time = time.Unix(0, rec.time)
}

func (d *decoder) copy(b []byte) []byte {
	if len(b) > arenaSize/8 {
		return append([]byte(nil), b...)
	}
	if cap(d.arena)-len(d.arena) < len(b) {
		size := 4 << 10
		if d.arena != nil {
			size = arenaSize
		}
		d.arena = make([]byte, 0, size)
	}
	n := len(d.arena)
	d.arena = append(d.arena, b...)
	return d.arena[n:len(d.arena):len(d.arena)]
}

// walk reads many topics or patterns in the order of the sequence.
func (r *read) walk() (more bool, err error) {
	its, err := r.openWalk()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, its.close()) }()
	var key [9]byte
	if !its.batches.SeekLT(batchKey(key[:0], r.pos+2)) {
		its.batches.First()
	}
	examined := 0
	for ; its.batches.Valid(); its.batches.Next() {
		b, err := its.batch()
		if err != nil {
			return false, err
		}
		if b.first > r.view.head {
			break
		}
		if b.last() <= r.pos {
			continue
		}
		topics := b.topics
		for p := b.first; len(topics) > 0; p++ {
			t, n := binary.Uvarint(topics)
			if n <= 0 {
				return false, errRecord
			}
			topics = topics[n:]
			if p <= r.pos {
				continue
			}
			selected, err := its.selects(t, p)
			if err != nil {
				return false, err
			}
			if selected {
				full, err := r.takeFrom(its.events, p)
				if full || err != nil {
					return true, err
				}
			}
			r.pos = p
			if examined++; examined >= scanMax {
				return r.pos < r.view.head, nil
			}
		}
	}
	if err := its.batches.Error(); err != nil {
		return false, err
	}
	r.pos = r.view.head
	return false, nil
}

// lastEvents is the position before the newest n events of the selection.
func (r *read) lastEvents(n int) (pos uint64, err error) {
	its, err := r.openWalk()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, its.close()) }()
	var key [9]byte
	var topics []uint64
	for its.batches.SeekLT(batchKey(key[:0], r.view.head+1)); its.batches.Valid(); its.batches.Prev() {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		b, err := its.batch()
		if err != nil {
			return 0, err
		}
		topics = topics[:0]
		for d := (reader{b: b.topics}); len(d.b) > 0; {
			topics = append(topics, d.uvarint())
		}
		for i := len(topics) - 1; i >= 0; i-- {
			p := b.first + uint64(i)
			selected, err := its.selects(topics[i], p)
			if err != nil {
				return 0, err
			}
			if selected {
				if n--; n == 0 {
					return p - 1, nil
				}
			}
		}
	}
	return 0, its.batches.Error()
}

// walkers go through the sequence: the batches in order, and each event by its own key.
type walkers struct {
	r       *read
	batches *pebble.Iterator
	events  *pebble.Iterator
	chosen  map[uint64]bool // by topic number, where the name is known
	key     [eventKeyLen]byte

	// A seek steps over every removed event that the store still has. What one has found is
	// therefore remembered: nothing is between sought and where events stands, and nothing of a
	// topic below its place in kept.
	sought []byte
	kept   map[uint64]uint64
}

func (r *read) openWalk() (*walkers, error) {
	w := &walkers{r: r, chosen: map[uint64]bool{}, kept: map[uint64]uint64{}}
	var err error
	if w.batches, err = r.batches(); err != nil {
		return nil, err
	}
	w.events, err = r.snap.NewIter(kindBounds(kindEvent))
	if err != nil {
		return nil, errors.Join(err, w.batches.Close())
	}
	return w, nil
}

func (w *walkers) close() error { return errors.Join(w.batches.Close(), w.events.Close()) }

func (w *walkers) batch() (batch, error) {
	v, err := w.batches.ValueAndErr()
	if err != nil {
		return batch{}, err
	}
	return parseBatch(w.batches.Key(), v)
}

// selects reports whether event p of topic t is kept and selected; w.events then stands on it.
func (w *walkers) selects(t, p uint64) (bool, error) {
	r := w.r
	known := r.match.all
	if !known {
		var chosen bool
		if chosen, known = w.chosen[t]; known && !chosen {
			return false, nil
		}
		if name, ok := r.l.names.get(t); ok && !known {
			known, chosen = true, r.match.match(name)
			if w.chosen[t] = chosen; !chosen {
				return false, nil
			}
		}
	}
	if found, err := w.seek(t, p); !found || err != nil {
		return false, err
	}
	if known {
		return true, nil
	}
	v, err := w.events.ValueAndErr()
	if err != nil {
		return false, err
	}
	rec, err := parseRecord(v)
	if err != nil {
		return false, err
	}
	name := string(rec.topic)
	r.l.names.put(t, name)
	w.chosen[t] = r.match.match(name)
	return w.chosen[t], nil
}

// seek puts w.events on event p of topic t, unless that is removed.
func (w *walkers) seek(t, p uint64) (found bool, err error) {
	if p < w.kept[t] {
		return false, nil
	}
	k := eventKey(w.key[:0], t, p)
	if w.sought == nil || string(k) < string(w.sought) || w.events.Valid() && string(k) > string(w.events.Key()) {
		w.sought = append(w.sought[:0], k...)
		w.events.SeekGE(k)
	}
	if !w.events.Valid() {
		return false, w.events.Error()
	}
	at := w.events.Key()
	if string(at) == string(k) {
		return true, nil
	}
	w.kept[t] = maxPos
	if keyNumber(at, 0) == t {
		w.kept[t] = keyNumber(at, 1)
	}
	return false, nil
}

// nameCache remembers names of topic numbers, which never change. Like topicCache it forgets by
// generation.
type nameCache struct {
	mu       sync.Mutex // guards what follows
	now, old map[uint64]string
}

const namesCached = 16384

func (c *nameCache) get(t uint64) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name, ok := c.now[t]; ok {
		return name, true
	}
	name, ok := c.old[t]
	if ok {
		c.now[t] = name
	}
	return name, ok
}

func (c *nameCache) put(t uint64, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil || len(c.now) >= namesCached/2 {
		c.now, c.old = map[uint64]string{}, c.now
	}
	c.now[t] = name
}
