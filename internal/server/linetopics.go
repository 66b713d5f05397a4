package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/internal/problem"
)

// maxBatchBody bounds a batch whose lines name topics.
const maxBatchBody = 8 << 20

// isBatch reports whether a body may be a batch of JSON lines. It says so too
// often rather than not often enough.
func isBatch(h http.Header) bool {
	media := strings.ToLower(h.Get("Content-Type"))
	return strings.Contains(media, "ndjson") || strings.Contains(media, "jsonl")
}

// isUpload reports whether a body may be an event stream, in the same way.
func isUpload(h http.Header) bool {
	return strings.Contains(strings.ToLower(h.Get("Content-Type")), "event-stream")
}

// readLineTopics returns the topics that the lines of a batch name, each once.
// The request gets back exactly the bytes that were looked at, so that nothing
// is published that was not decided about.
func (s *Server) readLineTopics(w http.ResponseWriter, c *call) ([]string, error) {
	encoding := strings.ToLower(strings.TrimSpace(strings.Join(c.Header.Values("Content-Encoding"), ",")))
	r := c.WithContext(c.Context())
	r.Header = c.Header.Clone()
	r.Header.Del("Content-Encoding")
	body, err := s.readBody(w, r, maxBatchBody)
	if err != nil {
		return nil, err
	}
	switch encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		if body, err = gunzip(body); err != nil {
			return nil, err
		}
	default:
		return nil, problem.New("unsupported-encoding", "the body's Content-Encoding is %q", encoding)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	c.Request = r

	var topics []string
	line := 0
	for text := range bytes.SplitSeq(body, []byte{'\n'}) {
		line++
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		names, err := topicsOf(text)
		if err != nil {
			return nil, problem.New("invalid-batch", "line %d: %v", line, err).
				With("errors", []map[string]any{{"line": line, "type": problem.TypePrefix + "invalid-json", "detail": err.Error()}})
		}
		topics = append(topics, names...)
	}
	slices.Sort(topics)
	return slices.Compact(topics), nil
}

// topicsOf returns what a line says of topics. Names count as they are
// written: other spellings are refused by whoever publishes the batch.
func topicsOf(line []byte) ([]string, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		return nil, errors.New("it is no JSON object")
	}
	var names []string
	if text, ok := members["topic"]; ok {
		var name string
		if json.Unmarshal(text, &name) != nil {
			return nil, errors.New("topic is no text")
		}
		names = append(names, name)
	}
	if text, ok := members["topics"]; ok {
		var more []string
		if json.Unmarshal(text, &more) != nil {
			return nil, errors.New("topics is no array of names")
		}
		names = append(names, more...)
	}
	return names, nil
}

func gunzip(body []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, problem.New("invalid-request", "the body is not gzip: %v", err)
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxBatchBody+1))
	switch {
	case err != nil:
		return nil, problem.New("invalid-request", "the body is not gzip: %v", fmt.Errorf("%w", err))
	case len(plain) > maxBatchBody:
		return nil, tooLarge(maxBatchBody)
	}
	return plain, nil
}
