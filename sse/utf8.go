package sse

import (
	"encoding/binary"
	"unicode/utf8"
)

// The decoder replaces invalid UTF-8 as the Encoding Standard's "UTF-8 decode"
// does: one U+FFFD for each maximal subpart of an ill-formed sequence. A range
// over a string gives one for each byte, strings.ToValidUTF8 one for each run.

// replacement is U+FFFD in UTF-8.
const replacement = "\uFFFD"

// appendValid appends b to dst with every maximal subpart replaced by U+FFFD.
func appendValid(dst, b []byte) []byte {
	for len(b) > 0 {
		n, ok := sequence(b)
		if ok {
			dst = append(dst, b[:n]...)
		} else {
			dst = append(dst, replacement...)
		}
		b = b[n:]
	}
	return dst
}

// validLen is the length of what appendValid appends for b.
func validLen(b []byte) int {
	if utf8.Valid(b) {
		return len(b)
	}
	total := 0
	for len(b) > 0 {
		n, ok := sequence(b)
		if ok {
			total += n
		} else {
			total += len(replacement)
		}
		b = b[n:]
	}
	return total
}

// sequence measures what b begins with: a run of ASCII or one well-formed
// sequence (ok), or one maximal subpart of an ill-formed one. b is not empty.
func sequence(b []byte) (n int, ok bool) {
	if b[0] < utf8.RuneSelf {
		for n = 1; n < len(b) && b[n] < utf8.RuneSelf; n++ {
		}
		return n, true
	}
	if r, n := utf8.DecodeRune(b); r != utf8.RuneError || n > 1 {
		return n, true
	}

	// The second byte's range depends on the first (Unicode, table 3-7); the
	// others lie in 80..BF. The subpart ends before the first byte that is out
	// of its range.
	lo, hi, size := byte(0x80), byte(0xBF), 0
	switch c := b[0]; {
	case c >= 0xC2 && c <= 0xDF:
		size = 2
	case c >= 0xE0 && c <= 0xEF:
		size = 3
		if c == 0xE0 {
			lo = 0xA0
		} else if c == 0xED {
			hi = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		size = 4
		if c == 0xF0 {
			lo = 0x90
		} else if c == 0xF4 {
			hi = 0x8F
		}
	}
	for n = 1; n < size && n < len(b) && lo <= b[n] && b[n] <= hi; n++ {
		lo, hi = 0x80, 0xBF
	}
	return n, false
}

// incompleteTail is the length of the sequence that b ends in the middle of,
// 0 to 3.
func incompleteTail(b []byte) int {
	for n := 1; n <= min(3, len(b)); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// indexNonASCII is the index of the first byte of b above 0x7F, len(b) if there
// is none. The decoder asks for every byte, so it takes 128 at a step, half
// again as fast as 32.
func indexNonASCII(b []byte) int {
	const high = 0x8080808080808080
	rest := b
	for len(rest) >= 128 {
		w := (*[128]byte)(rest)
		x := word(w[0:]) | word(w[8:]) | word(w[16:]) | word(w[24:]) | word(w[32:]) | word(w[40:]) | word(w[48:]) | word(w[56:])
		y := word(w[64:]) | word(w[72:]) | word(w[80:]) | word(w[88:]) | word(w[96:]) | word(w[104:]) | word(w[112:]) | word(w[120:])
		if (x|y)&high != 0 {
			break
		}
		rest = rest[128:]
	}
	for len(rest) >= 8 && word(rest)&high == 0 {
		rest = rest[8:]
	}
	i := len(b) - len(rest)
	for ; i < len(b) && b[i] < utf8.RuneSelf; i++ {
	}
	return i
}

func word(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
