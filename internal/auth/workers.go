package auth

import (
	"context"
	"sync"
)

// workers owns the goroutines of an authenticator.
type workers struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	group  sync.WaitGroup
}

func newWorkers() *workers {
	ctx, cancel := context.WithCancel(context.Background())
	return &workers{ctx: ctx, cancel: cancel}
}

// do runs f on a goroutine of its own, with a context that close ends. It
// reports whether it does: after close it does not.
func (w *workers) do(f func(context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.group.Go(func() { f(w.ctx) })
	return true
}

// close ends what runs and waits for it.
func (w *workers) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.cancel()
	w.group.Wait()
}
