package sse

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// AppendText appends the event's frame to b: the lines id, event, retry and
// data in this order, each ended by LF, and the blank line that dispatches it
// (WHATWG HTML 9.2.5). It implements encoding.TextAppender.
//
// Data is split at CR LF, CR and LF into one data line each, so no byte of it
// can open a field, end the event or begin a comment; a receiver sees every
// line end as LF. NUL and invalid UTF-8 pass unchanged.
//
// An ID or Type with CR, LF, NUL or invalid UTF-8, or a negative Retry, is a
// *FieldError, and b comes back as it was. AppendText grows b at most once
// and does not keep it.
func (e *Event) AppendText(b []byte) ([]byte, error) {
	if reason := invalidField(e.ID); reason != "" {
		return b, &FieldError{Field: "id", Reason: reason}
	}
	if reason := invalidField(e.Type); reason != "" {
		return b, &FieldError{Field: "type", Reason: reason}
	}
	if e.Retry < 0 {
		return b, errNegativeRetry()
	}

	hasCR := bytes.IndexByte(e.Data, '\r') >= 0
	lines := 1 + bytes.Count(e.Data, newline)
	if hasCR {
		lines += bytes.Count(e.Data, carriageReturn) // CR LF counts twice: room to spare
	}
	const fixed = len("id: \nevent: \nretry: 2147483647\n\n")
	b = slices.Grow(b, fixed+len(e.ID)+len(e.Type)+len(e.Data)+lines*len("data: \n"))

	if e.ID != "" {
		b = append(b, "id: "...)
		b = append(b, e.ID...)
		b = append(b, '\n')
	}
	if e.Type != "" {
		b = append(b, "event: "...)
		b = append(b, e.Type...)
		b = append(b, '\n')
	}
	if e.Retry > 0 {
		b = appendRetry(b, e.Retry)
	}
	b = append(b, "data: "...)
	switch {
	case hasCR:
		b = appendLines(b, e.Data)
	case lines > 1:
		rest := e.Data
		for i := bytes.IndexByte(rest, '\n'); i >= 0; i = bytes.IndexByte(rest, '\n') {
			b = append(b, rest[:i+1]...)
			b = append(b, "data: "...)
			rest = rest[i+1:]
		}
		b = append(b, rest...)
	default:
		b = append(b, e.Data...)
	}
	return append(b, "\n\n"...), nil
}

var (
	newline        = []byte{'\n'}
	carriageReturn = []byte{'\r'}
)

// appendLines appends data with a fresh data line after each line end of any
// of the three kinds.
func appendLines(b, data []byte) []byte {
	for i, c := range data {
		switch {
		case c == '\r' && i+1 < len(data) && data[i+1] == '\n':
			// The LF that follows ends this line.
		case c == '\r' || c == '\n':
			b = append(b, "\ndata: "...)
		default:
			b = append(b, c)
		}
	}
	return b
}

// AppendRetry appends one retry line, without a blank line: a receiver takes
// it at once. d is rounded up to whole milliseconds and is at most 2147483647
// of them; a negative d is a *FieldError, and b comes back as it was.
func AppendRetry(b []byte, d time.Duration) ([]byte, error) {
	if d < 0 {
		return b, errNegativeRetry()
	}
	return appendRetry(b, d), nil
}

func appendRetry(b []byte, d time.Duration) []byte {
	d = min(d, maxRetry)
	ms := int64((d + time.Millisecond - 1) / time.Millisecond)
	b = slices.Grow(b, len("retry: 2147483647\n"))
	b = append(b, "retry: "...)
	b = strconv.AppendInt(b, ms, 10)
	return append(b, '\n')
}

func errNegativeRetry() error { return &FieldError{Field: "retry", Reason: "is negative"} }

// AppendComment appends text as a comment, one line that begins with a colon
// for each line of text, without a blank line. Nothing but the text follows
// the colon. Receivers that ignore comments see nothing of it.
func AppendComment(b []byte, text string) []byte {
	lines := 1 + strings.Count(text, "\n") + strings.Count(text, "\r")
	b = slices.Grow(b, len(text)+lines*len(":\n"))
	b = append(b, ':')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\r' && i+1 < len(text) && text[i+1] == '\n':
			// The LF that follows ends this line.
		case c == '\r' || c == '\n':
			b = append(b, "\n:"...)
		default:
			b = append(b, c)
		}
	}
	return append(b, '\n')
}

// invalidField tells why s cannot be written as the value of one line, or
// returns "".
func invalidField(s string) string {
	ascii := true
	for i := range len(s) {
		c := s[i]
		if ' ' <= c && c < utf8.RuneSelf {
			continue
		}
		switch {
		case c == '\n' || c == '\r':
			return "contains a line end"
		case c == 0:
			return "contains a NUL byte"
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	return ""
}
