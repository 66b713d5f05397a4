package pebblelog

import (
	"encoding/binary"

	"github.com/tailrace/tailrace"
)

// row is what the store keeps of a topic.
type row struct {
	t       uint64 // number
	created uint64 // position of its first event; the name's earlier lives are in the folded floor
	head    uint64 // position of its last event
	floor   uint64 // position of its newest removed event, or 0
	stamp   uint64 // position of the last raise of floor
	count   int64  // events kept above floor
	bytes   int64  // of their data
	last    int64  // unix seconds of the last append or, once gone, of the delete
	due     uint64 // second of its x key, or 0
	deleted bool   // the last raise was a delete
	flags   byte
}

const (
	rowClosed = 1 << iota
	rowGone   // deleted or forgotten; the row remains for its floor
	rowIDs    // some event has or had an own id
	rowKeys   // some event has or had a key
)

func (r *row) is(flag byte) bool { return r.flags&flag != 0 }

func appendRow(b []byte, r *row) []byte {
	deleted := byte(0)
	if r.deleted {
		deleted = 1
	}
	b = append(b, r.flags, deleted)
	for _, n := range [...]uint64{r.t, r.created, r.head, r.floor, r.stamp, uint64(r.count), uint64(r.bytes), uint64(r.last), r.due} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func parseRow(v []byte) (r row, err error) {
	d := reader{b: v}
	r.flags = d.byte()
	r.deleted = d.byte() != 0
	r.t, r.created, r.head, r.floor, r.stamp = d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint()
	r.count, r.bytes, r.last, r.due = int64(d.uvarint()), int64(d.uvarint()), int64(d.uvarint()), d.uvarint()
	return r, d.err
}

// topic is a row in the committer's hands.
type topic struct {
	row
	name   string
	stored bool // a row is in the store or in the batch being built
	dirty  bool // in the committer's list of rows to write
	rules  *rules
	policy tailrace.Policy
}

// topicCache keeps about the last size topics used, in two generations: what is not used while
// one fills is dropped with the other. An entry that is dropped costs nothing to have again, as
// its changes are in the store; so generations turn between batches only.
type topicCache struct {
	size     int
	now, old map[string]*topic
}

func (c *topicCache) get(name string) *topic {
	if t := c.now[name]; t != nil {
		return t
	}
	t := c.old[name]
	if t != nil {
		c.now[name] = t
	}
	return t
}

func (c *topicCache) put(t *topic) { c.now[t.name] = t }

func (c *topicCache) drop(name string) {
	delete(c.now, name)
	delete(c.old, name)
}

func (c *topicCache) turn() {
	if c.now == nil || len(c.now) >= c.size/2 {
		c.now, c.old = map[string]*topic{}, c.now
	}
}
