package server

import (
	"net/http"
	"strconv"
	"strings"
)

// The answers to a preflight (Fetch, "CORS protocol"). Everything a client of
// the API sends or may read is named, since a star does not cover
// Authorization, nor anything with credentials.
const (
	corsMethods = "GET, HEAD, POST, PATCH, DELETE, QUERY"
	corsHeaders = "Authorization, Content-Type, Content-Encoding, Last-Event-ID, Cache-Control, If-None-Match, If-Match, Idempotency-Key, " +
		"Tailrace-Client, Tailrace-Close, Tailrace-Event, Tailrace-Id, Tailrace-If-Head, Tailrace-Key, Tailrace-Remove, Tailrace-Retry"
	corsExposed = "ETag, Link, Retry-After, RateLimit, RateLimit-Policy, Tailrace-Closed, Tailrace-Connection, Tailrace-Count, " +
		"Tailrace-Cursor, Tailrace-Head, Tailrace-Heartbeat, Tailrace-Oldest, Tailrace-Request-Id"
)

// corsAllowed reports whether pages of origin may read answers.
func (s *Server) corsAllowed(origin string) bool {
	return s.opts.Dev && isLoopbackOrigin(origin) || originAllowed(s.opts.CORSOrigins, origin)
}

// setCORS lets pages of allowed origins read the answer. An answer to another
// origin has no CORS header at all, and caches keep the two apart.
func (s *Server) setCORS(h http.Header, r *http.Request) {
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !s.corsAllowed(origin) {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", corsExposed)
	if cookie := s.cookie.Load(); cookie.Enabled && originAllowed(cookie.Origins, origin) {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	h.Set("Timing-Allow-Origin", origin)
}

// servePreflight answers OPTIONS. allow are the methods of the path.
func (s *Server) servePreflight(w http.ResponseWriter, r *http.Request, allow string) {
	h := w.Header()
	h.Set("Allow", allow)
	if r.Header.Get("Access-Control-Request-Method") != "" {
		h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
		if h.Get("Access-Control-Allow-Origin") != "" {
			h.Del("Access-Control-Expose-Headers")
			h.Set("Access-Control-Allow-Methods", corsMethods)
			h.Set("Access-Control-Allow-Headers", corsHeaders+cloudEventHeaders(r.Header.Values("Access-Control-Request-Headers")))
			h.Set("Access-Control-Max-Age", strconv.Itoa(int(s.opts.CORSMaxAge.Seconds())))
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// cloudEventHeaders picks the ce- headers out of those asked for: their names
// are open ended, so they are allowed as asked.
func cloudEventHeaders(asked []string) string {
	var b strings.Builder
	for _, list := range asked {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if strings.HasPrefix(name, "ce-") && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" {
				b.WriteString(", " + name)
			}
		}
	}
	return b.String()
}
