package pebblelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tailrace/tailrace"
)

// syncEvery is how long an event of a class below fsync is at most in memory only.
const syncEvery = 50 * time.Millisecond

// committer owns the sequence: nothing else writes to the store. Its fields are its goroutine's.
type committer struct {
	l      *Log
	cache  topicCache
	recent *topic           // the last one asked for, within a batch
	ids    map[ownID]uint64 // of the batch: position, or 0 for one that is known not to be there

	last      uint64 // last position given
	head      uint64 // last position written
	time      int64  // of the last batch, unix nanoseconds
	nextTopic uint64
	stamp     uint64 // of the last raise
	totals    totals
	unlooked  int  // bytes written since the free space was looked at
	unsynced  bool // something below fsync waits for the timer
	timer     *time.Timer

	batch  *pebble.Batch
	find   finder // of the store before the batch
	calls  []*call
	events []tailrace.Event // memory of the chunk that is being filled
	chunk  int              // bytes of data in events
	start  int              // in events, of the batch being built
	first  uint64           // position of events[start]
	bytes  int              // of data in the batch
	dirty  []*topic
	ending []*topic // closed by an event of the call being stored
	topics []byte   // of the batch record
	sync   bool     // the batch has an event of class fsync, or is a raise
	lossy  bool     // the batch has an event of a class below
	key    []byte   // scratch
	val    []byte
	wakes  []string // names of the topics that the batch changed
}

// ownID is an own id in its topic.
type ownID struct {
	t  *topic
	id string
}

func newCommitter(l *Log) *committer {
	c := &committer{l: l, ids: map[ownID]uint64{}, nextTopic: 1}
	c.cache.size = topicsCached
	c.cache.turn()
	c.timer = time.NewTimer(time.Hour)
	c.timer.Stop()
	c.batch = l.db.NewBatchWithSize(256 << 10)
	c.find.db = l.db
	return c
}

// run commits until the log is closed or stops.
func (c *committer) run() {
	q := &c.l.queue
	id := goroutineID()
	q.goroutine.Store(&id)
	defer close(c.l.committed)
	defer c.end()
	defer func() {
		if r := recover(); r != nil {
			// The store panics where its log cannot be written. It may hold a lock of its own.
			q.horked.Store(true)
			c.l.stop(fmt.Errorf("pebblelog: store: %v", r))
		}
	}()
	for {
		select {
		case <-q.ready:
		case <-c.timer.C:
			if err := c.flush(); err != nil {
				c.l.stop(err)
				return
			}
			continue
		}
		// Publishers that the last batch has woken get to queue first: otherwise the first of
		// them has a sync for itself, and all others wait for it.
		runtime.Gosched()
		var closed bool
		if c.calls, closed = q.take(c.calls[:0]); closed {
			return
		}
		if err := c.commit(); err != nil {
			c.l.stop(err)
			return
		}
	}
}

// end answers those who wait and, if all is well, leaves a clean log behind.
func (c *committer) end() {
	c.find.close()
	q := &c.l.queue
	q.close()
	rest, _ := q.take(c.calls)
	for _, w := range rest {
		if w.state.Load() == callTaken {
			w.err = errors.Join(errOutcome, *c.l.stopped.Load())
		} else {
			w.err = c.l.errStopped()
		}
		w.done <- struct{}{}
	}
	if c.l.stopped.Load() != nil {
		return
	}
	if err := c.close(); err != nil {
		c.l.stop(err)
	}
}

// close syncs what is not on disk and marks the log clean.
func (c *committer) close() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.batch != nil {
		c.batch.Close()
	}
	if err := c.l.head.write(c.l.epochs.Load().today().id, c.head, true); err != nil {
		return err
	}
	return c.l.head.sync()
}

// flush brings events of the classes below fsync to the disk.
func (c *committer) flush() error {
	if !c.unsynced {
		return nil
	}
	c.unsynced = false
	b := c.l.db.NewBatch()
	defer b.Close()
	if err := b.LogData(nil, nil); err != nil {
		return err
	}
	return c.apply(b, true)
}

// apply commits b. A sync that failed is never tried again: the kernel may have dropped what
// it could not write, and would then report success.
func (c *committer) apply(b *pebble.Batch, sync bool) error {
	c.l.metrics.commits.Add(1)
	if err := c.find.close(); err != nil {
		return err
	}
	if !sync || c.l.opts.noSync {
		if err := c.l.db.Apply(b, pebble.NoSync); err != nil {
			return err
		}
		if !c.unsynced {
			c.unsynced = true
			c.timer.Reset(syncEvery)
		}
		return nil
	}
	began := time.Now()
	if err := c.l.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return err
	}
	if err := b.SyncWait(); err != nil {
		return fmt.Errorf("pebblelog: sync: %w", err)
	}
	c.l.metrics.sync(time.Since(began))
	c.unsynced = false
	c.timer.Stop()
	return c.l.head.write(c.l.epochs.Load().today().id, c.head, false)
}

// commit stores the calls taken.
func (c *committer) commit() error {
	if len(c.calls) == 1 && c.calls[0].do != nil {
		return c.runCommand(c.calls[0])
	}
	if err := c.begin(); err != nil {
		return err
	}
	c.takeEvents()
	for _, w := range c.calls {
		if err := c.store(w); err != nil {
			return err
		}
	}
	if err := c.finish(); err != nil {
		return err
	}
	for i, w := range c.calls {
		c.calls[i] = nil
		w.done <- struct{}{}
	}
	c.calls = c.calls[:0]
	c.wake()
	return nil
}

// runCommand runs a command. An error of the store stops the log, any other is the caller's.
func (c *committer) runCommand(w *call) error {
	if w.state.CompareAndSwap(callWaits, callTaken) {
		w.err = w.do(c)
		var fatal *fatalError
		if errors.As(w.err, &fatal) {
			return fatal
		}
		w.done <- struct{}{}
	}
	c.calls[0] = nil
	c.calls = c.calls[:0]
	c.wake()
	return nil
}

// fatalError is an error after which nothing may be written.
type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

// begin starts a batch.
func (c *committer) begin() error {
	if err := c.find.close(); err != nil {
		return err
	}
	c.cache.turn()
	c.recent = nil
	c.batch.Reset()
	clear(c.ids)
	c.time = max(c.time, c.l.opts.Now().UnixNano())
	c.start, c.first, c.bytes = len(c.events), c.last+1, 0
	c.topics, c.wakes = c.topics[:0], c.wakes[:0]
	c.sync, c.lossy = false, false
	return nil
}

// takeEvents copies the events of the calls behind those of the chunk, so that callers may go.
// store then moves those that are kept to the front.
func (c *committer) takeEvents() {
	c.l.queue.taking.Lock()
	defer c.l.queue.taking.Unlock()
	n, keep := 0, c.calls[:0]
	for _, w := range c.calls {
		if w.state.CompareAndSwap(callWaits, callTaken) {
			n += len(w.events)
			keep = append(keep, w)
		}
	}
	clear(c.calls[len(keep):])
	c.calls = keep
	if len(c.events)+n > cap(c.events) || c.chunk >= chunkBytes {
		c.events = make([]tailrace.Event, 0, max(chunkEvents, n))
		c.start, c.chunk = 0, 0
	}
	at := len(c.events)
	room := c.events[:at+n]
	for _, w := range c.calls {
		w.events = room[at : at+copy(room[at:], w.events)]
		at += len(w.events)
	}
}

// store adds the events of one call to the batch, all or none of each topic.
func (c *committer) store(w *call) error {
	c.ending = c.ending[:0]
	for i := range w.events {
		if err := c.look(w, i); err != nil {
			return err
		}
	}
	for i := range w.events {
		e, r := &w.events[i], &w.receipts[i]
		t, err := c.topic(e.Topic)
		if err != nil {
			return err
		}
		if e.ID != "" {
			// Events of this call may have taken the id, or freed it.
			id := ownID{t, e.ID}
			if p := c.ids[id]; p != 0 && p != claimed {
				*r = tailrace.Receipt{Cursor: c.l.epochs.Load().cursor(p), ID: e.ID, Duplicate: true}
				continue
			}
			if r.Err != nil {
				c.ids[id] = 0
			}
		}
		if r.Err != nil {
			continue
		}
		if err := c.add(t, *e, r); err != nil {
			return err
		}
	}
	return nil
}

// claimed stands for the position of an own id that an event of the same call will have.
const claimed = maxPos

// look decides what becomes of event i: a duplicate, an error of its whole topic, or stored.
func (c *committer) look(w *call, i int) error {
	e, r := &w.events[i], &w.receipts[i]
	t, err := c.topic(e.Topic)
	if err != nil {
		return err
	}
	if e.ID != "" {
		es := *c.l.epochs.Load()
		if cur, err := tailrace.ParseCursor(e.ID); err == nil && es.find(cur.Epoch) != nil {
			e.ID = "=" + e.ID
		}
		r.ID = e.ID
		p, err := c.position(t, e.ID)
		switch {
		case err != nil:
			return err
		case p == claimed:
			return nil // a duplicate too, if the first is stored
		case p != 0:
			*r = tailrace.Receipt{Cursor: es.cursor(p), ID: e.ID, Duplicate: true}
			return nil
		}
		c.l.at("id.claim")
		c.ids[ownID{t, e.ID}] = claimed
	}
	switch {
	case r.Err != nil:
	case t.is(rowClosed) || slices.Contains(c.ending, t):
		return c.refuse(w, t, tailrace.ErrClosed)
	case e.IfHead != nil:
		last, err := c.lastOf(t)
		if err != nil {
			return err
		}
		if *e.IfHead != last {
			return c.refuse(w, t, tailrace.ErrHead)
		}
	}
	if e.Close {
		c.ending = append(c.ending, t)
	}
	return nil
}

// refuse gives all events of w in t that are no duplicates the error reason.
func (c *committer) refuse(w *call, t *topic, reason error) error {
	last, err := c.lastOf(t)
	if err != nil {
		return err
	}
	for i := range w.events {
		if r := &w.receipts[i]; w.events[i].Topic == t.name && !r.Duplicate {
			*r = tailrace.Receipt{Cursor: last, ID: r.ID, Err: reason}
		}
	}
	return nil
}

// lastOf is the cursor of the last event of t, zero if that is not kept.
func (c *committer) lastOf(t *topic) (tailrace.Cursor, error) {
	kept := t.count > 0
	if !kept && t.is(rowKeys) && t.policy.KeepLatest && !t.is(rowGone) {
		var err error
		if kept, err = keepsState(c.l.db, t.t, t.head); err != nil {
			return tailrace.Cursor{}, err
		}
	}
	if !kept {
		return tailrace.Cursor{}, nil
	}
	return c.l.epochs.Load().cursor(t.head), nil
}

// topic is the state of the topic called name, which may not be in the store yet.
func (c *committer) topic(name string) (*topic, error) {
	rs := c.l.rules.Load()
	if t := c.recent; t != nil && t.name == name && t.rules == rs {
		return t, nil
	}
	t := c.cache.get(name)
	if t == nil {
		t = &topic{name: name}
		c.key = topicKey(c.key[:0], name)
		v, ok, err := c.find.get(c.key)
		if err == nil && ok {
			t.row, err = parseRow(v)
			t.stored = true
		}
		if err != nil {
			return nil, fmt.Errorf("topic %q: %w", name, err)
		}
		c.cache.put(t)
	}
	if t.rules != rs {
		t.rules, t.policy = rs, rs.list.Policy(name)
	}
	c.recent = t
	return t, nil
}

// position is that of the kept event of t with the own id, or 0.
func (c *committer) position(t *topic, id string) (uint64, error) {
	if p, ok := c.ids[ownID{t, id}]; ok {
		return p, nil
	}
	var p uint64
	if t.is(rowIDs) {
		var err error
		if p, err = lookupID(&c.find, &t.row, id); err != nil {
			return 0, err
		}
	}
	c.ids[ownID{t, id}] = p
	return p, nil
}

// add gives e a position and writes it to the batch.
func (c *committer) add(t *topic, e tailrace.Event, r *tailrace.Receipt) error {
	c.last++
	if len(c.events) == c.start {
		c.first = c.last
	}
	c.touch(t)
	e.IfHead = nil
	e.Cursor = c.l.epochs.Load().next(c.last)
	e.Time = time.Unix(0, c.time)
	*r = tailrace.Receipt{Cursor: e.Cursor, Time: e.Time, ID: e.ID}

	t.head = c.last
	t.count++
	t.bytes += int64(len(e.Data))
	c.totals.count++
	c.totals.bytes += int64(len(e.Data))
	c.bytes += len(e.Data)
	c.chunk += len(e.Data)
	c.topics = binary.AppendUvarint(c.topics, t.t)
	if t.policy.Durability == tailrace.Fsync {
		c.sync = true
	} else {
		c.lossy = true
	}
	if e.Close {
		t.flags |= rowClosed
	}

	op := c.batch.SetDeferred(eventKeyLen, recordSize(&e))
	eventKey(op.Key[:0], t.t, c.last)
	appendRecord(op.Value[:0], &e)
	if err := op.Finish(); err != nil {
		return err
	}
	if e.ID != "" {
		t.flags |= rowIDs
		c.ids[ownID{t, e.ID}] = c.last
		c.key = idKey(c.key[:0], e.ID, t.t)
		c.val = appendID(c.val[:0], c.last, e.Key)
		if err := c.batch.Set(c.key, c.val, nil); err != nil {
			return err
		}
	}
	if e.Key != "" {
		if err := c.setKey(t, &e); err != nil {
			return err
		}
	}
	c.events = append(c.events, e)
	return nil
}

// touch makes t one of the batch's topics, and lets it live if it is new or gone.
func (c *committer) touch(t *topic) {
	if !t.dirty {
		t.dirty = true
		c.dirty = append(c.dirty, t)
		c.wakes = append(c.wakes, t.name)
	}
	if !t.stored {
		t.stored = true
		t.row = row{t: c.nextTopic, created: c.last}
		c.nextTopic++
		c.totals.topics++
	}
	if t.is(rowGone) {
		t.flags &^= rowGone
		c.totals.topics++
	}
}

// setKey makes e the newest event of its key, or forgets the key.
func (c *committer) setKey(t *topic, e *tailrace.Event) error {
	if t.policy.KeepLatest && t.floor > 0 && t.is(rowIDs) && t.is(rowKeys) {
		if err := c.freeID(t, e.Key); err != nil {
			return err
		}
	}
	t.flags |= rowKeys
	c.key = stateKey(c.key[:0], t.t, e.Key)
	if e.Remove {
		return c.batch.Delete(c.key, nil)
	}
	c.val = appendState(c.val[:0], c.last, e, t.policy.KeepLatest)
	return c.batch.Set(c.key, c.val, nil)
}

// freeID frees the own id of the newest event of a key that is about to be replaced, if that
// event was kept for its key alone.
func (c *committer) freeID(t *topic, key string) error {
	c.key = stateKey(c.key[:0], t.t, key)
	v, ok, err := c.find.get(c.key)
	if !ok || err != nil {
		return err
	}
	p, rec, err := parseState(v)
	if err != nil || p > t.floor || len(rec) == 0 {
		return err
	}
	old, err := parseRecord(rec)
	if err != nil || len(old.id) == 0 {
		return err
	}
	id := ownID{t, string(old.id)}
	if q, ok := c.ids[id]; ok && q != p {
		return nil // replaced before, in this batch; the id may be another event's by now
	}
	c.ids[id] = 0
	c.key = idKey(c.key[:0], id.id, t.t)
	return c.batch.Delete(c.key, nil)
}

// finish writes the batch, brings it to the disk as its events ask, and makes it visible.
func (c *committer) finish() error {
	events := c.events[c.start:]
	if len(events) == 0 {
		return nil
	}
	if err := c.writeRows(); err != nil {
		return err
	}
	if err := c.writeBatch(c.first, uint64(len(events))); err != nil {
		return err
	}
	if c.lossy {
		if err := c.markLossy(); err != nil {
			return err
		}
	}
	c.head = c.last
	if err := c.apply(c.batch, c.sync); err != nil {
		return err
	}
	c.l.at("append.commit")
	c.l.metrics.batch(len(events), c.bytes)
	if c.unlooked += c.bytes + len(events)*recordOverhead; c.unlooked >= lookEvery {
		c.unlooked = 0
		c.l.sweeper.lookAtSpace()
	}
	c.l.tail.publish(c.view(), c.first, events, c.bytes)
	return nil
}

func (c *committer) view() view {
	return view{head: c.head, time: c.time, stamp: c.stamp, totals: c.totals}
}

func (c *committer) writeRows() error {
	now := c.time / int64(time.Second)
	for i, t := range c.dirty {
		c.dirty[i] = nil
		t.dirty = false
		t.last = now
		if err := c.schedule(t); err != nil {
			return err
		}
		if err := c.writeRow(t); err != nil {
			return err
		}
	}
	c.dirty = c.dirty[:0]
	return nil
}

func (c *committer) writeRow(t *topic) error {
	c.key = topicKey(c.key[:0], t.name)
	c.val = appendRow(c.val[:0], &t.row)
	return c.batch.Set(c.key, c.val, nil)
}

// writeBatch records who holds the n positions from first on, and where the log then stands.
func (c *committer) writeBatch(first, n uint64) error {
	c.key = batchKey(c.key[:0], first)
	c.val = appendBatch(c.val[:0], &batch{time: c.time, next: c.nextTopic, totals: c.totals, topics: c.topics, n: n})
	return c.batch.Set(c.key, c.val, nil)
}

// markLossy adds to the batch that today's epoch has events which a crash may take, unless
// the store knows. The batch is then synced whatever its class: the mark is to be there first.
func (c *committer) markLossy() error {
	es := *c.l.epochs.Load()
	today := *es.today()
	today.lossy = slices.Clone(today.lossy)
	n := len(today.lossy)
	for _, p := range c.l.rules.Load().lossy {
		if !slices.Contains(today.lossy, p) {
			today.lossy = append(today.lossy, p)
		}
	}
	if len(today.lossy) == n {
		return nil
	}
	es = slices.Clone(es)
	*es.today() = today
	c.key = epochKey(c.key[:0], today.n)
	c.val = appendEpoch(c.val[:0], &today)
	if err := c.batch.Set(c.key, c.val, nil); err != nil {
		return err
	}
	c.sync = true
	c.l.epochs.Store(&es)
	c.l.at("epoch.write")
	return nil
}

// wake tells the watchers of the topics that changed.
func (c *committer) wake() {
	if len(c.wakes) > 0 {
		c.l.watch.wake(c.wakes)
		c.wakes = c.wakes[:0]
	}
}
