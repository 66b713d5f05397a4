// Package startpage is the page at / of a server in development mode: what is
// running, curl lines to copy, a live view of any topic through the browser's
// own EventSource, and a box to publish from. Its files are embedded as they
// are; it loads nothing from anywhere else.
package startpage

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

//go:embed page.html page.css page.js icon.svg
var files embed.FS

// Status is what the page shows of the server.
type Status struct {
	Version     string    `json:"version"`
	Engine      string    `json:"engine"`
	Dir         string    `json:"dir"` // "" for a log in memory
	Started     time.Time `json:"started"`
	Connections int       `json:"connections"`
	Published   int64     `json:"published"` // events since the start
	Delivered   int64     `json:"delivered"`
}

// policy admits the page's own files and API, and no script or style in the
// markup, so that no text of an event can ever become code.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// New returns the handler of the page, its files and its status. status is
// called for each request of the latter, from any goroutine.
func New(status func() Status) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", file("page.html", "text/html; charset=utf-8"))
	mux.Handle("GET /start/page.css", file("page.css", "text/css; charset=utf-8"))
	mux.Handle("GET /start/page.js", file("page.js", "text/javascript; charset=utf-8"))
	mux.Handle("GET /start/icon.svg", file("icon.svg", "image/svg+xml"))
	mux.HandleFunc("GET /start/status", func(w http.ResponseWriter, r *http.Request) {
		setHead(w.Header(), "application/json", "no-store")
		json.NewEncoder(w).Encode(status())
	})
	return mux
}

func file(name, contentType string) http.Handler {
	text, err := files.ReadFile(name)
	sum := sha256.Sum256(text)
	etag := `"` + hex.EncodeToString(sum[:8]) + `"`
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err != nil {
			http.Error(w, fmt.Sprintf("startpage: %v", err), http.StatusInternalServerError)
			return
		}
		setHead(w.Header(), contentType, "no-cache")
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write(text)
	})
}

func setHead(h http.Header, contentType, caching string) {
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", caching)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}
