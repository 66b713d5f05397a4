package sse

import "time"

// maxRetry is the longest reconnection time on the wire: the largest delay
// that a browser's timer holds, 2147483647 ms. Longer ones become this one,
// when they are written and when they are read.
const maxRetry = 2147483647 * time.Millisecond

// Event is one event of a stream, in either direction. The zero Event is an
// event with empty data.
type Event struct {
	// ID is the event's id. In a decoded event it is the stream's last event
	// id at the time of the event, whether this block set it or an earlier
	// one. Encoding an empty ID writes no id line.
	ID string

	// Type is the event's type. Empty means "message"; both spellings are
	// kept as they came.
	Type string

	// Data is UTF-8 text, its lines parted by LF.
	Data []byte

	// Retry is the reconnection time given in this event's block; 0 is none.
	// It is written in whole milliseconds, rounded up, at most 2147483647.
	Retry time.Duration
}

// FieldError reports a value that cannot stand in its field. The value is
// never rewritten to make it fit.
type FieldError struct {
	Field  string // "id", "type" or "retry"
	Reason string // what is wrong with the value, such as "contains a line end"
}

func (e *FieldError) Error() string { return "sse: " + e.Field + " " + e.Reason }
