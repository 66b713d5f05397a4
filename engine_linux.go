package tailrace

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// shards are the fast engine's: one per core, each with its own sockets. They
// start with the first connection.
type shards struct {
	once    sync.Once
	started atomic.Bool // list and behind are set
	list    []*shard
	behind  *streamQueue // streams that the log serves
	filters *streamQueue // those of them with a filter, so that none waits for one
	wg      sync.WaitGroup
}

// startShards starts the engine and reports whether it runs.
func (h *Hub) startShards() bool {
	if h.opts.DisableFastEngine {
		return false
	}
	h.shards.once.Do(func() {
		h.shards.behind, h.shards.filters = newStreamQueue(), newStreamQueue()
		for i := range h.cores {
			sh, err := newShard(h, i)
			if err != nil {
				h.opts.Logger.Warn("tailrace: no fast engine, streams keep their goroutines", "err", err)
				h.shards.list = nil
				return
			}
			h.shards.list = append(h.shards.list, sh)
		}
		for _, sh := range h.shards.list {
			h.shards.wg.Go(sh.run)
			h.shards.wg.Go(sh.watch)
			h.shards.wg.Go(sh.reap)
		}
		for range replayReaders() {
			h.shards.wg.Go(func() { h.replay(h.shards.behind) })
		}
		for range replayReaders() / 2 {
			h.shards.wg.Go(func() { h.replay(h.shards.filters) })
		}
		h.shards.started.Store(true)
	})
	return h.shards.started.Load()
}

// shardCounts returns a feed's counters, one a shard.
func (h *Hub) shardCounts() []atomic.Int32 { return make([]atomic.Int32, h.cores) }

func newShard(h *Hub, index int) (*shard, error) {
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(epfd, true); err != nil {
		syscall.Close(epfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &shard{
		hub: h, index: index, epfd: epfd,
		poll:   os.NewFile(uintptr(epfd), "epoll"),
		wake:   make(chan struct{}, 1),
		groups: map[*feed][]*group{},
		ended:  newStreamQueue(),
	}, nil
}

// stopShards ends the engine. All its streams have ended.
func (h *Hub) stopShards() {
	if !h.shards.started.Load() {
		return
	}
	for _, sh := range h.shards.list {
		sh.mu.Lock()
		sh.news.stop = true
		sh.mu.Unlock()
		sh.signal()
		sh.poll.Close()
		sh.ended.close()
	}
	h.shards.behind.close()
	h.shards.filters.close()
	h.shards.wg.Wait()
}

// streamQueue hands streams to goroutines that may take their time, first come,
// first served.
type streamQueue struct {
	mu     sync.Mutex
	cond   *sync.Cond
	list   []queued
	closed bool
}

type queued struct {
	s     *stream
	since time.Time
}

func newStreamQueue() *streamQueue {
	q := &streamQueue{}
	q.cond = sync.NewCond(&q.mu)
	return q
}

func (q *streamQueue) put(s *stream) {
	q.mu.Lock()
	q.list = append(q.list, queued{s, time.Now()})
	q.mu.Unlock()
	q.cond.Signal()
}

// take waits for a stream and says how long that has waited; nil is the end.
func (q *streamQueue) take() (s *stream, waited time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) == 0 && !q.closed {
		q.cond.Wait()
	}
	if len(q.list) == 0 {
		return nil, 0
	}
	first := q.list[0]
	q.list[0] = queued{}
	if q.list = q.list[1:]; len(q.list) == 0 {
		q.list = nil
	}
	return first.s, time.Since(first.since)
}

func (q *streamQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.cond.Broadcast()
}

// replay is a worker: it takes one step of a stream that the log serves and
// gives it back to its shard.
func (h *Hub) replay(queue *streamQueue) {
	for {
		s, waited := queue.take()
		if s == nil {
			return
		}
		h.counters.replayWait.observe(waited)
		_, err := s.guardedStep()
		s.shard.Load().giveBack(s, err)
		runtime.Gosched() // what is live goes first
	}
}

// wakeShards tells the shards that f has news.
func (h *Hub) wakeShards(f *feed) {
	if !h.shards.started.Load() {
		return
	}
	for i, sh := range h.shards.list {
		if f.fast[i].Load() == 0 {
			continue
		}
		sh.mu.Lock()
		sh.news.dirty = appendNew(sh.news.dirty, f)
		sh.mu.Unlock()
		sh.signal()
	}
}

// sweepShards makes each shard look for heartbeats that are due and sockets
// that stall.
func (h *Hub) sweepShards() {
	if !h.shards.started.Load() {
		return
	}
	for _, sh := range h.shards.list {
		sh.mu.Lock()
		sh.news.sweep = true
		sh.mu.Unlock()
		sh.signal()
	}
}

// guardedStep is step outside of net/http, which would recover from a panic: it
// ends this stream and no other.
func (s *stream) guardedStep() (more bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			s.hub.counters.panics.Add(1)
			s.hub.opts.Logger.Error("tailrace: a stream panicked", "conn", s.id, "value", r, "stack", string(debug.Stack()))
			err = errEnd("error")
		}
	}()
	return s.step()
}
