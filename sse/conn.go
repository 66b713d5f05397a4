package sse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// missedHeartbeats is how many heartbeats of a server may be missing before its connection is
// given up.
const missedHeartbeats = 3

var (
	errEnd     = errors.New("sse: the stream has ended") // without an error
	errRestart = errors.New("sse: restart")
)

// A Conn is an event stream that reconnects. [Client.Do] makes it. One goroutine reads from it;
// Restart, Close and Err may be called from any, hooks included. It reads only when asked, so a
// slow reader slows the server down.
type Conn struct {
	client *Client
	http   *http.Client
	trip   *tripper
	req    *http.Request // as it came; each request is a clone
	resend bool          // it may be sent more than once
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // a token in it ends a delay; put in by Restart

	// Of the reading goroutine.
	backoff   Backoff
	dec       *Decoder
	sent      bool           // the request has been sent once
	started   time.Time      // start of the last request
	delivered bool           // the connection has brought an event
	delays    int            // since the last good connection
	failures  int            // requests in a row that failed
	refusal   *ResponseError // that led to the next request
	forbidden bool           // the last response was 401 or 403

	mu        sync.Mutex              // guards what follows
	interrupt context.CancelCauseFunc // ends the request or connection of the moment; nil without one
	body      *body                   // of the open connection; nil without one
	ended     bool
	err       error
}

func newConn(client *Client, req *http.Request) *Conn {
	c := &Conn{
		client:  client,
		resend:  client.Resend || maySendAgain(req),
		wake:    make(chan struct{}, 1),
		backoff: client.Backoff.withDefaults(),
	}
	c.http, c.trip = client.httpClient()
	c.ctx, c.cancel = context.WithCancel(req.Context())
	c.req = req.Clone(c.ctx)
	if c.req.Header == nil {
		c.req.Header = http.Header{}
	}
	setDefault(c.req.Header, "Accept", contentType)
	setDefault(c.req.Header, "Cache-Control", "no-cache")
	c.dec = NewDecoder(http.NoBody, &DecoderOptions{
		MaxEventSize: client.MaxEventSize,
		LastEventID:  c.req.Header.Get("Last-Event-ID"),
		OnComment:    client.OnComment,
	})
	return c
}

// Decode reads the next event into ev; ev.Data is borrowed until the next Decode. It reconnects
// as [Client] says. io.EOF is the end without an error; another error is final, and stays.
func (c *Conn) Decode(ev *Event) error {
	for {
		if ended, err := c.end(); ended {
			if err == nil {
				err = io.EOF
			}
			return err
		}
		err := c.dec.Decode(ev)
		if err == nil {
			c.delivered = true
			return nil
		}
		c.connect(c.judge(err))
	}
}

// Events yields the events to come, over reconnections; their Data may be kept and changed, as
// with [Decoder.Events]. A final error comes once, last, with a zero Event. After a break, Events
// or Decode go on with the next event.
func (c *Conn) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			var ev Event
			if err := c.Decode(&ev); err != nil {
				if err != io.EOF {
					yield(Event{}, err)
				}
				return
			}
			ev.Data = c.dec.own(ev.Data)
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// LastEventID is the last event id of the events that were read, with which the next request goes
// on.
func (c *Conn) LastEventID() string {
	return c.dec.LastEventID()
}

// Err says why the stream has ended. It is nil after 204, a clean end and Close, and while the
// stream is open.
func (c *Conn) Err() error {
	_, err := c.end()
	return err
}

// Restart drops the connection, or the request or delay of the moment, and connects again at
// once. It does nothing to a stream that has ended, or whose request must not be sent again.
func (c *Conn) Restart() {
	if !c.resend {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	if c.interrupt != nil {
		c.interrupt(errRestart)
	}
}

// Close ends the stream and any call in progress. It returns nil, and may be called again.
func (c *Conn) Close() error {
	c.finish(nil)
	return nil
}

// end says whether the stream has ended, and why.
func (c *Conn) end() (ended bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended, c.err
}

// finish ends the stream, unless it has ended. A nil err is an end without an error.
func (c *Conn) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.err = true, err
	c.cancel()
	if c.body != nil {
		c.body.Close() // which may interrupt a Read
	}
}

// connect sends requests until one opens a stream or the stream has ended. cause is why the
// connection before ended, nil before the first request.
func (c *Conn) connect(cause error) {
	for {
		if cause != nil {
			c.hangUp(cause)
			if err := c.await(cause); err != nil {
				if err == errEnd {
					err = nil
				}
				c.finish(err)
				return
			}
		}
		if cause = c.send(); cause == nil {
			return
		}
	}
}

// hangUp ends the connection, if there is one, and takes account of it.
func (c *Conn) hangUp(cause error) {
	c.mu.Lock()
	body := c.body
	c.body, c.interrupt = nil, nil
	c.mu.Unlock()
	if body == nil {
		return
	}
	body.Close()
	if c.delivered || time.Since(body.opened) >= c.backoff.Reset {
		c.delays, c.failures = 0, 0
	} else if cause != errRestart {
		c.failures++
	}
}

// judge marks the end of a connection as final, if it is.
func (c *Conn) judge(err error) error {
	var tooLong *TooLongError
	switch {
	case err == io.EOF, err == errRestart, c.ctx.Err() != nil:
		return err
	case errors.As(err, &tooLong), !c.client.shouldRetry(nil, err):
		return &finalError{err}
	}
	return err
}

// await decides what follows from cause. It returns nil when it is time for the next request,
// errEnd if the stream has ended well, and the error with which it has ended otherwise.
func (c *Conn) await(cause error) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	var final *finalError
	switch {
	case errors.As(cause, &final):
		return final.err
	case cause == errEnd, cause == io.EOF && !c.resend:
		return errEnd
	case !c.resend:
		return cause
	case cause == errRestart:
		return nil
	case c.client.MaxAttempts > 0 && c.failures >= c.client.MaxAttempts:
		if cause == io.EOF {
			cause = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("sse: gave up after %d attempts: %w", c.failures, cause)
	}
	delay := c.delay(cause)
	if c.client.OnRetry != nil {
		c.client.OnRetry(cause, delay)
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.wake:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	return nil
}

// delay returns the time to the next request.
func (c *Conn) delay(cause error) time.Duration {
	// Whatever the server says, a request does not follow the one before at once.
	apart := max(time.Until(c.started.Add(c.backoff.Min/spacing)), 0)
	var (
		refusal *ResponseError
		after   time.Duration
	)
	if errors.As(cause, &refusal) {
		if isForbidden(refusal.StatusCode) {
			return apart
		}
		after = retryAfter(refusal.Header, time.Now())
	}
	retry, hasRetry := c.dec.Retry()
	floor, ceiling := c.backoff.bounds(c.delays, retry, hasRetry, after)
	c.delays++
	return max(between(floor, ceiling), apart)
}

// send makes one request. It returns nil when that has opened a stream.
func (c *Conn) send() error {
	ctx, cancel := context.WithCancelCause(c.ctx)
	c.mu.Lock()
	c.interrupt = cancel
	select {
	case <-c.wake: // this is the request that it asked for
	default:
	}
	c.mu.Unlock()

	resp, err := c.request(ctx, cancel)
	if err == nil {
		err = c.open(ctx, cancel, resp)
	}
	if err != nil {
		cancel(nil)
	}
	return err
}

// request sends the request and returns its response.
func (c *Conn) request(ctx context.Context, cancel context.CancelCauseFunc) (*http.Response, error) {
	req := c.req.Clone(ctx)
	if c.sent && hasBody(req) {
		var err error
		if req.Body, err = c.req.GetBody(); err != nil {
			return nil, &finalError{err}
		}
	}
	c.sent = true
	if err := c.prepare(req); err != nil {
		if hasBody(req) {
			req.Body.Close()
		}
		return nil, err
	}
	c.started = time.Now()
	timeout := durationOr(c.client.HeadTimeout, DefaultHeadTimeout)
	if timeout > 0 {
		timer := time.AfterFunc(timeout, func() {
			cancel(fmt.Errorf("sse: no response head within %v: %w", timeout, os.ErrDeadlineExceeded))
		})
		defer timer.Stop()
	}
	c.trip.failed = false
	resp, err := c.http.Do(req)
	if err == nil {
		return resp, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if !c.trip.failed {
		return nil, &finalError{err} // a redirect that leads nowhere
	}
	return nil, c.failed(err)
}

// failed takes account of a request that got no response.
func (c *Conn) failed(err error) error {
	if err == errRestart || c.ctx.Err() != nil {
		return err
	}
	c.failures++
	if !c.client.shouldRetry(nil, err) {
		return &finalError{err}
	}
	return err
}

// prepare fills in what differs from request to request.
func (c *Conn) prepare(req *http.Request) error {
	id := c.dec.LastEventID()
	if !isFieldValue(id) {
		return &finalError{&FieldError{Field: "id", Reason: "cannot be sent: it contains a control character"}}
	}
	if id == "" {
		req.Header.Del("Last-Event-ID")
	} else {
		req.Header.Set("Last-Event-ID", id)
	}
	refusal := c.refusal
	c.refusal = nil
	if c.client.Prepare == nil {
		return nil
	}
	err := c.client.Prepare(req, refusal)
	if err == nil {
		return nil
	}
	if network := net.Error(nil); errors.As(err, &network) {
		return c.failed(err)
	}
	return &finalError{err}
}

// open takes the response: it is an open stream, or it returns what it is instead.
func (c *Conn) open(ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK || !isEventStream(resp.Header.Get("Content-Type")) {
		return c.refuse(cancel, resp)
	}
	c.forbidden, c.delivered = false, false
	b := &body{
		ReadCloser: resp.Body,
		ctx:        ctx,
		cancel:     cancel,
		opened:     time.Now(),
		idle:       c.idleTimeout(resp.Header),
	}
	c.mu.Lock()
	c.body = b
	ended := c.ended
	c.mu.Unlock()
	if ended { // by Close, in the meantime
		b.Close()
	}
	c.dec.Reset(b)
	if c.client.OnOpen != nil {
		c.client.OnOpen(resp)
	}
	return nil
}

// refuse returns what follows from a response that is no stream.
func (c *Conn) refuse(cancel context.CancelCauseFunc, resp *http.Response) error {
	if resp.StatusCode == http.StatusNoContent {
		resp.Body.Close()
		return errEnd
	}
	refusal := &ResponseError{StatusCode: resp.StatusCode, Header: resp.Header}
	timer := time.AfterFunc(errorBodyTimeout, func() { cancel(nil) })
	refusal.Body, _ = io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	timer.Stop()
	resp.Body.Close()

	if isForbidden(resp.StatusCode) {
		if c.client.Prepare == nil || c.forbidden {
			return &finalError{refusal}
		}
		c.forbidden = true
		c.refusal = refusal
		return refusal
	}
	c.forbidden = false
	c.failures++
	resp.Body = io.NopCloser(bytes.NewReader(refusal.Body))
	if resp.StatusCode < 400 || !c.client.shouldRetry(resp, nil) {
		return &finalError{refusal}
	}
	c.refusal = refusal
	return refusal
}

func isForbidden(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// idleTimeout returns the idle timeout of a connection with the response head h, 0 for none.
func (c *Conn) idleTimeout(h http.Header) time.Duration {
	if c.client.IdleTimeout != 0 {
		return max(c.client.IdleTimeout, 0)
	}
	seconds, err := strconv.ParseUint(h.Get("Tailrace-Heartbeat"), 10, 31)
	if err != nil {
		return 0
	}
	return missedHeartbeats * time.Duration(seconds) * time.Second
}

// A body is that of an open response. Its reads fail with the cause that ended the request.
type body struct {
	io.ReadCloser
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	opened time.Time
	idle   time.Duration // 0 is none
	timer  *time.Timer   // of a Read in progress
}

func (b *body) Read(p []byte) (n int, err error) {
	if b.idle > 0 {
		if b.timer == nil {
			b.timer = time.AfterFunc(b.idle, func() { b.cancel(ErrIdle) })
		} else {
			b.timer.Reset(b.idle)
		}
		defer b.timer.Stop()
	}
	n, err = b.ReadCloser.Read(p)
	if err != nil {
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

// Close may be called while a Read is in progress, which it ends.
func (b *body) Close() error {
	b.cancel(nil)
	return b.ReadCloser.Close()
}
