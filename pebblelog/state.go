package pebblelog

import (
	"encoding/binary"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tailrace/tailrace"
)

// The indexes by own id and by key, and the floor of what is forgotten.

// appendID is the value of an own id: its event's position and key.
func appendID(b []byte, p uint64, key string) []byte {
	return append(binary.AppendUvarint(b, p), key...)
}

// appendState is the value of a key: the position of its newest event, and that event if it is
// to outlive trimming.
func appendState(b []byte, p uint64, e *tailrace.Event, whole bool) []byte {
	b = binary.AppendUvarint(b, p)
	if whole {
		b = appendRecord(b, e)
	}
	return b
}

// parseState is the inverse of appendState; rec is empty if the event is not in it.
func parseState(v []byte) (p uint64, rec []byte, err error) {
	d := reader{b: v}
	p = d.uvarint()
	return p, d.b, d.err
}

// lookupID is the position of the event with the own id that the topic of r keeps, or 0.
func lookupID(f *finder, r *row, id string) (uint64, error) {
	var buf [320]byte
	v, ok, err := f.get(idKey(buf[:0], id, r.t))
	if !ok || err != nil {
		return 0, err
	}
	d := reader{b: v}
	p := d.uvarint()
	if d.err != nil || p > r.floor {
		return p, d.err
	}
	if len(d.b) == 0 {
		return 0, nil
	}
	// Below the floor it is there only as the newest event of its key.
	q, whole, err := lookupState(f, r.t, string(d.b))
	if err != nil || q != p || !whole {
		return 0, err
	}
	return p, nil
}

// lookupState is the position of the newest event of a key, or 0, and whether it is stored
// with the key.
func lookupState(f *finder, t uint64, key string) (p uint64, whole bool, err error) {
	var buf [320]byte
	v, ok, err := f.get(stateKey(buf[:0], t, key))
	if !ok || err != nil {
		return 0, false, err
	}
	p, rec, err := parseState(v)
	return p, len(rec) > 0, err
}

// keepsState reports whether the event at p is stored with its key in topic t. It is asked only
// for topics that keep nothing else, and looks at all their keys.
func keepsState(db pebble.Reader, t, p uint64) (bool, error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: stateKey(nil, t, ""), UpperBound: stateKey(nil, t+1, "")})
	if err != nil {
		return false, err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return false, err
		}
		if q, rec, err := parseState(v); err != nil || q == p && len(rec) > 0 {
			return err == nil, err
		}
	}
	return false, it.Error()
}

// floor is a position at and below which something was removed, and when that happened.
type floor struct{ pos, stamp uint64 }

func appendFolded(b []byte, f floor) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, f.pos), f.stamp)
}

func readFolded(f *finder) (x floor, err error) {
	v, ok, err := f.get([]byte{kindFolded})
	if !ok || err != nil {
		return x, err
	}
	d := reader{b: v}
	x = floor{d.uvarint(), d.uvarint()}
	return x, d.err
}

// readRow is the row of the topic called name; ok is false if there is none.
func readRow(f *finder, name string) (r row, ok bool, err error) {
	v, ok, err := f.get(topicKey(make([]byte, 0, 1+tailrace.MaxTopic), name))
	if !ok || err != nil {
		return r, false, err
	}
	r, err = parseRow(v)
	return r, true, err
}

// appendFloor is the value of a raise: the floor, whether it was a delete, and the name.
func appendFloor(b []byte, pos uint64, deleted bool, name string) []byte {
	flag := byte(0)
	if deleted {
		flag = 1
	}
	return append(append(binary.AppendUvarint(b, pos), flag), name...)
}

func parseFloor(v []byte) (pos uint64, deleted bool, name []byte, err error) {
	d := reader{b: v}
	pos = d.uvarint()
	deleted = d.byte() != 0
	return pos, deleted, d.b, d.err
}

const maxPos = math.MaxUint64
