package tailrace_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// A stream to which topics are added and from which others are taken while
// events flow has each event of each topic once and in order: what was there
// before without ids, what comes after with them.
func TestChangeOfAnOpenStream(t *testing.T) { bothEngines(t, testChangeOfAnOpenStream) }

func testChangeOfAnOpenStream(t *testing.T) {
	h := newHub(t, nil)
	h.SetRingFrames(8)
	url := serve(t, h)
	ctx, stop := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	counts := map[string]int{}
	var mu sync.Mutex
	post := func(topic string) {
		mu.Lock()
		defer mu.Unlock()
		publish(t, h, tailrace.Event{Topic: topic, Data: fmt.Append(nil, counts[topic])})
		counts[topic]++
	}
	for range 300 {
		post("b/1")
	}
	for _, topic := range []string{"a", "b/1", "b/2", "c"} {
		publishers.Go(func() {
			for ctx.Err() == nil {
				post(topic)
				time.Sleep(200 * time.Microsecond)
			}
		})
	}
	r := subscribe(t, url+"?topic=a&topic=c&from=start&meta=1")
	waitFor(t, func() bool { return h.Count() == 1 })
	var id string
	for info := range h.Connections() {
		id = info.ID
	}

	seen := map[string]int{} // next number of each topic
	var last tailrace.Cursor
	marks := 0
	var topics struct{ Added, Removed, Topics []string }
	read := func(until func(ev *sse.Event) bool) {
		t.Helper()
		for {
			ev := r.next()
			if ev.Type == "tailrace.topics" {
				marks++
				topics = struct{ Added, Removed, Topics []string }{}
				if err := json.Unmarshal(ev.Data, &topics); err != nil {
					t.Fatal(err)
				}
				if until(&ev) {
					return
				}
				continue
			}
			var env struct{ Topic, Cursor, Data string }
			if err := json.Unmarshal(ev.Data, &env); err != nil {
				t.Fatalf("%q: %v", ev.Data, err)
			}
			if want := fmt.Sprint(seen[env.Topic]); env.Data != want {
				t.Fatalf("%s: event %s, want %s", env.Topic, env.Data, want)
			}
			seen[env.Topic]++
			c, err := tailrace.ParseCursor(env.Cursor)
			if err != nil {
				t.Fatal(err)
			}
			if ev.ID == env.Cursor && c.Pos > last.Pos {
				last = c
			} else if ev.ID == env.Cursor && strings.HasPrefix(env.Topic, "b/") && marks == 0 {
				t.Fatalf("history of %s has ids", env.Topic)
			}
			if until(&ev) {
				return
			}
		}
	}
	number := 0
	read(func(*sse.Event) bool { number++; return number == 50 })

	type answer struct {
		at  tailrace.Cursor
		sel tailrace.Selector
		err error
	}
	answers := make(chan answer, 1)
	change := func(c tailrace.Change) answer {
		t.Helper()
		go func() {
			at, sel, err := h.Change(t.Context(), id, c)
			answers <- answer{at, sel, err}
		}()
		read(func(ev *sse.Event) bool { return ev.Type == "tailrace.topics" })
		return <-answers
	}
	a := change(tailrace.Change{
		Add:    []tailrace.Addition{{Part: "b/*", From: tailrace.From{Kind: tailrace.FromStart}}},
		Remove: []string{"c"}, Reason: "because",
	})
	if a.err != nil || fmt.Sprint(a.sel) != fmt.Sprint(tailrace.Selector{Topics: []string{"a"}, Patterns: []string{"b/*"}}) {
		t.Fatalf("%+v", a)
	}
	if a.at.Pos < last.Pos || fmt.Sprint(topics) != "{[b/*] [c] [a b/*]}" {
		t.Fatalf("at %v after %v: %v", a.at, last, topics)
	}
	if seen["b/1"] < 300 {
		t.Fatalf("only %d events of the history", seen["b/1"])
	}
	fixed := seen["c"]
	number = 0
	read(func(*sse.Event) bool { number++; return number == 200 })
	if seen["c"] != fixed {
		t.Error("events of a topic that was taken away")
	}

	// What it has is not sent again, whoever asks for history.
	change(tailrace.Change{Add: []tailrace.Addition{{Part: "b/2", From: tailrace.From{Kind: tailrace.FromStart}}}})
	number = 0
	read(func(*sse.Event) bool { number++; return number == 100 })

	for _, bad := range []tailrace.Change{
		{Remove: []string{"nothing"}},
		{Remove: []string{"a", "b/*", "b/2"}},
		{Add: []tailrace.Addition{{Part: "x/**/y"}}},
	} {
		var invalid *tailrace.InvalidError
		if _, _, err := h.Change(t.Context(), id, bad); !errors.As(err, &invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, _, err := h.Change(t.Context(), "nobody", tailrace.Change{}); !errors.Is(err, tailrace.ErrNoConnection) {
		t.Error(err)
	}
	stop()
	publishers.Wait()
	post("a")
	post("b/1")
	read(func(*sse.Event) bool {
		return seen["a"] == counts["a"] && seen["b/1"] == counts["b/1"] && seen["b/2"] == counts["b/2"]
	})
}

// A change of a stream that has ended, or ends meanwhile, is answered.
func TestChangeOfAStreamThatEnds(t *testing.T) { bothEngines(t, testChangeOfAStreamThatEnds) }

func testChangeOfAStreamThatEnds(t *testing.T) {
	h := newHub(t, nil)
	url := serve(t, h)
	for range 30 {
		r := subscribe(t, url+"?topic=a")
		waitFor(t, func() bool { return h.Count() == 1 })
		for info := range h.Connections() {
			go r.stop()
			_, _, err := h.Change(t.Context(), info.ID, tailrace.Change{Add: []tailrace.Addition{{Part: "b"}}})
			if err != nil && !errors.Is(err, tailrace.ErrNoConnection) {
				t.Error(err)
			}
		}
		waitFor(t, func() bool { return h.Count() == 0 })
	}
}
