package pebblelog

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk watches over space. Below the limit appends are refused, so that what has begun can be
// finished and trims have room; should the disk be full all the same, a reserve file is given
// up, and the write that failed is done again.
type disk struct {
	l       *Log
	fs      vfs.FS // of the store
	reserve string // the file's name
	full    atomic.Bool
	spent   atomic.Bool // the reserve is not there

	warned    bool      // the sweeper's, like what follows
	compacted time.Time // last compaction asked for
}

// lookEvery is how many bytes are written at most before the free space is looked at again, besides
// every second: a quarter of the reserve, which bears what comes until then.
const lookEvery = DefaultReserve / 4

// recordOverhead is what an event takes on disk besides its data, about.
const recordOverhead = 96

func newDisk(l *Log) *disk {
	d := &disk{l: l, reserve: l.fs.PathJoin(l.dir, "reserve")}
	d.spent.Store(true)
	d.fs = vfs.OnDiskFull(l.fs, d.exhausted)
	d.restore()
	return d
}

// exhausted is called when a write found no space, while all other writes wait.
func (d *disk) exhausted() {
	d.full.Store(true)
	if d.spent.CompareAndSwap(false, true) {
		d.l.fs.Remove(d.reserve)
	}
}

// restore makes the reserve file if it is not there and there is room.
func (d *disk) restore() {
	size := d.l.opts.Reserve
	if size <= 0 || !d.spent.Load() {
		return
	}
	if st, err := d.l.fs.Stat(d.reserve); err == nil && st.Size() >= size {
		d.spent.Store(false)
		return
	}
	if u, err := d.l.fs.GetDiskUsage(d.l.dir); err == nil && int64(u.AvailBytes) < 2*size {
		return
	}
	if fill(d.l.fs, d.reserve, size) == nil {
		d.spent.Store(false)
	} else {
		d.l.fs.Remove(d.reserve)
	}
}

// fill makes a file of size bytes that takes space on the disk: preallocated where that can be
// had, else written.
func fill(fs vfs.FS, name string, size int64) error {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = f.Preallocate(0, size)
	return errors.Join(err, f.Close())
}

// minFree is the free space below which appends are refused; 0 is none.
func (d *disk) minFree(total uint64) int64 {
	if n := d.l.opts.MinFree; n != 0 {
		return max(0, n)
	}
	return max(minFreeFloor, int64(total/100*minFreePercent))
}

// look sets full by the free space of the file system.
func (d *disk) look() {
	u, err := d.l.fs.GetDiskUsage(d.l.dir)
	if err != nil {
		return
	}
	free, limit := int64(u.AvailBytes), d.minFree(u.TotalBytes)
	d.l.metrics.free.Store(free)
	switch {
	case free < limit:
		if !d.full.Swap(true) {
			d.l.log.Error("the disk is nearly full: nothing is accepted until there is room; reading and trimming go on",
				"dir", d.l.dir, "free", free, "min_free", limit)
		}
	case free >= limit+limit/4:
		d.restore()
		if (d.l.opts.Reserve <= 0 || !d.spent.Load()) && d.full.Swap(false) {
			d.l.log.Info("there is room on the disk again", "dir", d.l.dir, "free", free)
		}
	}
	low := limit > 0 && free < 2*limit
	if low && !d.warned {
		d.l.log.Warn("the disk runs low", "dir", d.l.dir, "free", free, "min_free", limit)
	}
	d.warned = low
}

// shrink keeps the log within MaxDisk and gives back the space of what was removed when the
// disk runs low.
func (d *disk) shrink(ctx context.Context) error {
	done, err := d.l.use()
	if err != nil {
		return err
	}
	m := d.l.db.Metrics()
	used := int64(m.DiskSpaceUsage())
	done()
	d.l.metrics.disk.Store(used)
	limit := d.l.opts.MaxDisk
	if limit > 0 && used > limit {
		// What was removed takes space until it is compacted. So the decision rests on what the
		// events that are kept take, or everything would go before the space is back.
		t := d.l.tail.visible().totals
		live := t.bytes + t.count*recordOverhead
		if goal := limit / 10 * 8; live > goal {
			if err := d.evict(ctx, live-goal); err != nil {
				return err
			}
		}
		return d.compact(ctx)
	}
	if d.warned {
		return d.compact(ctx)
	}
	return nil
}

// compactEvery bounds how often space is asked back.
const compactEvery = 30 * time.Second

// compact has the store give back the space of removed events.
func (d *disk) compact(ctx context.Context) error {
	if time.Since(d.compacted) < compactEvery {
		return nil
	}
	d.compacted = time.Now()
	done, err := d.l.use()
	if err != nil {
		return err
	}
	defer done()
	return d.l.db.Compact(ctx, []byte{kindEvent}, []byte{kindEvent + 1}, false)
}

// evict removes the oldest events of the log, whatever their topics, with floors.
func (d *disk) evict(ctx context.Context, bytes int64) error {
	for bytes > 0 && ctx.Err() == nil {
		plans, freed, err := d.planOldest(bytes)
		if err != nil || freed == 0 {
			return err
		}
		byNumber(plans)
		if err := d.l.raiseAll(ctx, plans); err != nil {
			return err
		}
		bytes -= freed
	}
	return ctx.Err()
}

// planOldest plans the removal of the log's first events, about as many as take bytes.
func (d *disk) planOldest(bytes int64) (plans []planned, freed int64, err error) {
	l := d.l
	done, err := l.use()
	if err != nil {
		return nil, 0, err
	}
	defer done()
	sv := l.newView()
	defer sv.close()
	r := &read{l: l, storeView: sv, view: l.tail.visible(), match: matcher{all: true}}
	w, err := r.openWalk()
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	upTo := map[string]uint64{}
	events := 0
	for w.batches.First(); w.batches.Valid() && freed < bytes && events < planEvents; w.batches.Next() {
		b, err := w.batch()
		if err != nil {
			return nil, 0, err
		}
		topics := b.topics
		for p := b.first; len(topics) > 0; p++ {
			t, n := binary.Uvarint(topics)
			if n <= 0 {
				return nil, 0, errRecord
			}
			topics = topics[n:]
			kept, err := w.selects(t, p)
			if err != nil {
				return nil, 0, err
			}
			if !kept {
				continue
			}
			v, err := w.events.ValueAndErr()
			if err != nil {
				return nil, 0, err
			}
			rec, err := parseRecord(v)
			if err != nil {
				return nil, 0, err
			}
			upTo[string(rec.topic)] = p
			freed += int64(len(rec.data)) + recordOverhead
			events++
		}
	}
	if err := w.batches.Error(); err != nil {
		return nil, 0, err
	}
	for name, pos := range upTo {
		row, _, err := readRow(&sv.find, name)
		if err != nil {
			return nil, 0, err
		}
		p, err := plan(sv, name, row, cut{upTo: pos}, l.rules.Load().list.Policy(name).KeepLatest)
		if err != nil {
			return nil, 0, err
		}
		plans = append(plans, p)
	}
	return plans, freed, nil
}

// exitProcess ends the process where the store says that it must not go on.
func (l *Log) exitProcess() {
	if l.opts.exit != nil {
		l.opts.exit(2)
		return
	}
	os.Exit(2)
}
