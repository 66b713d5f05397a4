package tailrace

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
	"github.com/tailrace/tailrace/sse"
)

// Reconnection times of an ordinary opening: 3 s give or take a quarter.
const (
	minRetry = 2250 * time.Millisecond
	maxRetry = 3750 * time.Millisecond
)

// ServeHTTP serves subscribers: GET (or QUERY, with a form body) names topics
// and patterns with topic=, once or more, and gets an event stream, or a page
// of JSON if it asks for that. Errors are application/problem+json.
//
// It authorises nobody; middleware does.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, "QUERY":
	default:
		w.Header().Set("Allow", "GET, HEAD, QUERY")
		problem.Write(w, problem.New("method-not-allowed", "%s is not for subscribing", r.Method))
		return
	}
	rc := http.NewResponseController(w)
	if r.Method == "QUERY" {
		rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	sub, err := ParseSubscription(r, h.opts.MaxSelectors)
	if err != nil {
		writeProblem(w, err)
		return
	}
	if r.Method == "QUERY" {
		rc.SetReadDeadline(time.Time{})
	}
	h.Serve(w, r, sub)
}

// Middleware returns a middleware that serves subscribers at path and leaves
// every other request to next.
func (h *Hub) Middleware(path string) func(next http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == path && (r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == "QUERY") {
				h.ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// Serve answers with the stream or page that sub asks for and returns when it
// has ended. It always writes the response, errors included. sub belongs to the
// hub from here on.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request, sub *Subscription) {
	streamed := false
	defer func() {
		if !streamed {
			sub.ended()
		}
	}()
	header := w.Header()
	header.Add("Vary", "Accept, Origin")
	if sub.FilterText != "" && sub.Filter == nil {
		problem.Write(w, problem.New("not-supported", "this server has no filters"))
		return
	}
	for _, t := range sub.Select.Topics {
		if h.Rule(t).Retired {
			problem.Write(w, problem.New("topic-retired", "topic %q was deleted for good", t))
			return
		}
	}
	switch {
	case r.ContentLength != 0 && r.Method != "QUERY":
		problem.Write(w, problem.New("invalid-request", "a subscription has no body; to publish use POST"))
	case sub.JSON, r.Method == http.MethodHead:
		h.ServePage(w, r, sub)
	default:
		streamed = h.serveStream(w, r, sub)
	}
}

// serveStream serves one event stream. It reports whether there was one, which
// forget ends.
func (h *Hub) serveStream(w http.ResponseWriter, r *http.Request, sub *Subscription) bool {
	if why, p := h.admit(sub.Principal, remoteHost(r)); p != nil {
		h.refuse(w, r, sub, why, p)
		return false
	}
	s := h.newStream(w, r, sub)
	reason := "error"
	defer func() {
		if s.fast == nil { // else its shard does it
			h.forget(s, reason)
		}
	}()

	page, err := h.firstPage(r.Context(), sub)
	if err != nil {
		writeProblem(w, h.readProblem(err))
		return true
	}
	if page.Ended && page.Reset == nil && len(page.Events) == 0 {
		w.WriteHeader(http.StatusNoContent) // stops a native EventSource
		reason = "ended"
		return true
	}
	header := w.Header()
	header.Set("Tailrace-Connection", s.id)
	header.Set("Tailrace-Heartbeat", strconv.Itoa(int(s.every)))
	s.opened = true
	if h.opts.OnConnect != nil {
		h.opts.OnConnect(s.Info())
	}
	port := s.port.Load()
	over := h.prepare(w, r)
	defer over.drop()
	port.writing.Store(h.tick.Load())
	out, err := sse.Accept(w, r, &sse.AcceptOptions{
		WriteTimeout: -1, // the hub's sweeper knows
		Heartbeat:    -1, // the hub's sweeper beats
		Retry:        jitter(minRetry, maxRetry),
	})
	if err != nil {
		return true
	}
	port.writing.Store(0)
	port.out = out
	defer out.Close()
	if h.takeOver(over, s, w) {
		s.shard.Load().add(s, s.begin(sub, &page))
		return true
	}
	defer context.AfterFunc(out.Context(), s.leave)()
	if err := s.begin(sub, &page); err != nil {
		reason = s.reason(err)
		return true
	}
	reason = s.run()
	return true
}

// newStream makes an admitted stream, in the feed of its selection, so that
// the ring is complete from before the first read of the log.
func (h *Hub) newStream(w http.ResponseWriter, r *http.Request, sub *Subscription) *stream {
	if sub.Heartbeat == 0 {
		sub.Heartbeat = h.opts.Heartbeat
	}
	s := &stream{
		hub:   h,
		id:    rand128(),
		wants: choice{types: sub.typeSet()},
		skip:  h.overflow(sub.Select),
		left:  -1,
		every: uint16(min(max(sub.Heartbeat/time.Second, 1), math.MaxUint16)),
		onEnd: sub.OnEnd,
		hello: sub.Hello, snapshot: sub.Snapshot, gapNew: sub.OnGapNew,
		from: &peer{
			principal: sub.Principal,
			addr:      strings.Clone(remoteHost(r)),
			agent:     printable(strings.Clone(r.UserAgent())),
			client:    sub.Client,
			protocol:  r.Proto,
			opened:    time.Now(),
		},
	}
	if sub.Limit > 0 {
		s.left = sub.Limit
	}
	if sub.Filter != nil {
		s.wants.filter = h.judges.of(sub.Filter)
	}
	if sub.CursorIDs {
		s.form |= formCursor
	}
	if sub.Meta {
		s.form |= formMeta
	}
	tick := h.tick.Load()
	port := newPortable(w)
	port.lastWrite.Store(tick)
	port.until = h.lifeEnd(tick)
	s.port.Store(port)
	s.lastData = tick
	s.feed = h.join(sub.Select, s)
	s.view.Store(s.feed)
	sub.Select = s.feed.sel // the request's text is not kept
	s.ended = s.feed.ended.Load()
	if s.mayEnd() {
		s.ended-- // the log is asked once
	}
	h.streamsMu.Lock()
	defer h.streamsMu.Unlock()
	h.streams[s.id] = s
	return s
}

// lifeEnd draws the tick at which a stream that opens now has lived long
// enough; 0 is never.
func (h *Hub) lifeEnd(tick int64) int64 {
	if h.opts.MaxConnectionAge <= 0 {
		return 0
	}
	return tick + int64(jitter(h.opts.MaxConnectionAge/5*4, h.opts.MaxConnectionAge)/time.Second)
}

func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// rand128 returns 128 random bits as 22 characters: who knows a connection's
// id may change it.
func rand128() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// forget ends s's place in the hub.
func (h *Hub) forget(s *stream, reason string) {
	s.mu.Lock()
	s.done = true
	s.mu.Unlock()
	if ch := s.change.Swap(nil); ch != nil {
		ch.done <- changed{err: ErrNoConnection}
	}
	h.leave(s.feed, s)
	s.setBehind(false)
	if j, ok := s.wants.filter.(*judge); ok {
		h.judges.leave(j)
	}
	if port := s.port.Load(); port != nil {
		port.passed()
	}
	h.giveUp(s)
	h.counters.disconnect(reason)
	if h.opts.OnDisconnect != nil && s.opened {
		info := s.Info()
		info.Reason = reason
		h.opts.OnDisconnect(info)
	}
	if s.onEnd != nil {
		s.onEnd()
	}
	h.streamsWG.Done()
}

// firstPage reads where the stream begins: before the head is sent, because
// the answer may be a status. What follows comes in pages that streams share.
func (h *Hub) firstPage(ctx context.Context, sub *Subscription) (Page, error) {
	if sub.Snapshot && sub.LastID == "" {
		return Page{}, nil
	}
	q := sub.query()
	q.Limit = 1
	return h.readLog(ctx, q)
}

// begin sends what a stream starts with. It takes the page.
func (s *stream) begin(sub *Subscription, page *Page) error {
	resumed := sub.LastID != ""
	fresh := !resumed && sub.From.Kind == FromNew
	snapshot := sub.Snapshot && !resumed
	if page.Reset == nil && !snapshot {
		s.setCursor(before(page))
	}
	if resumed {
		s.hub.counters.resume(page.Reset != nil)
	}
	if s.hello {
		if err := s.sayHello(sub, page, snapshot); err != nil {
			return err
		}
	}
	switch {
	case snapshot:
		return s.beginSnapshot()
	case fresh && page.Reset == nil && !s.mayEnd():
		return s.atHead()
	case !fresh || page.Reset != nil:
		first := *page
		s.first = &first
		*page = Page{} // the handler's frame lives as long as the stream
	}
	s.setBehind(true)
	return nil
}

// before is the cursor from which a page is read: right before its first event,
// which the socket may take in part only.
func before(page *Page) Cursor {
	if len(page.Events) == 0 {
		return page.Next
	}
	c := page.Events[0].Cursor
	c.Pos--
	return c
}

// mayEnd reports whether the selection may be closed to its last topic, which
// only the log can say.
func (s *stream) mayEnd() bool {
	if len(s.feed.sel.Patterns) > 0 {
		return false
	}
	for _, t := range s.feed.sel.Topics {
		if !s.hub.Rule(t).Closable {
			return false
		}
	}
	return true
}

// sayHello sends the first event to who asks for control events. Its id is
// where the client stands before the first event. It has none if a break right
// after it would hide something: before a gap, a snapshot, or a first page,
// which Next is already past.
func (s *stream) sayHello(sub *Subscription, page *Page, snapshot bool) error {
	verdict, id := "fresh", ""
	switch {
	case page.Reset != nil:
		verdict = "gap"
	case sub.LastID != "":
		verdict, id = "resumed", sub.LastID
	case !snapshot && len(page.Events) == 0:
		id = page.Next.String()
	}
	return s.text(controlFrame("hello", helloData{
		Wire: 1, Conn: s.id, Epoch: Cursor{Epoch: s.hub.epoch.Load()}.String()[:epochDigits],
		Verdict: verdict, Heartbeat: int64(s.every) * 1000,
		Topics: append(append([]string{}, s.feed.sel.Topics...), s.feed.sel.Patterns...),
	}, id))
}

// readProblem turns an error of the log's Read into an answer.
func (h *Hub) readProblem(err error) error {
	switch {
	case errors.Is(err, ErrSelector):
		return problem.New("not-supported", "this log cannot read these topics as one stream: %v", err)
	case errors.Is(err, ErrInvalid):
		return problem.New("invalid-parameter", "%v", err)
	case errors.Is(err, ErrStopped):
		p := problem.New("unavailable", "the log is stopped")
		p.RetryAfter = 5 * time.Second
		return p
	case errors.Is(err, context.Canceled):
		return problem.New("unavailable", "the request has ended")
	}
	h.opts.Logger.Error("tailrace: reading the log failed", "err", err)
	return problem.New("internal", "the log could not be read")
}

// writeProblem answers with err, which is a *problem.Problem or an internal
// error whose text stays here.
func writeProblem(w http.ResponseWriter, err error) {
	var p *problem.Problem
	if !errors.As(err, &p) {
		p = problem.New("internal", "the request could not be served")
	}
	problem.Write(w, p)
}
