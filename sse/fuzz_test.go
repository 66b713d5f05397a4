package sse

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// fuzzLimit turns a fuzzed byte into a MaxEventSize: often one so small that
// the input meets it.
func fuzzLimit(b uint8) int {
	switch {
	case b == 0:
		return 0
	case b == 255:
		return -1
	}
	return int(b)
}

func addGolden(f *testing.F, add func(input []byte, g goldenStream)) {
	for _, g := range goldenStreams(f) {
		if len(g.input) < 1000 {
			add(g.input, g)
		}
	}
}

// Any cuts give the same events, comments, final state and error, and memory
// stays in proportion to the limit.
func FuzzDecodeChunks(f *testing.F) {
	addGolden(f, func(input []byte, g goldenStream) {
		f.Add(input, g.start, uint8(0), uint64(len(input)))
		f.Add(input, g.start, uint8(12), uint64(1))
	})
	f.Fuzz(func(t *testing.T, input []byte, start string, limit uint8, seed uint64) {
		whole := decodeAll(&cutReader{data: input}, start, fuzzLimit(limit))
		rnd := rand.New(rand.NewPCG(seed, 0))
		for how, r := range map[string]*cutReader{
			"byte by byte": {size: 1},
			"in pairs":     {size: 2},
			"random cuts":  {cuts: randomCuts(rnd, len(input)), joined: seed%2 == 0},
			"small buffer": {cuts: randomCuts(rnd, len(input)), buffer: 8 + int(seed%57)},
		} {
			r.data = input
			if d := diff(decodeAll(r, start, fuzzLimit(limit)), whole, false); d != "" {
				t.Errorf("%s differs from whole:\n%s", how, d)
			}
		}

		// A failing reader must lose the same as an ending one.
		failure := errors.New("reset")
		got := decodeAll(&cutReader{data: input, err: failure, joined: seed%2 == 1}, start, fuzzLimit(limit))
		if whole.err == io.EOF {
			whole.err = failure
		}
		if d := diff(got, whole, false); d != "" {
			t.Errorf("with a failing reader:\n%s", d)
		}
	})
}

// The Decoder agrees with the slow one, and gives each event out with its last
// byte.
func FuzzDecode(f *testing.F) {
	addGolden(f, func(input []byte, g goldenStream) {
		f.Add(input, g.start, uint8(0))
		f.Add(input, g.start, uint8(9))
	})
	f.Fuzz(func(t *testing.T, input []byte, start string, limit uint8) {
		want := reference(input, start, fuzzLimit(limit))
		if d := diff(decodeAll(&cutReader{data: input}, start, fuzzLimit(limit)), want, false); d != "" {
			t.Errorf("whole:\n%s", d)
		}
		if d := diff(decodeAll(&cutReader{data: input, size: 1}, start, fuzzLimit(limit)), want, true); d != "" {
			t.Errorf("byte by byte:\n%s", d)
		}

		// A buffer holds at most one line and what a read adds to it.
		d := NewDecoder(bytes.NewReader(input), &DecoderOptions{MaxEventSize: fuzzLimit(limit)})
		var ev Event
		for d.Decode(&ev) == nil {
		}
		if l := int(limit); 0 < l && l < 255 && (len(d.buf) > l+firstBufferSize || cap(d.joined) > max(l, 16)) {
			t.Errorf("limit %d, read buffer %d, data buffer %d", l, len(d.buf), cap(d.joined))
		}
	})
}

func validField(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsAny(s, "\r\n\x00")
}

// What is encoded decodes to the same, and encoding fails exactly when a field
// is invalid.
func FuzzRoundTrip(f *testing.F) {
	f.Add("", "", []byte(nil), int64(0))
	f.Add("7", "price", []byte("42\n43"), int64(1500))
	f.Add("a\n", "b\r", []byte("\r\n\r"), int64(-1))
	f.Add("\xff", "\x00", []byte("\xf0\x9f\x92"), int64(1)<<40)
	f.Add("é", " ", []byte(" \n \n\n"), int64(2147483648))
	f.Add("\ufeff", "\ufeff", []byte("\ufeff"), int64(2))
	f.Fuzz(func(t *testing.T, id, typ string, data []byte, retryMs int64) {
		retryMs %= 1 << 40
		ev := Event{ID: id, Type: typ, Data: data, Retry: time.Duration(retryMs) * time.Millisecond}
		before := []byte("before")
		frame, err := ev.AppendText(before)
		invalid := !validField(id) || !validField(typ) || retryMs < 0
		if invalid != (err != nil) {
			t.Fatalf("AppendText: %v, but invalid is %v", err, invalid)
		}
		if err != nil {
			if !bytes.Equal(frame, before) {
				t.Fatalf("b came back as %q", frame)
			}
			return
		}
		got := decodeAll(&cutReader{data: frame[len(before):]}, "", 0)
		want := Event{ID: id, Type: typ, Retry: min(ev.Retry, maxRetry)}
		text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
		for i, line := range strings.Split(text, "\n") {
			if i > 0 {
				want.Data = append(want.Data, '\n')
			}
			want.Data = appendValid(want.Data, []byte(line))
		}
		if d := diff(got, result{
			events:      []Event{want},
			lastEventID: id,
			retry:       want.Retry,
			hasRetry:    retryMs > 0,
			err:         io.EOF,
		}, false); d != "" {
			t.Errorf("%q:\n%s", frame, d)
		}
		if !bytes.ContainsRune(data, '\r') && utf8.Valid(data) && !bytes.Equal(want.Data, data) {
			t.Errorf("data %q came back as %q", data, want.Data)
		}
	})
}

// Nothing that a stranger puts into an event or a comment makes a second event,
// changes another field or hides the event that follows.
func FuzzNoForge(f *testing.F) {
	hostile := "x\n\nid: 9\nevent: evil\nretry: 1\ndata: evil\n\n"
	f.Add("1", "t", []byte(hostile), hostile)
	f.Add(hostile, "t", []byte("x"), "c")
	f.Add("1", hostile, []byte("x"), "c")
	f.Add("1", "t", []byte(strings.ReplaceAll(hostile, "\n", "\r")), strings.ReplaceAll(hostile, "\n", "\r"))
	f.Add("1", "t", []byte(strings.ReplaceAll(hostile, "\n", "\r\n")), strings.ReplaceAll(hostile, "\n", "\r\n"))
	f.Add("1", "t", []byte("\r"), "\n")
	f.Add("1", "t", []byte("a\x00\xf0\x9f\n\xef\xbb\xbfdata: evil"), "\ufeff")
	f.Fuzz(func(t *testing.T, id, typ string, data []byte, comment string) {
		ev := Event{ID: id, Type: typ, Data: data}
		stream := AppendComment(nil, comment)
		stream, err := ev.AppendText(stream)
		if err != nil {
			var fe *FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("error %v, want a FieldError", err)
			}
			return
		}
		stream = AppendComment(stream, comment)
		last := Event{ID: "last", Type: "end", Data: []byte("end")}
		stream, err = last.AppendText(stream)
		if err != nil {
			t.Fatal(err)
		}
		for _, res := range []result{
			decodeAll(&cutReader{data: stream}, "", 0),
			reference(stream, "", 0),
		} {
			if len(res.events) != 2 || res.hasRetry || res.lastEventID != "last" {
				t.Fatalf("%q: %d events, retry %v, last event id %q", stream, len(res.events), res.hasRetry, res.lastEventID)
			}
			if got := res.events[0]; got.ID != id || got.Type != typ {
				t.Errorf("%q decodes to %s", stream, show(got))
			}
			if got := res.events[1]; got.ID != "last" || got.Type != "end" || string(got.Data) != "end" {
				t.Errorf("%q: the next event decodes to %s", stream, show(got))
			}
		}
	})
}
