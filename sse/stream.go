package sse

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// ErrClosed is returned by the calls of a [Stream] after Close.
var ErrClosed = errors.New("sse: stream closed")

// heartbeatLine is a comment without a blank line: a blank line would end a block, and clients in
// use take an empty block for an event.
var heartbeatLine = []byte(":\n")

// maxKeptBuffer is the largest encoding buffer that a stream keeps for its next event, in bytes.
const maxKeptBuffer = 64 << 10

// A Stream is the response side of one event stream. [Accept] makes it; the handler closes it
// before it returns.
//
// Its methods may be called from many goroutines at once: each call is one write and one flush,
// and their bytes never mix. A call blocks until the bytes are handed to the connection, at most
// for WriteTimeout. The first failure is final: it ends Context, and every later call returns it.
type Stream struct {
	ctx          context.Context
	cancel       context.CancelCauseFunc
	lastEventID  string
	writeTimeout time.Duration // 0 is none
	heartbeat    time.Duration // 0 is none

	mu           sync.Mutex // orders the writes; guards what follows
	w            http.ResponseWriter
	rc           *http.ResponseController
	hasDeadlines bool
	keepsAlone   bool      // a deadline that passes while nothing is written does no harm: HTTP/1
	deadline     time.Time // in force on the connection; zero is none
	closed       bool
	err          error       // the first failure
	timer        *time.Timer // of the heartbeat; nil without one
	lastWrite    time.Time   // end of the last write, when there is a heartbeat
	buf          []byte      // encodes Send and Comment
}

// newStream returns a stream that has written nothing and has no heartbeat yet.
func newStream(w http.ResponseWriter, r *http.Request, o AcceptOptions) *Stream {
	s := &Stream{
		lastEventID:  LastEventID(r),
		writeTimeout: o.WriteTimeout,
		heartbeat:    o.Heartbeat,
		w:            w,
		rc:           http.NewResponseController(w),
		keepsAlone:   r.ProtoMajor == 1,
	}
	s.ctx, s.cancel = context.WithCancelCause(r.Context())
	return s
}

// open sends the head, with a retry line if there is one, and starts the heartbeat.
func (s *Stream) open(retry time.Duration) error {
	var line []byte
	if retry != 0 {
		var err error
		if line, err = AppendRetry(nil, retry); err != nil {
			http.Error(s.w, "internal error", http.StatusInternalServerError)
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	setHead(s.w.Header(), s.heartbeat)
	// http.Server.WriteTimeout is a deadline for the whole response, which a stream has none of.
	// Its ReadTimeout needs no such care: net/http lifts it when the request has been read.
	s.hasDeadlines = s.rc.SetWriteDeadline(time.Time{}) == nil
	s.w.WriteHeader(http.StatusOK)
	if _, err := s.write(line); err != nil {
		return err
	}
	if s.heartbeat > 0 {
		s.timer = time.AfterFunc(s.heartbeat, s.beat)
	}
	return nil
}

// Context ends when the client has gone, a write has failed or the stream is closed. It is
// derived from the request's. context.Cause tells which: after a failed write it is the failure,
// after Close it is ErrClosed.
func (s *Stream) Context() context.Context {
	return s.ctx
}

// LastEventID is where the client wants to go on, as the function [LastEventID] reads it. It
// does not change as events are sent.
func (s *Stream) LastEventID() string {
	return s.lastEventID
}

// Send encodes ev and writes it. A *FieldError says that ev cannot be written; nothing was, and
// the stream goes on. ev is not kept.
func (s *Stream) Send(ev *Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failure(); err != nil {
		return err
	}
	frame, err := ev.AppendText(s.buf[:0])
	if err != nil {
		return err
	}
	return s.writeEncoded(frame)
}

// Comment writes text as comment lines, which clients skip. Nothing follows the colon but the text.
func (s *Stream) Comment(text string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failure(); err != nil {
		return err
	}
	return s.writeEncoded(AppendComment(s.buf[:0], text))
}

// Write writes frames: whole blocks as [Event.AppendText] encodes them, any number of them. So an
// event that goes to many is encoded once. It does not look into them, does not keep the slice,
// and allocates nothing of its own. It returns the number of bytes that the connection took.
func (s *Stream) Write(frames []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failure(); err != nil {
		return 0, err
	}
	return s.write(frames)
}

// Close ends the stream: it waits for a call in progress, ends Context and stops the heartbeat.
// Afterwards nothing touches the ResponseWriter. It returns nil, and may be called again.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.err == nil {
		s.disarm() // net/http writes the end of the response, and may keep the connection
	}
	s.cancel(ErrClosed)
	return nil
}

// failure is why no more can be written. mu is held.
func (s *Stream) failure() error {
	if s.closed {
		return ErrClosed
	}
	return s.err
}

// writeEncoded writes a frame that lies in buf. mu is held.
func (s *Stream) writeEncoded(frame []byte) error {
	if cap(frame) <= maxKeptBuffer {
		s.buf = frame
	}
	_, err := s.write(frame)
	return err
}

// write writes p, which may be empty, and flushes. mu is held: it orders the writes.
func (s *Stream) write(p []byte) (n int, err error) {
	if s.hasDeadlines && s.writeTimeout > 0 {
		s.arm()
		if !s.keepsAlone {
			defer s.disarm() // after a failure too
		}
	}
	if len(p) > 0 {
		if n, err = s.w.Write(p); err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
	}
	if err == nil {
		err = s.rc.Flush()
	}
	if s.heartbeat > 0 {
		s.lastWrite = time.Now()
	}
	if err != nil {
		s.err = err
		s.cancel(err)
		if s.timer != nil {
			s.timer.Stop()
		}
	}
	return n, err
}

// arm sees to a deadline that is at least writeTimeout away. Setting one costs as much as a tenth
// of a small write, so over HTTP/1 it is set half a writeTimeout further out, stays, and serves
// the writes until then: one that has passed meanwhile is only looked at by the next write, which
// sets it anew. Over HTTP/2 it is a timer that resets the stream, so there it is cleared each time.
func (s *Stream) arm() {
	if !s.deadline.IsZero() && time.Until(s.deadline) >= s.writeTimeout {
		return
	}
	s.deadline = time.Now().Add(s.writeTimeout)
	if s.keepsAlone {
		s.deadline = s.deadline.Add(s.writeTimeout / 2)
	}
	s.rc.SetWriteDeadline(s.deadline)
}

// disarm clears the deadline.
func (s *Stream) disarm() {
	if !s.deadline.IsZero() {
		s.deadline = time.Time{}
		s.rc.SetWriteDeadline(time.Time{})
	}
}

// beat runs when the heartbeat may be due. The timer is not reset at each write, which would cost
// more than to look here how long ago the last one was.
func (s *Stream) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure() != nil {
		return
	}
	rest := s.heartbeat - time.Since(s.lastWrite)
	if rest <= 0 {
		if _, err := s.write(heartbeatLine); err != nil {
			return
		}
		rest = s.heartbeat
	}
	s.timer.Reset(rest)
}
