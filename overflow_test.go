package tailrace_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// overflowRules give the topics of these tests their policies.
var overflowRules = []tailrace.TopicRule{
	{Pattern: "state/**", Overflow: tailrace.Conflate, Policy: tailrace.Policy{KeepLatest: true}},
	{Pattern: "news/**", Overflow: tailrace.SkipToNow},
}

// overflowSite has rings of so few frames that a reader that stalls for a
// moment falls out.
func overflowSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t, &tailrace.Options{Rules: overflowRules, StallTimeout: 10 * time.Minute}, smallBuffer, nil)
	s.SetRingFrames(overflowRing)
	return s
}

const overflowRing = 16

// flood publishes events from number from up to to, 4 KiB each, to a topic with
// ten keys. Another reader gets each before the next is published, so that who
// falls out of its ring does because it does not read. Those who stalled have
// fallen behind when it returns.
func (s *site) flood(t *testing.T, topic string, from, to int, stalled ...*client) {
	t.Helper()
	witness := s.mustOpen(t, "topic="+topic)
	for i := from; i < to; i++ {
		cursor := publish(t, s.Hub, tailrace.Event{Topic: topic, Key: strconv.Itoa(i % 10), Data: []byte(text(i, 4<<10))})
		witness.expect(t, text(i, 4<<10))
		for _, c := range stalled {
			if i < from+5 { // it begins by keeping up
				waitFor(t, func() bool { info, _ := s.Connection(c.id); return info.Cursor.Pos >= cursor.Pos })
			}
		}
	}
	witness.Close()
	for _, c := range stalled {
		if info, _ := s.Connection(c.id); info.LagEvents == 0 {
			t.Fatal("a reader that stalls is not behind")
		}
	}
}

// numberOf is the number that the data of an event begins with.
func numberOf(t testing.TB, ev sse.Event) int {
	t.Helper()
	word, _, _ := strings.Cut(string(ev.Data), " ")
	n, err := strconv.Atoi(word)
	if err != nil || string(ev.Data) != text(n, 4<<10) {
		t.Fatalf("event %q of type %q: %.60q", ev.ID, ev.Type, ev.Data)
	}
	return n
}

// prefix reads events from number 0 on until something else comes. It returns
// that, how many events there were, and the id of the last.
func (c *client) prefix(t *testing.T, all int) (ev sse.Event, n int, lastID string) {
	t.Helper()
	for n < all {
		lastID = c.dec.LastEventID()
		if ev = c.next(t); strings.HasPrefix(ev.Type, tailrace.ReservedTypePrefix) {
			return ev, n, lastID
		}
		if got := numberOf(t, ev); got != n {
			t.Fatalf("event %d, want %d", got, n)
		}
		n++
	}
	t.Fatalf("all %d events and no gap, the policy is not applied", all)
	return
}

// overflowGap reads the data of a gap event.
func overflowGap(t *testing.T, ev sse.Event) tailrace.Gap {
	t.Helper()
	var gap tailrace.Gap
	if err := json.Unmarshal(ev.Data, &gap); err != nil || ev.Type != tailrace.TypeGap || gap.Reason != tailrace.Overflow {
		t.Fatalf("event %q %s, want a gap by overflow", ev.Type, ev.Data)
	}
	return gap
}

const flooded = 300

// With the policy gap a reader that stalls and reads on is told of the gap, and
// goes on with what memory has, in order, then live. The kernel may take a
// little of a stalled stream now and then: then there are more gaps than one.
func TestOverflowGap(t *testing.T) { bothEngines(t, testOverflowGap) }

func testOverflowGap(t *testing.T) {
	s := overflowSite(t)
	c := s.mustOpen(t, "topic=news/a&ids=cursor")
	s.flood(t, "news/a", 0, flooded, c)
	ev, n, before := c.prefix(t, flooded)
	gaps, first, gapID := 0, 0, ""
	for next, last := n, before; next < flooded; ev = c.next(t) {
		if ev.Type == "" {
			got := numberOf(t, ev)
			if last == gapID && got > next {
				first, next = got, got // memory has no more
			}
			if got != next {
				t.Fatalf("event %d, want %d", got, next)
			}
			if next, last = next+1, ev.ID; next == flooded {
				break
			}
			continue
		}
		if gap := overflowGap(t, ev); gap.Requested != last || gap.Oldest != ev.ID || ev.ID == "" {
			t.Errorf("after the id %s: gap %+v with the id %q", last, gap, ev.ID)
		}
		gaps, gapID, last = gaps+1, ev.ID, ev.ID
	}
	s.flood(t, "news/a", flooded, flooded+5)
	for want := flooded; want < flooded+5; want++ {
		if got := numberOf(t, c.next(t)); got != want {
			t.Fatalf("event %d, want %d", got, want)
		}
	}
	if got := s.Stats().Gaps[tailrace.Overflow]; got != int64(gaps) {
		t.Errorf("%d gaps by overflow are counted, %d came", got, gaps)
	}

	// The policy is for live streams: who resumes gets everything.
	if got := numberOf(t, s.mustOpen(t, "topic=news/a", "Last-Event-ID: "+before).next(t)); got != n {
		t.Errorf("a resume begins with event %d, want %d", got, n)
	}
	if got := numberOf(t, s.mustOpen(t, "topic=news/a", "Last-Event-ID: "+gapID).next(t)); got != first {
		t.Errorf("a resume from the gap begins with event %d, want %d", got, first)
	}
}

// With the policy conflate it gets the newest event of each key after the gap,
// then what comes after that cut.
func TestOverflowConflate(t *testing.T) { bothEngines(t, testOverflowConflate) }

func testOverflowConflate(t *testing.T) {
	s := overflowSite(t)
	c := s.mustOpen(t, "topic=state/a&ids=cursor")
	s.flood(t, "state/a", 0, flooded, c)
	ev, n, before := c.prefix(t, flooded)
	newest := map[int]int{} // number of the event, by key
	took := func(ev sse.Event) {
		t.Helper()
		got := numberOf(t, ev)
		if got < newest[got%10] {
			t.Fatalf("event %d after %d of the same key", got, newest[got%10])
		}
		newest[got%10] = got
	}
	complete := func() bool {
		for want := flooded - 10; want < flooded; want++ {
			if newest[want%10] != want {
				return false
			}
		}
		return true
	}
	for last := before; ; ev = c.next(t) {
		if ev.Type == "" {
			took(ev)
			last = ev.ID
		} else {
			if gap := overflowGap(t, ev); gap.Requested != last || c.dec.LastEventID() != last {
				t.Errorf("after the id %s: gap %+v moves it to %s", last, gap, c.dec.LastEventID())
			}
			if ev := c.next(t); ev.Type != "tailrace.snapshot" || string(ev.Data) != `{"state":"begin"}` {
				t.Fatalf("%q %s", ev.Type, ev.Data)
			}
			count := 0
			for ev = c.next(t); ev.Type == ""; ev = c.next(t) {
				took(ev)
				count++
				if c.dec.LastEventID() != last {
					t.Errorf("an event of the snapshot has the id %q", c.dec.LastEventID())
				}
			}
			if want := fmt.Sprintf(`{"state":"end","count":%d}`, count); ev.Type != "tailrace.snapshot" || string(ev.Data) != want || ev.ID == "" || ev.ID == last {
				t.Fatalf("%q %s with the id %q", ev.Type, ev.Data, ev.ID)
			}
			last = ev.ID
		}
		if complete() {
			break
		}
	}
	end := c.dec.LastEventID()
	s.flood(t, "state/a", flooded, flooded+5)
	for want := flooded; want < flooded+5; want++ {
		if got := numberOf(t, c.next(t)); got != want {
			t.Fatalf("event %d, want %d", got, want)
		}
	}
	if got := numberOf(t, s.mustOpen(t, "topic=state/a", "Last-Event-ID: "+before).next(t)); got != n {
		t.Errorf("a resume begins with event %d, want %d", got, n)
	}
	if got := numberOf(t, s.mustOpen(t, "topic=state/a", "Last-Event-ID: "+end).next(t)); got != flooded {
		t.Errorf("a resume from the snapshot's end begins with event %d", got)
	}
}

// The mildest policy of a selection's parts counts.
func TestOverflowOfAMixedSelection(t *testing.T) { bothEngines(t, testOverflowOfAMixedSelection) }

func testOverflowOfAMixedSelection(t *testing.T) {
	for _, c := range []struct {
		query string
		topic string
		want  tailrace.OverflowPolicy
	}{
		{"topic=news/a", "news/a", tailrace.SkipToNow},
		{"topic=news/*", "news/a", tailrace.SkipToNow},
		{"topic=news/**&topic=news/a", "news/a", tailrace.SkipToNow},
		{"topic=news/a&topic=state/a", "news/a", tailrace.Conflate},
		{"topic=state/**&topic=news/*", "state/a", tailrace.Conflate},
		{"topic=plain", "plain", tailrace.Resume},
		{"topic=news/a&topic=plain", "news/a", tailrace.Resume},
		{"topic=state/a&topic=news/a&topic=plain/*", "state/a", tailrace.Resume},
		{"topic=**", "news/a", tailrace.Resume}, // no rule is for all of it
	} {
		t.Run(c.query, func(t *testing.T) {
			s := overflowSite(t)
			r := s.mustOpen(t, c.query)
			s.flood(t, c.topic, 0, 60, r)
			if c.want == tailrace.Resume {
				for want := range 60 {
					if got := numberOf(t, r.next(t)); got != want {
						t.Fatalf("event %d, want %d", got, want)
					}
				}
				return
			}
			ev, _, _ := r.prefix(t, 60)
			overflowGap(t, ev)
			got := tailrace.SkipToNow
			if r.next(t).Type == "tailrace.snapshot" {
				got = tailrace.Conflate
			}
			if got != c.want {
				t.Errorf("the policy is %s, want %s", got, c.want)
			}
		})
	}
}

// However often a reader stalls and reads on while values change, what it
// makes of snapshots and events is the state: no value goes back, and in the
// end each key has its newest.
func TestConflatedStateIsRight(t *testing.T) { bothEngines(t, testConflatedStateIsRight) }

func testConflatedStateIsRight(t *testing.T) {
	const keys, changes, readers = 20, 600, 4
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := overflowSite(t)
	state := map[string]int{}
	var wg sync.WaitGroup
	var got [readers]map[string]int
	for i := range readers {
		c := s.mustOpen(t, "topic=state/a&meta=1")
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		got[i] = map[string]int{}
		wg.Go(func() {
			for {
				var ev sse.Event
				if err := c.dec.Decode(&ev); err != nil {
					t.Errorf("reader %d: %v", i, err)
					return
				}
				if strings.HasPrefix(ev.Type, tailrace.ReservedTypePrefix) {
					continue
				}
				var e struct{ Key, Data string }
				if err := json.Unmarshal(ev.Data, &e); err != nil {
					t.Errorf("reader %d: %v", i, err)
					return
				}
				if e.Key == "end" {
					return
				}
				number, _, _ := strings.Cut(e.Data, " ")
				n, _ := strconv.Atoi(number)
				if old := got[i][e.Key]; n < old {
					t.Errorf("reader %d: the value of %s goes back from %d to %d", i, e.Key, old, n)
				}
				got[i][e.Key] = n
				if r.IntN(30) == 0 {
					time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond)
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(seed, 100))
	for i := range changes {
		key := fmt.Sprint("key", r.IntN(keys))
		state[key] = i + 1
		publish(t, s.Hub, tailrace.Event{Topic: "state/a", Key: key, Data: []byte(text(i+1, r.IntN(4000)))})
	}
	publish(t, s.Hub, tailrace.Event{Topic: "state/a", Key: "end"})
	wg.Wait()
	for i := range got {
		if !maps.Equal(got[i], state) {
			t.Errorf("reader %d has %v, want %v", i, got[i], state)
		}
	}
	t.Logf("%d overflows", s.Stats().Gaps[tailrace.Overflow])
}
