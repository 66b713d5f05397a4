package pebblelog

import (
	"crypto/rand"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/tailrace/tailrace"
)

// epoch is a stretch of the sequence within which nothing that readers saw is lost. Positions
// run on over epochs: an event's cursor names the epoch of its commit for ever.
type epoch struct {
	n     uint32 // ordinal
	id    uint64
	first uint64 // first position
	end   uint64 // last position that was kept; 0 while the epoch is today's
	how   ending
	jumps []jump
	lossy []string // patterns that had a class below fsync; empty if no such event was appended
}

// ending says how an epoch ended.
type ending byte

const (
	endNone    ending = iota
	endCrash          // stopped uncleanly with events of a class below fsync
	endDamage         // the store has less than the side file says
	endRestore        // a backup was put back
)

// jump is a range of positions that were skipped after an unclean stop: those from+1 to to.
type jump struct{ from, to uint64 }

// jumpSize is how far positions jump after an unclean stop: more than can have been given
// since the side file was last on disk.
const jumpSize = 1 << 24

// maxJumps bounds the record of an epoch. A cursor inside a jump so old that it is forgotten
// cannot be held by any reader: nobody was shown one, unless the disk lied.
const maxJumps = 4096

func newEpochID() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])&tailrace.MaxEpoch | 1 // never 0, which is the zero Cursor's
}

func appendEpoch(b []byte, e *epoch) []byte {
	b = binary.LittleEndian.AppendUint64(b, e.id)
	b = binary.AppendUvarint(b, e.first)
	b = binary.AppendUvarint(b, e.end)
	b = append(b, byte(e.how))
	b = binary.AppendUvarint(b, uint64(len(e.jumps)))
	for _, j := range e.jumps {
		b = binary.AppendUvarint(b, j.from)
		b = binary.AppendUvarint(b, j.to)
	}
	b = binary.AppendUvarint(b, uint64(len(e.lossy)))
	for _, p := range e.lossy {
		b = appendText(b, p)
	}
	return b
}

func parseEpoch(k, v []byte) (e epoch, err error) {
	if len(k) != 5 || len(v) < 8 {
		return e, errRecord
	}
	e.n = binary.BigEndian.Uint32(k[1:])
	e.id = binary.LittleEndian.Uint64(v)
	d := reader{b: v[8:]}
	e.first, e.end, e.how = d.uvarint(), d.uvarint(), ending(d.byte())
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		e.jumps = append(e.jumps, jump{d.uvarint(), d.uvarint()})
	}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		e.lossy = append(e.lossy, string(d.text()))
	}
	return e, d.err
}

// epochs are in order; the last is today's. A value never changes once it is shared.
type epochs []epoch

func (es epochs) today() *epoch { return &es[len(es)-1] }

// cursor is the cursor of the event at p.
func (es epochs) cursor(p uint64) tailrace.Cursor {
	i := len(es) - 1
	for i > 0 && p < es[i].first {
		i--
	}
	return tailrace.Cursor{Epoch: es[i].id, Pos: p}
}

// next is a place to read on from, which is of today.
func (es epochs) next(p uint64) tailrace.Cursor {
	return tailrace.Cursor{Epoch: es.today().id, Pos: p}
}

func (es epochs) find(id uint64) *epoch {
	for i := len(es) - 1; i >= 0; i-- {
		if es[i].id == id {
			return &es[i]
		}
	}
	return nil
}

// resume translates c to a position of today. A reason other than "" says that history after
// that position is lost or unknown; with known false there is no such position.
func (es epochs) resume(c tailrace.Cursor, s tailrace.Selector, head uint64) (pos uint64, known bool, reason tailrace.Reason) {
	e := es.find(c.Epoch)
	if e == nil || c.Log != 0 {
		return 0, false, tailrace.EpochGap
	}
	for _, j := range e.jumps {
		if j.from < c.Pos && c.Pos <= j.to {
			return j.from, true, tailrace.EpochGap
		}
	}
	switch {
	case e.how != endNone && c.Pos > e.end:
		if e.how == endCrash && !meetsAny(s, e.lossy) {
			return e.end, true, ""
		}
		return e.end, true, tailrace.EpochGap
	case c.Pos > head:
		return 0, false, tailrace.Ahead
	}
	return c.Pos, true, ""
}

// addJump records a jump, which one without events before it only lengthens.
func (e *epoch) addJump(from, to uint64) {
	js := slices.Clone(e.jumps)
	if n := len(js); n > 0 && js[n-1].to >= from {
		js[n-1].to = to
	} else {
		js = append(js, jump{from, to})
	}
	e.jumps = js[max(0, len(js)-maxJumps):]
}

// meetsAny reports whether some topic can match both s and one of patterns.
func meetsAny(s tailrace.Selector, patterns []string) bool {
	if len(patterns) > 0 && s.IsZero() {
		return true
	}
	for _, p := range patterns {
		for _, t := range s.Topics {
			if tailrace.MatchPattern(p, t) {
				return true
			}
		}
		for _, q := range s.Patterns {
			if patternsMeet(p, q) {
				return true
			}
		}
	}
	return false
}

// patternsMeet reports whether some name can match both p and q.
func patternsMeet(p, q string) bool {
	if strings.HasPrefix(p, "$") != strings.HasPrefix(q, "$") {
		return false
	}
	for {
		pseg, prest, pmore := strings.Cut(p, "/")
		qseg, qrest, qmore := strings.Cut(q, "/")
		if pseg == "**" && !pmore || qseg == "**" && !qmore {
			return true
		}
		if pseg != qseg && pseg != "*" && qseg != "*" || pmore != qmore {
			return false
		}
		if !pmore {
			return true
		}
		p, q = prest, qrest
	}
}
