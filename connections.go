package tailrace

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// ConnInfo describes one open stream.
type ConnInfo struct {
	ID        string // 128 random bits; who knows it may send to the stream and end it
	Principal string // from Subscription
	Addr      string // of the peer, without the port
	UserAgent string
	Client    string // from Subscription
	Protocol  string // HTTP/1.1, HTTP/2.0
	Engine    string // fast, portable
	Select    Selector
	Cursor    Cursor // everything of the selection up to here was handed to the connection
	Opened    time.Time

	SentEvents int64
	SentBytes  int64
	Behind     time.Duration // how long the log has served it and not memory, in seconds, rounded up; 0 is not
	LagEvents  int64         // events to come; behind the ring, log positions to come: an upper bound
	Reason     string        // why it ended; OnDisconnect only: client, drain, max-age, disconnected, expired, revoked, forbidden, stalled, ended, limit, epoch, error
}

// Info describes s as of now.
func (s *stream) Info() ConnInfo {
	c := ConnInfo{
		ID: s.id, Principal: s.from.principal, Addr: s.from.addr, UserAgent: s.from.agent,
		Client: s.from.client, Protocol: s.from.protocol, Opened: s.from.opened,
		Engine: enginePortable.String(), Select: s.view.Load().sel,
	}
	if s.shard.Load() != nil {
		c.Engine = engineFast.String()
	}
	pos, events, bytes := s.progress()
	c.Cursor = Cursor{Epoch: s.hub.epoch.Load(), Pos: pos}
	c.SentEvents, c.SentBytes = events, bytes
	if since := s.since.Load(); since != 0 {
		c.Behind = time.Duration(max(1, s.hub.tick.Load()-since)) * time.Second
	}
	lag, ok := s.view.Load().lag(pos)
	if visible := s.hub.visible.Load(); !ok && visible > pos {
		lag = int64(visible - pos)
	}
	c.LagEvents = lag
	return c
}

// snapshotStreams returns the open streams.
func (h *Hub) snapshotStreams() []*stream {
	h.streamsMu.Lock()
	defer h.streamsMu.Unlock()
	list := make([]*stream, 0, len(h.streams))
	for _, s := range h.streams {
		list = append(list, s)
	}
	return list
}

func (h *Hub) stream(id string) *stream {
	h.streamsMu.Lock()
	defer h.streamsMu.Unlock()
	return h.streams[id]
}

// Connections yields the open streams, in no order, each as it is when it is
// yielded.
func (h *Hub) Connections() iter.Seq[ConnInfo] {
	return func(yield func(ConnInfo) bool) {
		for _, s := range h.snapshotStreams() {
			if !yield(s.Info()) {
				return
			}
		}
	}
}

// Connection returns one open stream.
func (h *Hub) Connection(id string) (ConnInfo, bool) {
	s := h.stream(id)
	if s == nil {
		return ConnInfo{}, false
	}
	return s.Info(), true
}

// Count returns the number of open streams.
func (h *Hub) Count() int {
	h.streamsMu.Lock()
	defer h.streamsMu.Unlock()
	return len(h.streams)
}

// Send sends an event to one stream only: ev's Type, Data and Retry. It is not
// in the log, has no id and is not replayed: what must not be lost is published
// to a topic instead. It goes out after every event that was published before
// the call and before every later one. Send returns when it is queued.
//
// Errors are ErrNoConnection, ErrSlow when 16 already wait, ErrInvalid,
// ErrReserved and ErrTooLarge.
func (h *Hub) Send(ctx context.Context, connID string, ev *Event) error {
	c, err := h.newControl(ev)
	if err != nil {
		return err
	}
	s := h.stream(connID)
	if s == nil {
		return fmt.Errorf("%w: %q", ErrNoConnection, connID)
	}
	if !s.enqueue(c) {
		h.counters.control(controlSend, controlSlow)
		return fmt.Errorf("%w: %q", ErrSlow, connID)
	}
	h.counters.control(controlSend, controlQueued)
	return nil
}

// Broadcast is Send to every stream whose selection has a topic or pattern of
// s, or to all if s is zero. It returns how many it was queued for and how
// many it was not, because 16 wait there already.
func (h *Hub) Broadcast(ctx context.Context, s Selector, ev *Event) (queued, skipped int, err error) {
	c, err := h.newControl(ev)
	if err != nil {
		return 0, 0, err
	}
	for _, st := range h.snapshotStreams() {
		if !s.IsZero() && !st.view.Load().sel.overlaps(s) {
			continue
		}
		if st.enqueue(c) {
			queued++
			h.counters.control(controlBroadcast, controlQueued)
		} else {
			skipped++
			h.counters.control(controlBroadcast, controlSkipped)
		}
	}
	return queued, skipped, nil
}

// newControl encodes ev as a control event that goes out behind everything
// that is published by now.
func (h *Hub) newControl(ev *Event) (control, error) {
	check := Event{Topic: "-", Type: ev.Type, Data: ev.Data, Retry: ev.Retry}
	policy := Policy{}.WithDefaults()
	if err := check.Check(&policy); err != nil {
		return control{}, err
	}
	if strings.HasPrefix(ev.Type, ReservedTypePrefix) {
		return control{}, fmt.Errorf("%w: type %q", ErrReserved, ev.Type)
	}
	e := sse.Event{Type: ev.Type, Data: ev.Data, Retry: ev.Retry}
	frame, err := e.AppendText(newChunk(len(ev.Data) + len(ev.Type) + 64))
	if err != nil {
		return control{}, fmt.Errorf("tailrace: %w", err)
	}
	return control{frame: sealChunk(frame), barrier: max(h.visible.Load(), h.acked.Load())}, nil
}

// overlaps reports whether s and t share a part, or a pattern of one matches a
// topic of the other.
func (s Selector) overlaps(t Selector) bool {
	for _, topic := range t.Topics {
		if s.Match(topic) {
			return true
		}
	}
	for _, p := range t.Patterns {
		for _, topic := range s.Topics {
			if MatchPattern(p, topic) {
				return true
			}
		}
		for _, q := range s.Patterns {
			if Covers(p, q) || Covers(q, p) {
				return true
			}
		}
	}
	return false
}

// lostRights are the reasons of Disconnect that ConnInfo.Reason names too.
var lostRights = []string{"expired", "revoked", "forbidden"}

// Disconnect ends a stream at the next event border with a jittered
// reconnection time. The client may come back: this does not bar it. reason is
// told to clients that asked for control events; "" is "disconnected".
func (h *Hub) Disconnect(connID, reason string) error {
	s := h.stream(connID)
	if s == nil {
		return fmt.Errorf("%w: %q", ErrNoConnection, connID)
	}
	if reason == "" {
		reason = "disconnected"
	}
	kind := "disconnected"
	if slices.Contains(lostRights, reason) {
		kind = reason
	}
	s.endSoon(ending{kind, printable(reason)})
	return nil
}

// endStreams ends all streams at their next border.
func (h *Hub) endStreams(reason string) {
	for _, s := range h.snapshotStreams() {
		s.endSoon(ending{reason, reason})
	}
}

// Draining reports whether Shutdown has begun: new streams are refused.
func (h *Hub) Draining() bool {
	h.streamsMu.Lock()
	defer h.streamsMu.Unlock()
	return h.refused
}

// drainGrace is what a stream that takes no byte gets for its farewell when the
// time of a drain is up.
const drainGrace = time.Second

// Shutdown refuses new streams, ends each open one at a random moment within
// DrainWindow, so that they do not all return at once elsewhere, and stops the
// hub. If ctx ends sooner, what is left ends at once. A log that the hub made
// is closed; another is the caller's, to be closed afterwards. Publish goes on
// until all streams have ended; publishers over HTTP are told at once to go
// elsewhere.
//
// It returns ctx's error if that cut the drain short. Calling it again returns
// the same.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.stopOnce.Do(func() { h.stopError = h.shutdown(ctx) })
	return h.stopError
}

func (h *Hub) shutdown(ctx context.Context) error {
	h.streamsMu.Lock()
	h.refused = true
	h.streamsMu.Unlock()

	window := max(0, h.opts.DrainWindow)
	if deadline, ok := ctx.Deadline(); ok {
		window = max(0, min(window, time.Until(deadline)-drainGrace))
	}
	done := make(chan struct{})
	go func() {
		h.streamsWG.Wait()
		close(done)
	}()
	err := h.drain(ctx, window, done)
	h.endStreams("drain")
	select {
	case <-done:
	case <-time.After(drainGrace):
		for _, s := range h.snapshotStreams() {
			s.abort()
		}
		<-done
	}

	h.unwatch()
	h.stop()
	h.workers.Wait()
	h.stopShards()
	if h.ownsLog {
		if cerr := h.log.Close(); err == nil {
			err = cerr
		}
	}
	return err
}

// drain spreads the ends of the open streams over window.
func (h *Hub) drain(ctx context.Context, window time.Duration, done <-chan struct{}) error {
	list := h.snapshotStreams()
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	if len(list) == 0 {
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	began := time.Now()
	for i, s := range list {
		timer.Reset(time.Until(began.Add(window * time.Duration(i) / time.Duration(len(list)))))
		select {
		case <-timer.C:
			s.endSoon(ending{"drain", "drain"})
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

var _ http.Handler = (*Hub)(nil)
