package tailrace

import (
	"errors"
	"strconv"
	"strings"
)

// Cursor is a place in a log: after the event at Pos. The zero Cursor is
// before everything.
//
// Its text is short, opaque to clients and unique: one cursor has one text. It
// stays valid across restarts and on every node.
type Cursor struct {
	Log   uint16 // which sequence, where an engine has several; otherwise 0
	Epoch uint64 // 48 random bits, made when the sequence is created or loses data
	Pos   uint64 // 1, 2, …: grows in commit order, never reused, not dense per topic
}

// MaxEpoch is the largest epoch: 48 bits, so that its text has a fixed width.
const MaxEpoch = 1<<48 - 1

// epochDigits is the width of an epoch in base 36.
const epochDigits = 10

var errCursor = errors.New("tailrace: not a cursor")

// IsZero reports whether c is before everything.
func (c Cursor) IsZero() bool { return c == Cursor{} }

// String returns the text of c: at most 29 bytes of [0-9a-z.].
func (c Cursor) String() string {
	b, _ := c.AppendText(make([]byte, 0, 32))
	return string(b)
}

// AppendText appends the text of c to b. It never fails.
func (c Cursor) AppendText(b []byte) ([]byte, error) {
	var digits [epochDigits]byte
	e := c.Epoch & MaxEpoch
	for i := epochDigits - 1; i >= 0; i-- {
		digits[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[e%36]
		e /= 36
	}
	b = append(b, digits[:]...)
	b = append(b, '.')
	b = strconv.AppendUint(b, c.Pos, 36)
	if c.Log != 0 {
		b = append(b, '.')
		b = strconv.AppendUint(b, uint64(c.Log), 36)
	}
	return b, nil
}

// MarshalText is AppendText to a new slice.
func (c Cursor) MarshalText() ([]byte, error) { return c.AppendText(nil) }

// UnmarshalText sets c from what AppendText wrote, and from nothing else.
func (c *Cursor) UnmarshalText(b []byte) error {
	v, err := ParseCursor(string(b))
	if err == nil {
		*c = v
	}
	return err
}

// ParseCursor reads a cursor. It accepts only what String writes.
func ParseCursor(s string) (Cursor, error) {
	epoch, rest, ok := strings.Cut(s, ".")
	if !ok || len(epoch) != epochDigits {
		return Cursor{}, errCursor
	}
	var c Cursor
	for i := range epochDigits {
		d := epoch[i]
		switch {
		case '0' <= d && d <= '9':
			d -= '0'
		case 'a' <= d && d <= 'z':
			d -= 'a' - 10
		default:
			return Cursor{}, errCursor
		}
		c.Epoch = c.Epoch*36 + uint64(d)
	}
	if c.Epoch > MaxEpoch {
		return Cursor{}, errCursor
	}
	pos, log, several := strings.Cut(rest, ".")
	if c.Pos, ok = parseBase36(pos, 64); !ok {
		return Cursor{}, errCursor
	}
	if several {
		n, ok := parseBase36(log, 16)
		if !ok || n == 0 {
			return Cursor{}, errCursor
		}
		c.Log = uint16(n)
	}
	return c, nil
}

// parseBase36 accepts the one text of each number: lower case, no sign, no
// leading zero.
func parseBase36(s string, bits int) (uint64, bool) {
	if s == "" || s[0] == '0' && s != "0" {
		return 0, false
	}
	for i := range len(s) {
		if !('0' <= s[i] && s[i] <= '9' || 'a' <= s[i] && s[i] <= 'z') {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(s, 36, bits)
	return n, err == nil
}
