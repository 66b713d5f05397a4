package tailrace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

// A client that has said all it will ever say before it is served is gone at
// once, as one that says so later.
func TestHalfCloseWithTheRequest(t *testing.T) { bothEngines(t, testHalfCloseWithTheRequest) }

func testHalfCloseWithTheRequest(t *testing.T) {
	s := newSite(t, nil, 0, nil)
	for range 20 {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, rawRequest)
		conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection stays open")
		}
		conn.Close()
	}
	waitFor(t, func() bool { return s.Count() == 0 })
}

// A client that resets its connection in the middle of a frame takes nobody
// else with it.
func TestResetInMidFrame(t *testing.T) { bothEngines(t, testResetInMidFrame) }

func testResetInMidFrame(t *testing.T) {
	reasons := make(chan string, 20)
	s := newSite(t, &tailrace.Options{OnDisconnect: func(c tailrace.ConnInfo) { reasons <- c.Reason }}, smallBuffer, nil)
	healthy := s.mustOpen(t, "topic=a")
	for i := range 10 {
		victim := s.mustOpen(t, "topic=a")
		want := text(i, 900_000)
		publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(want)})
		if _, err := io.CopyN(io.Discard, victim.resp.Body, 10_000); err != nil {
			t.Fatal(err)
		}
		victim.reset()
		healthy.expect(t, want)
	}
	waitFor(t, func() bool { return s.Count() == 1 })
	for range 10 {
		if r := <-reasons; r != "client" {
			t.Errorf("reason %q", r)
		}
	}
}

// However many connect and never read, a healthy reader gets each event before
// the next is published, they cost next to nothing, and who reads in the end
// gets everything.
func TestManyThatNeverRead(t *testing.T) { bothEngines(t, testManyThatNeverRead) }

func testManyThatNeverRead(t *testing.T) {
	stalled, events := 500, 150
	if long {
		stalled = 5000
	}
	// The log keeps its own bytes out of the way of the measurement.
	s := newSite(t, &tailrace.Options{StallTimeout: 10 * time.Minute}, smallBuffer, nil)
	healthy := s.mustOpen(t, "topic=a")
	var victims []*client
	for range stalled {
		victims = append(victims, s.mustOpen(t, "topic=a"))
	}
	waitFor(t, func() bool { return s.Count() == stalled+1 })
	inUse := func() int64 {
		runtime.GC()
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before := inUse()
	for i := range events {
		want := text(i, 4<<10)
		publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(want)})
		healthy.expect(t, want)
	}
	if n := s.Count(); n != stalled+1 {
		t.Fatalf("%d streams, want %d", n, stalled+1)
	}
	behind := 0
	for info := range s.Connections() {
		if info.ID != healthy.id && info.LagEvents > 0 {
			behind++
		}
	}
	if behind != stalled {
		t.Fatalf("%d streams are behind, want %d: nothing was tested", behind, stalled)
	}
	// One page each at most (16 KiB), and what the engine keeps of it; the log
	// and the ring have the events once more.
	if cost := (inUse() - before - 4<<20) / int64(stalled); cost > 40<<10 {
		t.Errorf("a reader that never reads costs %d bytes", cost)
	}
	for _, c := range victims[:10] {
		for i := range events {
			c.expect(t, text(i, 4<<10))
		}
	}
}

// A reader that takes a byte at a time, or any other number, gets exactly what
// was published, wherever the frames are cut.
func TestEveryCutOfAFrame(t *testing.T) { bothEngines(t, testEveryCutOfAFrame) }

func testEveryCutOfAFrame(t *testing.T) {
	s := newSite(t, nil, 4<<10, nil)
	var want []string
	var events []tailrace.Event
	for i := range 200 {
		want = append(want, text(i, i%211))
		if i%100 == 50 {
			want[i] = text(i, 20_000)
		}
		events = append(events, tailrace.Event{Topic: "a", Data: []byte(want[i])})
	}
	steps := []int{1, 2, 3, 61, 1009}
	var wg sync.WaitGroup
	for _, step := range steps {
		c := s.mustOpen(t, "topic=a")
		wg.Go(func() {
			resp := &http.Response{Body: c.resp.Body} // de-chunked by package http, which is strict
			dec := sse.NewDecoder(&stepReader{resp.Body, step}, nil)
			var ev sse.Event
			for i := range want {
				if err := dec.Decode(&ev); err != nil || string(ev.Data) != want[i] {
					t.Errorf("in steps of %d: event %d is %.40q (%v)", step, i, ev.Data, err)
					return
				}
			}
		})
	}
	waitFor(t, func() bool { return s.Count() == len(steps) })
	for _, ev := range events {
		publish(t, s.Hub, ev)
	}
	wg.Wait()
}

// stepReader reads at most so many bytes at once.
type stepReader struct {
	r    io.Reader
	step int
}

func (r *stepReader) Read(p []byte) (int, error) { return r.r.Read(p[:min(len(p), r.step)]) }

// Events that are trimmed, or whose topic is deleted, while a reader is stuck
// in the middle of one: it gets the rest of the same bytes or a reset, never
// a frame of two, and is told of the gap.
func TestHalfFrameOfAnEventThatIsGone(t *testing.T) {
	bothEngines(t, func(t *testing.T) {
		for name, remove := range map[string]func(tailrace.Log, tailrace.Cursor) error{
			"trim":   func(l tailrace.Log, c tailrace.Cursor) error { return l.Trim(context.Background(), "a", c) },
			"delete": func(l tailrace.Log, _ tailrace.Cursor) error { return l.Delete(context.Background(), "a") },
		} {
			for _, size := range []int{1000, 100_000} {
				t.Run(fmt.Sprint(name, size), func(t *testing.T) { testHalfFrameOfAnEventThatIsGone(t, size, remove) })
			}
		}
	})
}

func testHalfFrameOfAnEventThatIsGone(t *testing.T, size int, remove func(tailrace.Log, tailrace.Cursor) error) {
	s := newSite(t, nil, smallBuffer, nil)
	s.SetRingFrames(4)
	c := s.mustOpen(t, "topic=a&ids=cursor&hello=1")
	n := 2_000_000 / size
	var head tailrace.Cursor
	for i := range n {
		head = publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(text(i, size))})
	}
	waitFor(t, func() bool { info, _ := s.Connection(c.id); return s.Visible() >= head.Pos && info.LagEvents > 0 })
	if err := remove(s.Log(), head); err != nil {
		t.Fatal(err)
	}
	for i := n; i < n+20; i++ {
		publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(text(i, size))})
	}

	var ev sse.Event
	gaps := 0
	for i := 0; i < n+20; {
		if err := c.dec.Decode(&ev); err != nil {
			last := c.dec.LastEventID()
			if last == "" {
				t.Fatalf("ended at event %d: %v", i, err)
			}
			c = s.mustOpen(t, "topic=a&ids=cursor&hello=1", "Last-Event-ID: "+last)
			continue
		}
		switch ev.Type {
		case "":
		case tailrace.TypeGap:
			gaps++
			i = n
			continue
		default:
			continue
		}
		if string(ev.Data) != text(i, size) {
			t.Fatalf("event %d is %.40q … %.40q", i, ev.Data, ev.Data[max(0, len(ev.Data)-40):])
		}
		i++
	}
	if gaps != 1 {
		t.Errorf("%d gap events", gaps)
	}
}

// The collector at its busiest closes no descriptor that is in use and moves
// no frame that is being written.
func TestGarbageCollectionDuringEverything(t *testing.T) {
	bothEngines(t, testGarbageCollectionDuringEverything)
}

func testGarbageCollectionDuringEverything(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	s := newSite(t, nil, smallBuffer, nil)
	stop := make(chan struct{})
	var collector sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	defer collector.Wait()
	defer close(stop)
	comeAndGo(t, s, 8, 6)
}

// The same while each collection stops the world.
func TestWithTheWorldStopped(t *testing.T) {
	leavesNothing(t)
	tests := "TestGarbageCollectionDuringEverything|TestEveryCutOfAFrame"
	if long {
		tests += "|TestPlacesAreUsedAgain|TestShutdownInAStorm"
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^("+tests+")$")
	cmd.Env = append(os.Environ(), "GODEBUG=gcstoptheworld=1", "TAILRACE_LONG=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// comeAndGo opens so many streams at a time, each of a topic of its own, so
// many times, and leaves each in another way; one more stream sees all topics.
// Every stream gets its own events and no byte of another's.
func comeAndGo(t *testing.T, s *site, atOnce, times int) {
	all, err := s.open("topic=slot/*&meta=1")
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	var wg sync.WaitGroup
	for i := range atOnce {
		wg.Go(func() {
			topic := fmt.Sprint("slot/", i)
			for n := range times {
				c, err := s.open("topic=" + topic)
				if err != nil {
					t.Error(err)
					return
				}
				want := text(i*times+n, 100+(i*7919+n*104729)%20_000)
				if _, err := s.Publish(t.Context(), tailrace.Event{Topic: topic, Data: []byte(want)}); err != nil {
					t.Error(err)
				}
				var ev sse.Event
				if err := c.dec.Decode(&ev); err != nil || string(ev.Data) != want {
					t.Errorf("stream %d of %s: %.40q (%v), want %.40q", n, topic, ev.Data, err, want)
				}
				switch (i + n) % 4 {
				case 0:
					c.reset()
				case 1:
					c.CloseWrite()
					io.Copy(io.Discard, c)
				case 2:
					if err := s.Disconnect(c.id, ""); err != nil {
						t.Error(err)
					}
					if err := c.dec.Decode(&ev); err != io.EOF {
						t.Errorf("after Disconnect: %q (%v)", ev.Data, err)
					}
				}
				c.Close()
			}
		})
	}
	next := make([]int, atOnce)
	for range atOnce * times {
		ev := all.next(t)
		var i, number int
		if _, err := fmt.Sscanf(string(ev.Data), `{"topic":"slot/%d"`, &i); err != nil || i >= atOnce {
			t.Fatalf("%.80q: %v", ev.Data, err)
		}
		_, data, _ := bytes.Cut(ev.Data, []byte(`"data":"`))
		if fmt.Sscan(string(data[:min(len(data), 10)]), &number); number != i*times+next[i] {
			t.Fatalf("slot %d: event %d, want %d", i, number, i*times+next[i])
		}
		next[i]++
	}
	wg.Wait()
	all.Close()
	waitFor(t, func() bool { return s.Count() == 0 })
}

// Places of streams that have ended are used again, and no late word of an old
// connection reaches a new one.
func TestPlacesAreUsedAgain(t *testing.T) { bothEngines(t, testPlacesAreUsedAgain) }

func testPlacesAreUsedAgain(t *testing.T) {
	s := newSite(t, nil, 0, nil)
	comeAndGo(t, s, 24, 12)
}

// Descriptors and memory come back however many come and go.
func TestThousandsComeAndGo(t *testing.T) { bothEngines(t, testThousandsComeAndGo) }

func testThousandsComeAndGo(t *testing.T) {
	rounds, streams := 3, 250
	if long {
		rounds, streams = 100, 5000 // both ends of each are descriptors here
	}
	s := newSite(t, nil, 0, nil)
	inUse := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	var first int64
	for round := range rounds {
		var wg sync.WaitGroup
		clients := make([]*client, streams)
		for w := range 8 {
			wg.Go(func() {
				for i := w; i < streams; i += 8 {
					var err error
					if clients[i], err = s.open("topic=a"); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte("hello")})
		for i, c := range clients {
			c.expect(t, "hello")
			if i%2 == 0 {
				c.reset()
			} else {
				c.Close()
			}
		}
		waitFor(t, func() bool { return s.Count() == 0 })
		waitFor(t, func() bool { n := s.sockets(t); return n <= 1 }) // the listener
		clear(clients)
		if round == 0 {
			inUse() // what pools keep goes at the second collection
			first = inUse()
		}
	}
	// Less than a stream has. What is still on its way out is waited for; what
	// the runtime keeps of goroutines depends on how many there were at once.
	waitFor(t, func() bool { return inUse()-first < int64(rounds-1)*int64(streams)*1500 })
}

// A shutdown in a storm of connects: every client has a clean end of its
// stream, in order up to there, or a refusal.
func TestShutdownInAStorm(t *testing.T) { bothEngines(t, testShutdownInAStorm) }

func testShutdownInAStorm(t *testing.T) {
	s := newSite(t, &tailrace.Options{DrainWindow: 300 * time.Millisecond}, 0, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if _, err := s.Publish(ctx, tailrace.Event{Topic: "a", Data: strconv.AppendInt(nil, int64(i), 10)}); errors.Is(err, tailrace.ErrStopped) {
				return
			}
		}
	})
	const workers = 8
	var served, refused atomic.Int64
	var clients sync.WaitGroup
	for range workers {
		clients.Go(func() {
			for {
				c, err := s.open("topic=a")
				if err != nil {
					t.Errorf("neither served nor refused: %v", err)
					return
				}
				if c.resp.StatusCode == http.StatusServiceUnavailable {
					c.Close()
					refused.Add(1)
					return
				}
				served.Add(1)
				clients.Go(func() {
					defer c.Close()
					var ev sse.Event
					last := -1
					for {
						err := c.dec.Decode(&ev)
						if err == io.EOF {
							return
						}
						n, bad := strconv.Atoi(string(ev.Data))
						if err != nil || bad != nil || last >= 0 && n != last+1 {
							t.Errorf("after %d: %q (%v)", last, ev.Data, err)
							return
						}
						last = n
					}
				})
			}
		})
	}
	waitFor(t, func() bool { return served.Load() >= 50 })
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	clients.Wait()
	if refused.Load() != workers || s.Count() != 0 {
		t.Errorf("%d served, %d refused, %d left", served.Load(), refused.Load(), s.Count())
	}
}

// A publisher that never pauses keeps neither other publishers out nor other
// topics' readers waiting.
func TestNoPublisherStarvesOthers(t *testing.T) { bothEngines(t, testNoPublisherStarvesOthers) }

func testNoPublisherStarvesOthers(t *testing.T) {
	s := newSite(t, &tailrace.Options{Rules: []tailrace.TopicRule{{Pattern: "hot", Policy: tailrace.Policy{MaxCount: 20_000}, Overflow: tailrace.SkipToNow}}}, 0, func(h *tailrace.Hub) http.Handler {
		mux := http.NewServeMux()
		mux.Handle("GET /", h)
		mux.Handle("POST /", h.PublishHandler())
		return mux
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	hot := make([]*client, 4)
	for i := range hot {
		hot[i] = s.mustOpen(t, "topic=hot")
		wg.Go(func() { io.Copy(io.Discard, hot[i]) })
		defer hot[i].Close()
	}
	quiet := s.mustOpen(t, "topic=quiet")
	var sent atomic.Int64
	wg.Go(func() {
		data := []byte(text(0, 200))
		for ctx.Err() == nil {
			if _, err := s.Publish(context.WithoutCancel(ctx), tailrace.Event{Topic: "hot", Data: data}); err != nil {
				t.Error(err)
				return
			}
			sent.Add(1)
		}
	})
	const rounds = 8
	for n := range rounds {
		resp, err := http.Post(s.url+"?topic=quiet", "text/plain", strings.NewReader(strconv.Itoa(n)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
		quiet.expect(t, strconv.Itoa(n))
	}
	for _, c := range hot { // nor do its own readers stand still
		before, _ := s.Connection(c.id)
		waitFor(t, func() bool {
			info, ok := s.Connection(c.id)
			return !ok || info.SentEvents > before.SentEvents
		})
		if _, ok := s.Connection(c.id); !ok {
			t.Error("a stream of the hot topic has ended")
		}
	}
	t.Logf("%d events of the hot topic in all", sent.Load())
}

// A stream whose event types never come moves on past what it does not want:
// nothing is sent, and what it wants comes at once, without a gap, however much
// retention has removed on the way.
func TestTypesThatNeverCome(t *testing.T) { bothEngines(t, testTypesThatNeverCome) }

func testTypesThatNeverCome(t *testing.T) {
	s := newSite(t, &tailrace.Options{Rules: []tailrace.TopicRule{{Pattern: "**", Policy: tailrace.Policy{MaxCount: 200}}}}, 0, nil)
	s.SetRingFrames(4)
	publish(t, s.Hub, tailrace.Event{Topic: "a", Type: "wanted", Data: []byte("first")})
	c := s.mustOpen(t, "topic=a&event=wanted&from=start")
	c.expect(t, "first")
	last := c.dec.LastEventID()
	foreign := make([]tailrace.Event, 100)
	for range 50 {
		for i := range foreign {
			foreign[i] = tailrace.Event{Topic: "a", Data: []byte("foreign")}
		}
		publishAll(t, s.Hub, foreign)
		head, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { info, _ := s.Connection(c.id); return info.Cursor.Pos >= head.Pos })
	}
	publish(t, s.Hub, tailrace.Event{Topic: "a", Type: "wanted", Data: []byte("second")})
	c.expect(t, "second")
	waitFor(t, func() bool { info, _ := s.Connection(c.id); return info.SentEvents == 2 }) // and no more

	// With the id of the first a client is told that it may have missed some:
	// the log does not know what was in the events that are gone.
	if ev := s.mustOpen(t, "topic=a&event=wanted", "Last-Event-ID: "+last).next(t); ev.Type != tailrace.TypeGap {
		t.Errorf("a resume from before what is kept: %q %q", ev.Type, ev.Data)
	}
	// With that of the second it has everything.
	again := s.mustOpen(t, "topic=a&event=wanted", "Last-Event-ID: "+c.dec.LastEventID())
	publish(t, s.Hub, tailrace.Event{Topic: "a", Type: "wanted", Data: []byte("third")})
	again.expect(t, "third")
}

// Who asks for control events learns its position during an hour without any
// event for it, and resumes there without a gap although retention has removed
// everything else.
func TestCursorDuringAnHourOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, &tailrace.Options{Rules: []tailrace.TopicRule{{Pattern: "**", Policy: tailrace.Policy{MaxAge: time.Minute}}}})
		serve := func(lastID string) (*ssetest.Recorder, func()) {
			rec := ssetest.NewRecorder()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			req := httptest.NewRequestWithContext(ctx, "GET", "/?topic=a&event=wanted&hello=1", nil)
			if lastID != "" {
				req.Header.Set("Last-Event-ID", lastID)
			}
			go func() { h.ServeHTTP(rec, req); close(done) }()
			return rec, func() { cancel(); <-done }
		}
		rec, stop := serve("")
		for range 360 {
			time.Sleep(10 * time.Second)
			for range 10 {
				publish(t, h, tailrace.Event{Topic: "a", Data: []byte("foreign")})
			}
		}
		time.Sleep(90 * time.Second)
		stop()
		events := rec.Events()
		last := events[len(events)-1]
		if n := len(events); last.Type != "tailrace.cursor" || n < 30 || n > 70 {
			t.Fatalf("%d control events in an hour, the last: %+v", n, last)
		}
		publish(t, h, tailrace.Event{Topic: "a", Type: "wanted", Data: []byte("late")})
		rec, stop = serve(last.ID)
		synctest.Wait()
		stop()
		var types []string
		for _, ev := range rec.Events() {
			types = append(types, ev.Type)
		}
		if got := strings.Join(types, " "); got != "tailrace.hello wanted tailrace.live" {
			t.Errorf("the resumed stream has %s", got)
		}
	})
}

// A client that vanishes without a word is given up after StallTimeout, whether
// there is much or little to send to it.
func TestClientVanishes(t *testing.T) { bothEngines(t, testClientVanishes) }

func testClientVanishes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("drops packets with a socket filter")
	}
	t.Parallel()
	s := newSite(t, &tailrace.Options{StallTimeout: time.Second, Heartbeat: time.Second}, smallBuffer, nil)
	healthy := s.mustOpen(t, "topic=a&topic=little")
	var lost []*client
	for range 5 {
		lost = append(lost, s.mustOpen(t, "topic=a"))
		if !isPortable(t) {
			// With little to send only the socket's own timer knows, and that
			// is the server's to set where net/http keeps the connection.
			lost = append(lost, s.mustOpen(t, "topic=little"), s.mustOpen(t, "topic=heartbeats"))
		}
	}
	for _, c := range lost {
		if err := vanish(c.TCPConn); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for i := range 20 {
		want = append(want, text(i, 50_000))
		publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(want[i])})
	}
	publish(t, s.Hub, tailrace.Event{Topic: "little", Data: []byte("little")})
	healthy.expect(t, append(want, "little")...)
	waitFor(t, func() bool { return s.Count() == 1 })
	waitFor(t, func() bool { return s.sockets(t) == len(lost)+3 }) // the clients' own, the listener, the healthy one's other end
	publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte("unharmed")})
	healthy.expect(t, "unharmed")
}
