package presence_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/presence"
)

const grace = 10 * time.Second

// world is a log with the lives of a node that follows presence on it.
type world struct {
	t     *testing.T
	log   *faultyLog
	rules func(topic string) presence.Rule
	node  string
	*presence.Tracker
}

// newWorld runs f in a bubble, in a world whose rules make room/** list
// members and wall/** count them.
func newWorld(t *testing.T, f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		log := tailrace.NewMemoryLog(&tailrace.MemoryOptions{Rules: tailrace.Rules{
			{Pattern: "$presence/**", Policy: tailrace.Policy{KeepLatest: true}},
		}})
		w := &world{t: t, log: &faultyLog{Log: log}, rules: func(topic string) presence.Rule {
			switch {
			case strings.HasPrefix(topic, "room/"):
				return presence.Rule{Mode: presence.Members}
			case strings.HasPrefix(topic, "wall/"):
				return presence.Rule{Mode: presence.Count}
			}
			return presence.Rule{}
		}}
		w.start()
		defer func() {
			w.Close()
			if err := log.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(w)
	})
}

// start begins a life of the node.
func (w *world) start() {
	w.t.Helper()
	tracker, err := presence.Open(context.Background(), presence.Options{
		Log: w.log, Rule: func(topic string) presence.Rule { return w.rules(topic) }, Node: w.node,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Tracker = tracker
}

// crash ends a life: whatever was not told is forgotten. The next begins after
// away.
func (w *world) crash(away time.Duration) {
	w.t.Helper()
	w.Close()
	time.Sleep(away)
	w.start()
}

func (w *world) connect(id, principal string, topics ...string) {
	w.Connect(presence.Stream{ID: id, Principal: principal, Topics: topics})
}

// note is the data of an event.
type note struct {
	Topic, Principal, Since, Node string
	Payload                       json.RawMessage
	Count                         int
}

// told returns the events of a topic as "join a 1", in order.
func (w *world) told(topic string) []string {
	w.t.Helper()
	synctest.Wait()
	list := []string{}
	for _, ev := range w.read(tailrace.Query{Select: tailrace.Selector{Topics: []string{presence.Prefix + topic}}, Limit: 1 << 20}) {
		var n note
		if err := json.Unmarshal(ev.Data, &n); err != nil || n.Topic != topic || ev.Remove != (ev.Type == "leave" || n.Count == 0) {
			w.t.Fatalf("event %s %s (remove %v): %v", ev.Type, ev.Data, ev.Remove, err)
		}
		list = append(list, strings.Join(strings.Fields(fmt.Sprint(ev.Type, " ", n.Principal, " ", n.Count)), " "))
	}
	return list
}

// state returns who the log lists, or counts, in all topics.
func (w *world) state() map[string]map[string]bool {
	synctest.Wait()
	topics := map[string]map[string]bool{}
	for _, ev := range w.read(tailrace.Query{Select: tailrace.Selector{Patterns: []string{"$presence/**"}}, Latest: true, Limit: 1 << 20}) {
		var n note
		json.Unmarshal(ev.Data, &n)
		if topics[n.Topic] == nil {
			topics[n.Topic] = map[string]bool{}
		}
		if ev.Type == "count" {
			n.Principal = fmt.Sprint(n.Count)
		}
		topics[n.Topic][n.Principal] = true
	}
	return topics
}

func (w *world) read(q tailrace.Query) []tailrace.Event {
	w.t.Helper()
	page, err := w.log.Log.Read(context.Background(), q)
	if err != nil || page.Reset != nil || page.Mark != "" {
		w.t.Fatalf("Read = %+v, %v", page, err)
	}
	return page.Events
}

func (w *world) expect(topic string, want ...string) {
	w.t.Helper()
	if got := w.told(topic); !slices.Equal(got, want) {
		w.t.Errorf("%s was told %q, want %q", topic, got, want)
	}
}

// faultyLog fails as it is told.
type faultyLog struct {
	tailrace.Log
	mu   sync.Mutex
	fail func() (stored bool, err error) // nil is healthy
}

func (l *faultyLog) set(fail func() (bool, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

func (l *faultyLog) Append(ctx context.Context, events []tailrace.Event) ([]tailrace.Receipt, error) {
	l.mu.Lock()
	fail := l.fail
	l.mu.Unlock()
	if fail != nil {
		if stored, err := fail(); err != nil {
			if stored {
				l.Log.Append(ctx, events)
			}
			return nil, err
		}
	}
	return l.Log.Append(ctx, events)
}

func TestJoinAndLeave(t *testing.T) {
	newWorld(t, func(w *world) {
		w.connect("1", "ann", "room/1", "other", "room/1")
		w.expect("room/1", "join ann 1")
		w.connect("2", "bob", "room/1")
		w.connect("3", "ann", "room/1")
		w.expect("room/1", "join ann 1", "join bob 2")
		w.Disconnect("1")
		time.Sleep(time.Hour)
		w.expect("room/1", "join ann 1", "join bob 2") // ann has another stream
		w.Disconnect("3")
		w.Disconnect("3")
		w.Disconnect("unknown")
		time.Sleep(grace - 1)
		w.expect("room/1", "join ann 1", "join bob 2")
		time.Sleep(time.Nanosecond)
		w.expect("room/1", "join ann 1", "join bob 2", "leave ann 1")
		w.Disconnect("2")
		time.Sleep(grace)
		w.expect("room/1", "join ann 1", "join bob 2", "leave ann 1", "leave bob 0")
		if s := w.state(); len(s) != 0 {
			t.Errorf("the log still lists %v", s)
		}
		w.expect("other")
		w.connect("4", "ann", "room/1")
		w.expect("room/1", "join ann 1", "join bob 2", "leave ann 1", "leave bob 0", "join ann 1")
	})
}

func TestReconnectIsNoLeave(t *testing.T) {
	newWorld(t, func(w *world) {
		for i := range 50 {
			w.connect(fmt.Sprint(i), "ann", "room/1")
			time.Sleep(time.Second)
			w.Disconnect(fmt.Sprint(i))
			time.Sleep(grace - 1)
		}
		w.expect("room/1", "join ann 1")
		if l := w.List("room/1", "", 10); l.Count != 1 || len(l.Members) != 1 || l.Members[0].Connections != 0 {
			t.Errorf("within the grace: %+v", l)
		}
	})
}

func TestStreamChangesItsTopics(t *testing.T) {
	newWorld(t, func(w *world) {
		w.connect("1", "ann", "room/1", "room/2")
		w.connect("1", "ann", "room/2", "room/3")
		w.expect("room/3", "join ann 1")
		time.Sleep(grace)
		w.expect("room/1", "join ann 1", "leave ann 0")
		w.expect("room/2", "join ann 1")
		w.connect("1", "ann")
		time.Sleep(grace)
		w.expect("room/2", "join ann 1", "leave ann 0")
		w.expect("room/3", "join ann 1", "leave ann 0")
	})
}

func TestAnonymousIsCountedAndNotListed(t *testing.T) {
	newWorld(t, func(w *world) {
		for i := range 3 {
			w.connect(fmt.Sprint("a", i), "anon:10.0.0.1", "room/1")
		}
		w.connect("b", "", "room/1")
		w.expect("room/1")
		w.connect("1", "ann", "room/1")
		w.expect("room/1", "join ann 5")
		if l := w.List("room/1", "", 10); l.Count != 5 || len(l.Members) != 1 || l.Members[0].Principal != "ann" {
			t.Errorf("List = %+v", l)
		}
		w.Disconnect("a0")
		w.Disconnect("a1")
		w.connect("a3", "anon:10.0.0.1", "room/1") // one of the two is back
		if l := w.List("room/1", "", 10); l.Count != 5 {
			t.Errorf("within the grace: %d", l.Count)
		}
		time.Sleep(grace)
		w.connect("2", "bob", "room/1")
		w.expect("room/1", "join ann 5", "join bob 5")
	})
}

func TestCountIsToldAtMostOnceASecond(t *testing.T) {
	newWorld(t, func(w *world) {
		for i := range 25 {
			w.connect(fmt.Sprint(i), fmt.Sprint("u", i), "wall/1")
			synctest.Wait()
			time.Sleep(101 * time.Millisecond)
		}
		w.expect("wall/1", "count 1", "count 10", "count 20")
		if l := w.List("wall/1", "", 10); l.Count != 25 || l.Members != nil {
			t.Errorf("List = %+v", l)
		}
		time.Sleep(time.Minute)
		w.expect("wall/1", "count 1", "count 10", "count 20", "count 25")
		for i := range 25 {
			w.Disconnect(fmt.Sprint(i))
		}
		time.Sleep(grace)
		w.expect("wall/1", "count 1", "count 10", "count 20", "count 25", "count 0")
		if s := w.state(); len(s) != 0 {
			t.Errorf("the log still counts %v", s)
		}
		w.connect("x", "ann", "wall/1") // at once, but not before the second is over
		w.told("wall/1")
		time.Sleep(time.Second)
		w.expect("wall/1", "count 1", "count 10", "count 20", "count 25", "count 0", "count 1")
	})
}

func TestCrashKeepsThoseWhoComeBack(t *testing.T) {
	for _, away := range []time.Duration{0, time.Minute, 24 * time.Hour} {
		newWorld(t, func(w *world) {
			w.connect("1", "ann", "room/1", "wall/1")
			w.expect("wall/1", "count 1")
			w.connect("2", "bob", "room/1", "wall/1")
			w.connect("3", "cyd", "room/1", "wall/1")
			w.Disconnect("3")
			w.expect("room/1", "join ann 1", "join bob 2", "join cyd 3")
			time.Sleep(time.Second)
			w.expect("wall/1", "count 1", "count 3")
			w.crash(away)
			if l := w.List("wall/1", "", 1); l.Count != 3 {
				t.Errorf("count after the crash: %d", l.Count)
			}
			if l := w.List("room/1", "", 10); l.Count != 3 || len(l.Members) != 3 {
				t.Errorf("members after the crash: %+v", l)
			}
			time.Sleep(grace / 2)
			w.connect("1", "ann", "room/1", "wall/1")
			w.expect("room/1", "join ann 1", "join bob 2", "join cyd 3")
			w.expect("wall/1", "count 1", "count 3")
			time.Sleep(grace / 2)
			got := w.told("room/1")
			slices.Sort(got[3:])
			if want := []string{"join ann 1", "join bob 2", "join cyd 3", "leave bob", "leave cyd"}; len(got) != len(want) || !strings.HasPrefix(got[3], want[3]) || !strings.HasPrefix(got[4], want[4]) {
				t.Errorf("after the grace: %q", got)
			}
			w.expect("wall/1", "count 1", "count 3", "count 1")
		})
	}
}

func TestRulesChange(t *testing.T) {
	newWorld(t, func(w *world) {
		mode := presence.Off
		w.rules = func(string) presence.Rule { return presence.Rule{Mode: mode} }
		w.connect("1", "ann", "t")
		w.connect("2", "ann", "t")
		w.connect("3", "bob", "t")
		w.expect("t")
		var want []string
		for _, step := range []struct {
			mode presence.Mode
			told []string
		}{
			{presence.Members, []string{"join ann", "join bob"}},
			{presence.Count, []string{"leave ann", "leave bob", "count 2"}},
			{presence.Members, []string{"join ann", "join bob", "count 0"}},
			{presence.Off, []string{"leave ann", "leave bob"}},
		} {
			mode = step.mode
			w.Reload()
			time.Sleep(2 * time.Second)
			got := w.told("t")
			want = append(want, step.told...)
			if len(got) != len(want) {
				t.Fatalf("%s: %q, want %q", step.mode, got, want)
			}
			last := got[len(got)-len(step.told):]
			slices.Sort(last)
			slices.Sort(step.told)
			for i, text := range step.told {
				if !strings.HasPrefix(last[i], text) {
					t.Errorf("%s: %q, want %q", step.mode, last, step.told)
				}
			}
			if l := w.List("t", "", 10); l.Mode != mode || (l.Count == 2) != (mode != presence.Off) {
				t.Errorf("%s: %+v", step.mode, l)
			}
		}
		mode = presence.Members
		w.Reload()
		w.Disconnect("1")
		w.Disconnect("2")
		w.Disconnect("3")
		time.Sleep(grace)
		if s := w.state(); len(s) != 0 || w.List("t", "", 1).Count != 0 {
			t.Errorf("left: %v", s)
		}
	})
}

func TestRuleTurnedOffWhileAway(t *testing.T) {
	newWorld(t, func(w *world) {
		w.connect("1", "ann", "room/1", "wall/1")
		w.told("room/1")
		w.rules = func(string) presence.Rule { return presence.Rule{} }
		w.crash(0)
		time.Sleep(grace)
		w.expect("room/1", "join ann 1", "leave ann 0")
		w.expect("wall/1", "count 1", "count 0")
	})
}

func TestPayload(t *testing.T) {
	newWorld(t, func(w *world) {
		large := json.RawMessage(`"` + strings.Repeat("x", presence.MaxPayload) + `"`)
		for principal, payload := range map[string]json.RawMessage{
			"ann": json.RawMessage(`{"name": "Ada"}`), "bob": nil, "cyd": large, "dan": json.RawMessage(`{`),
		} {
			w.Connect(presence.Stream{ID: principal, Principal: principal, Payload: payload, Topics: []string{"room/1"}})
		}
		w.Connect(presence.Stream{ID: "second", Principal: "ann", Payload: json.RawMessage(`1`), Topics: []string{"room/1"}})
		w.told("room/1")
		for life := range 2 {
			for _, m := range w.List("room/1", "", 10).Members {
				var want any
				if m.Principal == "ann" {
					want = map[string]any{"name": "Ada"}
				}
				var got any
				json.Unmarshal(m.Payload, &got)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("life %d: payload of %s is %s", life, m.Principal, m.Payload)
				}
			}
			w.crash(time.Second)
		}
	})
}

func TestPages(t *testing.T) {
	newWorld(t, func(w *world) {
		const members = 2500
		for i := range members {
			w.connect(fmt.Sprint(i), fmt.Sprintf("u%04d", i), "room/1")
		}
		after, n := "", 0
		for page := range 3 {
			l := w.List("room/1", after, 5000)
			if l.Count != members || len(l.Members) != min(1000, members-n) {
				t.Fatalf("page %d: %d of %d", page, len(l.Members), l.Count)
			}
			for _, m := range l.Members {
				if m.Principal != fmt.Sprintf("u%04d", n) || m.Connections != 1 {
					t.Fatalf("member %d is %+v", n, m)
				}
				n++
			}
			after = l.After
		}
		if after != "" || n != members {
			t.Errorf("%d members, after %q", n, after)
		}
		if got := w.told("room/1"); len(got) != members || got[members-1] != fmt.Sprintf("join u%04d %d", members-1, members) {
			t.Errorf("%d events, the last %q", len(got), got[len(got)-1])
		}
	})
}

func TestLongTopicIsListedAndNotTold(t *testing.T) {
	newWorld(t, func(w *world) {
		long := "room/" + strings.Repeat("x", tailrace.MaxTopic-len("room/"))
		w.connect("1", "ann", long)
		w.connect("2", "bob", "room/1")
		w.expect("room/1", "join bob 1")
		if l := w.List(long, "", 10); l.Count != 1 {
			t.Errorf("List = %+v", l)
		}
		w.Disconnect("1")
		time.Sleep(grace)
		if l := w.List(long, "", 10); l.Count != 0 {
			t.Errorf("List = %+v", l)
		}
	})
}

func TestOtherNodes(t *testing.T) {
	newWorld(t, func(w *world) {
		w.Close()
		w.node = "n1"
		w.start()
		peer := func(principal string, streams int) {
			w.Heard("n2", []presence.Change{{Topic: "room/1", Principal: principal, Streams: streams, Since: time.Now()}})
		}
		w.connect("1", "ann", "room/1")
		w.expect("room/1", "join ann 1")
		peer("ann", 1)
		peer("bob", 2) // whose join n2 tells
		w.connect("2", "cyd", "room/1")
		w.expect("room/1", "join ann 1", "join cyd 3")
		if l := w.List("room/1", "", 10); l.Count != 3 || l.Members[0].Connections != 2 || l.Members[1].Connections != 2 {
			t.Errorf("List = %+v", l)
		}
		w.Disconnect("1")
		for range 5 {
			time.Sleep(grace)
			w.Heard("n2", nil)
		}
		w.expect("room/1", "join ann 1", "join cyd 3") // ann is on n2
		peer("ann", 0)
		time.Sleep(grace)
		w.expect("room/1", "join ann 1", "join cyd 3", "leave ann 2")

		// n2 falls silent: bob leaves after the silence and the grace.
		peer("bob", 1)
		time.Sleep(presence.DefaultSilence + grace - 1)
		w.expect("room/1", "join ann 1", "join cyd 3", "leave ann 2")
		time.Sleep(time.Nanosecond)
		w.expect("room/1", "join ann 1", "join cyd 3", "leave ann 2", "leave bob 1")

		// What n1 knows of n2 from the log alone lives as long as n2 does.
		w.log.Log.Append(context.Background(), []tailrace.Event{{
			Topic: "$presence/room/1", Type: "join", Key: "k", ID: "j.k.zz", Data: []byte(`{"topic":"room/1","principal":"dan","node":"n2","count":2}`),
		}})
		w.crash(0)
		w.connect("2", "cyd", "room/1")
		time.Sleep(presence.DefaultSilence + grace - 1)
		if l := w.List("room/1", "", 10); l.Count != 2 {
			t.Errorf("List = %+v", l)
		}
		time.Sleep(time.Nanosecond)
		if got := w.told("room/1"); got[len(got)-1] != "leave dan 1" {
			t.Errorf("told %q", got)
		}
	})
}

func TestAnswerOfTheLogIsLost(t *testing.T) {
	newWorld(t, func(w *world) {
		calls := 0
		w.log.set(func() (bool, error) {
			calls++
			return true, errors.New("no answer")
		})
		w.connect("1", "ann", "room/1")
		time.Sleep(20 * time.Second)
		w.log.set(nil)
		time.Sleep(10 * time.Second)
		w.expect("room/1", "join ann 1")
		if calls < 5 || calls > 12 {
			t.Errorf("%d attempts", calls)
		}
	})
}

func TestNothingPilesUpWhileTheLogFails(t *testing.T) {
	newWorld(t, func(w *world) {
		w.connect("0", "ann", "room/1")
		w.told("room/1")
		w.log.set(func() (bool, error) { return false, tailrace.ErrFull })
		for i := range 100 {
			w.connect(fmt.Sprint("b", i), "bob", "room/1")
			time.Sleep(time.Second)
			w.Disconnect(fmt.Sprint("b", i))
			time.Sleep(grace + time.Second)
		}
		w.log.set(nil)
		time.Sleep(10 * time.Second)
		w.connect("c", "cyd", "room/1")
		w.expect("room/1", "join ann 1", "join cyd 2")
	})
}

func TestRefusedEventStopsNoOther(t *testing.T) {
	newWorld(t, func(w *world) {
		w.log.set(func() (bool, error) { return false, errors.New("no disk") })
		w.connect("0", "ann", "room/1") // so that the next are one call
		synctest.Wait()
		w.log.set(nil)
		w.connect("1", "bob", "room/\x01")
		w.connect("2", "cyd", "room/2")
		time.Sleep(time.Second)
		w.expect("room/1", "join ann 1")
		w.expect("room/2", "join cyd 1")
	})
}

// model is presence by its definition: a principal is there while a stream of
// its is, and one grace longer.
type model struct {
	open  map[string]modelStream
	until map[[2]string]time.Time // topic, principal: end of the grace after the last stream ended
}

type modelStream struct {
	principal string
	topics    []string
}

func (m *model) close(id string) {
	s := m.open[id]
	delete(m.open, id)
	for _, topic := range s.topics {
		m.until[[2]string{topic, s.principal}] = time.Now().Add(grace)
	}
}

// state returns who is there, by topic.
func (m *model) state() map[string]map[string]bool {
	topics := map[string]map[string]bool{}
	add := func(topic, principal string) {
		if topics[topic] == nil {
			topics[topic] = map[string]bool{}
		}
		topics[topic][principal] = true
	}
	for _, s := range m.open {
		for _, topic := range s.topics {
			add(topic, s.principal)
		}
	}
	for place, until := range m.until {
		if time.Now().Before(until) {
			add(place[0], place[1])
		}
	}
	return topics
}

// TestModel compares the log with the model through random lives.
func TestModel(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testModel(t, uint64(seed)) })
	}
}

func testModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	faults := seed%2 == 1
	newWorld(t, func(w *world) {
		m := &model{map[string]modelStream{}, map[[2]string]time.Time{}}
		check := func(step int) {
			t.Helper()
			got, want := w.state(), m.state()
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("step %d: the log lists %v, want %v", step, got, want)
			}
			for _, topic := range []string{"room/0", "room/1", "room/2"} {
				l := w.List(topic, "", 100)
				if len(l.Members) != len(want[topic]) || l.Count != len(want[topic]) {
					t.Fatalf("step %d: %s has %+v, want %v", step, topic, l, want[topic])
				}
			}
		}
		settle := func() {
			w.log.set(nil)
			if faults {
				time.Sleep(6 * time.Second)
			}
		}
		for step := range 300 {
			if faults && rng.IntN(5) == 0 {
				broken := rng.IntN(4)
				w.log.set(func() (bool, error) {
					if broken--; broken < 0 {
						return false, nil
					}
					return broken%2 == 0, errors.New("fault")
				})
			}
			switch rng.IntN(10) {
			case 0, 1, 2, 3:
				id, s := fmt.Sprint("s", step), modelStream{principal: fmt.Sprint("u", rng.IntN(5))}
				for n := range 3 {
					if rng.IntN(2) == 0 {
						s.topics = append(s.topics, fmt.Sprint("room/", n))
					}
				}
				m.open[id] = s
				w.connect(id, s.principal, s.topics...)
			case 4, 5, 6, 7:
				if ids := slices.Sorted(maps.Keys(m.open)); len(ids) > 0 {
					id := ids[rng.IntN(len(ids))]
					m.close(id)
					w.Disconnect(id)
				}
			case 8:
				time.Sleep(time.Duration(rng.IntN(12_000)) * time.Millisecond)
			case 9:
				if rng.IntN(4) > 0 {
					continue
				}
				settle()
				check(step)
				was := m.state()
				m.open, m.until = map[string]modelStream{}, map[[2]string]time.Time{}
				w.crash(time.Duration(rng.IntN(20_000)) * time.Millisecond)
				for topic, principals := range was {
					for principal := range principals {
						m.until[[2]string{topic, principal}] = time.Now().Add(grace)
					}
				}
			}
			if !faults {
				check(step)
			}
		}
		settle()
		check(-1)
		for _, topic := range []string{"room/0", "room/1", "room/2"} {
			alternate(t, w.told(topic))
		}
	})
}

// alternate checks that each principal joins and leaves in turns.
func alternate(t *testing.T, told []string) {
	t.Helper()
	there := map[string]bool{}
	for _, text := range told {
		f := strings.Fields(text)
		if there[f[1]] == (f[0] == "join") {
			t.Fatalf("%s twice in %q", text, told)
		}
		there[f[1]] = f[0] == "join"
		n := 0
		for _, in := range there {
			if in {
				n++
			}
		}
		if fmt.Sprint(n) != f[2] {
			t.Fatalf("%s, but %d are there", text, n)
		}
	}
}

// TestManyAtOnce drives a tracker from many goroutines.
func TestManyAtOnce(t *testing.T) {
	newWorld(t, func(w *world) {
		var wg sync.WaitGroup
		for g := range 20 {
			wg.Go(func() {
				for i := range 50 {
					id := fmt.Sprint(g, ".", i)
					w.connect(id, fmt.Sprint("u", i%7), "room/1", "wall/1")
					w.List("room/1", "", 10)
					if i%5 > 0 {
						w.Disconnect(id)
					}
					w.Heard("n2", []presence.Change{{Topic: "room/1", Principal: "peer", Streams: i % 2}})
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Minute)
		if l := w.List("wall/1", "", 10); l.Count != 7 {
			t.Errorf("wall: %+v", l)
		}
		got := map[string]bool{}
		for _, m := range w.List("room/1", "", 100).Members {
			got[m.Principal] = true
		}
		if listed := w.state()["room/1"]; len(got) != 7 || !reflect.DeepEqual(listed, got) {
			t.Errorf("the log lists %v of %v", listed, got)
		}
	})
}
