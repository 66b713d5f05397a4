package tailrace

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// page is a decoded page.
type page struct {
	Events []struct {
		Topic, Cursor, ID, Event, Key, Time, Data string
		Retry                                     int
		Remove                                    bool
	}
	Next  string
	More  bool
	Ended bool
	Gap   *Gap
}

func (p *page) texts() string {
	var list []string
	for _, ev := range p.Events {
		list = append(list, ev.Data)
	}
	return strings.Join(list, "|")
}

// page gets a page of JSON.
func (s *publishServer) page(path string, headers ...string) (page, answer) {
	s.t.Helper()
	a := s.do("GET", path, nil, append(headers, "Accept: application/json")...).expect(200, "")
	var p page
	if err := json.Unmarshal([]byte(a.text), &p); err != nil {
		s.t.Fatalf("%v: %s", err, a.text)
	}
	return p, a
}

func (s *publishServer) publish(events ...Event) []Receipt {
	s.t.Helper()
	receipts, err := s.hub.Publish(s.t.Context(), events...)
	if err != nil {
		s.t.Fatal(err)
	}
	return receipts
}

func numbered(topic string, n int) []Event {
	events := make([]Event, n)
	for i := range events {
		events[i] = Event{Topic: topic, Data: fmt.Append(nil, i)}
	}
	return events
}

func TestPageHasEnvelopes(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	r := s.publish(Event{Topic: "demo", Type: "e", ID: "i\"1", Key: "k", Retry: time.Second, Remove: true, Data: []byte("a\r\nb\x00é")})
	_, a := s.page("/v1/topics/demo")
	want := fmt.Sprintf(`{"events":[{"topic":"demo","cursor":%q,"id":"i\"1","event":"e","key":"k","time":%q,"retry":1000,"remove":true,"data":"a\r\nb\u0000é"}],"next":%q,"more":false,"ended":false}`+"\n",
		r[0].Cursor, AppendTime(nil, r[0].Time), r[0].Cursor)
	if a.text != want {
		t.Errorf("got  %s\nwant %s", a.text, want)
	}
	h := a.header
	if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || h.Get("Etag") != "" ||
		h.Get("Vary") != "Accept, Accept-Encoding, Origin, Authorization, Cookie" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("head %v", h)
	}
	p, _ := s.page("/v1/topics/empty")
	if len(p.Events) != 0 || p.More || p.Ended || p.Gap != nil || p.Next == "" {
		t.Errorf("page of nothing: %+v", p)
	}
}

func TestWalkOfPagesGivesEveryEventOnce(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	s.publish(numbered("a", 2500)...)
	s.publish(numbered("b", 10)...)
	for _, tt := range []struct {
		query string
		limit int // of a page
		want  int
	}{{"topic=a", 100, 2500}, {"topic=a&limit=1000", 1000, 2500}, {"topic=*&limit=50", 50, 2510}, {"topic=a&topic=b", 100, 2510}} {
		got, last := 0, ""
		next := ""
		for pages := 0; ; pages++ {
			p, _ := s.page("/v1/events?" + tt.query + "&last_event_id=" + next)
			if len(p.Events) > tt.limit || p.More && len(p.Events) != tt.limit || pages > 500 {
				t.Fatalf("%s: page %d has %d events, more=%v", tt.query, pages, len(p.Events), p.More)
			}
			for _, ev := range p.Events {
				if c, _ := ParseCursor(ev.Cursor); last != "" {
					if l, _ := ParseCursor(last); c.Pos <= l.Pos {
						t.Fatalf("%s after %s", ev.Cursor, last)
					}
				}
				last = ev.Cursor
				got++
			}
			next = p.Next
			if !p.More {
				break
			}
		}
		if got != tt.want {
			t.Errorf("%s: %d events, want %d", tt.query, got, tt.want)
		}
	}
}

func TestWhereAPageStarts(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	events := numbered("demo", 5)
	events[1].ID = "own"
	r := s.publish(events...)
	for query, want := range map[string]string{
		"":                                      "0|1|2|3|4",
		"from=start":                            "0|1|2|3|4",
		"from=new":                              "",
		"from=last:2":                           "3|4",
		"from=-1h":                              "0|1|2|3|4",
		"from=2100-01-01T00:00:00Z":             "",
		"limit=2":                               "0|1",
		"last_event_id=own":                     "2|3|4",
		"last_event_id=" + r[2].Cursor.String(): "3|4",
		"lastEventId=own&from=new":              "2|3|4",
	} {
		if p, _ := s.page("/v1/topics/demo?" + query); p.texts() != want || p.Gap != nil {
			t.Errorf("%s: got %q, want %q", query, p.texts(), want)
		}
	}
	if p, _ := s.page("/v1/topics/demo?last_event_id=own", "Last-Event-ID: "+r[3].Cursor.String()); p.texts() != "4" {
		t.Errorf("the header does not win: %q", p.texts())
	}
	for _, q := range []string{"last_event_id=a%0Ab", "last_event_id=" + strings.Repeat("x", 513), "limit=0", "limit=1001", "wait=61s", "from=x"} {
		s.do("GET", "/v1/topics/demo?format=json&"+q, nil).expect(400, "invalid-parameter")
	}
}

func TestPageOfSomeTypes(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	var events []Event
	for i := range 25_000 {
		typ := "common"
		if i%10_000 == 9_999 {
			typ = "rare"
		} else if i == 3 {
			typ = ""
		}
		events = append(events, Event{Topic: "demo", Type: typ, Data: fmt.Append(nil, i)})
	}
	s.publish(events...)
	if p, _ := s.page("/v1/topics/demo?event=message"); p.texts() != "3" {
		t.Errorf("untyped: %q", p.texts())
	}
	if p, _ := s.page("/v1/topics/demo?event=rare&event=message&limit=2"); p.texts() != "3|9999" || !p.More {
		t.Errorf("got %q more=%v", p.texts(), p.More)
	}
	// The scan is bounded: a page may be empty with more to come.
	var got []string
	next, pages := "", 0
	for {
		p, _ := s.page("/v1/topics/demo?event=rare&last_event_id=" + next)
		if pages++; len(p.Events) > 0 {
			got = append(got, p.texts())
		}
		next = p.Next
		if !p.More {
			break
		}
	}
	if strings.Join(got, " ") != "9999 19999" || pages != 3 {
		t.Errorf("got %v in %d pages", got, pages)
	}
}

func TestPageIsBoundedInBytes(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	data := []byte(strings.Repeat("x", DefaultMaxEvent))
	for range 6 {
		s.publish(Event{Topic: "demo", Data: data})
	}
	p, _ := s.page("/v1/topics/demo")
	if len(p.Events) != 4 || !p.More {
		t.Fatalf("%d events, more=%v", len(p.Events), p.More)
	}
	if p, _ = s.page("/v1/topics/demo?last_event_id=" + p.Next); len(p.Events) != 2 || p.More {
		t.Errorf("%d events, more=%v", len(p.Events), p.More)
	}
}

func TestPageTellsOfAGap(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	r := s.publish(numbered("demo", 10)...)
	if err := s.hub.log.Trim(t.Context(), "demo", r[4].Cursor); err != nil {
		t.Fatal(err)
	}
	start := "/v1/topics/demo?last_event_id=" + r[1].Cursor.String()
	p, a := s.page(start)
	if p.Gap == nil || p.Gap.Reason != Trimmed || p.Gap.Requested != r[1].Cursor.String() || p.Gap.Oldest != r[4].Cursor.String() || p.texts() != "5|6|7|8|9" {
		t.Errorf("got %s", a.text)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("a page with a gap may be cached: %v", a.header)
	}
	p, a = s.page(start + "&on_gap=new")
	if p.Gap == nil || len(p.Events) != 0 {
		t.Errorf("on_gap=new: %s", a.text)
	}
	if p, a := s.page("/v1/topics/demo?last_event_id=" + p.Next); p.Gap != nil || len(p.Events) != 0 {
		t.Errorf("after on_gap=new: %s", a.text)
	}
	if p, a := s.page("/v1/topics/demo?last_event_id=junk&limit=2"); p.Gap == nil || p.Gap.Reason != Unknown || p.texts() != "5|6" || !p.More {
		t.Errorf("junk: %s", a.text)
	}
	if p, _ := s.page("/v1/topics/demo"); p.Gap != nil || p.texts() != "5|6|7|8|9" {
		t.Errorf("from the start: %+v", p)
	}
	// With a gap the state comes, not what is kept.
	s.publish(Event{Topic: "demo", Key: "k", Data: []byte("state")})
	if p, a := s.page(start + "&snapshot=1"); p.Gap == nil || p.texts() != "state" {
		t.Errorf("snapshot after a gap: %s", a.text)
	}
	// A wait is answered at once by a gap.
	if p, _ := s.page("/v1/topics/demo?last_event_id=junk&on_gap=new&wait=60s"); p.Gap == nil {
		t.Error("a wait hides a gap")
	}
}

func TestPageOfState(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	s.publish(Event{Topic: "a", Key: "x", Data: []byte("x1")}, Event{Topic: "a", Data: []byte("no key")},
		Event{Topic: "a", Key: "y", Type: "t", Data: []byte("y1")}, Event{Topic: "b", Key: "x", Data: []byte("bx")})
	r := s.publish(Event{Topic: "a", Key: "x", Data: []byte("x2")}, Event{Topic: "a", Key: "z", Data: []byte("z1")},
		Event{Topic: "a", Key: "z", Remove: true, Data: []byte("z2")})
	p, a := s.page("/v1/topics/a?snapshot=1&limit=1")
	seen := map[string]bool{}
	for _, ev := range p.Events {
		seen[ev.Data] = true
	}
	if len(p.Events) != 2 || !seen["x2"] || !seen["y1"] || p.More || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %s", a.text)
	}
	if c, err := ParseCursor(p.Next); err != nil || c.Pos < r[2].Cursor.Pos {
		t.Errorf("next %q, want the cut", p.Next)
	}
	s.publish(Event{Topic: "a", Key: "x", Data: []byte("x3")})
	if q, _ := s.page("/v1/topics/a?last_event_id=" + p.Next); q.texts() != "x3" || q.Gap != nil {
		t.Errorf("after the cut: %+v", q)
	}
	if p, _ := s.page("/v1/topics/a?snapshot=1&event=t"); p.texts() != "y1" {
		t.Errorf("of one type: %q", p.texts())
	}
	// Who resumes completely gets no snapshot.
	if q, _ := s.page("/v1/topics/a?snapshot=1&last_event_id=" + p.Next); q.texts() != "x3" {
		t.Errorf("resumed: %+v", q)
	}
	// A state that is too large for one page is not cut in silence.
	events := numbered("many", maxStateSize+1)
	for i := range events {
		events[i].Key = fmt.Sprint(i)
	}
	s.publish(events...)
	s.do("GET", "/v1/topics/many?format=json&snapshot=1", nil).expect(413, "too-large")
}

// watched is a log that tells when a selection is watched.
type watched struct {
	Log
	begun chan struct{}
}

func (l *watched) Watch(s Selector, wake func()) (stop func(), err error) {
	stop, err = l.Log.Watch(s, wake)
	if !s.IsZero() { // the hub watches everything
		l.begun <- struct{}{}
	}
	return stop, err
}

func TestWaitAnswersAtTheFirstEvent(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		log := &watched{Log: NewMemoryLog(nil), begun: make(chan struct{})}
		s := newPublishServer(t, &Options{Log: log}, defaultPublishTimes, http2)
		s.publish(numbered("demo", 1)...)
		go func() {
			<-log.begun
			// Neither another topic nor another type ends the wait.
			s.hub.Publish(context.Background(), Event{Topic: "other"}, Event{Topic: "demo", Type: "b"})
			time.Sleep(10 * time.Millisecond)
			s.hub.Publish(context.Background(), Event{Topic: "demo", Type: "a", Data: []byte("x")})
		}()
		p, a := s.page("/v1/topics/demo?from=new&event=a&wait=60s")
		if p.texts() != "x" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("got %s", a.text)
		}
		// What is there already needs no wait.
		if p, _ := s.page("/v1/topics/demo?wait=60s"); p.texts() != "0||x" {
			t.Errorf("got %q", p.texts())
		}
	}
}

func TestWaitEndsWithoutEvents(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	r := s.publish(numbered("demo", 1)...)
	p, _ := s.page("/v1/topics/demo?wait=50ms&last_event_id=" + r[0].Cursor.String())
	if len(p.Events) != 0 || p.More || p.Next != r[0].Cursor.String() {
		t.Errorf("got %+v", p)
	}
}

func TestWaitEndsWithTheClient(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	handler := s.server.Config.Handler
	s.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.AfterFunc(20*time.Millisecond, cancel)
		handler.ServeHTTP(w, r)
		close(left)
	})
	req, _ := http.NewRequestWithContext(ctx, "GET", s.server.URL+"/v1/topics/demo?format=json&wait=60s", nil)
	if _, err := s.server.Client().Do(req); err == nil {
		t.Error("the page did not wait")
	}
	select {
	case <-left:
	case <-time.After(10 * time.Second):
		t.Error("the handler waits for a client that has left")
	}
}

func TestWaitEndsWithADrain(t *testing.T) {
	t.Parallel()
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	time.AfterFunc(20*time.Millisecond, func() {
		s.hub.streamsMu.Lock()
		s.hub.refused = true
		s.hub.streamsMu.Unlock()
	})
	if p, _ := s.page("/v1/topics/demo?from=new&wait=60s"); len(p.Events) != 0 || p.Next == "" {
		t.Errorf("got %+v", p)
	}
}

func TestPageOfAClosedTopicHasEnded(t *testing.T) {
	s := newPublishServer(t, &Options{Rules: []TopicRule{{Pattern: "c", Policy: Policy{Closable: true}}}}, defaultPublishTimes, false)
	s.publish(numbered("c", 3)...)
	if _, err := s.hub.CloseTopic(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	if p, _ := s.page("/v1/topics/c?limit=2"); p.texts() != "0|1" || p.Ended || !p.More {
		t.Errorf("got %+v", p)
	}
	p, _ := s.page("/v1/topics/c")
	if p.texts() != "0|1|2" || !p.Ended { // the mark of the end is no event
		t.Errorf("got %+v", p)
	}
	if p, _ := s.page("/v1/topics/c?wait=60s&last_event_id=" + p.Next); len(p.Events) != 0 || !p.Ended {
		t.Errorf("got %+v", p)
	}
}

func TestCachingOfPages(t *testing.T) {
	s := newPublishServer(t, &Options{Rules: []TopicRule{{Pattern: "open/*", Public: true}}}, defaultPublishTimes, false)
	for _, tt := range []struct{ topic, cache string }{
		{"closed", "private, max-age=60"},
		{"open/a", "public, max-age=60, stale-while-revalidate=300"},
	} {
		r := s.publish(numbered(tt.topic, 10)...)
		path := "/v1/topics/" + tt.topic + "?limit=3&last_event_id=" + r[0].Cursor.String()
		_, a := s.page(path)
		tag := a.header.Get("Etag")
		if a.header.Get("Cache-Control") != tt.cache || !strings.HasPrefix(tag, `"`) {
			t.Errorf("%s: head %v", tt.topic, a.header)
		}
		for _, match := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			b := s.do("GET", path, nil, "Accept: application/json", "If-None-Match: "+match)
			if b.status != 304 || b.text != "" || b.header.Get("Etag") != tag || b.header.Get("Cache-Control") != tt.cache || b.header.Get("Vary") == "" {
				t.Errorf("If-None-Match %s: %d %v", match, b.status, b.header)
			}
		}
		for _, other := range []string{path + "&event=message", strings.Replace(path, "limit=3", "limit=4", 1)} {
			if _, b := s.page(other, "If-None-Match: "+tag); b.header.Get("Etag") == tag || b.header.Get("Etag") == "" {
				t.Errorf("%s has the tag of another page", other)
			}
		}
		// The end of the log is still to come.
		for _, q := range []string{"&limit=100", "&wait=1s", "&snapshot=1&limit=100"} {
			_, b := s.page("/v1/topics/"+tt.topic+"?last_event_id="+r[0].Cursor.String()+q, "If-None-Match: *")
			if b.header.Get("Cache-Control") != "no-store" || b.header.Get("Etag") != "" {
				t.Errorf("%s: head %v", q, b.header)
			}
		}
		if _, b := s.page("/v1/topics/" + tt.topic + "?limit=3"); b.header.Get("Cache-Control") != "no-store" {
			t.Errorf("without a start cursor: head %v", b.header)
		}
	}
	r := s.publish(numbered("open/b", 10)...)
	for query, want := range map[string]string{"topic=open/a&topic=closed": "private", "topic=open/*": "private", "topic=open/a&topic=open/b": "public"} {
		_, a := s.page("/v1/events?limit=1&" + query + "&last_event_id=" + r[0].Cursor.String())
		if got := a.header.Get("Cache-Control"); !strings.HasPrefix(got, want) && got != "no-store" {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func TestPageIsCompressedOnRequest(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	r := s.publish(numbered("demo", 200)...)
	path := "/v1/topics/demo?limit=100&last_event_id=" + r[0].Cursor.String()
	_, plain := s.page(path, "Accept-Encoding: identity")
	zip := s.do("GET", path, nil, "Accept: application/json", "Accept-Encoding: br, gzip")
	if zip.header.Get("Content-Encoding") != "gzip" || zip.header.Get("Etag") == plain.header.Get("Etag") {
		t.Fatalf("head %v", zip.header)
	}
	z, err := gzip.NewReader(strings.NewReader(zip.text))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(z); err != nil || string(text) != plain.text {
		t.Errorf("got %s %v", text, err)
	}
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "GZIP;q=0.5": true, "gzip;q=0": false, "*": true, "*;q=0": false, "gzip;q=0, *": false, "br": false, "identity, x-gzip": true,
	} {
		if got := acceptsGzip([]string{accept}); got != want {
			t.Errorf("acceptsGzip(%q) = %v", accept, got)
		}
	}
}

func TestHeadDescribesATopic(t *testing.T) {
	s := newPublishServer(t, &Options{Rules: []TopicRule{{Pattern: "c", Policy: Policy{Closable: true}}, {Pattern: "gone", Retired: true}}}, defaultPublishTimes, false)
	r := s.publish(numbered("c", 5)...)
	a := s.do("HEAD", "/v1/topics/c", nil)
	h := a.header
	if a.status != 200 || a.text != "" || h.Get("Tailrace-Head") != r[4].Cursor.String() || h.Get("Tailrace-Count") != "5" ||
		h.Get("Tailrace-Closed") != "0" || h.Get("Tailrace-Oldest") != "" {
		t.Errorf("got %d %v", a.status, h)
	}
	s.hub.log.Trim(t.Context(), "c", r[1].Cursor)
	final, err := s.hub.CloseTopic(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	h = s.do("HEAD", "/v1/topics/c", nil).header
	if h.Get("Tailrace-Oldest") != r[1].Cursor.String() || h.Get("Tailrace-Closed") != "1" || h.Get("Tailrace-Head") != final.String() {
		t.Errorf("got %v", h)
	}
	for path, want := range map[string]int{"/v1/topics/none": 404, "/v1/topics/gone": 410, "/v1/events?topic=c": 200, "/v1/events?topic=*": 405, "/v1/events?topic=c&topic=d": 405} {
		if a := s.do("HEAD", path, nil); a.status != want {
			t.Errorf("HEAD %s: %d, want %d", path, a.status, want)
		}
	}
	s.do("GET", "/v1/topics/gone", nil, "Accept: application/json").expect(410, "topic-retired")
	if s.hub.Count() != 0 {
		t.Error("HEAD opened a stream")
	}
}

func TestPageOfALogThatFails(t *testing.T) {
	log := &faultLog{Log: NewMemoryLog(nil)}
	s := newPublishServer(t, &Options{Log: log}, defaultPublishTimes, false)
	log.readErr = ErrStopped
	if a := s.do("GET", "/v1/topics/a?format=json", nil).expect(503, "unavailable"); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.do("GET", "/v1/topics/a?format=json&snapshot=1", nil).expect(503, "unavailable")
	log.readErr = errDisk
	if a := s.do("GET", "/v1/topics/a?format=json", nil).expect(500, "internal"); strings.Contains(a.text, "disk") {
		t.Errorf("the answer has internal details: %s", a.text)
	}
	log.readErr = nil
}
