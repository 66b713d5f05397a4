package tailrace

import (
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tailrace/tailrace/sse"
)

// form is how an event looks on the wire. The bytes of a form depend on the
// event alone, so a frame that is made again is the same.
type form uint8

const (
	formCursor  form       = 1 << iota // the id is the cursor, also where there is an own id
	formMeta                           // data is the envelope
	formNoID                           // no id line, as within a snapshot
	sharedForms = formNoID             // forms below it are kept with the frame
)

// frame is the finished block of one event: encoded once for each form that
// is asked for, then immutable and shared by every subscriber of every
// selection.
type frame struct {
	ev    Event
	refs  int // feeds that hold it; guarded by Hub.tailMu
	forms [sharedForms]atomic.Pointer[chunk]
}

func (f *frame) pos() uint64 { return f.ev.Cursor.Pos }

// size is what f costs in a ring, in bytes: its event, one form and itself.
func (f *frame) size() int64 {
	return int64(2*len(f.ev.Data)+len(f.ev.Topic)+len(f.ev.Type)+len(f.ev.ID)+len(f.ev.Key)) + 320
}

// blockSize is about what one form of f takes on the wire, in bytes.
func (f *frame) blockSize() int {
	return len(f.ev.Data) + len(f.ev.Type) + len(f.ev.ID) + 64
}

// block returns the block in the form fm. Two callers that both find it missing
// make the same bytes.
func (f *frame) block(fm form) chunk {
	if fm&formCursor != 0 && f.ev.ID == "" {
		fm &^= formCursor // the same bytes
	}
	if c := f.forms[fm].Load(); c != nil {
		return *c
	}
	c := sealChunk(appendFrame(newChunk(f.blockSize()), &f.ev, fm))
	f.forms[fm].Store(&c)
	return c
}

// appendFrame appends the block of ev in the form fm to b.
func appendFrame(b []byte, ev *Event, fm form) []byte {
	e := sse.Event{Type: ev.Type, Data: ev.Data, Retry: ev.Retry}
	switch {
	case fm&formNoID != 0:
	case fm&formCursor != 0 || ev.ID == "":
		b = append(b, "id: "...)
		b, _ = ev.Cursor.AppendText(b)
		b = append(b, '\n')
	default:
		e.ID = ev.ID
	}
	if fm&formMeta != 0 {
		e.Data = AppendEnvelope(make([]byte, 0, len(ev.Data)+len(ev.Topic)+160), ev)
	}
	// Every log checks an event's texts before it stores them, so no field
	// can be refused here.
	b, _ = e.AppendText(b)
	return b
}

// AppendEnvelope appends the JSON form of ev, one line, to b: topic, cursor,
// id, event, key, time, retry, remove and data; absent members are left out.
// Data is always a JSON string with the exact text.
func AppendEnvelope(b []byte, ev *Event) []byte {
	b = append(b, `{"topic":`...)
	b = appendJSONString(b, ev.Topic)
	if !ev.Cursor.IsZero() {
		b = append(b, `,"cursor":"`...)
		b, _ = ev.Cursor.AppendText(b)
		b = append(b, '"')
	}
	if ev.ID != "" {
		b = append(b, `,"id":`...)
		b = appendJSONString(b, ev.ID)
	}
	if ev.Type != "" {
		b = append(b, `,"event":`...)
		b = appendJSONString(b, ev.Type)
	}
	if ev.Key != "" {
		b = append(b, `,"key":`...)
		b = appendJSONString(b, ev.Key)
	}
	if !ev.Time.IsZero() {
		b = append(b, `,"time":"`...)
		b = AppendTime(b, ev.Time)
		b = append(b, '"')
	}
	if ev.Retry > 0 {
		b = append(b, `,"retry":`...)
		b = strconv.AppendInt(b, ev.Retry.Milliseconds(), 10)
	}
	if ev.Remove {
		b = append(b, `,"remove":true`...)
	}
	b = append(b, `,"data":`...)
	b = appendJSONString(b, ev.Data)
	return append(b, '}')
}

// AppendTime appends t as every time in a JSON answer is written: RFC 3339,
// UTC, milliseconds.
func AppendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
}

// appendJSONString appends s as a JSON string. Unlike encoding/json it leaves
// <, > and & as they are: the text goes to programs, not into HTML.
func appendJSONString[T string | []byte](b []byte, s T) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && n == 1 {
				b = append(b, s[start:i]...)
				b = append(b, `\ufffd`...)
				i++
				start = i
				continue
			}
			i += n
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
