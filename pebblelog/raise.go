package pebblelog

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tailrace/tailrace"
)

const (
	// planEvents bounds what one removal looks at; more is removed in steps.
	planEvents = 65536

	// raiseTopics bounds the topics of one batch of removals: each may leave a range tombstone,
	// which are the store's weakness.
	raiseTopics = 1000
)

// cut says which of a topic's oldest events go. An event goes if any field says so.
type cut struct {
	upTo     uint64 // all up to this position
	before   int64  // all of this time or earlier, unix nanoseconds
	maxCount int64  // as long as there are more; 0 is no limit
	maxBytes int64  // as long as there are more, but the newest stays; 0 is no limit
}

// planned is what is to happen to a topic, worked out from a snapshot. The committer does it if
// the topic's floor is still what it was, and sets stale if not.
type planned struct {
	name    string
	row     row    // as it was
	upTo    uint64 // new floor; row.floor if no event goes
	count   int64  // events that go
	bytes   int64
	oldest  int64    // time of the first event that stays, unix nanoseconds; 0 if none does
	ids     []string // own ids that go
	keys    []gone   // keys whose newest event goes
	deleted bool     // by Delete
	forget  bool     // the topic is gone unless something was appended
	fold    bool     // the record of a topic that is gone goes too
	partial bool     // there is more to remove
	stale   bool
}

// gone is the newest event of a key that is to be removed.
type gone struct {
	key string
	pos uint64
	rec []byte // the event, if it is to be kept with the key
}

// Trim removes the events of topic up to and with upTo.
func (l *Log) Trim(ctx context.Context, topic string, upTo tailrace.Cursor) error {
	pos := uint64(0)
	if e := l.epochs.Load().find(upTo.Epoch); e != nil && upTo.Log == 0 {
		pos = upTo.Pos
		if e.how != endNone {
			pos = min(pos, e.end)
		}
	}
	return l.remove(ctx, topic, func(row) cut { return cut{upTo: pos} }, false)
}

// Delete removes all of topic: events, ids, keys and the end that closed it.
func (l *Log) Delete(ctx context.Context, topic string) error {
	return l.remove(ctx, topic, func(r row) cut { return cut{upTo: r.head} }, true)
}

// remove removes the oldest events of a topic in steps.
func (l *Log) remove(ctx context.Context, topic string, what func(row) cut, delete bool) error {
	if err := tailrace.CheckTopic(topic); err != nil {
		return err
	}
	var target *cut
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := l.planTopic(topic, delete, func(r row) cut {
			if target == nil {
				w := what(r)
				target = &w
			}
			return *target
		})
		if err != nil {
			return err
		}
		if p == nil || p.row.is(rowGone) {
			return nil
		}
		p.deleted = delete
		p.forget = delete && !p.partial
		if !delete && p.upTo == p.row.floor {
			return nil
		}
		plans := []planned{*p}
		if err := l.command(ctx, func(c *committer) error { return c.raise(plans) }); err != nil {
			return err
		}
		if !plans[0].stale && !p.partial {
			return nil
		}
	}
}

// planTopic plans a cut of the topic called name; nil if there is none. With all, what
// KeepLatest keeps goes too.
func (l *Log) planTopic(name string, all bool, what func(row) cut) (*planned, error) {
	done, err := l.use()
	if err != nil {
		return nil, err
	}
	defer done()
	v := l.newView()
	defer v.close()
	r, ok, err := readRow(&v.find, name)
	if err != nil || !ok {
		return nil, err
	}
	p, err := plan(v, name, r, what(r), !all && l.rules.Load().list.Policy(name).KeepLatest)
	return &p, err
}

// plan works out a cut.
func plan(view *storeView, name string, r row, what cut, keepLatest bool) (p planned, err error) {
	p = planned{name: name, row: r, upTo: r.floor}
	if r.count == 0 {
		return p, nil
	}
	it, err := view.snap.NewIter(&pebble.IterOptions{
		LowerBound: eventKey(nil, r.t, r.floor+1), UpperBound: eventKey(nil, r.t, maxPos),
	})
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	left, leftBytes := r.count, r.bytes
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return p, err
		}
		rec, err := parseRecord(v)
		if err != nil {
			return p, err
		}
		pos, size := keyNumber(it.Key(), 1), int64(len(rec.data))
		goes := pos <= what.upTo || rec.time <= what.before ||
			what.maxCount > 0 && left > what.maxCount ||
			what.maxBytes > 0 && leftBytes > what.maxBytes && left > 1
		if !goes {
			p.oldest = rec.time
			break
		}
		if p.count >= planEvents {
			p.partial, p.oldest = true, rec.time
			break
		}
		p.upTo = pos
		p.count++
		p.bytes += size
		left--
		leftBytes -= size
		newest, whole := false, false
		if len(rec.key) > 0 {
			var q uint64
			if q, whole, err = lookupState(&view.find, r.t, string(rec.key)); err != nil {
				return p, err
			}
			newest = q == pos
		}
		if newest && !(keepLatest && whole) {
			g := gone{key: string(rec.key), pos: pos}
			if keepLatest {
				g.rec = slices.Clone(v)
			}
			p.keys = append(p.keys, g)
		}
		if len(rec.id) > 0 && !(newest && keepLatest) {
			p.ids = append(p.ids, string(rec.id))
		}
	}
	return p, it.Error()
}

// raise does what is planned, in one synced batch that takes one position, the stamp of all
// floors that it raises. Plans are best in the order of topic numbers: neighbours that go whole
// then become one range.
func (c *committer) raise(plans []planned) error {
	if err := c.begin(); err != nil {
		return fatal(err)
	}
	c.last++
	w, before := raising{c: c, stamp: c.last}, c.totals
	for i := range plans {
		if err := w.add(&plans[i]); err != nil {
			return err
		}
	}
	if err := w.flushRange(); err != nil {
		return err
	}
	if len(w.raises) == 0 && c.totals == before {
		c.last--
		if c.batch.Count() == 0 {
			return nil
		}
		return fatal(c.apply(c.batch, false))
	}
	if len(w.raises) > 0 {
		c.stamp = w.stamp
	}
	if err := c.writeBatch(w.stamp, 1); err != nil {
		return err
	}
	c.l.raised.Store(c.stamp)
	if len(w.raises) > 0 {
		c.l.tail.raise(w.raises)
	}
	c.l.at("trim.floor")
	c.head = c.last
	if err := c.apply(c.batch, true); err != nil {
		return fatal(err)
	}
	c.l.metrics.raises.Add(uint64(len(w.raises)))
	c.l.tail.publish(c.view(), 0, nil, 0)
	return nil
}

func fatal(err error) error {
	if err == nil {
		return nil
	}
	return &fatalError{err}
}

// raising is a batch of removals.
type raising struct {
	c      *committer
	stamp  uint64
	raises []raised
	from   []byte // pending range of events; nil is none
	to     []byte
	lastT  uint64 // whose events end the range
	whole  bool   // the range covers all events of lastT
}

func (w *raising) add(p *planned) error {
	c := w.c
	t, err := c.topic(p.name)
	if err != nil {
		return err
	}
	if !t.stored || t.t != p.row.t || t.floor != p.row.floor || t.is(rowGone) != p.row.is(rowGone) {
		p.stale = true
		return nil
	}
	if p.fold {
		return c.fold(t)
	}
	removes := p.upTo > t.floor || p.deleted && t.is(rowKeys)
	if removes {
		if err := w.lift(t, p); err != nil {
			return err
		}
	}
	if p.deleted {
		t.flags &^= rowClosed
		if t.count == 0 {
			t.flags &^= rowKeys | rowIDs
		}
	}
	if p.forget && t.count == 0 && !t.is(rowGone) {
		if p.deleted || !t.is(rowKeys) || !t.policy.KeepLatest {
			t.flags = t.flags&rowKeys | rowGone
			t.last = c.time / int64(time.Second)
			c.totals.topics--
		}
	}
	if err := c.scheduleFrom(t, p.oldest); err != nil {
		return err
	}
	return c.writeRow(t)
}

// lift raises the floor of t.
func (w *raising) lift(t *topic, p *planned) error {
	c := w.c
	if t.stamp > 0 {
		c.key = floorKey(c.key[:0], t.stamp, t.t)
		if err := c.batch.Delete(c.key, nil); err != nil {
			return err
		}
	}
	if p.upTo > t.floor {
		if err := w.removeEvents(t, p.upTo); err != nil {
			return err
		}
	}
	t.floor, t.stamp, t.deleted = p.upTo, w.stamp, p.deleted
	t.count -= p.count
	t.bytes -= p.bytes
	c.totals.count -= p.count
	c.totals.bytes -= p.bytes
	c.key = floorKey(c.key[:0], t.stamp, t.t)
	c.val = appendFloor(c.val[:0], t.floor, t.deleted, t.name)
	if err := c.batch.Set(c.key, c.val, nil); err != nil {
		return err
	}
	w.raises = append(w.raises, raised{stamp: w.stamp, floor: t.floor, topic: t.name})
	c.wakes = append(c.wakes, t.name)
	for _, id := range p.ids {
		c.key = idKey(c.key[:0], id, t.t)
		if err := c.batch.Delete(c.key, nil); err != nil {
			return err
		}
	}
	if p.deleted && t.is(rowKeys) {
		if err := c.dropKept(t); err != nil {
			return err
		}
	}
	for _, g := range p.keys {
		if err := c.dropKey(t, g); err != nil {
			return err
		}
	}
	return nil
}

// dropKept removes the keys of t whose newest event is not above the floor.
func (c *committer) dropKept(t *topic) error {
	end := binary.BigEndian.AppendUint64([]byte{kindKey}, t.t+1)
	if t.count == 0 {
		return c.batch.DeleteRange(stateKey(nil, t.t, ""), end, nil)
	}
	it, err := c.l.db.NewIter(&pebble.IterOptions{LowerBound: stateKey(nil, t.t, ""), UpperBound: end})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if p, _, err := parseState(v); err != nil {
			return err
		} else if p <= t.floor {
			if err := c.batch.Delete(it.Key(), nil); err != nil {
				return err
			}
		}
	}
	return it.Error()
}

// dropKey removes a key whose newest event goes, or keeps that with the key; unless a newer
// one came since.
func (c *committer) dropKey(t *topic, g gone) error {
	p, _, err := lookupState(&c.find, t.t, g.key)
	if err != nil || p != g.pos {
		return err
	}
	c.key = stateKey(c.key[:0], t.t, g.key)
	if g.rec == nil {
		return c.batch.Delete(c.key, nil)
	}
	c.val = append(binary.AppendUvarint(c.val[:0], p), g.rec...)
	return c.batch.Set(c.key, c.val, nil)
}

// removeEvents adds the events of t up to upTo to the pending range if they follow it.
func (w *raising) removeEvents(t *topic, upTo uint64) error {
	if w.from == nil || !w.whole || t.t != w.lastT+1 {
		if err := w.flushRange(); err != nil {
			return err
		}
		w.from = eventKey(nil, t.t, t.floor+1)
	}
	w.to, w.lastT, w.whole = eventKey(w.to[:0], t.t, upTo+1), t.t, t.head == upTo
	return nil
}

func (w *raising) flushRange() error {
	if w.from == nil {
		return nil
	}
	err := w.c.batch.DeleteRange(w.from, w.to, nil)
	w.from = nil
	w.c.l.metrics.ranges.Add(1)
	return err
}

// fold gives up the record of a topic that is gone. Its floor becomes part of the one that
// stands for all names without a record.
func (c *committer) fold(t *topic) error {
	if !t.is(rowGone) {
		return nil
	}
	f := *c.l.folded.Load()
	f = floor{max(f.pos, t.floor), max(f.stamp, t.stamp)}
	c.l.folded.Store(&f)
	if err := c.batch.Set([]byte{kindFolded}, appendFolded(nil, f), nil); err != nil {
		return err
	}
	for _, k := range [][]byte{topicKey(nil, t.name), floorKey(nil, t.stamp, t.t), dueKey(nil, t.due, t.t)} {
		if err := c.batch.Delete(k, nil); err != nil {
			return err
		}
	}
	if t.is(rowKeys) {
		end := binary.BigEndian.AppendUint64([]byte{kindKey}, t.t+1)
		if err := c.batch.DeleteRange(stateKey(nil, t.t, ""), end, nil); err != nil {
			return err
		}
	}
	c.cache.drop(t.name)
	c.recent = nil
	return nil
}

// schedule puts a topic that was appended to where the sweeper finds it in time. What is there
// already is early enough: its oldest event has not changed.
func (c *committer) schedule(t *topic) error {
	if t.policy.MaxCount > 0 && t.count > t.policy.MaxCount+t.policy.MaxCount/4 ||
		t.policy.MaxBytes > 0 && t.bytes > t.policy.MaxBytes+t.policy.MaxBytes/4 && t.count > 1 {
		c.l.sweeper.over(t.name)
	}
	if t.policy.MaxAge <= 0 {
		return nil
	}
	if due := dueSecond(c.time, t.policy.MaxAge); t.due == 0 || due < t.due {
		return c.setDue(t, due)
	}
	return nil
}

// scheduleFrom sets when t is next looked at, oldest being the time of its oldest event.
func (c *committer) scheduleFrom(t *topic, oldest int64) error {
	last := t.last * int64(time.Second)
	var due uint64
	switch {
	case t.is(rowGone):
		due = dueSecond(last, c.l.opts.CursorLife)
	case t.count > 0:
		if t.policy.MaxAge > 0 {
			if oldest == 0 {
				oldest = c.time // appended since the plan
			}
			due = dueSecond(oldest, t.policy.MaxAge)
		}
	case t.is(rowKeys) && t.policy.KeepLatest:
	case t.policy.IdleDelete > 0:
		due = dueSecond(last, t.policy.IdleDelete)
	}
	if due == t.due {
		return nil
	}
	return c.setDue(t, due)
}

func (c *committer) setDue(t *topic, due uint64) error {
	if t.due > 0 {
		c.key = dueKey(c.key[:0], t.due, t.t)
		if err := c.batch.Delete(c.key, nil); err != nil {
			return err
		}
	}
	if t.due = due; due == 0 {
		return nil
	}
	// The sweeper does not look back to before the time of its last sweep.
	due = max(due, uint64(max(0, c.time/int64(time.Second))))
	t.due = due
	c.key = dueKey(c.key[:0], due, t.t)
	return c.batch.Set(c.key, []byte(t.name), nil)
}

// dueSecond is the unix second at which something of the time from, in nanoseconds, is older
// than life. Long lives are rounded up to whole minutes, so that many topics are due at once.
func dueSecond(from int64, life time.Duration) uint64 {
	if from > math.MaxInt64-int64(life)-int64(2*time.Minute) {
		return math.MaxInt64 / uint64(time.Second)
	}
	unit := time.Second
	if life >= 10*time.Minute {
		unit = time.Minute
	}
	at := from + int64(life)
	at += int64(unit) - 1
	return uint64(max(1, (at-at%int64(unit))/int64(time.Second)))
}

// byNumber orders plans so that ranges can be joined.
func byNumber(plans []planned) {
	slices.SortFunc(plans, func(a, b planned) int { return cmp.Compare(a.row.t, b.row.t) })
}
