package sse_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tailrace/tailrace/sse"
)

func ExampleEvents() {
	stream := strings.NewReader("id: 1\nevent: price\ndata: 42\n\n" +
		": a comment\n\n" +
		"data: two\ndata: lines\n\n")

	for ev, err := range sse.Events(stream) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%q %q %q\n", ev.ID, ev.Type, ev.Data)
	}
	// Output:
	// "1" "price" "42"
	// "1" "" "two\nlines"
}

func ExampleEvent() {
	ev := sse.Event{ID: "7", Type: "note", Data: []byte("first line\nsecond line"), Retry: 3 * time.Second}
	frame, err := ev.AppendText(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s", frame)
	// Output:
	// id: 7
	// event: note
	// retry: 3000
	// data: first line
	// data: second line
}

// One buffer serves any number of events, without an allocation.
func ExampleEvent_AppendText() {
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()

	ev := sse.Event{Type: "tick"}
	var frame []byte
	for n := range 2 {
		ev.Data = fmt.Append(ev.Data[:0], n)
		frame, _ = ev.AppendText(frame[:0]) // "tick" is always valid
		w.Write(frame)
	}
	// Output:
	// event: tick
	// data: 0
	//
	// event: tick
	// data: 1
}

// Nothing in the data can end the event; an id or a type that could is refused.
func ExampleFieldError() {
	ev := sse.Event{Data: []byte("hi\n\nevent: evil")}
	frame, err := ev.AppendText(nil)
	fmt.Printf("%q %v\n", frame, err)

	ev = sse.Event{Type: "hi\n\nevent: evil"}
	_, err = ev.AppendText(nil)
	var fe *sse.FieldError
	fmt.Println(errors.As(err, &fe), err)
	// Output:
	// "data: hi\ndata: \ndata: event: evil\n\n" <nil>
	// true sse: type contains a line end
}

func ExampleAppendComment() {
	fmt.Printf("%q\n", sse.AppendComment(nil, " still here"))
	// Output: ": still here\n"
}

func ExampleAppendRetry() {
	line, err := sse.AppendRetry(nil, 1500*time.Millisecond)
	fmt.Printf("%q %v\n", line, err)
	// Output: "retry: 1500\n" <nil>
}

// Decode lends its data: what is to be kept is copied.
func ExampleDecoder() {
	stream := strings.NewReader("data: {\"text\":\"Hel\"}\n\ndata: {\"text\":\"lo\"}\n\ndata: [DONE]\n\n")

	d := sse.NewDecoder(stream, nil)
	var ev sse.Event
	for {
		err := d.Decode(&ev)
		if err == io.EOF || string(ev.Data) == "[DONE]" {
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s\n", ev.Data)
	}
	// Output:
	// {"text":"Hel"}
	// {"text":"lo"}
}

// A second connection goes on where the first one ended. A block that was cut
// off does not count: its event comes again.
func ExampleDecoder_Reset() {
	d := sse.NewDecoder(strings.NewReader("retry: 500\nid: 1\ndata: a\n\nid: 2\ndata: cut"), nil)
	for ev := range d.Events() {
		fmt.Printf("%s\n", ev.Data)
	}
	wait, _ := d.Retry()
	fmt.Printf("connect again after %v with Last-Event-ID %s\n", wait, d.LastEventID())

	d.Reset(strings.NewReader("id: 2\ndata: cut no more\n\n"))
	for ev := range d.Events() {
		fmt.Printf("%s\n", ev.Data)
	}
	// Output:
	// a
	// connect again after 500ms with Last-Event-ID 1
	// cut no more
}

func ExampleDecoderOptions() {
	stream := strings.NewReader(": welcome\ndata: small\n\ndata: " + strings.Repeat("x", 1000) + "\n\n")
	d := sse.NewDecoder(stream, &sse.DecoderOptions{
		MaxEventSize: 100,
		OnComment:    func(text []byte) { fmt.Printf("comment %q\n", text) },
	})
	for ev, err := range d.Events() {
		fmt.Printf("%q %v\n", ev.Data, err)
	}
	// Output:
	// comment " welcome"
	// "small" <nil>
	// "" sse: line or event longer than 100 bytes
}
