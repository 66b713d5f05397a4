package tailrace

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestEventCheck(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	p := Policy{}.WithDefaults()
	for _, c := range []struct {
		name   string
		event  Event
		field  string // "" is valid
		offset int
	}{
		{"a plain event", Event{Topic: "a", Data: []byte("x")}, "", 0},
		{"all of it", Event{Topic: "ü/b", Type: "t", Key: "k", ID: "i", Data: []byte("\x00\r\n"), Retry: time.Second}, "", 0},
		{"a removal", Event{Topic: "a", Key: "k", Remove: true}, "", 0},
		{"longest texts", Event{Topic: long(512), Type: long(128), Key: long(255), ID: long(256)}, "", 0},
		{"a replacement character", Event{Topic: "\ufffd", Data: []byte("\ufffd")}, "", 0},
		{"no topic", Event{}, "topic", 0},
		{"topic too long", Event{Topic: long(513)}, "topic", 512},
		{"NUL", Event{Topic: "a\x00"}, "topic", 1},
		{"DEL", Event{Topic: "a\x7f"}, "topic", 1},
		{"C1 control", Event{Topic: "ab\u0085"}, "topic", 2},
		{"not UTF-8", Event{Topic: "a\xff"}, "topic", 1},
		{"a surrogate", Event{Topic: "a\xed\xa0\x80"}, "topic", 1},
		{"noncharacters", Event{Topic: "a\ufdd0"}, "topic", 1},
		{"the last of a plane", Event{Topic: "a\U0001ffff"}, "topic", 1},
		{"type too long", Event{Topic: "a", Type: long(129)}, "type", 128},
		{"a line break in a type", Event{Topic: "a", Type: "ab\n"}, "type", 2},
		{"key too long", Event{Topic: "a", Key: long(256)}, "key", 255},
		{"key not UTF-8", Event{Topic: "a", Key: "\xc3"}, "key", 0},
		{"id too long", Event{Topic: "a", ID: long(257)}, "id", 256},
		{"a tab in an id", Event{Topic: "a", ID: "a\t"}, "id", 1},
		{"data not UTF-8", Event{Topic: "a", Data: []byte("ok\xe2\x82")}, "data", 2},
		{"a removal of nothing", Event{Topic: "a", Remove: true}, "remove", 0},
		{"negative retry", Event{Topic: "a", Retry: -1}, "retry", 0},
	} {
		err := c.event.Check(&p)
		if c.field == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		var invalid *InvalidError
		if !errors.As(err, &invalid) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want an InvalidError", c.name, err)
			continue
		}
		if invalid.Field != c.field || invalid.Offset != c.offset {
			t.Errorf("%s: %v, want an invalid %s at byte %d", c.name, err, c.field, c.offset)
		}
	}
}

func TestEventCheckAsksThePolicy(t *testing.T) {
	p := Policy{MaxEvent: 3}.WithDefaults()
	if err := (&Event{Topic: "a", Data: []byte("abc")}).Check(&p); err != nil {
		t.Error(err)
	}
	if err := (&Event{Topic: "a", Data: []byte("abcd")}).Check(&p); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v", err)
	}
	end := Event{Topic: "a", Type: TypeEnd, Close: true}
	if err := end.Check(&p); !errors.Is(err, ErrNotClosable) {
		t.Errorf("error %v", err)
	}
	p.Closable = true
	if err := end.Check(&p); err != nil {
		t.Error(err)
	}
}

func TestEventCheckDoesNotAllocate(t *testing.T) {
	p := Policy{}.WithDefaults()
	e := Event{Topic: "a/ü", Type: "t", Key: "k", ID: "i", Data: []byte(strings.Repeat("data ", 100))}
	if n := testing.AllocsPerRun(100, func() { e.Check(&p) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestWireID(t *testing.T) {
	e := Event{Cursor: Cursor{Epoch: 1, Pos: 2}}
	if got := e.WireID(); got != "0000000001.2" {
		t.Errorf("%q", got)
	}
	e.ID = "own"
	if got := e.WireID(); got != "own" {
		t.Errorf("%q", got)
	}
}

func TestInvalidErrorSaysWhere(t *testing.T) {
	err := CheckTopic("a\nb")
	if got, want := err.Error(), "tailrace: invalid topic: has the control character U+000A (at byte 1)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if errors.Is(err, ErrTooLarge) {
		t.Error("it is ErrTooLarge too")
	}
}
