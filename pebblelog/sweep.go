package pebblelog

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tailrace/tailrace"
)

// sweeper applies retention. It reads on its own goroutine what is to go, and has the committer
// remove it. It only looks at topics that are due.
type sweeper struct {
	cancel context.CancelFunc
	ended  chan struct{}
	space  chan struct{} // gets a value when much was written

	mu    sync.Mutex // guards what follows
	names map[string]struct{}

	rescan string // while the rules are new: rows up to this name are done

	rules  uint64 // hash of the rules that rescan works for
	raised uint64 // stamp up to which batches were cut
	done   uint64 // second before which nothing is due any more
}

func (s *sweeper) start(l *Log) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.ended = cancel, make(chan struct{})
	go s.run(ctx, l)
}

func (s *sweeper) stop() {
	s.cancel()
	<-s.ended
}

// lookAtSpace has the free space looked at soon. It does not wait.
func (s *sweeper) lookAtSpace() {
	select {
	case s.space <- struct{}{}:
	default:
	}
}

// over notes a topic that has more than its policy keeps.
func (s *sweeper) over(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names == nil {
		s.names = map[string]struct{}{}
	}
	s.names[name] = struct{}{}
}

func (s *sweeper) run(ctx context.Context, l *Log) {
	defer close(s.ended)
	tick := time.NewTicker(l.opts.sweep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.space:
			l.disk.look()
			continue
		}
		if l.stopped.Load() != nil {
			return
		}
		if err := l.sweep(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, tailrace.ErrStopped) {
			l.log.Warn("retention failed; it is tried again", "dir", l.dir, "err", err)
		}
	}
}

// sweep does everything that is due now.
func (l *Log) sweep(ctx context.Context) error {
	began := time.Now()
	defer func() { l.metrics.sweep(time.Since(began)) }()
	err := l.head.sync()
	l.disk.look()
	return errors.Join(err, l.sweepOver(ctx), l.sweepDue(ctx), l.rescan(ctx), l.disk.shrink(ctx), l.cutBatches(ctx))
}

// sweepOver cuts topics to their count and bytes.
func (l *Log) sweepOver(ctx context.Context) error {
	s := &l.sweeper
	s.mu.Lock()
	names := s.names
	s.names = nil
	s.mu.Unlock()
	var plans []planned
	for name := range names {
		p, err := l.planTopic(name, false, func(r row) cut {
			policy := l.rules.Load().list.Policy(name)
			return cut{maxCount: max(0, policy.MaxCount), maxBytes: max(0, policy.MaxBytes)}
		})
		if err != nil {
			return err
		}
		if p != nil && p.upTo > p.row.floor {
			if p.partial {
				s.over(name)
			}
			plans = append(plans, *p)
		}
	}
	byNumber(plans)
	return l.raiseAll(ctx, plans)
}

func (l *Log) raiseAll(ctx context.Context, plans []planned) error {
	for len(plans) > 0 {
		n := min(len(plans), raiseTopics)
		some := plans[:n]
		if err := l.command(ctx, func(c *committer) error { return c.raise(some) }); err != nil {
			return err
		}
		plans = plans[n:]
	}
	return nil
}

// sweepDue looks at the topics whose time has come.
func (l *Log) sweepDue(ctx context.Context) error {
	for ctx.Err() == nil {
		now := l.opts.Now()
		plans, stray, err := l.planDue(now)
		if err != nil {
			return err
		}
		if len(plans)+len(stray) == 0 {
			l.sweeper.done = uint64(max(0, now.Unix()))
			return nil
		}
		if err := l.dropDue(ctx, stray); err != nil {
			return err
		}
		if err := l.raiseAll(ctx, plans); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// planDue plans for the next topics that are due, in the order of their numbers within a
// minute; stray are keys of topics that are not due then.
func (l *Log) planDue(now time.Time) (plans []planned, stray [][]byte, err error) {
	done, err := l.use()
	if err != nil {
		return nil, nil, err
	}
	defer done()
	view := l.newView()
	defer view.close()
	it, err := view.snap.NewIter(&pebble.IterOptions{
		LowerBound: dueKey(nil, l.sweeper.done, 0), UpperBound: dueKey(nil, uint64(max(0, now.Unix()))+1, 0),
	})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	events := int64(0)
	for it.First(); it.Valid() && len(plans) < raiseTopics && events < planEvents; it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, nil, err
		}
		name := string(v)
		r, ok, err := readRow(&view.find, name)
		if err != nil {
			return nil, nil, err
		}
		if !ok || r.t != keyNumber(it.Key(), 1) || r.due != keyNumber(it.Key(), 0) {
			stray = append(stray, append([]byte(nil), it.Key()...))
			continue
		}
		p, err := l.planAge(view, name, r, now)
		if err != nil {
			return nil, nil, err
		}
		events += p.count
		plans = append(plans, p)
	}
	return plans, stray, it.Error()
}

// dropDue removes entries of topics that are not due then, or not there.
func (l *Log) dropDue(ctx context.Context, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	return l.command(ctx, func(c *committer) error {
		if err := c.begin(); err != nil {
			return fatal(err)
		}
		for _, k := range keys {
			if err := c.batch.Delete(k, nil); err != nil {
				return err
			}
		}
		return fatal(c.apply(c.batch, false))
	})
}

// planAge plans what the passing of time asks of a topic.
func (l *Log) planAge(view *storeView, name string, r row, now time.Time) (planned, error) {
	policy := l.rules.Load().list.Policy(name)
	if r.is(rowGone) {
		return planned{name: name, row: r, upTo: r.floor, fold: true}, nil
	}
	what := cut{maxCount: max(0, policy.MaxCount), maxBytes: max(0, policy.MaxBytes)}
	if policy.MaxAge > 0 {
		what.before = now.Add(-policy.MaxAge).UnixNano()
	}
	p, err := plan(view, name, r, what, policy.KeepLatest)
	idle := policy.IdleDelete > 0 && now.Unix()-r.last >= int64(policy.IdleDelete/time.Second)
	p.forget = idle && p.count == r.count
	return p, err
}

// rescanRows is how many topics one sweep looks at after the rules have changed.
const rescanRows = 2000

// rescan looks at every topic once after the rules have changed, over restarts too: what a
// topic is due for was computed with the rules before.
func (l *Log) rescan(ctx context.Context) error {
	s := &l.sweeper
	hash := l.rules.Load().hash
	if s.rules != hash {
		done, err := l.isScanned(hash)
		if err != nil {
			return err
		}
		s.rules, s.rescan = hash, ""
		if done {
			s.rescan = scanned
		}
	}
	if s.rescan == scanned {
		return nil
	}
	plans, next, err := l.planRows(s.rescan)
	if err != nil {
		return err
	}
	if err := l.raiseAll(ctx, plans); err != nil {
		return err
	}
	if s.rescan = next; next != scanned {
		return nil
	}
	return l.command(ctx, func(c *committer) error {
		if err := c.begin(); err != nil {
			return fatal(err)
		}
		if err := c.batch.Set([]byte{kindRules}, binary.LittleEndian.AppendUint64(nil, hash), nil); err != nil {
			return err
		}
		return fatal(c.apply(c.batch, false))
	})
}

// scanned is behind all names.
const scanned = "\xff"

func (l *Log) isScanned(hash uint64) (bool, error) {
	done, err := l.use()
	if err != nil {
		return false, err
	}
	defer done()
	f := finder{db: l.db}
	defer f.close()
	v, ok, err := f.get([]byte{kindRules})
	return ok && len(v) == 8 && binary.LittleEndian.Uint64(v) == hash, err
}

// planRows plans for the topics behind the name after.
func (l *Log) planRows(after string) (plans []planned, next string, err error) {
	done, err := l.use()
	if err != nil {
		return nil, "", err
	}
	defer done()
	now := l.opts.Now()
	view := l.newView()
	defer view.close()
	it, err := view.snap.NewIter(&pebble.IterOptions{
		LowerBound: append(topicKey(nil, after), 0), UpperBound: []byte{kindTopic + 1},
	})
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	events := int64(0)
	next = after
	for it.First(); it.Valid(); it.Next() {
		if len(plans) >= rescanRows || events >= planEvents {
			return plans, next, nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, "", err
		}
		r, err := parseRow(v)
		if err != nil {
			return nil, "", err
		}
		next = string(it.Key()[1:])
		if r.is(rowGone) {
			continue
		}
		p, err := l.planAge(view, next, r, now)
		if err != nil {
			return nil, "", err
		}
		events += p.count
		plans = append(plans, p)
	}
	return plans, scanned, it.Error()
}

// cutBatches drops the batches below the lowest position that any topic keeps.
func (l *Log) cutBatches(ctx context.Context) error {
	s := &l.sweeper
	v := l.tail.visible()
	if v.stamp == s.raised {
		return nil
	}
	end, all, err := l.batchesWithout(v)
	if err != nil {
		return err
	}
	if end > 0 {
		err = l.command(ctx, func(c *committer) error {
			if err := c.begin(); err != nil {
				return fatal(err)
			}
			if err := c.batch.DeleteRange([]byte{kindBatch}, batchKey(nil, end), nil); err != nil {
				return err
			}
			return fatal(c.apply(c.batch, false))
		})
		if err == nil {
			l.firstBatch.Store(end)
		}
	}
	if all && err == nil {
		s.raised = v.stamp
	}
	return err
}

// batchesWithout is the position of the first batch that must stay, 0 if that is the first; all
// is false if it may be further on.
func (l *Log) batchesWithout(v view) (end uint64, all bool, err error) {
	done, err := l.use()
	if err != nil {
		return 0, false, err
	}
	defer done()
	sv := l.newView()
	defer sv.close()
	r := &read{l: l, storeView: sv, view: v, match: matcher{all: true}}
	w, err := r.openWalk()
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	examined := 0
	for w.batches.First(); w.batches.Valid(); w.batches.Next() {
		b, err := w.batch()
		if err != nil {
			return 0, false, err
		}
		if b.last() >= v.head || examined >= planEvents {
			return end, b.last() >= v.head, nil
		}
		d := reader{b: b.topics}
		for p := b.first; len(d.b) > 0; p++ {
			examined++
			kept, err := w.selects(d.uvarint(), p)
			if kept || err != nil {
				return end, true, err
			}
		}
		end = b.last() + 1
	}
	return end, true, w.batches.Error()
}
