package sse

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	defaultMaxEventSize = 16 << 20 // AI events with inline images are 1.3 to 4 MB; no limit is a hole in memory
	maxInterned         = 64       // bytes; longer types are not worth a place in the table
	idSlabSize          = 4 << 10  // bytes; what one kept id can hold on to
)

// DecoderOptions configures a Decoder. The zero value, and nil, give the
// defaults.
type DecoderOptions struct {
	// MaxEventSize bounds, in decoded bytes, each line without its line end,
	// and the data and the type of each event. One byte more is a
	// *TooLongError. 0 is 16 MiB; negative is no limit.
	MaxEventSize int

	// LastEventID is the last event id with which the stream resumes.
	LastEventID string

	// OnComment, if not nil, gets the text after the colon of each comment
	// line, nothing trimmed, as soon as the line ends. It runs inside Decode;
	// text is borrowed until it returns.
	OnComment func(text []byte)
}

// TooLongError reports a line or an event of more than Limit bytes. It ends
// the decoder: the same event would come again.
type TooLongError struct {
	Limit int // MaxEventSize, in bytes
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("sse: line or event longer than %d bytes", e.Limit)
}

// Decoder reads events from a byte stream as WHATWG HTML 9.2.5 (parsing) and
// 9.2.6 (interpreting) have it. The result depends on the bytes alone, never
// on how the reader cuts them, and an event is out as soon as its last byte is
// in: a CR ends its line without a look at the next byte.
//
// Where a stream begins, the id buffer starts as the last event id and not
// empty. There the Decoder follows the browsers and not the standard:
// otherwise the first event without an id would lose the place.
//
// A Decoder is made by NewDecoder and is for one goroutine. It reads only
// within Decode and Events, and never closes the reader.
type Decoder struct {
	r         io.Reader
	limit     int
	onComment func(text []byte)
	err       error // the first error, given out when the bytes before it are decoded

	// The read buffer. buf[pos:end] is not yet decoded. Each byte of it is
	// looked at once for each of LF, CR and the high bit: what was found is
	// kept in scanned, cr and high.
	buf      []byte
	pos, end int
	scanned  int  // buf[pos:scanned] has no LF
	cr       int  // index of the first CR from pos on, or end
	high     int  // index of the first non-ASCII byte from pos on, or end
	filled   bool // the last read filled buf to its end

	starting bool // no byte after a possible BOM was seen yet
	skipLF   bool // the last line ended with a CR at the end of the input so far
	skipping bool // in the middle of a line that has no effect and is not stored
	skipped  int  // decoded bytes of that line so far

	// The block so far.
	hasData  bool
	inBuf    bool   // data lies in buf: it is one line, as it came
	data     []byte // without the final LF; in buf or in joined
	joined   []byte // data of several lines, or with U+FFFD put in, or saved from a moving buf
	typ      string
	id       string        // the id buffer
	retry    time.Duration // this block's
	longest  int           // the block's longest line, in bytes as they came
	last     int           // that of the last event's block
	lastData int           // the last event's data, in bytes

	lastEventID string
	reconnect   time.Duration // the last valid retry field
	hasRetry    bool

	types [16]string      // interned types
	ids   strings.Builder // the slab that new ids are cut from
	slab  []byte          // room for the Data of small events that Events yields
}

// NewDecoder returns a Decoder that reads from r.
func NewDecoder(r io.Reader, opts *DecoderOptions) *Decoder {
	if opts == nil {
		opts = &DecoderOptions{}
	}
	d := &Decoder{
		limit:       opts.MaxEventSize,
		onComment:   opts.OnComment,
		lastEventID: opts.LastEventID,
	}
	switch {
	case d.limit == 0:
		d.limit = defaultMaxEventSize
	case d.limit < 0:
		d.limit = math.MaxInt
	}
	d.Reset(r)
	return d
}

// Reset makes the Decoder read from r, the next connection of the same stream:
// it keeps the last event id, the reconnection time, the options and the
// buffers, and drops an unfinished block, its id and the error.
func (d *Decoder) Reset(r io.Reader) {
	d.r, d.err = r, nil
	d.pos, d.end, d.scanned, d.cr, d.high, d.filled = 0, 0, 0, 0, 0, false
	d.starting, d.skipLF, d.skipping, d.skipped = true, false, false, 0
	d.id, d.longest = d.lastEventID, 0
	d.clearBlock()
}

// LastEventID is the stream's last event id: the id buffer as of the last
// blank line, whether or not that dispatched an event.
func (d *Decoder) LastEventID() string { return d.lastEventID }

// Retry is the reconnection time of the last valid retry field, and whether
// there was one. It counts from its line on, dispatched or not.
func (d *Decoder) Retry() (time.Duration, bool) { return d.reconnect, d.hasRetry }

// Decode reads the next event into ev. ev.Data is borrowed until the next call
// of Decode or Reset; ev.ID and ev.Type may be kept.
//
// At the end of the input Decode returns io.EOF, and what no blank line has
// closed is dropped; so it is with any other error of the reader, which comes
// back as it is, after the bytes that came with it. The first error stays.
func (d *Decoder) Decode(ev *Event) error {
	if cap(d.joined) > keptBufferSize && d.lastData <= keptBufferSize {
		d.joined, d.data = nil, nil
	}
	for {
		// The line is buf[pos:stop], the next one begins at next.
		var stop, next int
		if d.scanned < d.cr && d.buf[d.scanned] == '\n' {
			stop = d.scanned // half of all lines are blank
			next = stop + 1
		} else if lf := bytes.IndexByte(d.buf[d.scanned:d.cr], '\n'); lf >= 0 {
			stop = d.scanned + lf
			next = stop + 1
		} else if d.cr < d.end {
			stop = d.cr
			next = stop + 1
			if next == d.end {
				d.skipLF = true
			} else if d.buf[next] == '\n' {
				next++
			}
			d.cr = d.indexCR(next)
		} else {
			d.scanned = d.end
			if err := d.fill(); err != nil {
				*ev = Event{}
				return err
			}
			continue
		}
		line := d.buf[d.pos:stop:stop]
		clean := true
		if d.high < stop {
			clean = utf8.Valid(d.buf[d.high:stop])
			d.high = d.indexHigh(next)
		}
		d.pos, d.scanned = next, next

		if len(line) == 0 && !d.skipping {
			if d.dispatch(ev) {
				return nil
			}
		} else if err := d.line(line, clean); err != nil {
			*ev = Event{}
			return d.fail(err)
		}
	}
}

// line processes a line that is not blank. clean tells that it is valid UTF-8.
func (d *Decoder) line(line []byte, clean bool) error {
	size := len(line)
	if !clean {
		size = validLen(line)
	}
	if size += d.skipped; size > d.limit {
		return &TooLongError{Limit: d.limit}
	}
	if d.skipping {
		d.skipping, d.skipped = false, 0
		return nil
	}
	d.longest = max(d.longest, len(line))

	switch line[0] {
	case 'd':
		if value, ok := cutField(line, "data"); ok {
			return d.addData(value, clean)
		}
	case 'e':
		if value, ok := cutField(line, "event"); ok {
			if !clean {
				value = appendValid(nil, value)
			}
			d.typ = d.intern(value)
		}
	case 'i':
		if value, ok := cutField(line, "id"); ok && bytes.IndexByte(value, 0) < 0 {
			if !clean {
				value = appendValid(nil, value)
			}
			d.setID(value)
		}
	case 'r':
		if value, ok := cutField(line, "retry"); ok {
			if t, ok := parseRetry(value); ok {
				d.retry, d.reconnect, d.hasRetry = t, t, true
			}
		}
	case ':':
		if d.onComment != nil {
			text := line[1:]
			if !clean {
				text = appendValid(nil, text)
			}
			d.onComment(text)
		}
	}
	return nil
}

// cutField returns the value of a line whose field has this name.
func cutField(line []byte, name string) (value []byte, ok bool) {
	if len(line) < len(name) || string(line[:len(name)]) != name {
		return nil, false
	}
	value = line[len(name):]
	if len(value) == 0 {
		return value, true
	}
	if value[0] != ':' {
		return nil, false
	}
	value = value[1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return value, true
}

// addData appends one data line. The first of a block stays where it lies in
// the read buffer; most events have no other.
func (d *Decoder) addData(value []byte, clean bool) error {
	if !d.hasData && clean {
		d.hasData, d.inBuf, d.data = true, true, value
		return nil
	}
	size := len(value)
	if !clean {
		size = validLen(value)
	}
	if !d.hasData {
		d.joined = d.joined[:0]
	} else {
		if len(d.data)+1+size > d.limit {
			return &TooLongError{Limit: d.limit}
		}
		d.saveData()
	}
	d.growJoined(1 + size)
	if d.hasData {
		d.joined = append(d.joined, '\n')
	}
	if clean {
		d.joined = append(d.joined, value...)
	} else {
		d.joined = appendValid(d.joined, value)
	}
	d.hasData, d.data = true, d.joined
	return nil
}

// saveData copies data out of the read buffer.
func (d *Decoder) saveData() {
	if !d.inBuf {
		return
	}
	d.inBuf = false
	d.joined = d.joined[:0]
	d.growJoined(len(d.data))
	d.joined = append(d.joined, d.data...)
	d.data = d.joined
}

// growJoined makes room for n more bytes in joined, by doubling, but for no
// more than an event may have.
func (d *Decoder) growJoined(n int) {
	need := len(d.joined) + n
	if need <= cap(d.joined) {
		return
	}
	size := max(cap(d.joined), firstBufferSize)
	for size < need {
		size *= 2
	}
	d.joined = append(make([]byte, 0, max(need, min(size, d.limit))), d.joined...)
}

// dispatch ends the block at a blank line and fills ev if the block has data.
func (d *Decoder) dispatch(ev *Event) bool {
	d.lastEventID = d.id
	if !d.hasData {
		d.clearBlock()
		return false
	}
	ev.ID, ev.Type, ev.Data, ev.Retry = d.id, d.typ, d.data, d.retry
	d.last, d.longest, d.lastData = d.longest, 0, len(d.data)
	d.clearBlock()
	return true
}

func (d *Decoder) clearBlock() {
	d.hasData, d.inBuf, d.retry = false, false, 0
	if d.typ != "" {
		d.typ = ""
	}
}

// intern returns value as a string, without a copy if it was among the last
// types. A stream has few.
func (d *Decoder) intern(value []byte) string {
	if len(value) == 0 {
		return ""
	}
	if len(value) > maxInterned {
		return string(value)
	}
	slot := &d.types[(len(value)+int(value[0])+31*int(value[len(value)-1]))%len(d.types)]
	if *slot != string(value) {
		*slot = string(value)
	}
	return *slot
}

// setID makes value the id buffer. Short new ids share a slab, so that an id on
// each event does not cost an allocation each.
func (d *Decoder) setID(value []byte) {
	switch {
	case string(value) == d.id:
	case string(value) == d.lastEventID:
		d.id = d.lastEventID
	case len(value) > idSlabSize/8:
		d.id = string(value)
	default:
		if d.ids.Cap()-d.ids.Len() < len(value) {
			d.ids.Reset()
			d.ids.Grow(idSlabSize)
		}
		d.ids.Write(value)
		all := d.ids.String()
		d.id = all[len(all)-len(value):]
	}
}

// parseRetry reads one or more ASCII digits as milliseconds.
func parseRetry(value []byte) (time.Duration, bool) {
	if len(value) == 0 {
		return 0, false
	}
	var t time.Duration
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		t = min(t*10+time.Duration(c-'0')*time.Millisecond, maxRetry)
	}
	return t, true
}
