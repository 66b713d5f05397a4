// Package app is the smallest live page: a stream that counts the seconds, and a page that lists
// them.
package app

import (
	_ "embed"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/tailrace/tailrace/sse"
)

//go:embed index.html
var page []byte

// Options are the options of New. Nil and the zero value are the defaults.
type Options struct {
	Interval time.Duration // between two events; 0 is a second
}

// New returns the page at / and its stream at /events.
func New(opts *Options) http.Handler {
	interval := time.Second
	if opts != nil && opts.Interval > 0 {
		interval = opts.Interval
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page)
	})
	mux.Handle("GET /events", sse.HandlerFunc(func(r *http.Request) iter.Seq2[sse.Event, error] {
		n, err := strconv.ParseUint(sse.LastEventID(r), 10, 32)
		if err != nil {
			n = 0 // a client without an id starts at the beginning, one with a strange id too
		}
		return func(yield func(sse.Event, error) bool) {
			ticker := time.NewTicker(interval)
			defer ticker.Stop()
			for {
				n++
				data := fmt.Appendf(nil, `{"n":%d,"time":%q}`, n, time.Now().Format(time.RFC3339))
				if !yield(sse.Event{ID: strconv.FormatUint(n, 10), Data: data}, nil) {
					return
				}
				select {
				case <-ticker.C:
				case <-r.Context().Done(): // the client has gone
					return
				}
			}
		}
	}))
	return mux
}
