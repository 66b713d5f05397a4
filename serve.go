package tailrace

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
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
	header := w.Header()
	header.Add("Vary", "Accept, Origin")
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
		h.serveStream(w, r, sub)
	}
}

// serveStream serves one event stream.
func (h *Hub) serveStream(w http.ResponseWriter, r *http.Request, sub *Subscription) {
	if p := h.admit(sub.Principal, remoteHost(r)); p != nil {
		h.refuse(w, r, sub, p)
		return
	}
	s := h.newStream(w, r, sub)
	reason := "error"
	defer func() {
		if s.fast == nil { // else its shard does it
			h.forget(s, reason)
		}
	}()

	page, err := h.firstPage(r.Context(), s)
	if err != nil {
		writeProblem(w, h.readProblem(err))
		return
	}
	if page.Ended && page.Reset == nil && len(page.Events) == 0 {
		w.WriteHeader(http.StatusNoContent) // stops a native EventSource
		reason = "ended"
		return
	}
	header := w.Header()
	header.Set("Tailrace-Connection", s.id)
	header.Set("Tailrace-Heartbeat", strconv.Itoa(int(sub.Heartbeat/time.Second)))
	if h.opts.OnConnect != nil {
		h.opts.OnConnect(s.Info())
	}
	s.out, err = sse.Accept(w, r, &sse.AcceptOptions{
		WriteTimeout: h.opts.StallTimeout,
		Heartbeat:    -1, // the hub's sweeper beats
		Retry:        jitter(minRetry, maxRetry),
	})
	if err != nil {
		return
	}
	out := s.out
	defer out.Close()
	if h.takeOver(s, w, r) {
		err := s.begin(&page)
		sub.LastID, sub.Types = "", nil // they keep the request's buffer
		s.shard.Load().add(s, err)
		return
	}
	defer context.AfterFunc(s.out.Context(), s.leave)()
	if err := s.begin(&page); err != nil {
		reason = s.reason(err)
		return
	}
	reason = s.run()
}

// newStream makes an admitted stream, in the feed of its selection, so that
// the ring is complete from before the first read of the log.
func (h *Hub) newStream(w http.ResponseWriter, r *http.Request, sub *Subscription) *stream {
	if sub.Heartbeat == 0 {
		sub.Heartbeat = h.opts.Heartbeat
	}
	s := &stream{
		hub: h, sub: sub,
		id:     rand128(),
		rc:     http.NewResponseController(w),
		types:  sub.typeSet(),
		skip:   h.overflow(sub.Select),
		left:   -1,
		wakeup: make(chan struct{}, 1),
	}
	if sub.Limit > 0 {
		s.left = sub.Limit
	}
	if sub.CursorIDs {
		s.form |= formCursor
	}
	if sub.Meta {
		s.form |= formMeta
	}
	s.lastData = h.tick.Load()
	s.lastWrite.Store(s.lastData)
	s.info = ConnInfo{
		ID:        s.id,
		Principal: sub.Principal,
		Addr:      strings.Clone(remoteHost(r)),
		UserAgent: printable(strings.Clone(r.UserAgent())),
		Client:    sub.Client,
		Protocol:  r.Proto,
		Opened:    time.Now(),
	}
	s.feed = h.join(sub.Select, s)
	sub.Select, s.info.Select = s.feed.sel, s.feed.sel
	s.ended = s.feed.ended.Load()
	h.streamsMu.Lock()
	defer h.streamsMu.Unlock()
	h.streams[s.id] = s
	return s
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
	h.leave(s.feed, s)
	s.setBehind(false)
	if p := s.pass.Swap(nil); p != nil {
		p.finish()
	}
	h.giveUp(s)
	h.counters.disconnect(reason)
	if h.opts.OnDisconnect != nil && (s.out != nil || s.fast != nil) {
		info := s.Info()
		info.Reason = reason
		h.opts.OnDisconnect(info)
	}
	h.streamsWG.Done()
}

// firstPage reads where the stream begins: before the head is sent, because
// the answer may be a status.
func (h *Hub) firstPage(ctx context.Context, s *stream) (Page, error) {
	if s.sub.Snapshot && s.sub.LastID == "" {
		return Page{}, nil
	}
	q := s.sub.query()
	q.Limit, q.MaxBytes = pageEvents, h.pageBytes()
	return h.readLog(ctx, q)
}

// begin sends what a stream starts with. It takes the page.
func (s *stream) begin(page *Page) error {
	resumed := s.sub.LastID != ""
	fresh := !resumed && s.sub.From.Kind == FromNew
	snapshot := s.sub.Snapshot && !resumed
	if page.Reset == nil && !snapshot {
		s.moveTo(page.Next)
	}
	if resumed {
		s.hub.counters.resumes.Add(1)
	}
	if s.sub.Hello {
		if err := s.hello(page, snapshot); err != nil {
			return err
		}
	}
	switch {
	case snapshot:
		return s.snapshot()
	case fresh && page.Reset == nil && !s.mayEnd():
		return s.atHead()
	case !fresh || page.Reset != nil:
		first := *page
		s.page = &first
		*page = Page{} // the handler's frame lives as long as the stream
	}
	s.setBehind(true)
	return nil
}

// mayEnd reports whether the selection may be closed to its last topic, which
// only the log can say.
func (s *stream) mayEnd() bool {
	if len(s.sub.Select.Patterns) > 0 {
		return false
	}
	for _, t := range s.sub.Select.Topics {
		if !s.hub.Rule(t).Closable {
			return false
		}
	}
	return true
}

// hello is the first event for who asks for control events. Its id is where
// the client stands before the first event. It has none if a break right after
// it would hide something: before a gap, a snapshot, or a first page, which
// Next is already past.
func (s *stream) hello(page *Page, snapshot bool) error {
	verdict, id := "fresh", ""
	switch {
	case page.Reset != nil:
		verdict = "gap"
	case s.sub.LastID != "":
		verdict, id = "resumed", s.sub.LastID
	case !snapshot && len(page.Events) == 0:
		id = page.Next.String()
	}
	return s.write(controlFrame("hello", helloData{
		Wire: 1, Conn: s.id, Epoch: Cursor{Epoch: s.hub.epoch.Load()}.String()[:epochDigits],
		Verdict: verdict, Heartbeat: s.sub.Heartbeat.Milliseconds(),
		Topics: append(append([]string{}, s.sub.Select.Topics...), s.sub.Select.Patterns...),
	}, id), 0)
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
