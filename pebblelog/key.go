package pebblelog

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
)

// Keys. The first byte is the kind; integers are big-endian. T is a topic's number, given in
// order of creation so that new topics append to the store; P is a position.
//
//	t <name>      row: all that is known of a topic
//	e T P         event
//	b P           batch: the topic numbers of the positions from P on
//	i <id> 00 T   own id of an event: its position
//	k T <key>     newest event of a key: its position, with KeepLatest the whole event
//	f <stamp> T   last raise of a topic's floor
//	x <second> T  when a topic is next looked at for age or idleness: its name
//	E <n>         n-th epoch
//	H             floor of the topics that are forgotten
//	R             hash of the rules that x was computed with
const (
	kindTopic  = 't'
	kindEvent  = 'e'
	kindBatch  = 'b'
	kindID     = 'i'
	kindKey    = 'k'
	kindFloor  = 'f'
	kindDue    = 'x'
	kindEpoch  = 'E'
	kindFolded = 'H'
	kindRules  = 'R'
)

const eventKeyLen = 17

// comparer orders keys by their bytes. Only kinds of which keys are looked up that may not be
// there get into the filters of the tables whole; events and the like are found by iterating,
// and leave one entry for all.
var comparer = func() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "tailrace"
	c.Split = func(k []byte) int {
		if len(k) > 0 && (k[0] == kindTopic || k[0] == kindID || k[0] == kindKey) {
			return len(k)
		}
		return min(1, len(k))
	}
	return &c
}()

// spans gives events tables of their own: those of a busy topic then need no rewriting, as they
// overlap with nothing. Keys with one prefix are no versions of one thing, of which the store
// would put all but the last elsewhere.
func spans(start []byte) (policy pebble.SpanPolicy, end []byte, err error) {
	policy.DisableValueSeparationBySuffix = true
	switch {
	case len(start) == 0 || start[0] < kindEvent:
		end = []byte{kindEvent}
	case start[0] == kindEvent:
		end = []byte{kindEvent + 1}
	}
	return policy, end, nil
}

func topicKey(b []byte, name string) []byte { return append(append(b, kindTopic), name...) }

func eventKey(b []byte, t, p uint64) []byte { return pairKey(b, kindEvent, t, p) }

func floorKey(b []byte, stamp, t uint64) []byte { return pairKey(b, kindFloor, stamp, t) }

func dueKey(b []byte, second, t uint64) []byte { return pairKey(b, kindDue, second, t) }

func batchKey(b []byte, p uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, kindBatch), p)
}

// idPrefix is the start of the keys of id in all topics. Ids have no control characters, so
// that 0 ends one.
func idPrefix(b []byte, id string) []byte { return append(append(append(b, kindID), id...), 0) }

func idKey(b []byte, id string, t uint64) []byte {
	return binary.BigEndian.AppendUint64(idPrefix(b, id), t)
}

func stateKey(b []byte, t uint64, key string) []byte {
	return append(binary.BigEndian.AppendUint64(append(b, kindKey), t), key...)
}

func epochKey(b []byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, kindEpoch), n)
}

func pairKey(b []byte, kind byte, x, y uint64) []byte {
	b = binary.BigEndian.AppendUint64(append(b, kind), x)
	return binary.BigEndian.AppendUint64(b, y)
}

// keyNumber is the i-th number of a key: of e, f and x keys there are two, of b and k keys one.
func keyNumber(k []byte, i int) uint64 {
	if len(k) < 1+8*(i+1) {
		return 0
	}
	return binary.BigEndian.Uint64(k[1+8*i:])
}

// kindBounds are those of all keys of a kind.
func kindBounds(kind byte) *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}}
}
