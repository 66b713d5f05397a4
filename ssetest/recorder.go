package ssetest

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// A Flush is one flush of a [Recorder].
type Flush struct {
	Bytes int       // body bytes written since the flush before
	Time  time.Time // when
}

// A Recorder is an [http.ResponseWriter] that flushes and has deadlines, and keeps what it gets.
// [NewRecorder] makes it. Handler and test may use it at the same time.
type Recorder struct {
	header http.Header

	mu        sync.Mutex // guards what follows
	code      int
	body      []byte
	flushed   int // bytes of body that have been flushed
	flushes   []Flush
	deadlines []time.Time
	failure   error         // of the next write
	changed   chan struct{} // closed and renewed at each flush
}

// NewRecorder returns an empty recorder.
func NewRecorder() *Recorder {
	return &Recorder{header: http.Header{}, changed: make(chan struct{})}
}

// Header implements [http.ResponseWriter]. It is the handler's until the handler has sent the head.
func (rec *Recorder) Header() http.Header {
	return rec.header
}

// WriteHeader implements [http.ResponseWriter]. The first code counts.
func (rec *Recorder) WriteHeader(code int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.code == 0 {
		rec.code = code
	}
}

// Write implements [http.ResponseWriter].
func (rec *Recorder) Write(p []byte) (int, error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.code == 0 {
		rec.code = http.StatusOK
	}
	if err := rec.failure; err != nil {
		rec.failure = nil
		return 0, err
	}
	rec.body = append(rec.body, p...)
	return len(p), nil
}

// FlushError is what [http.ResponseController.Flush] calls.
func (rec *Recorder) FlushError() error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.code == 0 {
		rec.code = http.StatusOK
	}
	rec.flushes = append(rec.flushes, Flush{Bytes: len(rec.body) - rec.flushed, Time: time.Now()})
	rec.flushed = len(rec.body)
	close(rec.changed)
	rec.changed = make(chan struct{})
	return nil
}

// SetWriteDeadline notes the deadline, and does not enforce it.
func (rec *Recorder) SetWriteDeadline(deadline time.Time) error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.deadlines = append(rec.deadlines, deadline)
	return nil
}

// SetReadDeadline does nothing: there is nothing to read.
func (rec *Recorder) SetReadDeadline(time.Time) error {
	return nil
}

// Code returns the status, 0 before the head.
func (rec *Recorder) Code() int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.code
}

// Bytes returns a copy of the body as far as it has been flushed: what a client would have.
func (rec *Recorder) Bytes() []byte {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return bytes.Clone(rec.body[:rec.flushed])
}

// Events returns the complete events that have been flushed.
func (rec *Recorder) Events() []sse.Event {
	var events []sse.Event
	for ev, err := range sse.Events(bytes.NewReader(rec.Bytes())) {
		if err != nil {
			break
		}
		events = append(events, ev)
	}
	return events
}

// Comments returns the comment lines that have been flushed, as they stand after the colon.
func (rec *Recorder) Comments() []string {
	var comments []string
	d := sse.NewDecoder(bytes.NewReader(rec.Bytes()), &sse.DecoderOptions{
		OnComment: func(text []byte) { comments = append(comments, string(text)) },
	})
	var ev sse.Event
	for d.Decode(&ev) == nil {
	}
	return comments
}

// Flushes returns all flushes so far, that of the head among them.
func (rec *Recorder) Flushes() []Flush {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return slices.Clone(rec.flushes)
}

// Deadlines returns all write deadlines so far; the zero time is one that was cleared.
func (rec *Recorder) Deadlines() []time.Time {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return slices.Clone(rec.deadlines)
}

// Wait blocks until n events have been flushed, or returns the error of ctx.
func (rec *Recorder) Wait(ctx context.Context, n int) error {
	for {
		rec.mu.Lock()
		changed := rec.changed
		rec.mu.Unlock()
		if len(rec.Events()) >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Fail makes the next write fail with err.
func (rec *Recorder) Fail(err error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.failure = err
}
