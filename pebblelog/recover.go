package pebblelog

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// recover finds where the log stands, and decides what its last stop means: go on, jump, or a
// new epoch. It reads the last batch, the epochs and two small records, never the data.
func (c *committer) recover() error {
	l := c.l
	if err := c.loadLast(); err != nil {
		return err
	}
	es, err := loadEpochs(l.db)
	if err != nil {
		return err
	}
	if err := c.loadFolded(); err != nil {
		return err
	}
	mark := l.head.last
	if l.opts.noHead {
		mark = headMark{}
	}
	head := c.last // what the store has
	beyond := max(head, mark.pos)
	var first uint64
	changed := true
	today := func() *epoch { return es.today() }
	switch {
	case len(es) == 0 && mark.seq == 0:
		first = head + 1
	case len(es) == 0:
		l.damaged(head, mark.pos)
		first = beyond + jumpSize + 1
	case head < mark.pos || es.find(mark.epoch) == nil && mark.seq > 0:
		l.damaged(head, mark.pos)
		today().end, today().how = head, endDamage
		first = max(beyond, today().first) + jumpSize + 1
	case mark.clean && mark.pos == head:
		changed = len(today().lossy) > 0
		today().lossy = nil
	case len(today().lossy) > 0:
		today().end, today().how = head, endCrash
		first = max(beyond, today().first) + jumpSize + 1
	default:
		to := beyond
		if n := len(today().jumps); n > 0 {
			to = max(to, today().jumps[n-1].to)
		}
		today().addJump(head, to+jumpSize)
	}
	b := l.db.NewBatch()
	defer b.Close()
	if changed && len(es) > 0 {
		if err := b.Set(epochKey(nil, today().n), appendEpoch(nil, today()), nil); err != nil {
			return err
		}
	}
	if first > 0 {
		e := epoch{id: newEpochID(), first: first}
		if len(es) > 0 {
			e.n = today().n + 1
		}
		es = append(es, e)
		if err := b.Set(epochKey(nil, e.n), appendEpoch(nil, &e), nil); err != nil {
			return err
		}
	}
	if changed {
		if err := l.db.Apply(b, pebble.Sync); err != nil {
			return err
		}
	}
	if err := l.head.write(today().id, head, false); err != nil {
		return err
	}
	if err := l.head.sync(); err != nil {
		return err
	}
	if err := syncDir(l.fs, l.dir); err != nil {
		return err
	}
	l.epochs.Store(&es)
	c.head, c.last = head, max(head, today().first-1)
	if n := len(today().jumps); n > 0 {
		c.last = max(c.last, today().jumps[n-1].to)
	}
	l.tail.view = view{head: head, time: c.time, stamp: c.stamp, totals: c.totals}
	l.tail.start, l.tail.known = head, c.stamp
	l.raised.Store(c.stamp)
	return nil
}

// damaged says what cannot be told by a return value: the log opens, with less than it had.
func (l *Log) damaged(have, had uint64) {
	l.metrics.damaged.Store(true)
	l.log.Error("the log has lost acknowledged events: its store is damaged or was replaced; subscribers are told by a gap",
		"dir", l.dir, "have", have, "had", had)
}

// loadLast reads the last batch and the last raise.
func (c *committer) loadLast() error {
	k, v, err := lastOfKind(c.l.db, kindBatch)
	if err != nil {
		return err
	}
	if k != nil {
		b, err := parseBatch(k, v)
		if err != nil {
			return fmt.Errorf("last batch: %w", err)
		}
		c.last, c.time, c.nextTopic, c.totals = b.last(), b.time, b.next, b.totals
	}
	k, _, err = lastOfKind(c.l.db, kindFloor)
	if err != nil {
		return err
	}
	if k != nil {
		c.stamp = keyNumber(k, 0)
	}
	return nil
}

func (c *committer) loadFolded() error {
	f, err := readFolded(&c.find)
	if err != nil {
		return err
	}
	c.l.folded.Store(&f)
	c.stamp = max(c.stamp, f.stamp)
	return nil
}

// lastOfKind copies the last entry of a kind; k is nil if there is none.
func lastOfKind(db pebble.Reader, kind byte) (k, v []byte, err error) {
	it, err := db.NewIter(kindBounds(kind))
	if err != nil {
		return nil, nil, err
	}
	defer it.Close()
	if !it.Last() {
		return nil, nil, it.Error()
	}
	if v, err = it.ValueAndErr(); err != nil {
		return nil, nil, err
	}
	return slices.Clone(it.Key()), slices.Clone(v), nil
}

func loadEpochs(db pebble.Reader) (epochs, error) {
	it, err := db.NewIter(kindBounds(kindEpoch))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var es epochs
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		e, err := parseEpoch(it.Key(), v)
		if err != nil {
			return nil, fmt.Errorf("epoch: %w", err)
		}
		es = append(es, e)
	}
	return es, it.Error()
}
