//go:build !linux

package tailrace

import (
	"net/http"
	"sync/atomic"
)

// The fast engine needs epoll; elsewhere every stream is portable, and nothing
// of this is called on one that is not.

type shards struct{}

type shard struct{ limit uint64 }

func (*shard) schedule(*stream)   {}
func (*shard) add(*stream, error) {}

type fastConn struct {
	err    error
	half   uint64
	wrote  int64
	reason string
	killed atomic.Bool
}

func (*fastConn) text([]byte) error { return nil }

func (*stream) fastRing(uint64) (end uint64, events int, err error) { return 0, 0, nil }
func (*stream) fastBlocks([]byte, []blockEnd) error                 { return nil }

func (s *stream) progress() (pos uint64, events, bytes int64) {
	return s.pos.Load(), s.sentEvents.Load(), s.sentBytes.Load()
}

func (h *Hub) moveTaken(*stream, *feed) {}

func (h *Hub) wakeShards(*feed) {}
func (h *Hub) sweepShards()     {}
func (h *Hub) stopShards()      {}

type handover struct{}

func (*handover) drop() {}

func (h *Hub) prepare(http.ResponseWriter, *http.Request) *handover {
	h.counters.fastRefused(fastOff)
	return nil
}

func (h *Hub) takeOver(*handover, *stream, http.ResponseWriter) bool { return false }

func (h *Hub) shardCounts() []atomic.Int32 { return nil }
