package tailrace_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// What one caller publishes, sends to one stream and broadcasts arrives in the
// order of its calls on every stream, also on one that is slow, catches up or
// wants some types only.
func TestSendsAndBroadcastsAreInOrder(t *testing.T) {
	bothEngines(t, testSendsAndBroadcastsAreInOrder)
}

func testSendsAndBroadcastsAreInOrder(t *testing.T) {
	const topics, history, steps = 4, 1500, 400
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t, nil, smallBuffer, nil)
	s.SetRingFrames(4)

	type listener struct {
		*client
		query  string
		past   bool // from the start
		wants  func(topic int, typ string) bool
		pause  int // at one event in so many
		expect []string
		maybe  map[string]bool // broadcasts that some stream had no room for
	}
	var all []*listener
	every := func(int, string) bool { return true }
	only := func(set ...int) func(int, string) bool {
		return func(n int, _ string) bool {
			for _, m := range set {
				if n == m {
					return true
				}
			}
			return false
		}
	}
	for _, l := range []*listener{
		{query: "topic=t/1", wants: only(1)},
		{query: "topic=t/1&topic=t/3", wants: only(1, 3), pause: 50},
		{query: "topic=t/*", wants: every},
		{query: "topic=t/*&from=start", past: true, wants: every, pause: 20},
		{query: "topic=t/2&from=start", past: true, wants: only(2)},
		{query: "topic=t/*&event=x", wants: func(_ int, typ string) bool { return typ == "x" }},
		{query: "topic=t/*&event=x&from=start", past: true, wants: func(_ int, typ string) bool { return typ == "x" }, pause: 20},
		{query: "topic=quiet", wants: only()},
	} {
		l.maybe = map[string]bool{}
		all = append(all, l)
	}

	number := 0
	event := func() (ev tailrace.Event, topic int) {
		topic = r.IntN(topics)
		ev = tailrace.Event{Topic: "t/" + strconv.Itoa(topic), Type: []string{"", "x"}[r.IntN(2)], Data: []byte("event " + text(number, r.IntN(400)))}
		number++
		return ev, topic
	}
	var past []tailrace.Event
	for range history {
		ev, topic := event()
		past = append(past, ev)
		for _, l := range all {
			if l.past && l.wants(topic, ev.Type) {
				l.expect = append(l.expect, string(ev.Data))
			}
		}
	}
	publishAll(t, s.Hub, past)
	for _, l := range all {
		l.client = s.mustOpen(t, l.query)
	}
	var wg sync.WaitGroup
	complete := make(chan struct{}) // what all streams are to get is known
	for i, l := range all {
		chance := rand.New(rand.NewPCG(seed, 1+uint64(i)))
		wg.Go(func() {
			var got []string
			var ev sse.Event
			for {
				if err := l.dec.Decode(&ev); err != nil {
					t.Errorf("%s: after %d events: %v", l.query, len(got), err)
					return
				}
				if string(ev.Data) == "the end" {
					break
				}
				got = append(got, string(ev.Data))
				if l.pause > 0 && chance.IntN(l.pause) == 0 {
					time.Sleep(time.Duration(chance.IntN(3)) * time.Millisecond)
				}
			}
			<-complete
			want := l.expect
			for len(want) > 0 && len(got) > 0 {
				switch {
				case want[0] == got[0]:
					want, got = want[1:], got[1:]
				case l.maybe[want[0]]:
					want = want[1:]
				default:
					t.Errorf("%s: got %.30q, want %.30q", l.query, got[0], want[0])
					return
				}
			}
			for len(want) > 0 && l.maybe[want[0]] {
				want = want[1:]
			}
			if len(want) > 0 || len(got) > 0 {
				t.Errorf("%s: %d too few, %d too many", l.query, len(want), len(got))
			}
		})
	}

	for step := range steps {
		batch := make([]tailrace.Event, 1+r.IntN(4))
		for i := range batch {
			var topic int
			batch[i], topic = event()
			for _, l := range all {
				if l.wants(topic, batch[i].Type) {
					l.expect = append(l.expect, string(batch[i].Data))
				}
			}
		}
		publishAll(t, s.Hub, batch)
		if r.IntN(3) == 0 {
			for _, l := range all {
				word := fmt.Sprint("sent ", step)
				err := s.Send(t.Context(), l.id, &tailrace.Event{Data: []byte(word)})
				if err == nil {
					l.expect = append(l.expect, word)
				} else if !errors.Is(err, tailrace.ErrSlow) {
					t.Error(err)
				}
			}
		}
		if r.IntN(5) == 0 {
			word := fmt.Sprint("broadcast ", step)
			queued, skipped, err := s.Broadcast(t.Context(), tailrace.Selector{}, &tailrace.Event{Data: []byte(word)})
			if err != nil || queued+skipped != len(all) {
				t.Errorf("broadcast: %d and %d of %d, %v", queued, skipped, len(all), err)
			}
			for _, l := range all {
				l.expect = append(l.expect, word)
				l.maybe[word] = skipped > 0
			}
		}
		if r.IntN(20) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	close(complete)
	for _, l := range all {
		waitFor(t, func() bool {
			err := s.Send(t.Context(), l.id, &tailrace.Event{Data: []byte("the end")})
			if err != nil && !errors.Is(err, tailrace.ErrSlow) {
				t.Error(err)
			}
			return !errors.Is(err, tailrace.ErrSlow)
		})
	}
	wg.Wait()
}

// Many callers at once: each has its own order on its own stream.
func TestSendAfterPublishOfManyCallers(t *testing.T) {
	bothEngines(t, testSendAfterPublishOfManyCallers)
}

func testSendAfterPublishOfManyCallers(t *testing.T) {
	s := newSite(t, nil, 0, nil)
	var wg sync.WaitGroup
	for i := range 16 {
		topic := fmt.Sprint("own/", i)
		c := s.mustOpen(t, "topic="+topic)
		var want []string
		for n := range 60 {
			want = append(want, fmt.Sprint("event ", n), fmt.Sprint("sent ", n))
		}
		wg.Go(func() {
			var ev sse.Event
			for _, w := range want {
				if err := c.dec.Decode(&ev); err != nil || string(ev.Data) != w {
					t.Errorf("stream %d: %q (%v), want %q", i, ev.Data, err, w)
					return
				}
			}
		})
		wg.Go(func() {
			for n := 0; n < len(want); n += 2 {
				if _, err := s.Publish(t.Context(), tailrace.Event{Topic: topic, Data: []byte(want[n])}); err != nil {
					t.Error(err)
				}
				for {
					err := s.Send(t.Context(), c.id, &tailrace.Event{Data: []byte(want[n+1])})
					if err == nil {
						break
					}
					if !errors.Is(err, tailrace.ErrSlow) {
						t.Error(err)
						return
					}
					runtime.Gosched()
				}
			}
		})
	}
	wg.Wait()
}

// gatedLog holds back reads of one topic's history, all but the first page of
// each stream.
type gatedLog struct {
	tailrace.Log
	topic string
	gate  chan struct{} // closed: open
	held  chan struct{} // one for each read that is held
}

func (l *gatedLog) Read(ctx context.Context, q tailrace.Query) (tailrace.Page, error) {
	if topic, ok := q.Select.Single(); ok && topic == l.topic && (q.Latest || !q.After.IsZero()) {
		select {
		case <-l.gate:
		default:
			l.held <- struct{}{}
			select {
			case <-l.gate:
			case <-ctx.Done():
				return tailrace.Page{}, ctx.Err()
			}
		}
	}
	return l.Log.Read(ctx, q)
}

// Streams that read history or take a snapshot, more of them than there are
// workers, do not delay live events: not of another topic, not of their own.
func TestCatchUpDelaysNoLiveEvent(t *testing.T) { bothEngines(t, testCatchUpDelaysNoLiveEvent) }

func testCatchUpDelaysNoLiveEvent(t *testing.T) {
	const history, keys, live = 3000, 50, 100
	log := &gatedLog{Log: tailrace.NewMemoryLog(nil), topic: "big", gate: make(chan struct{}), held: make(chan struct{}, 1000)}
	s := newSite(t, &tailrace.Options{Log: log}, 0, nil)
	release := sync.OnceFunc(func() { close(log.gate) })
	t.Cleanup(release)
	var want []string
	var events []tailrace.Event
	for i := range history {
		want = append(want, text(i, 300))
		events = append(events, tailrace.Event{Topic: "big", Key: strconv.Itoa(i % keys), Data: []byte(want[i])})
	}
	publishAll(t, s.Hub, events)

	other, own := s.mustOpen(t, "topic=a"), s.mustOpen(t, "topic=big&topic=none")
	publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte("begin")})
	other.expect(t, "begin")
	publish(t, s.Hub, tailrace.Event{Topic: "none", Data: []byte("begin")})
	own.expect(t, "begin")
	var behind, snapshots []*client
	workers := 2 * runtime.GOMAXPROCS(0)
	for i := range workers / 2 {
		// Equal pages are read once for all who want them: these differ.
		behind = append(behind, s.mustOpen(t, fmt.Sprint("topic=big&from=last:", 1000-i)))
		snapshots = append(snapshots, s.mustOpen(t, "topic=big&snapshot=1"))
	}
	waitFor(t, func() bool { return len(log.held) == workers })
	var late [4]*client // a beginning needs a worker too
	var opening sync.WaitGroup
	for i := range late {
		opening.Go(func() {
			var err error
			if late[i], err = s.open("topic=big&from=start"); err != nil {
				t.Error(err)
			}
		})
	}

	for i := range live {
		data := text(i, 100)
		publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(data)})
		other.expect(t, data)
		want = append(want, data)
		publish(t, s.Hub, tailrace.Event{Topic: "big", Key: "live", Data: []byte(data)})
		own.expect(t, data)
	}
	release()
	opening.Wait()
	if t.Failed() {
		return
	}
	for _, c := range late {
		defer c.Close()
	}
	for i, c := range behind {
		c.expect(t, want[history-1000+i:]...)
	}
	for _, c := range late {
		c.expect(t, want...)
	}
	for _, c := range snapshots {
		if ev := c.next(t); ev.Type != "tailrace.snapshot" {
			t.Fatalf("%+v", ev)
		}
		n := 0
		for ev := c.next(t); ev.Type != "tailrace.snapshot"; ev = c.next(t) {
			n++
		}
		if n != keys+1 {
			t.Errorf("a snapshot of %d keys, want %d", n, keys+1)
		}
	}
	publish(t, s.Hub, tailrace.Event{Topic: "big", Data: []byte("after")})
	for _, c := range slices.Concat(behind, snapshots, late[:]) {
		c.expect(t, "after")
	}
}

// A broadcast in the middle of a storm of streams that come and go reaches
// every one that is there before and after it, once.
func TestBroadcastWhileStreamsComeAndGo(t *testing.T) {
	bothEngines(t, testBroadcastWhileStreamsComeAndGo)
}

func testBroadcastWhileStreamsComeAndGo(t *testing.T) {
	s := newSite(t, nil, 0, nil)
	var stay []*client
	for range 10 {
		stay = append(stay, s.mustOpen(t, "topic=a"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				c, err := s.open("topic=a")
				if err != nil {
					t.Error(err)
					return
				}
				if c.resp.StatusCode != http.StatusOK {
					t.Error(c.resp.Status)
				}
				c.Read(make([]byte, 1))
				c.reset()
			}
		})
	}
	for n := range 100 {
		word := strconv.Itoa(n)
		if _, _, err := s.Broadcast(t.Context(), tailrace.Selector{}, &tailrace.Event{Data: []byte(word)}); err != nil {
			t.Fatal(err)
		}
		for _, c := range stay {
			c.expect(t, word)
		}
	}
	for _, c := range stay {
		if err := s.Disconnect(c.id, ""); err != nil {
			t.Error(err)
		}
		var ev sse.Event
		if err := c.dec.Decode(&ev); err != io.EOF {
			t.Errorf("%q %v", ev.Data, err)
		}
	}
}
