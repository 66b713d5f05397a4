//go:build !linux

package tailrace

import (
	"net/http"
	"sync/atomic"
)

// The fast engine needs epoll; elsewhere every stream is portable.

type shards struct{}

type shard struct{}

func (*shard) schedule(*stream) {}
func (*shard) kill(*stream)     {}

type fastConn struct {
	err     error
	pending []byte
}

func (*fastConn) write([]byte) error      { return nil }
func (*fastConn) writeChunk([]byte) error { return nil }

func (*shard) add(*stream, error) {}

func (h *Hub) wakeShards(f *feed) {}
func (h *Hub) stopShards()        {}

func (h *Hub) takeOver(*stream, http.ResponseWriter, *http.Request) bool { return false }

func (h *Hub) sweepShards() {}

func (h *Hub) shardCounts() []atomic.Int32 { return nil }
