package tailrace

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits on the texts of an event, in bytes. They keep every index entry of an
// engine small, and a topic's name inside a URL.
const (
	MaxTopic = 512
	MaxID    = 256
	MaxKey   = 255
	MaxType  = 128
)

// Types that the hub itself sends begin with this; publishers may not use them.
const ReservedTypePrefix = "tailrace."

// TypeGap is the type of the event that says that history after a cursor is
// not complete. Its data is a JSON [Gap].
const TypeGap = ReservedTypePrefix + "gap"

// TypeEnd is the type of an event with Close that only marks its topic's end.
// It takes a position and is not delivered as an event of its own.
const TypeEnd = ReservedTypePrefix + "end"

// Event is one event of a topic, as it is stored. Who appends it sets the
// first group of fields, the log the second.
//
// Data is shared and never changes: not by the caller after Append, not by a
// reader.
type Event struct {
	Topic  string        // 1 to 512 bytes, segments parted by "/"
	Type   string        // "" is "message"; up to 128 bytes
	Key    string        // state key, or ""; up to 255 bytes
	ID     string        // the publisher's own id, or ""; up to 256 bytes; unique in the topic
	Data   []byte        // UTF-8
	Retry  time.Duration // reconnection time for subscribers; 0 is none
	Remove bool          // with Key: the key has no state from here on
	IfHead *Cursor       // first event of a call only, else ErrInvalid: append only if the topic's last event is this one (zero: none kept); else ErrHead
	Close  bool          // last event of its topic; needs Policy.Closable

	Cursor Cursor
	Time   time.Time // the log's clock at commit; never decreases within a sequence
}

// WireID is the id of e on a stream of its topic alone: the publisher's own,
// else the cursor.
func (e *Event) WireID() string {
	if e.ID != "" {
		return e.ID
	}
	return e.Cursor.String()
}

// Check reports whether e may be appended under the policy p, as every log
// must check before it stores anything: ErrInvalid (an [InvalidError]),
// ErrTooLarge or ErrNotClosable.
func (e *Event) Check(p *Policy) error {
	if err := CheckTopic(e.Topic); err != nil {
		return err
	}
	if err := checkText("type", e.Type, MaxType); err != nil {
		return err
	}
	if err := checkText("key", e.Key, MaxKey); err != nil {
		return err
	}
	if err := checkText("id", e.ID, MaxID); err != nil {
		return err
	}
	switch {
	case e.Remove && e.Key == "":
		return &InvalidError{Field: "remove", Reason: "needs a key"}
	case e.Retry < 0:
		return &InvalidError{Field: "retry", Reason: "is negative"}
	case e.Close && !p.Closable:
		return ErrNotClosable
	case len(e.Data) > p.MaxEvent:
		return fmt.Errorf("%w: %d bytes of data, the topic's limit is %d", ErrTooLarge, len(e.Data), p.MaxEvent)
	}
	if !utf8.Valid(e.Data) {
		return &InvalidError{Field: "data", Offset: invalidUTF8(string(e.Data)), Reason: "is not UTF-8"}
	}
	return nil
}

// InvalidError says which text of an event, a name or a selector is not
// allowed, and where. It is an ErrInvalid.
type InvalidError struct {
	Field  string // topic, pattern, type, key, id, data, remove, retry, if_head, query
	Offset int    // of the offending byte
	Reason string
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("tailrace: invalid %s: %s (at byte %d)", e.Field, e.Reason, e.Offset)
}

func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// CheckTopic reports whether name is a topic's name: 1 to 512 bytes of UTF-8
// without control characters and noncharacters. The error is an
// [*InvalidError].
func CheckTopic(name string) error {
	if name == "" {
		return &InvalidError{Field: "topic", Reason: "is empty"}
	}
	return checkText("topic", name, MaxTopic)
}

func checkText(field, s string, limit int) error {
	if len(s) > limit {
		return &InvalidError{Field: field, Offset: limit, Reason: fmt.Sprintf("has %d bytes, the limit is %d", len(s), limit)}
	}
	if isPlainASCII(s) {
		return nil
	}
	for i, r := range s {
		switch {
		case r < 0x20 || 0x7f <= r && r <= 0x9f:
			return &InvalidError{Field: field, Offset: i, Reason: fmt.Sprintf("has the control character %U", r)}
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd"):
			return &InvalidError{Field: field, Offset: i, Reason: "is not UTF-8"}
		case 0xfdd0 <= r && r <= 0xfdef || r&0xfffe == 0xfffe:
			return &InvalidError{Field: field, Offset: i, Reason: fmt.Sprintf("has the noncharacter %U", r)}
		}
	}
	return nil
}

func isPlainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func invalidUTF8(s string) int {
	for i, r := range s {
		if r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd") {
			return i
		}
	}
	return len(s)
}

// Errors of logs and of the hub; test with [errors.Is]. An error of Append
// that is none of these means that the events may or may not be stored:
// repeating with the same own ids is always right.
var (
	ErrClosed       = errors.New("tailrace: topic is closed")
	ErrHead         = errors.New("tailrace: topic's last event is not the expected one")
	ErrNotClosable  = errors.New("tailrace: topic may not be closed")
	ErrTooLarge     = errors.New("tailrace: event too large")
	ErrInvalid      = errors.New("tailrace: invalid")
	ErrSelector     = errors.New("tailrace: selection spans sequences")
	ErrFull         = errors.New("tailrace: log is full")
	ErrStopped      = errors.New("tailrace: log is stopped")
	ErrNoConnection = errors.New("tailrace: no such connection")
	ErrSlow         = errors.New("tailrace: connection has too many control events waiting")
	ErrReserved     = errors.New("tailrace: name or type is reserved")
	ErrRetired      = errors.New("tailrace: topic is retired")
)
