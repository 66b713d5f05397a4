package cli

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/tailrace/tailrace"
)

// limitShare is the part of the container's memory that the garbage collector
// aims to stay under, in percent. The rest is for what it does not count: the
// log's caches and the kernel's buffers.
const limitShare = 90

// limitMemory makes the collector work harder before the process meets the
// limit of its container, which would kill it. limit is what the container
// has; an error is no limit.
func limitMemory(limit func() (uint64, error)) {
	if bytes, err := limit(); err == nil {
		debug.SetMemoryLimit(int64(min(bytes, 1<<62) / 100 * limitShare))
	}
}

// The heap may grow by garbageRoom or by its own size, whichever is more, but
// by no more than maxGCPercent of it. Streams leave the heap so small that Go's
// default of its own size would collect after every 4 MB; at 400 % whatever the
// size, a million topics cost 134 MB instead of 86.
const (
	garbageRoom  = 24 << 20
	maxGCPercent = 400
	minGCPercent = 100
)

// gcPercent is the setting of the collector for so many bytes in use.
func gcPercent(live uint64) int {
	return int(max(minGCPercent, min(maxGCPercent, 100*garbageRoom/max(live, 1))))
}

// After so many new streams, and so long without one, what their opening has
// left is given back to the system: some 8 KB each, which would stay for
// minutes. It takes a full collection, so not more often than releaseInterval.
const (
	releaseStreams  = 1000
	releaseQuiet    = 5 * time.Second
	releaseInterval = time.Minute
)

// memoryKeeper adapts the collector to what the server does.
type memoryKeeper struct {
	live     func() uint64 // bytes of the heap in use at the last collection
	connects func() int64  // streams opened so far
	tune     func(percent int)
	release  func()

	percent  int       // as tuned
	seen     int64     // streams opened,
	opened   time.Time // and since when it is that many
	settled  int64     // streams opened by the last release
	released time.Time // when that was
}

// newMemoryKeeper returns the keeper of a process that serves hub. With
// leaveGC the collector's setting stays as it is.
func newMemoryKeeper(hub *tailrace.Hub, leaveGC bool) *memoryKeeper {
	k := &memoryKeeper{
		live:     liveHeap,
		connects: func() int64 { return hub.Stats().Connects },
		tune:     func(percent int) { debug.SetGCPercent(percent) },
		release:  debug.FreeOSMemory,
	}
	if leaveGC {
		k.tune = func(int) {}
	}
	return k
}

// run looks once a second, until ctx ends.
func (k *memoryKeeper) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		k.look(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (k *memoryKeeper) look(now time.Time) {
	if p := gcPercent(k.live()); p != k.percent {
		k.percent = p
		k.tune(p)
	}
	if n := k.connects(); n != k.seen {
		k.seen, k.opened = n, now
	}
	if k.seen-k.settled > releaseStreams && now.Sub(k.opened) >= releaseQuiet && now.Sub(k.released) >= releaseInterval {
		k.settled, k.released = k.seen, now
		k.release()
	}
}

func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// keepMemory sets the process's memory up for a server of hub, and keeps it
// until ctx ends. What the environment sets stays.
func (a *app) keepMemory(ctx context.Context, hub *tailrace.Hub) {
	if a.getenv("GOMEMLIMIT") == "" {
		limitMemory(memlimit.FromCgroup)
	}
	newMemoryKeeper(hub, a.getenv("GOGC") != "").run(ctx)
}
