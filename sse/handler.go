package sse

import (
	"iter"
	"log/slog"
	"net/http"
)

// A HandlerFunc answers a request with the events that it returns. It is an [http.Handler] with
// the default options; [Handler] gives it others.
//
// It runs when the request is known to want a stream. If it returns nil the answer is 204, which
// tells every conforming client to stop for good. Otherwise the head goes out at once, and then
// each event as it is yielded: the reader paces the producer. When the iterator has ended, the
// response ends, and the client reconnects.
//
// r.Context() is the stream's: it ends with the client and with a failed write. An iterator that
// can block must watch it. An error that it yields ends the response and is logged, unless the
// context has ended; so is an event that cannot be encoded. For another status than 200 and 204,
// use [Accept] or a middleware. The handler does not change events, and keeps none.
type HandlerFunc func(r *http.Request) iter.Seq2[Event, error]

// ServeHTTP implements [http.Handler].
func (f HandlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve(w, r, f, nil)
}

// Handler is f with options of its own. Nil options are the defaults.
func Handler(f HandlerFunc, opts *AcceptOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, f, opts)
	})
}

func serve(w http.ResponseWriter, r *http.Request, f HandlerFunc, opts *AcceptOptions) {
	o := opts.withDefaults()
	if negotiate(w, r, o.Heartbeat) != nil {
		return
	}
	s := newStream(w, r, o)
	defer s.Close()
	events := f(r.WithContext(s.Context()))
	if events == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if s.open(o.Retry) != nil {
		return
	}
	for ev, err := range events {
		if err == nil {
			err = s.Send(&ev)
		}
		if err == nil {
			continue
		}
		if s.Context().Err() == nil {
			o.Logger.LogAttrs(r.Context(), slog.LevelError, "sse: stream ended by an error",
				slog.String("path", r.URL.Path), slog.Any("err", err))
		}
		return
	}
}
