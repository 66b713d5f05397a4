package doctor

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// browserEncodings is what browsers accept.
const browserEncodings = "gzip, deflate, br, zstd"

// heard is one event and when it came.
type heard struct {
	id string
	at time.Time
}

// ear listens to one stream and notes when things arrive.
type ear struct {
	stop context.CancelFunc
	done chan struct{} // closed when nothing will come any more

	mu      sync.Mutex
	changed chan struct{} // closed at the next change
	resp    *http.Response
	headAt  time.Time
	lastAt  time.Time // of the last bytes
	bytes   int       // of the body, decoded where it is readable
	events  []heard
	err     error // why it ended; io.EOF is the regular end
}

// listen opens a stream of the topic. Nothing is waited for, not even the head,
// which some proxies hold back. The ear must be closed.
func (x *exam) listen(ctx context.Context, query url.Values, header http.Header) *ear {
	ctx, stop := context.WithCancel(ctx)
	e := &ear{stop: stop, done: make(chan struct{}), changed: make(chan struct{})}
	req := x.events(ctx, http.MethodGet, query, "")
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "identity")
	for name, values := range header {
		req.Header[name] = values
	}
	go func() {
		defer close(e.done)
		err := e.hear(x.client, req)
		e.note(func() { e.err = err })
	}()
	return e
}

// hear reads the stream to its end.
func (e *ear) hear(client *http.Client, req *http.Request) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	e.note(func() { e.resp, e.headAt = resp, time.Now() })
	body := io.Reader(resp.Body)
	switch resp.Header.Get("Content-Encoding") {
	case "", "identity":
	case "gzip":
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	default: // what we cannot decode shows when its bytes come
		_, err := io.Copy(io.Discard, tap{e, body})
		if err == nil {
			err = io.EOF
		}
		return err
	}
	for ev, err := range sse.NewDecoder(tap{e, body}, nil).Events() {
		if err != nil {
			return err
		}
		e.note(func() { e.events = append(e.events, heard{ev.ID, time.Now()}) })
	}
	return io.EOF
}

// tap notes the bytes that pass.
type tap struct {
	ear *ear
	r   io.Reader
}

func (t tap) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n > 0 {
		t.ear.note(func() { t.ear.lastAt, t.ear.bytes = time.Now(), t.ear.bytes+n })
	}
	return n, err
}

func (e *ear) note(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
	close(e.changed)
	e.changed = make(chan struct{})
}

// await waits until a condition holds, which is asked under the lock. It gives
// up at the deadline, with ctx, or when the stream has ended without.
func (e *ear) await(ctx context.Context, deadline time.Time, holds func() bool) bool {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		e.mu.Lock()
		ok, ended, changed := holds(), e.err != nil, e.changed
		e.mu.Unlock()
		if ok || ended {
			return ok
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// isReadable says whether events can be told apart. It is asked under the
// lock, as are the next two.
func (e *ear) isReadable() bool { return e.encoding() == "" || e.encoding() == "gzip" }

func (e *ear) encoding() string {
	if e.resp == nil || e.resp.Header.Get("Content-Encoding") == "identity" {
		return ""
	}
	return e.resp.Header.Get("Content-Encoding")
}

// isStream says whether the answer is what an EventSource takes.
func (e *ear) isStream() bool { return e.resp != nil && isEventStream(e.resp) }

// failure says why there is no stream.
func (e *ear) failure() string {
	switch {
	case e.resp != nil:
		return "it is answered " + e.resp.Status
	case e.err != nil && !errors.Is(e.err, context.Canceled):
		return reason(e.err)
	}
	return "its head did not come"
}

// close ends the stream and waits until nothing is noted any more: its fields
// can then be read without the lock.
func (e *ear) close() {
	e.stop()
	<-e.done
}
