package pebblelog

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/tailrace/tailrace"
)

// errRecord says that a value in the store does not have the form that this package writes.
var errRecord = errors.New("pebblelog: malformed record")

// Flags of an event record, which begins with them and the time.
const (
	recRemove = 1 << iota
	recClose
	recType
	recKey
	recID
	recRetry
)

const recHeader = 1 + 8

// recordSize is the length of e's record.
func recordSize(e *tailrace.Event) int {
	n := recHeader + textSize(e.Topic) + len(e.Data)
	if e.Type != "" {
		n += textSize(e.Type)
	}
	if e.Key != "" {
		n += textSize(e.Key)
	}
	if e.ID != "" {
		n += textSize(e.ID)
	}
	if e.Retry != 0 {
		n += uvarintSize(uint64(e.Retry))
	}
	return n
}

func textSize(s string) int { return uvarintSize(uint64(len(s))) + len(s) }

func uvarintSize(x uint64) int {
	n := 1
	for ; x >= 0x80; x >>= 7 {
		n++
	}
	return n
}

// appendRecord appends e without its position: flags, time, topic, the texts that are there,
// retry, data.
func appendRecord(b []byte, e *tailrace.Event) []byte {
	var flags byte
	if e.Remove {
		flags |= recRemove
	}
	if e.Close {
		flags |= recClose
	}
	if e.Type != "" {
		flags |= recType
	}
	if e.Key != "" {
		flags |= recKey
	}
	if e.ID != "" {
		flags |= recID
	}
	if e.Retry != 0 {
		flags |= recRetry
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Time.UnixNano()))
	b = appendText(b, e.Topic)
	if flags&recType != 0 {
		b = appendText(b, e.Type)
	}
	if flags&recKey != 0 {
		b = appendText(b, e.Key)
	}
	if flags&recID != 0 {
		b = appendText(b, e.ID)
	}
	if flags&recRetry != 0 {
		b = binary.AppendUvarint(b, uint64(e.Retry))
	}
	return append(b, e.Data...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// record is a parsed event record; its slices are of the value that was parsed.
type record struct {
	flags               byte
	time                int64 // unix nanoseconds
	topic, typ, key, id []byte
	retry               time.Duration
	data                []byte
}

func parseRecord(v []byte) (r record, err error) {
	if len(v) < recHeader {
		return r, errRecord
	}
	d := reader{b: v[recHeader:]}
	r.flags = v[0]
	r.time = int64(binary.LittleEndian.Uint64(v[1:]))
	r.topic = d.text()
	if r.flags&recType != 0 {
		r.typ = d.text()
	}
	if r.flags&recKey != 0 {
		r.key = d.text()
	}
	if r.flags&recID != 0 {
		r.id = d.text()
	}
	if r.flags&recRetry != 0 {
		r.retry = time.Duration(d.uvarint())
	}
	r.data = d.b
	return r, d.err
}

// reader takes numbers and texts from the front of b.
type reader struct {
	b   []byte
	err error
}

func (d *reader) uvarint() uint64 {
	x, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.err, d.b = errRecord, nil
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *reader) text() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.err, d.b = errRecord, nil
		return nil
	}
	t := d.b[:n:n]
	d.b = d.b[n:]
	return t
}

func (d *reader) byte() byte {
	if len(d.b) == 0 {
		d.err = errRecord
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

// batch is what is stored of each batch of the sequence: the topic numbers of its events in
// order, and the totals of the log after it, so that the last one tells where the log stands.
type batch struct {
	first  uint64 // position of the first topic; from the key
	time   int64  // unix nanoseconds
	next   uint64 // next topic number
	totals totals
	topics []byte // varints; a raise of floors has none and takes one position
	n      uint64 // positions taken
}

// totals are counts over the whole log.
type totals struct {
	topics, count, bytes int64
}

func appendBatch(b []byte, x *batch) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(x.time))
	for _, n := range [...]uint64{x.next, uint64(x.totals.topics), uint64(x.totals.count), uint64(x.totals.bytes), x.n} {
		b = binary.AppendUvarint(b, n)
	}
	return append(b, x.topics...)
}

func parseBatch(k, v []byte) (x batch, err error) {
	if len(k) != 9 || len(v) < 8 {
		return x, errRecord
	}
	x.first = keyNumber(k, 0)
	x.time = int64(binary.LittleEndian.Uint64(v))
	d := reader{b: v[8:]}
	x.next = d.uvarint()
	x.totals = totals{topics: int64(d.uvarint()), count: int64(d.uvarint()), bytes: int64(d.uvarint())}
	x.n = d.uvarint()
	x.topics = d.b
	return x, d.err
}

// last is the last position of the batch.
func (x *batch) last() uint64 { return x.first + x.n - 1 }
