package sse

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

var _ encoding.TextAppender = (*Event)(nil)

func TestFrames(t *testing.T) {
	text, err := os.ReadFile("../testdata/frames.json")
	if err != nil {
		t.Fatal(err)
	}
	var frames []struct {
		Name  string
		Event struct {
			Type, Data, ID string
			Retry          int64
		}
		Frame *string
		Error string
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&frames); err != nil {
		t.Fatal(err)
	}
	const before = "data: before\n\n"
	for _, f := range frames {
		t.Run(f.Name, func(t *testing.T) {
			if (f.Frame == nil) == (f.Error == "") {
				t.Fatal("want one of frame and error")
			}
			ev := Event{
				ID: f.Event.ID, Type: f.Event.Type, Data: []byte(f.Event.Data),
				Retry: time.Duration(f.Event.Retry) * time.Millisecond,
			}
			got, err := ev.AppendText([]byte(before))
			if f.Error != "" {
				var fe *FieldError
				if !errors.As(err, &fe) || fe.Field != f.Error {
					t.Errorf("error %v, want a FieldError for %s", err, f.Error)
				}
				if string(got) != before {
					t.Errorf("got %q, want what was there", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := before + *f.Frame; string(got) != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			if res := decodeAll(&cutReader{data: got}, "", 0); len(res.events) != 2 {
				t.Errorf("decodes to %d events, want the one before and this", len(res.events))
			}
		})
	}
}

func TestInvalidUTF8IsRefusedInFieldsAndPassesInData(t *testing.T) {
	for _, bad := range []string{"\xff", "a\xc3", "\xed\xa0\x80", "\xf0\x9f\x92", "ok\xc0\x80"} {
		for field, ev := range map[string]Event{"id": {ID: bad}, "type": {Type: bad}} {
			_, err := ev.AppendText(nil)
			var fe *FieldError
			if !errors.As(err, &fe) || fe.Field != field {
				t.Errorf("%s %q: error %v", field, bad, err)
			}
		}
		ev := Event{Data: []byte(bad)}
		got, err := ev.AppendText(nil)
		if want := "data: " + bad + "\n\n"; err != nil || string(got) != want {
			t.Errorf("data: %q, %v, want %q", got, err, want)
		}
	}
}

func TestAppendRetry(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{0, "retry: 0\n"},
		{1, "retry: 1\n"},
		{time.Millisecond, "retry: 1\n"},
		{time.Millisecond + 1, "retry: 2\n"},
		{3 * time.Second, "retry: 3000\n"},
		{2147483647 * time.Millisecond, "retry: 2147483647\n"},
		{2147483647*time.Millisecond + 1, "retry: 2147483647\n"},
		{1<<63 - 1, "retry: 2147483647\n"},
	} {
		got, err := AppendRetry([]byte("x"), c.d)
		if err != nil || string(got) != "x"+c.want {
			t.Errorf("AppendRetry(%d) = %q, %v, want %q", c.d, got, err, c.want)
		}
		ev := Event{Retry: c.d}
		want := c.want
		if c.d == 0 {
			want = ""
		}
		if got, err := ev.AppendText(nil); err != nil || string(got) != want+"data: \n\n" {
			t.Errorf("Event with Retry %d: %q, %v", c.d, got, err)
		}
	}
	for _, d := range []time.Duration{-1, -time.Second, -1 << 63} {
		got, err := AppendRetry([]byte("x"), d)
		var fe *FieldError
		if !errors.As(err, &fe) || fe.Field != "retry" || string(got) != "x" {
			t.Errorf("AppendRetry(%d) = %q, %v", d, got, err)
		}
	}
}

func TestAppendComment(t *testing.T) {
	for text, want := range map[string]string{
		"":                 ":\n",
		"a":                ":a\n",
		" a ":              ": a \n",
		":":                "::\n",
		"a\nb":             ":a\n:b\n",
		"a\rb":             ":a\n:b\n",
		"a\r\nb":           ":a\n:b\n",
		"a\n\rb":           ":a\n:\n:b\n",
		"a\r\r\nb":         ":a\n:\n:b\n",
		"a\n":              ":a\n:\n",
		"\n":               ":\n:\n",
		"\r":               ":\n:\n",
		"\n\ndata: evil\n": ":\n:\n:data: evil\n:\n",
		"a\x00b\xff":       ":a\x00b\xff\n",
	} {
		if got := AppendComment([]byte("x"), text); string(got) != "x"+want {
			t.Errorf("AppendComment(%q) = %q, want %q", text, got, want)
		}
	}
}

// A buffer with room is never left for another one, and one without grows once.
func TestEncodingGrowsOnce(t *testing.T) {
	long := Event{ID: strings.Repeat("i", 300), Type: "t", Retry: 1, Data: bytes.Repeat([]byte("line\r\n\r"), 1000)}
	token := Event{ID: "17", Type: "delta", Data: bytes.Repeat([]byte("x"), 150)}
	lines := Event{Data: bytes.Repeat([]byte("a line\n"), 50)}
	comment := strings.Repeat("comment\r\n", 50)
	room := make([]byte, 0, 64<<10)
	for name, appendTo := range map[string]func(b []byte){
		"token":   func(b []byte) { token.AppendText(b) },
		"lines":   func(b []byte) { lines.AppendText(b) },
		"long":    func(b []byte) { long.AppendText(b) },
		"comment": func(b []byte) { AppendComment(b, comment) },
		"retry":   func(b []byte) { AppendRetry(b, time.Second) },
	} {
		if got := testing.AllocsPerRun(100, func() { appendTo(room) }); got != 0 {
			t.Errorf("%s: %v allocations with room", name, got)
		}
		// slices.Grow allocates once, and once more for nothing under the race detector.
		if got := testing.AllocsPerRun(100, func() { appendTo(nil) }); got > 2 {
			t.Errorf("%s: %v allocations without room, want 1", name, got)
		}
	}
}
