package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tailrace/tailrace/internal/problem"
)

// Times for request bodies that the server itself reads, or does not.
const (
	bodyTime = 60 * time.Second // for the body of an administrative request
	restTime = 5 * time.Second  // for the rest of the body of a refused one
)

// writeJSON answers 200 with v.
func writeJSON(w http.ResponseWriter, v any) error {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // an answer is no page, and a URL in it is to be copied
	if err := e.Encode(v); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.Write(body.Bytes())
	return nil
}

// readBody reads a whole body of at most limit bytes.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, problem.New("unsupported-encoding", "this body is taken as it is, not as %q", enc)
	}
	if r.ContentLength > limit {
		leaveBody(w, r)
		return nil, tooLarge(limit)
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(s.bodyTime)) // where there is none, the server's own hold
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		rc.SetReadDeadline(time.Time{})
		return body, nil
	}
	leaveBody(w, r)
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, problem.New("body-timeout", "the body did not arrive in %v", s.bodyTime)
	}
	return nil, problem.New("invalid-request", "the body cannot be read: %v", err)
}

// leaveBody answers without the rest of the body. HTTP/1 then has to end the
// connection; net/http would otherwise wait for the rest before it answers.
func leaveBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	http.NewResponseController(w).SetReadDeadline(time.Now())
}

// hurryBody gives a body that nobody reads a moment to arrive, so that the
// connection can go on; net/http reads it before it answers, and would wait
// for ever.
func (s *Server) hurryBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 && w.Header().Get("Connection") == "" {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.restTime))
	}
}

func tooLarge(limit int64) error {
	return problem.New("too-large", "the body is over %d bytes", limit).With("limit", limit)
}

// readJSON decodes a JSON object strictly into v. known are its members.
func (s *Server) readJSON(w http.ResponseWriter, r *http.Request, v any, known []string) error {
	body, err := s.readBody(w, r, maxAdminBody)
	if err != nil {
		return err
	}
	if !utf8.Valid(body) {
		return problem.New("invalid-json", "the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return problem.New("invalid-json", "the body is not JSON: %v", err)
		}
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return problem.UnknownName("member", strings.Trim(name, `"`), known)
		}
		return problem.New("invalid-parameter", "the body is not the JSON object expected: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return problem.New("invalid-json", "something follows the JSON object")
	}
	return nil
}
