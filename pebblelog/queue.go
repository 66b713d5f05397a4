package pebblelog

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/tailrace/tailrace"
)

// Bounds of a batch. A call is never split, so that one may exceed them alone.
const (
	batchEvents = 1024
	batchBytes  = 4 << 20
)

// call is what waits for the committer.
type call struct {
	events   []tailrace.Event // the caller's: not to be touched after it has left
	bytes    int              // of their data
	receipts []tailrace.Receipt
	do       func(*committer) error // instead of events
	state    atomic.Int32
	err      error
	done     chan struct{} // gets one value
}

// States of a call.
const (
	callWaits int32 = iota
	callTaken
	callLeft
)

var callPool = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// queue holds the calls that wait, in order.
type queue struct {
	ready chan struct{} // gets a value when there is something to do

	mu     sync.Mutex // guards what follows
	calls  []*call
	closed bool

	// taking is held while events are taken out of their callers' slices.
	taking sync.Mutex

	goroutine atomic.Pointer[[]byte] // the committer's
	horked    atomic.Bool            // the committer ended inside the store, which cannot be closed
}

// put queues c. It reports false if the log is closed.
func (q *queue) put(c *call) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.calls = append(q.calls, c)
	first := len(q.calls) == 1
	q.mu.Unlock()
	if first {
		q.signal()
	}
	return true
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

// take moves the calls of one batch to dst. A command is a batch of its own.
func (q *queue) take(dst []*call) (calls []*call, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		dst = append(dst, q.calls...)
		q.calls = nil
		return dst, true
	}
	n, events, bytes := 0, 0, 0
	for ; n < len(q.calls); n++ {
		c := q.calls[n]
		if n > 0 && (c.do != nil || q.calls[0].do != nil || events+len(c.events) > batchEvents || bytes+c.bytes > batchBytes) {
			break
		}
		events += len(c.events)
		bytes += c.bytes
	}
	dst = append(dst, q.calls[:n]...)
	rest := copy(q.calls, q.calls[n:])
	clear(q.calls[rest:])
	q.calls = q.calls[:rest]
	if rest > 0 {
		q.signal()
	}
	return dst, false
}

// leave takes c back if it still waits. Otherwise its outcome is open, and the log no longer
// looks at the caller's events.
func (q *queue) leave(c *call) bool {
	if c.state.CompareAndSwap(callWaits, callLeft) {
		return true
	}
	q.taking.Lock()
	defer q.taking.Unlock()
	return false
}

// onCommitter reports whether it is called on the committer's goroutine.
func (q *queue) onCommitter() bool {
	id := q.goroutine.Load()
	return id != nil && bytes.Equal(*id, goroutineID())
}

// goroutineID is the number of the current goroutine as a stack trace says it. It is asked
// only where the process may have to end.
func goroutineID() []byte {
	b := make([]byte, 64)
	b = b[:runtime.Stack(b, false)]
	b = bytes.TrimPrefix(b, []byte("goroutine "))
	id, _, _ := bytes.Cut(b, []byte(" "))
	return id
}
