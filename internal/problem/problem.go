// Package problem is the one form of every error that Tailrace answers over
// HTTP: application/problem+json (RFC 9457), with a fixed table of types.
package problem

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// ContentType is the media type of a problem.
const ContentType = "application/problem+json"

// TypePrefix precedes a type's name in the member "type"; the server answers
// at that path with a page that explains it.
const TypePrefix = "/docs/problems/"

// RequestIDHeader carries the request's id. It is set on the response before
// the handler runs, and a problem repeats it.
const RequestIDHeader = "Tailrace-Request-Id"

// Problem is one error as an answer. It is an error, so that a function deep
// in a handler can return it.
type Problem struct {
	Name       string         // a name of the table, such as "invalid-topic"
	Detail     string         // what is wrong with this very request, and what to do
	Status     int            // 0 is that of the table
	RetryAfter time.Duration  // 0 sends none; rounded up to whole seconds
	Members    map[string]any // further members of the type
}

// New returns a problem of the table with a formatted detail.
func New(name, format string, args ...any) *Problem {
	return &Problem{Name: name, Detail: fmt.Sprintf(format, args...)}
}

// With returns p with one more member.
func (p *Problem) With(member string, value any) *Problem {
	q := *p
	q.Members = maps.Clone(p.Members)
	if q.Members == nil {
		q.Members = map[string]any{}
	}
	q.Members[member] = value
	return &q
}

func (p *Problem) Error() string { return "tailrace: " + p.Name + ": " + p.Detail }

// StatusCode returns the HTTP status of p.
func (p *Problem) StatusCode() int {
	if p.Status != 0 {
		return p.Status
	}
	if t, ok := Find(p.Name); ok {
		return t.Status
	}
	return http.StatusInternalServerError
}

// MarshalJSON writes p without its request id.
func (p *Problem) MarshalJSON() ([]byte, error) { return json.Marshal(p.object("")) }

func (p *Problem) object(requestID string) map[string]any {
	title := p.Name
	if t, ok := Find(p.Name); ok {
		title = t.Title
	}
	m := map[string]any{}
	maps.Copy(m, p.Members)
	m["type"] = TypePrefix + p.Name
	m["title"] = title
	m["status"] = p.StatusCode()
	m["detail"] = p.Detail
	if requestID != "" {
		m["request_id"] = requestID
	}
	return m
}

// Write answers with p. Nothing must have been written to w before.
func Write(w http.ResponseWriter, p *Problem) {
	h := w.Header()
	h.Del("Content-Length")
	h.Del("Content-Encoding")
	h.Del("Etag")
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((p.RetryAfter+time.Second-1)/time.Second), 10))
	}
	body, err := json.Marshal(p.object(h.Get(RequestIDHeader)))
	if err != nil { // a member that JSON cannot say is our own fault; the status still holds
		body = fmt.Appendf(nil, `{"type":"%s%s","status":%d}`, TypePrefix, p.Name, p.StatusCode())
	}
	w.WriteHeader(p.StatusCode())
	w.Write(append(body, '\n'))
}
