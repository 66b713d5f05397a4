package pebblelog

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Metrics are figures of a log since it was opened.
type Metrics struct {
	Commits uint64 // batches written, of events or not
	Batches uint64 // batches of events
	Events  uint64
	Bytes   uint64 // of data

	Syncs    uint64
	SyncTime Histogram // seconds

	Raises uint64 // floors raised by retention, Trim and Delete
	Ranges uint64 // range tombstones written for them
	Sweeps uint64
	Sweep  time.Duration // all sweeps together

	DiskBytes int64 // taken by the store
	FreeBytes int64 // of the file system
	Full      bool  // Append gives ErrFull
	Stopped   bool  // the log stopped by itself
	Damaged   bool  // damage was found
	WALs      uint64
	Stalls    uint64 // times the store held writes up
}

// Histogram counts values by upper bounds; the last count is of those above all of them.
type Histogram struct {
	Bounds []float64
	Counts []uint64
	Sum    float64
}

// syncBounds are 100 µs to 6.5 s, each twice the one before.
var syncBounds = [...]time.Duration{
	100 * time.Microsecond, 200 * time.Microsecond, 400 * time.Microsecond, 800 * time.Microsecond,
	1600 * time.Microsecond, 3200 * time.Microsecond, 6400 * time.Microsecond, 12800 * time.Microsecond,
	25600 * time.Microsecond, 51200 * time.Microsecond, 102400 * time.Microsecond, 204800 * time.Microsecond,
	409600 * time.Microsecond, 819200 * time.Microsecond, 1638400 * time.Microsecond, 6553600 * time.Microsecond,
}

type metrics struct {
	commits, batches, events, bytes atomic.Uint64
	syncs, syncNanos                atomic.Uint64
	syncTime                        [len(syncBounds) + 1]atomic.Uint64
	raises, ranges, sweeps          atomic.Uint64
	sweepNanos                      atomic.Uint64
	disk, free                      atomic.Int64
	stopped, damaged                atomic.Bool
	wals, stalls                    atomic.Uint64
}

func (m *metrics) batch(events, bytes int) {
	m.batches.Add(1)
	m.events.Add(uint64(events))
	m.bytes.Add(uint64(bytes))
}

func (m *metrics) sync(d time.Duration) {
	m.syncs.Add(1)
	m.syncNanos.Add(uint64(d))
	i := 0
	for i < len(syncBounds) && d > syncBounds[i] {
		i++
	}
	m.syncTime[i].Add(1)
}

func (m *metrics) sweep(d time.Duration) {
	m.sweeps.Add(1)
	m.sweepNanos.Add(uint64(d))
}

// listen counts what the store says of itself.
func (l *Log) listen() *pebble.EventListener {
	m := &l.metrics
	return &pebble.EventListener{
		// Who reads a damaged table gets an error; that is no reason to end the process.
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			m.damaged.Store(true)
			l.log.Error("the store is damaged: put a backup back", "dir", l.dir, "file", i.Path, "err", i.Details)
		},
		WALCreated:      func(pebble.WALCreateInfo) { m.wals.Add(1) },
		WriteStallBegin: func(pebble.WriteStallBeginInfo) { m.stalls.Add(1) },
	}
}

// Metrics returns the figures of now. DiskBytes and FreeBytes are at most a second old.
func (l *Log) Metrics() Metrics {
	m := &l.metrics
	x := Metrics{
		Commits: m.commits.Load(), Batches: m.batches.Load(), Events: m.events.Load(), Bytes: m.bytes.Load(),
		Syncs:  m.syncs.Load(),
		Raises: m.raises.Load(), Ranges: m.ranges.Load(), Sweeps: m.sweeps.Load(), Sweep: time.Duration(m.sweepNanos.Load()),
		DiskBytes: m.disk.Load(), FreeBytes: m.free.Load(), Full: l.disk.full.Load(),
		Stopped: m.stopped.Load(), Damaged: m.damaged.Load(), WALs: m.wals.Load(), Stalls: m.stalls.Load(),
	}
	h := &x.SyncTime
	h.Sum = time.Duration(m.syncNanos.Load()).Seconds()
	h.Bounds, h.Counts = make([]float64, len(syncBounds)), make([]uint64, len(m.syncTime))
	for i, b := range syncBounds {
		h.Bounds[i] = b.Seconds()
	}
	for i := range m.syncTime {
		h.Counts[i] = m.syncTime[i].Load()
	}
	return x
}
