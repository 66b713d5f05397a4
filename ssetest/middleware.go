package ssetest

import "net/http"

// UnwrapOnly wraps the ResponseWriter in one that has nothing of its own but Unwrap, as
// middleware of today does.
func UnwrapOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(unwrapper{opaque{w}}, r)
	})
}

// FlusherOnly wraps the ResponseWriter in one that has Flush and hides the rest, deadlines among
// it, as middleware from before [http.ResponseController] does.
func FlusherOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(flusher{opaque{w}}, r)
	})
}

// Opaque wraps the ResponseWriter in one that can only write, behind which no stream is possible.
func Opaque(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(opaque{w}, r)
	})
}

// opaque has the three methods of a ResponseWriter and no other.
type opaque struct{ http.ResponseWriter }

type unwrapper struct{ opaque }

func (u unwrapper) Unwrap() http.ResponseWriter { return u.ResponseWriter }

type flusher struct{ opaque }

func (f flusher) Flush() { _ = http.NewResponseController(f.ResponseWriter).Flush() }
