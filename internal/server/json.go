package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tailrace/tailrace/internal/problem"
)

// bodyTime is how long the body of an administrative request may take.
const bodyTime = 60 * time.Second

// writeJSON answers 200 with v.
func writeJSON(w http.ResponseWriter, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.Write(append(body, '\n'))
	return nil
}

// readBody reads a whole body of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return nil, problem.New("unsupported-encoding", "this body is taken as it is, not as %q", enc)
	}
	if r.ContentLength > limit {
		w.Header().Set("Connection", "close")
		return nil, tooLarge(limit)
	}
	rc := http.NewResponseController(w)
	if rc.SetReadDeadline(time.Now().Add(bodyTime)) == nil {
		defer rc.SetReadDeadline(time.Time{})
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return nil, tooLarge(limit)
	}
	if problemOf(err) == nil && err != nil {
		return nil, problem.New("invalid-request", "the body cannot be read: %v", err)
	}
	return body, err
}

func tooLarge(limit int64) error {
	return problem.New("too-large", "the body is over %d bytes", limit).With("limit", limit)
}

// readJSON decodes a JSON object strictly into v. known are its members.
func readJSON(w http.ResponseWriter, r *http.Request, v any, known []string) error {
	body, err := readBody(w, r, maxAdminBody)
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
			return unknown("member", strings.Trim(name, `"`), known)
		}
		return problem.New("invalid-parameter", "the body is not the JSON object expected: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return problem.New("invalid-json", "something follows the JSON object")
	}
	return nil
}
