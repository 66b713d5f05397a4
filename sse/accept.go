package sse

import (
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultWriteTimeout is long enough for a phone that changes networks, and short enough
	// that stalled readers do not pile up.
	DefaultWriteTimeout = 10 * time.Second

	// DefaultHeartbeat is below the 30 to 60 s after which proxies and NATs drop a silent
	// connection, with room for one that is lost.
	DefaultHeartbeat = 15 * time.Second
)

// contentType is the media type of an event stream.
const contentType = "text/event-stream"

// Errors of [Accept]. Each means that the response has been written and the handler just returns.
var (
	// ErrNoStream says that the request asked for no stream: it was OPTIONS or HEAD and has its
	// answer.
	ErrNoStream = errors.New("sse: the request asks for no stream")

	// ErrNotAcceptable says that the request's Accept header refuses text/event-stream; it got 406.
	ErrNotAcceptable = errors.New("sse: the request does not accept text/event-stream")

	// ErrNoFlush says that the ResponseWriter cannot flush, so that events would not leave
	// before the response ends; the request got 500. The usual cause is a middleware whose
	// ResponseWriter has neither Flush nor Unwrap.
	ErrNoFlush = errors.New("sse: the ResponseWriter cannot flush: a middleware hides Flush and has no Unwrap")
)

// AcceptOptions are the options of [Accept] and [Handler]. Nil and the zero value are the defaults.
type AcceptOptions struct {
	// WriteTimeout is how long one write may take before the stream fails;
	// over HTTP/1 up to half as long again, so that not each needs a deadline
	// of its own. 0 is DefaultWriteTimeout, negative is no limit.
	WriteTimeout time.Duration

	// Heartbeat is the silence after which a comment line is sent, so that proxies keep the
	// connection and clients can tell silence from a dead peer. 0 is DefaultHeartbeat,
	// negative is none, which also costs no timer.
	Heartbeat time.Duration

	// Retry is the reconnection time that the client is told in the first line, in whole
	// milliseconds, rounded up. 0 sends none.
	Retry time.Duration

	// Logger gets the errors that a HandlerFunc yields; nothing else is logged.
	// Nil is slog.Default.
	Logger *slog.Logger
}

// withDefaults returns a copy of o in which 0 has become the default and negative 0.
func (o *AcceptOptions) withDefaults() AcceptOptions {
	var opts AcceptOptions
	if o != nil {
		opts = *o
	}
	opts.WriteTimeout = durationOr(opts.WriteTimeout, DefaultWriteTimeout)
	opts.Heartbeat = durationOr(opts.Heartbeat, DefaultHeartbeat)
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return opts
}

// durationOr returns d, the default for 0, and 0 for a negative d.
func durationOr(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return max(d, 0)
}

// Accept answers r with an event stream. The head, and the retry line if there is one, have left
// when it returns: a client's open event does not wait for the first event.
//
// The caller must close the stream before its handler returns, best with defer. On an error the
// response has been written and the handler just returns: OPTIONS and HEAD have their answer
// (ErrNoStream), an Accept header that refuses event streams got 406 (ErrNotAcceptable), and a
// w that cannot flush got 500 (ErrNoFlush). Other methods all get a stream, since which of them
// a path takes is the mux's to say. Another error is that of the first write.
//
// Accept sets Content-Type and, unless the caller has set them, Cache-Control, X-Accel-Buffering
// and Tailrace-Heartbeat; CORS headers are the caller's. It lifts http.Server.WriteTimeout from
// this response, unless a middleware hides the deadlines. A request body must be read before
// Accept: over HTTP/1.1 it is closed with the first byte of the response.
//
// It follows section 9.2.4 of the HTML standard.
func Accept(w http.ResponseWriter, r *http.Request, opts *AcceptOptions) (*Stream, error) {
	o := opts.withDefaults()
	if err := negotiate(w, r, o.Heartbeat); err != nil {
		return nil, err
	}
	s := newStream(w, r, o)
	if err := s.open(o.Retry); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// LastEventID returns where the client of r wants to go on: the Last-Event-ID header or, without
// one, the query parameter last_event_id. The header wins, because a reconnecting EventSource
// repeats its first URL. A value with a NUL is no id and is passed over. It is the client's word:
// check it before use.
func LastEventID(r *http.Request) string {
	if id := r.Header.Get("Last-Event-ID"); validID(id) {
		return id
	}
	if r.URL == nil || r.URL.RawQuery == "" {
		return ""
	}
	if id := r.URL.Query().Get("last_event_id"); validID(id) {
		return id
	}
	return ""
}

func validID(id string) bool {
	return id != "" && strings.IndexByte(id, 0) < 0
}

// negotiate does what comes before the head of a stream. On an error it has written the response.
func negotiate(w http.ResponseWriter, r *http.Request, heartbeat time.Duration) error {
	if r.Method == http.MethodOptions {
		w.Header().Set("Allow", "GET, HEAD, POST, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
		return ErrNoStream
	}
	if !accepts(r.Header["Accept"]) {
		http.Error(w, "this resource is a "+contentType, http.StatusNotAcceptable)
		return ErrNotAcceptable
	}
	if r.Method == http.MethodHead {
		setHead(w.Header(), heartbeat)
		w.WriteHeader(http.StatusOK)
		return ErrNoStream
	}
	if !canFlush(w) {
		http.Error(w, "streaming is not possible here", http.StatusInternalServerError)
		return ErrNoFlush
	}
	return nil
}

// setHead sets the header fields of a stream. There is no Connection among them: HTTP/2 forbids
// it, and HTTP/1.1 does without.
func setHead(h http.Header, heartbeat time.Duration) {
	h.Set("Content-Type", contentType)
	h.Del("Content-Length")
	setDefault(h, "Cache-Control", "no-cache, no-transform")
	setDefault(h, "X-Accel-Buffering", "no") // nginx holds events back without it
	if heartbeat > 0 {
		seconds := (heartbeat + time.Second - 1) / time.Second
		setDefault(h, "Tailrace-Heartbeat", strconv.Itoa(int(seconds)))
	}
}

// setDefault sets a field, given in canonical form, that is absent.
func setDefault(h http.Header, field, value string) {
	if _, ok := h[field]; !ok {
		h[field] = []string{value}
	}
}

// canFlush says whether [http.ResponseController.Flush] finds something to call, without calling
// it.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

// accepts says whether the Accept header with these lines admits an event stream. The most
// specific range decides (RFC 9110, section 12.5.1); no header, or one that is not understood,
// admits.
func accepts(lines []string) bool {
	specificity, quality, empty := 0, 0.0, true
	for _, line := range lines {
		for rest := line; rest != ""; {
			var elem string
			elem, rest = cutElement(rest)
			if strings.TrimSpace(elem) == "" {
				continue
			}
			empty = false
			mediaRange, params, err := mime.ParseMediaType(elem)
			if err != nil {
				return true
			}
			s := 0
			switch mediaRange {
			case contentType:
				s = 3
			case "text/*":
				s = 2
			case "*/*":
				s = 1
			default:
				continue
			}
			q := 1.0
			if text, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(text, 64); err != nil || !(q >= 0 && q <= 1) { // NaN is neither
					return true
				}
			}
			if s > specificity || s == specificity && q > quality {
				specificity, quality = s, q
			}
		}
	}
	return empty || quality > 0
}

// cutElement cuts the first element off a comma-separated list; commas in quoted strings do not
// count.
func cutElement(list string) (elem, rest string) {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == ',' && !quoted:
			return list[:i], list[i+1:]
		}
	}
	return list, ""
}
