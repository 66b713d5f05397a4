package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
)

// recording makes a faultless history: two publishers, the topics kept, lost
// (which retention trims) and idle, and a reader of each kind. The reader
// named late missed events of lost, and was told.
func recording() *history {
	h := &history{keeps: map[string]int{"lost": 3}}
	pos := uint64(0)
	var log []record
	publish := func(publisher int, topic string, ids bool, n int) {
		call := call{publisher: publisher, n: len(h.calls), topic: topic, acked: true}
		for range n {
			pos += 2 // positions are not dense
			e := record{topic: topic, data: fmt.Sprintf("event %d", pos), cursor: tailrace.Cursor{Epoch: 7, Pos: pos}}
			if ids {
				e.id = fmt.Sprintf("id-%d", pos)
			}
			log = append(log, e)
			call.events = append(call.events, sent{id: e.id, data: e.data, cursor: e.cursor})
		}
		h.calls = append(h.calls, call)
	}
	publish(1, "idle", false, 1)
	for range 5 {
		publish(1, "kept", true, 1)
		publish(2, "lost", true, 1)
		publish(2, "kept", false, 3)
		publish(1, "lost", false, 1)
	}
	// Only the last three of lost are left.
	first := slices.IndexFunc(log, func(e record) bool { return e.topic == "lost" && e.cursor.Pos > log[len(log)-9].cursor.Pos })
	for i, e := range log {
		if e.topic != "lost" || i >= first {
			h.final = append(h.final, e)
		}
	}
	read := func(name string, bare bool, topics ...string) *reading {
		r := &reading{name: name, bare: bare, sel: tailrace.Selector{Topics: topics}}
		for _, e := range log {
			if r.sel.Match(e.topic) {
				s := sighting{record: e, wireID: r.wireID(&e)}
				if bare {
					s.cursor, s.topic, s.id = tailrace.Cursor{}, "", ""
				}
				r.seen = append(r.seen, s)
			}
		}
		h.readings = append(h.readings, r)
		return r
	}
	read("bare", true, "kept")
	read("all", false, "kept", "lost", "idle")
	read("idle", false, "idle")
	late := read("late", false, "kept", "lost")
	at := late.seen[7].cursor
	gap := sighting{record: record{cursor: at}, wireID: at.String(), gap: &tailrace.Gap{Reason: tailrace.Trimmed, Topics: []string{"lost"}}}
	rest := slices.DeleteFunc(slices.Clone(late.seen[8:]), func(s sighting) bool { return s.topic == "lost" && !slices.Contains(h.final, s.record) })
	late.seen = append(append(slices.Clone(late.seen[:8]), gap), rest...)
	return h
}

func (h *history) reading(name string) *reading {
	return h.readings[slices.IndexFunc(h.readings, func(r *reading) bool { return r.name == name })]
}

// TestCheckerSeesFaults is the control of the kill tests: each tampering with
// a faultless recording must be found, and nothing may be found without one.
func TestCheckerSeesFaults(t *testing.T) {
	if found := recording().faults(); len(found) > 0 {
		t.Fatalf("faults in a faultless recording:\n%s", strings.Join(found, "\n"))
	}
	ack := func(h *history, data string) *sent {
		for i := range h.calls {
			for j := range h.calls[i].events {
				if e := &h.calls[i].events[j]; e.data == data {
					return e
				}
			}
		}
		panic("no such event")
	}
	isGap := func(s sighting) bool { return s.gap != nil }
	tests := []struct {
		name   string
		tamper func(h *history)
		want   string
	}{
		{"a reader misses an event", func(h *history) {
			r := h.reading("all")
			r.seen = slices.Delete(r.seen, 5, 6)
		}, "silent loss"},
		{"a bare reader misses an event", func(h *history) {
			r := h.reading("bare")
			r.seen = slices.Delete(r.seen, 5, 6)
		}, "silent loss"},
		{"a reader misses the last event", func(h *history) {
			r := h.reading("bare")
			r.seen = r.seen[:len(r.seen)-1]
		}, "missed the last 1"},
		{"a reader sees nothing", func(h *history) { h.reading("idle").seen = nil }, "missed the last 1"},
		{"a reader sees an event twice", func(h *history) {
			r := h.reading("all")
			r.seen = slices.Insert(r.seen, 5, r.seen[4])
		}, "twice"},
		{"a reader sees two events in the wrong order", func(h *history) {
			r := h.reading("bare")
			r.seen[3], r.seen[4] = r.seen[4], r.seen[3]
		}, "wrong order"},
		{"a reader sees what it did not ask for", func(h *history) {
			r := h.reading("idle")
			r.seen = append(r.seen, h.reading("all").seen[4])
		}, "did not ask"},
		{"a reader sees an event that was never stored", func(h *history) {
			r := h.reading("bare")
			r.seen[3].data = "event 1"
		}, "not in the log"},
		{"a reader sees other data", func(h *history) { h.reading("all").seen[3].data = "event 1" }, "has \"event 1\""},
		{"an id is wrong on the wire", func(h *history) { h.reading("all").seen[3].wireID = "x" }, "on the wire"},
		{"a gap is swallowed", func(h *history) {
			r := h.reading("late")
			r.seen = slices.DeleteFunc(r.seen, isGap)
		}, "silent loss"},
		{"a gap comes after the loss", func(h *history) {
			r := h.reading("late")
			i := slices.IndexFunc(r.seen, isGap)
			gap := r.seen[i]
			r.seen = append(slices.Delete(r.seen, i, i+1), gap)
		}, "silent loss"},
		{"a gap hides a loss in another topic", func(h *history) {
			r := h.reading("late")
			i := slices.IndexFunc(r.seen, isGap)
			for r.seen[i].topic != "kept" {
				i++
			}
			r.seen = slices.Delete(r.seen, i, i+1)
		}, "silent loss"},
		{"a gap where nothing is lost", func(h *history) {
			r := h.reading("all")
			r.seen = slices.Insert(r.seen, 5, h.reading("late").seen[8])
			r.seen[5].cursor = r.seen[4].cursor
		}, "nothing was missing"},
		{"a gap where nothing can be lost", func(h *history) {
			r := h.reading("idle")
			r.seen = append(r.seen, h.reading("late").seen[8])
		}, "nothing may be removed"},
		{"a gap that names a topic without retention", func(h *history) {
			r := h.reading("late")
			r.seen[8].gap = &tailrace.Gap{Reason: tailrace.Trimmed, Topics: []string{"lost", "kept"}}
		}, "nothing may be removed"},
		{"a gap for another reason", func(h *history) {
			r := h.reading("late")
			r.seen[8].gap = &tailrace.Gap{Reason: tailrace.EpochGap, Topics: []string{"lost"}}
		}, "by retention only"},
		{"a gap goes back", func(h *history) { h.reading("late").seen[8].cursor.Pos = 1 }, "goes on at 1"},
		{"the log loses an acknowledged event", func(h *history) { h.final = slices.Delete(h.final, 2, 3) }, "lost: "},
		{"an acknowledged event was never stored", func(h *history) {
			ack(h, "event 4").data = "event 1"
		}, "acknowledged"},
		{"the log stores an event twice", func(h *history) {
			again := h.final[2]
			again.cursor.Pos = 1000
			h.final = append(h.final, again)
		}, "stored twice"},
		{"the log has an event that nobody sent", func(h *history) {
			h.final = append(h.final, record{"kept", "", "event 1000", tailrace.Cursor{Epoch: 7, Pos: 1000}})
		}, "nobody sent"},
		{"the log is out of order", func(h *history) { h.final[3], h.final[4] = h.final[4], h.final[3] }, "the log has"},
		{"the log keeps an older event and loses a newer one", func(h *history) {
			newest := ""
			for _, e := range h.final {
				if e.topic == "lost" {
					newest = e.data
				}
			}
			h.final = slices.DeleteFunc(h.final, func(e record) bool { return e.data == newest })
		}, "though older"},
		{"an id is stored again though the first is kept", func(h *history) {
			again := h.final[slices.IndexFunc(h.final, func(e record) bool { return e.topic == "lost" && e.id != "" })]
			again.cursor.Pos = 1000
			h.final = append(h.final, again)
		}, "stored twice"},
		{"a receipt names another cursor", func(h *history) { ack(h, "event 4").cursor.Pos += 4 }, "an answer to"},
		{"acknowledgements are out of order", func(h *history) {
			for i := range h.calls {
				if e := h.calls[i].events; len(e) == 3 {
					e[0], e[1] = e[1], e[0]
					return
				}
			}
		}, "after"},
		{"a call is stored in part", func(h *history) {
			for i := range h.calls {
				if c := &h.calls[i]; len(c.events) == 3 {
					c.acked = false
					h.final = slices.DeleteFunc(h.final, func(e record) bool { return e.data == c.events[1].data })
					for _, r := range h.readings {
						r.seen = slices.DeleteFunc(r.seen, func(s sighting) bool { return s.data == c.events[1].data })
					}
					return
				}
			}
		}, "2 of 3 events"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := recording()
			test.tamper(h)
			found := strings.Join(h.faults(), "\n")
			if !strings.Contains(found, test.want) {
				t.Errorf("no fault with %q in:\n%s", test.want, found)
			}
		})
	}
}
