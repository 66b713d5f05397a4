package tailrace

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestCursorText(t *testing.T) {
	for _, c := range []struct {
		cursor Cursor
		text   string
	}{
		{Cursor{}, "0000000000.0"},
		{Cursor{Pos: 35}, "0000000000.z"},
		{Cursor{Epoch: 1, Pos: 36}, "0000000001.10"},
		{Cursor{Epoch: 35, Pos: 1, Log: 1}, "000000000z.1.1"},
		{Cursor{Epoch: MaxEpoch, Pos: math.MaxUint64, Log: math.MaxUint16}, "2rrvthnxtr.3w5e11264sgsf.1ekf"},
	} {
		if got := c.cursor.String(); got != c.text {
			t.Errorf("%+v: text %q, want %q", c.cursor, got, c.text)
		}
		if got, err := ParseCursor(c.text); got != c.cursor || err != nil {
			t.Errorf("ParseCursor(%q): %+v, %v; want %+v", c.text, got, err, c.cursor)
		}
		if len(c.text) > 29 {
			t.Errorf("%q has %d bytes", c.text, len(c.text))
		}
	}
}

func TestParseCursorAcceptsOneTextOnly(t *testing.T) {
	for _, s := range []string{
		"", ".", "0", "0000000000", "0000000000.", ".1", "000000000.1", "00000000000.1",
		"0000000000.01", "0000000000.00", "0000000000.+1", "0000000000.-1", "0000000000. 1", "0000000000.1 ",
		"0000000000.A", "000000000A.1", "000000000_.1", "0000000000.1_0",
		"2rrvthnxts.1",              // an epoch of 49 bits
		"zzzzzzzzzz.1",              // and more
		"0000000000.3w5e11264sgsg",  // a position of 65 bits
		"0000000000.1.0",            // log 0 is not written
		"0000000000.1.01",           //
		"0000000000.1.1ekg",         // a log of 17 bits
		"0000000000.1.",             //
		"0000000000.1.1.",           //
		"0000000000.1.1.1",          //
		"0000000000.1\n",            //
		"=0000000000.1",             //
		"0000000000.1\x00",          //
		strings.Repeat("0", 64),     //
		"0000000000." + "1.1" + "é", //
	} {
		if c, err := ParseCursor(s); err == nil || c != (Cursor{}) {
			t.Errorf("ParseCursor(%q): %+v, %v; want the zero cursor and an error", s, c, err)
		}
	}
}

func TestCursorIsZero(t *testing.T) {
	if !(Cursor{}).IsZero() {
		t.Error("the zero cursor is not zero")
	}
	for _, c := range []Cursor{{Pos: 1}, {Epoch: 1}, {Log: 1}} {
		if c.IsZero() {
			t.Errorf("%+v is zero", c)
		}
	}
}

func TestCursorInJSON(t *testing.T) {
	type message struct{ At Cursor }
	want := message{Cursor{Epoch: 77, Pos: 12345}}
	b, err := json.Marshal(want)
	if err != nil || string(b) != `{"At":"0000000025.9ix"}` {
		t.Fatalf("%s, %v", b, err)
	}
	var got message
	if err := json.Unmarshal(b, &got); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"At":"x"}`), &got); err == nil || got != want {
		t.Errorf("a wrong text: error %v, and the cursor is now %v", err, got.At)
	}
}

func TestCursorAppendTextDoesNotAllocate(t *testing.T) {
	c := Cursor{Epoch: MaxEpoch, Pos: math.MaxUint64, Log: math.MaxUint16}
	buf := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() { buf, _ = c.AppendText(buf[:0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { ParseCursor("2rrvthnxtr.3w5e11264sgsf.1ekf") }); n != 0 {
		t.Errorf("ParseCursor: %v allocations", n)
	}
}

// FuzzParseCursor checks that one cursor has one text: what parses is written
// back as it was, and what is written parses.
func FuzzParseCursor(f *testing.F) {
	f.Add("0000000000.0", uint64(0), uint64(0), uint16(0))
	f.Add("2rrvthnxtr.3w5e11264sgsf.1ekf", uint64(MaxEpoch), uint64(math.MaxUint64), uint16(math.MaxUint16))
	f.Add("0000000000.01.0", uint64(36), uint64(36), uint16(36))
	f.Fuzz(func(t *testing.T, s string, epoch, pos uint64, log uint16) {
		if c, err := ParseCursor(s); err == nil && c.String() != s {
			t.Errorf("%q parses as %+v, which is written %q", s, c, c)
		}
		c := Cursor{Log: log, Epoch: epoch & MaxEpoch, Pos: pos}
		text := c.String()
		if strings.Trim(text, "0123456789abcdefghijklmnopqrstuvwxyz.") != "" || len(text) > 29 {
			t.Errorf("%+v is written %q", c, text)
		}
		if got, err := ParseCursor(text); got != c || err != nil {
			t.Errorf("%+v is written %q, which parses as %+v, %v", c, text, got, err)
		}
	})
}

func BenchmarkCursorAppendText(b *testing.B) {
	c := Cursor{Epoch: MaxEpoch, Pos: 1 << 40}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = c.AppendText(buf[:0])
	}
}
