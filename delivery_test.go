package tailrace_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

// A stream over any set of topics is the log after its cursor, once and in
// order, whatever is in memory, however slow it reads and however often it
// comes back; and what retention took away is announced.
func TestStreamIsTheLogAfterItsCursor(t *testing.T) {
	bothEngines(t, func(t *testing.T) {
		for _, overflow := range []tailrace.OverflowPolicy{tailrace.Resume, tailrace.SkipToNow} {
			for _, count := range []int64{0, 40} {
				t.Run(fmt.Sprintf("%s/count=%d", overflow, count), func(t *testing.T) {
					t.Parallel()
					testModel(t, overflow, count)
				})
			}
		}
	})
}

func testModel(t *testing.T, overflow tailrace.OverflowPolicy, count int64) {
	const events, topics, readers = 1500, 5, 8
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	h := newHub(t, &tailrace.Options{Rules: []tailrace.TopicRule{{
		Pattern: "**", Overflow: overflow, Policy: tailrace.Policy{MaxCount: count},
	}}})
	h.SetRingFrames(4)
	url := serve(t, h)

	type posted struct {
		pos   uint64
		topic int
	}
	var mu sync.Mutex
	var log []posted
	published := make(chan struct{})
	var wg sync.WaitGroup
	for p := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(p)))
			for range events / 3 {
				n := r.IntN(topics)
				rs, err := h.Publish(t.Context(), tailrace.Event{Topic: "t/" + strconv.Itoa(n), Data: []byte(strconv.Itoa(n))})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				log = append(log, posted{rs[0].Cursor.Pos, n})
				mu.Unlock()
				if r.IntN(50) == 0 {
					time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
				}
			}
		})
	}
	go func() { wg.Wait(); close(published) }()

	var rg sync.WaitGroup
	for i := range readers {
		rg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 100+uint64(i)))
			var select_ []string
			want := map[int]bool{}
			switch i % 3 {
			case 0:
				n := r.IntN(topics)
				select_, want[n] = []string{"t/" + strconv.Itoa(n)}, true
			case 1:
				for _, n := range []int{1, 3} {
					select_, want[n] = append(select_, "t/"+strconv.Itoa(n)), true
				}
			default:
				select_ = []string{"t/*"}
				for n := range topics {
					want[n] = true
				}
			}
			got, gaps := readAll(t, r, url+"?from=start&topic="+strings.Join(select_, "&topic="), published, h)
			mu.Lock()
			defer mu.Unlock()
			topicOf := map[uint64]int{}
			for _, p := range log {
				topicOf[p.pos] = p.topic
			}
			seen, first := map[uint64]bool{}, map[int]uint64{}
			last := uint64(0)
			for _, pos := range got {
				if pos <= last {
					t.Errorf("reader %d: position %d after %d", i, pos, last)
					return
				}
				last = pos
				seen[pos] = true
				if n := topicOf[pos]; first[n] == 0 {
					first[n] = pos
				}
			}
			missing := 0
			for _, p := range log {
				if want[p.topic] && !seen[p.pos] {
					// Who starts at the oldest event kept is not told of what
					// was trimmed before.
					if count == 0 || first[p.topic] != 0 && p.pos > first[p.topic] {
						missing++
					}
				} else if !want[p.topic] && seen[p.pos] {
					t.Errorf("reader %d got a foreign event", i)
				}
			}
			if missing > 0 && gaps == 0 {
				t.Errorf("reader %d: %d events missing and no gap event", i, missing)
			}
			if missing > 0 && count == 0 && overflow == tailrace.Resume {
				t.Errorf("reader %d: %d events missing", i, missing)
			}
			if count == 0 && overflow == tailrace.Resume && gaps > 0 {
				t.Errorf("reader %d: %d gap events for nothing", i, gaps)
			}
		})
	}
	rg.Wait()
}

// readAll reads the stream over many connections until everything is
// published and it is at the head.
func readAll(t *testing.T, r *rand.Rand, url string, published <-chan struct{}, h *tailrace.Hub) (positions []uint64, gaps int) {
	lastID := ""
	for {
		ctx, cancel := context.WithCancel(t.Context())
		done := false
		select {
		case <-published:
			done = true
			for head, err := h.Head(ctx); err == nil && h.Visible() < head.Pos; {
				runtime.Gosched()
			}
		default:
			go func() { // no more events may come: connect once more for the rest
				select {
				case <-published:
					cancel()
				case <-ctx.Done():
				}
			}()
		}
		req, _ := http.NewRequestWithContext(ctx, "GET", url+"&hello=1&ids=cursor", nil)
		if lastID != "" {
			req.Header.Set("Last-Event-ID", lastID)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			cancel()
			if done {
				t.Error(err)
				return
			}
			continue
		}
		d := sse.NewDecoder(resp.Body, &sse.DecoderOptions{LastEventID: lastID})
		var ev sse.Event
		for n := r.IntN(120); done || n > 0; n-- {
			if err := d.Decode(&ev); err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				break
			}
			switch ev.Type {
			case "tailrace.gap":
				gaps++
				continue
			case "tailrace.live":
				if !done {
					continue
				}
				head, err := h.Head(ctx)
				if c, perr := tailrace.ParseCursor(ev.ID); err != nil || perr != nil || c.Pos < head.Pos {
					continue // not at the very end yet
				}
				cancel()
				resp.Body.Close()
				return
			}
			if strings.HasPrefix(ev.Type, "tailrace.") {
				continue
			}
			c, err := tailrace.ParseCursor(ev.ID)
			if err != nil {
				t.Errorf("id %q: %v", ev.ID, err)
			}
			positions = append(positions, c.Pos)
			if r.IntN(40) == 0 {
				time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
			}
		}
		lastID = d.LastEventID()
		cancel()
		resp.Body.Close()
	}
}

func TestFromParameter(t *testing.T) { bothEngines(t, testFromParameter) }

func testFromParameter(t *testing.T) {
	for _, c := range []struct {
		query, header string // CURSOR is that of the third event
		want          []string
	}{
		{"from=start", "", []string{"0", "1", "2", "3", "4", "new"}},
		{"from=last:2", "", []string{"3", "4", "new"}},
		{"from=new", "", []string{"new"}},
		{"", "", []string{"new"}},
		{"from=-10m", "", []string{"0", "1", "2", "3", "4", "new"}},
		{"from=2020-01-01T00:00:00Z", "", []string{"0", "1", "2", "3", "4", "new"}},
		{"last_event_id=id1", "", []string{"2", "3", "4", "new"}},
		{"lastEventId=id1&from=start", "", []string{"2", "3", "4", "new"}},
		{"last_event_id=id1", "id3", []string{"4", "new"}},
		{"last_event_id=CURSOR", "", []string{"3", "4", "new"}},
		{"last_event_id=&from=last:1", "", []string{"4", "new"}},
	} {
		t.Run(c.query+" "+c.header, func(t *testing.T) {
			h := newHub(t, nil)
			url := serve(t, h)
			var third string
			for i := range 5 {
				cursor := publish(t, h, tailrace.Event{Topic: "a", ID: fmt.Sprint("id", i), Data: fmt.Append(nil, i)})
				if i == 2 {
					third = cursor.String()
				}
			}
			var headers []string
			if c.header != "" {
				headers = append(headers, "Last-Event-ID: "+c.header)
			}
			query := strings.ReplaceAll(c.query, "CURSOR", third)
			r := subscribe(t, url+"?topic=a&limit="+fmt.Sprint(len(c.want))+"&"+query, headers...)
			publish(t, h, tailrace.Event{Topic: "a", Data: []byte("new")})
			r.expect(c.want...)
			var ev sse.Event
			if err := r.dec.Decode(&ev); err != io.EOF {
				t.Fatalf("after the limit: %v", err)
			}
		})
	}
}

func TestRefusedSubscriptions(t *testing.T) {
	h := newHub(t, &tailrace.Options{Rules: []tailrace.TopicRule{{Pattern: "gone", Retired: true}}})
	url := serve(t, h)
	for _, c := range []struct {
		query, accept string
		status        int
		name, detail  string
	}{
		{"", "", 400, "no-topic", "topic="},
		{"topik=a", "", 400, "unknown-parameter", "topic"},
		{"topic=a&_=12345", "application/json", 200, "", ""},
		{"topic=", "", 400, "invalid-topic", ""},
		{"topic=a/**/b", "", 400, "invalid-topic", "**"},
		{"topic=" + strings.Repeat("x", 513), "", 400, "invalid-topic", ""},
		{"topic=%00", "", 400, "invalid-topic", ""},
		{"topic=%ff", "", 400, "invalid-topic", ""},
		{"topic=a" + strings.Repeat("&topic=a", 128), "", 400, "invalid-parameter", "128"},
		{"topic=a&from=yesterday", "", 400, "invalid-parameter", "from"},
		{"topic=a&from=last:0", "", 400, "invalid-parameter", "from"},
		{"topic=a&from=last:1001", "", 400, "invalid-parameter", "from"},
		{"topic=a&meta=yes", "", 400, "invalid-parameter", "meta"},
		{"topic=a&heartbeat=1s", "", 400, "invalid-parameter", "heartbeat"},
		{"topic=a&limit=0", "", 400, "invalid-parameter", "limit"},
		{"topic=a&limit=1&limit=2", "", 400, "conflicting-parameter", "limit"},
		{"topic=a&ids=both", "", 400, "invalid-parameter", "ids"},
		{"topic=a&format=xml", "", 400, "invalid-parameter", "format"},
		{"topic=a", "text/html", 406, "not-acceptable", ""},
		{"topic=gone", "", 410, "topic-retired", ""},
		{"topic=%zz", "", 400, "invalid-request", ""},
	} {
		t.Run(c.query+" "+c.name, func(t *testing.T) {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", url+"?"+c.query, nil)
			if c.accept != "" {
				req.Header.Set("Accept", c.accept)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status {
				t.Fatalf("status %d, want %d: %s", resp.StatusCode, c.status, body)
			}
			if c.name == "" {
				return
			}
			var p struct {
				Type, Detail string
				Status       int
			}
			if err := json.Unmarshal(body, &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Fatalf("%v: %s %s", err, resp.Header, body)
			}
			if p.Type != "/docs/problems/"+c.name || p.Status != c.status || !strings.Contains(p.Detail, c.detail) {
				t.Fatalf("%s", body)
			}
		})
	}
	resp, err := http.Post(url+"?topic=a", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 || resp.Header.Get("Allow") == "" {
		t.Fatal(resp.Status)
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", url+"?topic=a", strings.NewReader("body"))
	if resp, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Fatal("a subscription with a body:", resp.Status)
	}
}

// Every cursor that cannot be served completely says so first.
func TestBadCursorsGetAGap(t *testing.T) { bothEngines(t, testBadCursorsGetAGap) }

func testBadCursorsGetAGap(t *testing.T) {
	h := newHub(t, nil)
	url := serve(t, h)
	var cursors []tailrace.Cursor
	for i := range 6 {
		cursors = append(cursors, publish(t, h, tailrace.Event{Topic: "a", Data: fmt.Append(nil, i)}))
	}
	if err := h.Log().Trim(t.Context(), "a", cursors[2]); err != nil {
		t.Fatal(err)
	}
	foreign := cursors[0]
	foreign.Epoch ^= 1
	ahead := cursors[5]
	ahead.Pos += 1000
	for _, c := range []struct{ name, id, reason, first string }{
		{"trimmed", cursors[0].String(), "trimmed", "3"},
		{"another epoch", foreign.String(), "epoch", "3"},
		{"beyond the end", ahead.String(), "ahead", "3"},
		{"an id that nobody gave", "nobody", "unknown", "3"},
		{"too long", strings.Repeat("x", 513), "unknown", "3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := subscribe(t, url+"?topic=a", "Last-Event-ID: "+c.id)
			ev := r.next()
			var gap tailrace.Gap
			if err := json.Unmarshal(ev.Data, &gap); err != nil || ev.Type != "tailrace.gap" || string(gap.Reason) != c.reason {
				t.Fatalf("%s %s", ev.Type, ev.Data)
			}
			r.expect(c.first)
		})
		t.Run(c.name+", on with new", func(t *testing.T) {
			r := subscribe(t, url+"?topic=a&on_gap=new", "Last-Event-ID: "+c.id)
			if ev := r.next(); ev.Type != "tailrace.gap" || ev.ID == "" {
				t.Fatalf("%s %s", ev.Type, ev.Data)
			}
			publish(t, h, tailrace.Event{Topic: "b"})
			go h.Broadcast(context.Background(), tailrace.Selector{}, &tailrace.Event{Data: []byte("later")})
			r.expect("later")
		})
	}
	r := subscribe(t, url+"?topic=a&topic=idle", "Last-Event-ID: "+cursors[3].String())
	r.expect("4", "5")
}

func TestSnapshotThenUpdates(t *testing.T) { bothEngines(t, testSnapshotThenUpdates) }

func testSnapshotThenUpdates(t *testing.T) {
	h := newHub(t, nil)
	url := serve(t, h)
	for i := range 10 {
		publish(t, h, tailrace.Event{Topic: "prices", Key: string(rune('a' + i%3)), Data: fmt.Append(nil, i)})
	}
	publish(t, h, tailrace.Event{Topic: "prices", Key: "a", Remove: true, Data: []byte("gone")})
	r := subscribe(t, url+"?topic=prices&snapshot=1")
	if ev := r.next(); ev.Type != "tailrace.snapshot" || string(ev.Data) != `{"state":"begin"}` || ev.ID != "" {
		t.Fatalf("%+v %s", ev, ev.Data)
	}
	got := map[string]bool{}
	for range 2 {
		ev := r.next()
		if ev.ID != "" {
			t.Fatalf("a snapshot's event has the id %q", ev.ID)
		}
		got[string(ev.Data)] = true
	}
	if !got["7"] || !got["8"] {
		t.Fatalf("state: %v", got)
	}
	end := r.next()
	if end.Type != "tailrace.snapshot" || string(end.Data) != `{"state":"end","count":2}` || end.ID == "" {
		t.Fatalf("%+v %s", end, end.Data)
	}
	publish(t, h, tailrace.Event{Topic: "prices", Key: "b", Data: []byte("later")})
	r.expect("later")

	t.Run("a complete resume has no snapshot", func(t *testing.T) {
		r := subscribe(t, url+"?topic=prices&snapshot=1", "Last-Event-ID: "+end.ID)
		r.expect("later")
	})
	t.Run("a gap has one", func(t *testing.T) {
		r := subscribe(t, url+"?topic=prices&snapshot=1&hello=1", "Last-Event-ID: nobody")
		for _, want := range []string{"tailrace.hello", "tailrace.gap", "tailrace.snapshot"} {
			if ev := r.next(); ev.Type != want || ev.ID != "" {
				t.Fatalf("got %q with id %q, want %q without", ev.Type, ev.ID, want)
			}
		}
	})
}

func TestIdsOnTheWire(t *testing.T) { bothEngines(t, testIdsOnTheWire) }

func testIdsOnTheWire(t *testing.T) {
	h := newHub(t, nil)
	url := serve(t, h)
	c := publish(t, h, tailrace.Event{Topic: "a", ID: "own", Data: []byte("x")}).String()
	for query, want := range map[string]string{
		"topic=a":                    "own",
		"topic=a&ids=cursor":         c,
		"topic=a&topic=b":            c,
		"topic=*":                    c,
		"topic=a&topic=b&ids=own":    "own",
		"topic=a&topic=a":            "own",
		"topic=a&meta=1":             "own",
		"topic=a&meta=1&ids=cursor":  c,
		"topic=*&event=message":      c,
		"topic=a&event=message&_=xx": "own",
	} {
		r := subscribe(t, url+"?from=start&"+query)
		if ev := r.next(); ev.ID != want {
			t.Errorf("%s: id %q, want %q", query, ev.ID, want)
		}
		r.stop()
	}
}

func TestOnlyTheTypesAskedFor(t *testing.T) { bothEngines(t, testOnlyTheTypesAskedFor) }

func testOnlyTheTypesAskedFor(t *testing.T) {
	h := newHub(t, nil)
	url := serve(t, h)
	send := func(n int) {
		for i := range n {
			publish(t, h, tailrace.Event{Topic: "a", Type: []string{"", "x", "y"}[i%3], Data: fmt.Append(nil, i)})
		}
	}
	send(9)
	r := subscribe(t, url+"?topic=a&from=start&event=message&event=y")
	r.expect("0", "2", "3", "5", "6", "8")
	send(3)
	r.expect("0", "2")
}

func TestClosedTopicEnds(t *testing.T) { bothEngines(t, testClosedTopicEnds) }

func testClosedTopicEnds(t *testing.T) {
	h := newHub(t, &tailrace.Options{Rules: []tailrace.TopicRule{{Pattern: "job/*", Policy: tailrace.Policy{Closable: true}}}})
	url := serve(t, h)
	live := subscribe(t, url+"?topic=job/1")
	publish(t, h, tailrace.Event{Topic: "job/1", Data: []byte("work")})
	live.expect("work")
	if _, err := h.CloseTopic(t.Context(), "job/1"); err != nil {
		t.Fatal(err)
	}
	if c, err := h.CloseTopic(t.Context(), "job/1"); err != nil || c.IsZero() {
		t.Fatalf("closing twice: %v %v", c, err)
	}
	end := live.next()
	if end.Type != "tailrace.end" {
		t.Fatalf("%+v", end)
	}
	var ev sse.Event
	if err := live.dec.Decode(&ev); err != io.EOF {
		t.Fatal(err)
	}
	// A subscriber that comes late gets the history and the end; one that has
	// everything is told to stop.
	late := subscribe(t, url+"?topic=job/1&from=start")
	late.expect("work")
	if ev := late.next(); ev.Type != "tailrace.end" {
		t.Fatalf("%+v", ev)
	}
	if r := subscribe(t, url+"?topic=job/1", "Last-Event-ID: "+end.ID); r.resp.StatusCode != http.StatusNoContent {
		t.Fatal(r.resp.Status)
	}
	if _, err := h.CloseTopic(t.Context(), "other"); err == nil {
		t.Fatal("a topic that may not be closed was")
	}
}

// A stream that is refused for a cause that passes must not end a native
// EventSource for good.
func TestRefusalIsSoftForBrowsers(t *testing.T) { bothEngines(t, testRefusalIsSoftForBrowsers) }

func testRefusalIsSoftForBrowsers(t *testing.T) {
	h := newHub(t, &tailrace.Options{MaxStreams: 1})
	url := serve(t, h)
	first := subscribe(t, url+"?topic=a")
	browser := subscribe(t, url+"?topic=a", "User-Agent: Mozilla/5.0 (X11)")
	body, err := io.ReadAll(browser.resp.Body)
	if err != nil || browser.resp.StatusCode != 200 || !strings.HasPrefix(string(body), ": busy\nretry: ") {
		t.Fatalf("%v %s %q", err, browser.resp.Status, body)
	}
	for _, header := range []string{"User-Agent: curl/8", "Tailrace-Client: test"} {
		named := subscribe(t, url+"?topic=a", header)
		if named.resp.StatusCode != 503 || named.resp.Header.Get("Retry-After") == "" {
			t.Fatalf("%s: %s %v", header, named.resp.Status, named.resp.Header)
		}
	}
	publish(t, h, tailrace.Event{Topic: "a", Data: []byte("still there")})
	first.expect("still there")
}

func TestHeartbeatOnlyToTheIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, nil)
		rec := ssetest.NewRecorder()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			h.ServeHTTP(rec, httptest.NewRequestWithContext(ctx, "GET", "/?topic=a&heartbeat=15s", nil))
			close(done)
		}()
		time.Sleep(10*time.Second + time.Second/2)
		publish(t, h, tailrace.Event{Topic: "a", Data: []byte("x")})
		time.Sleep(13 * time.Second)
		if n := len(rec.Comments()); n != 0 {
			t.Errorf("%d heartbeats to a stream that had an event 13 s ago", n)
		}
		time.Sleep(4 * time.Second)
		if n := len(rec.Comments()); n != 1 {
			t.Errorf("%d heartbeats after 17 s of silence", n)
		}
		time.Sleep(60 * time.Second)
		if n := len(rec.Comments()); n != 5 {
			t.Errorf("%d heartbeats after a minute more", n)
		}
		cancel()
		<-done
		if h.Count() != 0 {
			t.Error("the stream is still counted")
		}
	})
}

func TestShutdownEndsStreamsInTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := tailrace.New(&tailrace.Options{DrainWindow: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		const n = 20
		ended := make(chan time.Duration, n)
		var recs [n]*ssetest.Recorder
		for i := range n {
			recs[i] = ssetest.NewRecorder()
			go func() {
				h.ServeHTTP(recs[i], httptest.NewRequest("GET", "/?topic=a&hello=1", nil))
				ended <- 0
			}()
		}
		synctest.Wait()
		began := time.Now()
		if err := h.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 15*time.Second || took > 22*time.Second {
			t.Errorf("the drain took %v", took)
		}
		for range n {
			<-ended
		}
		for _, rec := range recs {
			events := rec.Events()
			if last := events[len(events)-1]; last.Type != "tailrace.drain" {
				t.Errorf("last event: %+v", last)
			}
			if !strings.Contains(string(rec.Bytes()), "\nretry: ") {
				t.Errorf("no reconnection time: %q", rec.Bytes())
			}
		}
		rec := ssetest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", "/?topic=a", nil))
		if rec.Code() != 503 {
			t.Errorf("a new stream while draining: %d", rec.Code())
		}
	})
}

// A shutdown whose time is up ends the rest at once, those that take no byte
// too.
func TestShutdownThatIsCutShort(t *testing.T) { bothEngines(t, testShutdownThatIsCutShort) }

func testShutdownThatIsCutShort(t *testing.T) {
	h, err := tailrace.New(&tailrace.Options{DrainWindow: time.Hour, DisableFastEngine: isPortable(t)})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	ssetest.StalledClient(t, srv.URL+"/?topic=a")
	r := subscribe(t, srv.URL+"/?topic=a")
	text := []byte(strings.Repeat("x", 100_000))
	go func() {
		for range 100 {
			publish(t, h, tailrace.Event{Topic: "a", Data: text})
		}
	}()
	for range 100 {
		r.expect(string(text))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Shutdown(ctx); err != context.Canceled {
		t.Fatalf("shutdown: %v", err)
	}
	if n := h.Count(); n != 0 {
		t.Fatalf("%d streams are left", n)
	}
}

func TestSubscribeInProcess(t *testing.T) {
	h := newHub(t, &tailrace.Options{Rules: []tailrace.TopicRule{{Pattern: "**", Policy: tailrace.Policy{Closable: true}}}})
	first := publish(t, h, tailrace.Event{Topic: "a", Data: []byte("0")})
	go func() {
		for i := 1; i < 50; i++ {
			publish(t, h, tailrace.Event{Topic: "a", Data: fmt.Append(nil, i)})
		}
		h.CloseTopic(context.Background(), "a")
	}()
	n := 0
	for ev, err := range h.Subscribe(t.Context(), tailrace.Selector{Topics: []string{"a"}}, tailrace.Cursor{}) {
		if err != nil {
			t.Fatal(err)
		}
		if string(ev.Data) != strconv.Itoa(n) {
			t.Fatalf("event %d is %q", n, ev.Data)
		}
		n++
	}
	if n != 50 {
		t.Fatalf("%d events before the end", n)
	}
	foreign := first
	foreign.Epoch ^= 1
	for ev, err := range h.Subscribe(t.Context(), tailrace.Selector{Topics: []string{"a"}}, foreign) {
		if err != nil || ev.Type != tailrace.TypeGap {
			t.Fatalf("%+v %v", ev, err)
		}
		break
	}
}

func TestMiddlewareServesOnePath(t *testing.T) {
	h := newHub(t, nil)
	url := serve(t, h.Middleware("/events")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "next")
	})))
	r := subscribe(t, url+"/events?topic=a")
	publish(t, h, tailrace.Event{Topic: "a", Data: []byte("x")})
	r.expect("x")
	resp, err := http.Get(url + "/elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "next" {
		t.Fatalf("%q", body)
	}
}

func TestBroadcastAndSlowConnections(t *testing.T) { bothEngines(t, testBroadcastAndSlowConnections) }

func testBroadcastAndSlowConnections(t *testing.T) {
	h := newHub(t, nil)
	url := serve(t, h)
	a := subscribe(t, url+"?topic=a")
	ab := subscribe(t, url+"?topic=a&topic=b/*")
	c := subscribe(t, url+"?topic=c")
	for _, step := range []struct {
		sel  tailrace.Selector
		want []*reader
	}{
		{tailrace.Selector{}, []*reader{a, ab, c}},
		{tailrace.Selector{Topics: []string{"a"}}, []*reader{a, ab}},
		{tailrace.Selector{Topics: []string{"b/x"}}, []*reader{ab}},
		{tailrace.Selector{Patterns: []string{"**"}}, []*reader{a, ab, c}},
	} {
		queued, skipped, err := h.Broadcast(t.Context(), step.sel, &tailrace.Event{Type: "note", Data: []byte("all")})
		if err != nil || queued != len(step.want) || skipped != 0 {
			t.Fatalf("%+v: %d %d %v", step.sel, queued, skipped, err)
		}
		for _, r := range step.want {
			if ev := r.next(); ev.Type != "note" || ev.ID != "" {
				t.Fatalf("%+v", ev)
			}
		}
	}
	if _, _, err := h.Broadcast(t.Context(), tailrace.Selector{}, &tailrace.Event{Type: "tailrace.fake"}); err == nil {
		t.Fatal("a reserved type went out")
	}
	infos := map[string]tailrace.ConnInfo{}
	for info := range h.Connections() {
		infos[info.ID] = info
	}
	if len(infos) != 3 || h.Count() != 3 {
		t.Fatalf("%d connections", len(infos))
	}
	if info, ok := h.Connection(c.resp.Header.Get("Tailrace-Connection")); !ok || info.Select.Topics[0] != "c" || info.Addr != "127.0.0.1" {
		t.Fatalf("%+v %v", info, ok)
	}
}

func TestNoGoroutineIsLeft(t *testing.T) { bothEngines(t, testNoGoroutineIsLeft) }

func testNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	h, err := tailrace.New(&tailrace.Options{DrainWindow: -1, DisableFastEngine: isPortable(t)})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	var streams []io.ReadCloser
	for range 20 {
		resp, err := srv.Client().Get(srv.URL + "?topic=a")
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, resp.Body)
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, body := range streams {
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Errorf("not a clean end: %v", err)
		}
		body.Close()
	}
	srv.Close()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
