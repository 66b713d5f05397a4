package server

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// ServeHTTP answers one request: what holds for all of them, then the
// endpoint.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	r = behindProxies(r, s.opts.TrustedProxies)
	id := requestID(r.Header.Get("Traceparent"))
	h := w.Header()
	h.Set(problem.RequestIDHeader, id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")

	rt, name := s.find(r.URL.EscapedPath())
	label := "other"
	if rt != nil {
		label = rt.path
	}
	rec := &response{ResponseWriter: w, onHead: func(status int) { s.metrics.request(label, r.Method, status, time.Since(begin)) }}
	defer func() {
		if rec.status == 0 {
			rec.sent(http.StatusOK) // net/http writes the head of an empty answer
		}
		s.opts.Logger.LogAttrs(r.Context(), slog.LevelDebug, "request",
			slog.String("id", id), slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", rec.status),
			slog.Duration("took", time.Since(begin)), slog.String("remote", r.RemoteAddr), slog.String("proto", r.Proto))
	}()

	defer func() {
		if v := recover(); v != nil {
			s.recovered(rec, r, id, v)
		}
	}()

	s.setCORS(h, r)
	err := s.admit(r)
	if err == nil {
		err = s.dispatch(rec, r, rt, name)
	}
	if err != nil {
		s.fail(rec, r, id, err)
	}
}

// admit refuses what no endpoint should see.
func (s *Server) admit(r *http.Request) error {
	if len(r.RequestURI) > maxURL {
		return problem.New("uri-too-long", "the URL has %d bytes, the limit is %d", len(r.RequestURI), maxURL)
	}
	fields, size := 0, 0
	for name, values := range r.Header {
		for _, v := range values {
			fields++
			size += len(name) + len(v) + len(": \r\n")
		}
	}
	if fields > maxHeaderFields || size > maxHeaderBytes {
		return problem.New("headers-too-large", "the header has %d fields and %d bytes, the limits are %d and %d", fields, size, maxHeaderFields, maxHeaderBytes)
	}
	if !s.opts.Dev {
		return nil // who may do what does not hang on where a page comes from; the cookie's does, which auth sees to
	}
	host := hostOf(r.Host)
	if !isLoopbackHost(host) {
		return problem.New("wrong-host", "in dev mode only localhost, 127.0.0.1 and [::1] are answered, not %q", r.Host)
	}
	if !writes(r.Method) {
		return nil
	}
	origin := r.Header.Get("Origin")
	switch {
	case originAllowed(s.opts.CORSOrigins, origin) && origin != "":
	case origin != "" && !isLoopbackOrigin(origin):
		return problem.New("origin-refused", "a page of %q may not write here; in dev mode only pages on this machine may", origin)
	case r.Header.Get("Sec-Fetch-Site") == "cross-site":
		return problem.New("origin-refused", "the browser calls this request cross-site; use the same host name for the page and for this server")
	}
	return nil
}

// writes reports whether a method may change something (RFC 9110, 9.2.1).
func writes(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, "QUERY":
		return false
	}
	return true
}

// fail answers with err. Details of what is nobody's problem but ours go to
// the log only, under the request's id.
func (s *Server) fail(w *response, r *http.Request, id string, err error) {
	p := problemOf(err)
	if p == nil {
		s.opts.Logger.Error("request failed", "id", id, "error", err)
		p = problem.New("internal", "the server's log has the details under this request id")
	}
	if w.status != 0 {
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	s.hurryBody(w, r)
	s.setChallenge(w.Header(), p)
	problem.Write(w, p)
}

// recovered answers for a handler that panicked. Once the head has left, all
// that can be done is to break the connection.
func (s *Server) recovered(w *response, r *http.Request, id string, v any) {
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.opts.Logger.Error("panic", "id", id, "value", fmt.Sprint(v), "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	s.hurryBody(w, r)
	problem.Write(w, problem.New("internal", "the server's log has the details under this request id"))
}

// requestID makes the id of a request: the trace id of a W3C traceparent if
// there is one, and 64 random bits.
func requestID(traceparent string) string {
	var b [8]byte
	rand.Read(b[:])
	id := hex.EncodeToString(b[:])
	// version "-" trace-id "-" parent-id "-" flags
	if parts := strings.Split(traceparent, "-"); len(parts) >= 4 && len(parts[0]) == 2 && len(parts[1]) == 32 && strings.Trim(parts[1], "0123456789abcdef") == "" && strings.Trim(parts[1], "0") != "" {
		return parts[1] + "-" + id
	}
	return id
}
