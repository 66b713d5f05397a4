package tailrace

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const eventStream = "Content-Type: text/event-stream"

func TestUploadAnswersAtTheEnd(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		s := newPublishServer(t, nil, defaultPublishTimes, http2)
		body := "id: 7\nevent: e\ndata: 1\n\ndata: 2\n\nevent: tailrace.live\ndata: {}\n\ndata: cut"
		for i, a := range []answer{
			s.post("/v1/topics/t0", body, eventStream),
			s.do("POST", "/v1/topics/t1", &chunks{body[:20], body[20:]}, "Content-Type: text/event-stream; charset=utf-8"),
			s.post("/v1/topics/t2", zipped(body), eventStream, "Content-Encoding: gzip"),
			s.do("POST", "/v1/events?topic=t3", &chunks{body}, eventStream),
		} {
			a.expect(200, "")
			topic := fmt.Sprintf("t%d", i)
			events := s.stored(topic)
			if got := summary(events); got != "e#7=1;#=2;" {
				t.Fatalf("%s: stored %q", topic, got)
			}
			want := fmt.Sprintf(`{"accepted":2,"duplicates":0,"skipped":1,"last_id":"7","last_cursor":"%s","incomplete":true}`+"\n", events[1].Cursor)
			if a.text != want || a.header.Get("Tailrace-Cursor") != events[1].Cursor.String() {
				t.Errorf("%s: got %s, want %s", topic, a.text, want)
			}
		}
		if a := s.post("/v1/topics/empty", "", eventStream).expect(200, ""); a.json["accepted"] != 0.0 || a.json["last_cursor"] != "" || a.header.Get("Tailrace-Cursor") != "" {
			t.Errorf("an empty upload: %s %v", a.text, a.header)
		}
	}
}

func TestUploadsThatAreRefused(t *testing.T) {
	rules := []TopicRule{{Pattern: "small", Policy: Policy{MaxEvent: 100}}}
	s := newPublishServer(t, &Options{Rules: rules}, defaultPublishTimes, false)
	for _, tt := range []struct {
		name, path, body string
		status           int
		problem          string
		accepted         any
	}{
		{"event as parameter", "/v1/topics/a?event=e", "", 400, "invalid-parameter", nil},
		{"id as parameter", "/v1/topics/a?id=e", "", 400, "invalid-parameter", nil},
		{"close", "/v1/topics/a?close=1", "", 400, "invalid-parameter", nil},
		{"if_head", "/v1/topics/a?if_head=none", "", 400, "invalid-parameter", nil},
		{"encode", "/v1/topics/a?encode=base64", "", 400, "invalid-parameter", nil},
		{"bad name", "/v1/topics/a?upload=a%20b", "", 400, "invalid-parameter", nil},
		{"empty name", "/v1/topics/a?upload=", "", 400, "invalid-parameter", nil},
		{"long name", "/v1/topics/a?upload=" + strings.Repeat("a", 129), "", 400, "invalid-parameter", nil},
		{"from without name", "/v1/topics/a?upload_from=1", "", 400, "invalid-parameter", nil},
		{"from no number", "/v1/topics/a?upload=a&upload_from=-1", "", 400, "invalid-parameter", nil},
		{"skip_gaps wrong", "/v1/topics/a?skip_gaps=yes", "", 400, "invalid-parameter", nil},
		{"two topics", "/v1/events?topic=a&topic=b", "", 400, "invalid-parameter", nil},
		{"gap", "/v1/topics/gap", "data: 1\n\nevent: tailrace.gap\ndata: {}\n\ndata: 2\n\n", 409, "upstream-gap", 1.0},
		{"wrong id", "/v1/topics/id", "data: 1\n\nid:  2\ndata: 2\n\n", 400, "invalid-parameter", 1.0},
		{"too large", "/v1/topics/small", "data: 1\n\ndata: " + strings.Repeat("x", 101) + "\n\n", 413, "too-large", 1.0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.t = t
			a := s.post(tt.path, tt.body, eventStream).expect(tt.status, tt.problem)
			if a.json["accepted"] != tt.accepted {
				t.Errorf("accepted %v, want %v", a.json["accepted"], tt.accepted)
			}
			if tt.accepted != nil {
				topic := strings.TrimPrefix(tt.path, "/v1/topics/")
				if a.json["last_cursor"] != s.stored(topic)[0].Cursor.String() || s.texts(topic) != "1" {
					t.Errorf("got %s, stored %q", a.text, s.texts(topic))
				}
			}
		})
	}
	s.post("/v1/topics/a", "x", eventStream, "Content-Encoding: br").expect(415, "unsupported-encoding")
	if a := s.post("/v1/topics/ok?skip_gaps=1", "event: tailrace.gap\ndata: {}\n\ndata: 2\n\n", eventStream).expect(200, ""); a.json["skipped"] != 1.0 {
		t.Errorf("got %s", a.text)
	}
	s.post("/v1/topics/n?upload="+strings.Repeat("a", 128)+"&upload_from=4611686018427387904", "data: 1\n\n", eventStream).expect(200, "")
}

func TestUploadSaysWhatALogThatFailsHasStored(t *testing.T) {
	n := 0
	var fault error
	log := &faultLog{Log: NewMemoryLog(nil), fail: func([]Event) error {
		if n++; n == 2 {
			return fault
		}
		return nil
	}}
	s := newPublishServer(t, &Options{Log: log}, defaultPublishTimes, false)
	for _, tt := range []struct {
		err     error
		status  int
		problem string
	}{{ErrFull, 507, "log-full"}, {ErrStopped, 503, "unavailable"}, {errDisk, 503, "outcome-unknown"}, {ErrClosed, 409, "topic-closed"}} {
		n, fault = 0, tt.err
		block := "data: " + strings.Repeat("x", 700) + "\n\n"
		// Large enough for two appends, whatever arrives together.
		a := s.do("POST", "/v1/topics/"+tt.problem+"?upload=u", strings.NewReader(strings.Repeat(block, 3000)), eventStream).expect(tt.status, tt.problem)
		stored := s.stored(tt.problem)
		if a.json["accepted"] != float64(len(stored)) || a.json["last_cursor"] != stored[len(stored)-1].Cursor.String() {
			t.Errorf("got %s, %d stored", a.text, len(stored))
		}
		if want := fmt.Sprintf("u.%d", len(stored)); tt.err == errDisk && a.json["id"] != want {
			t.Errorf("id %v, want %s", a.json["id"], want)
		}
	}
}

// uploading is an upload in progress over a raw connection.
func startUpload(t testing.TB, s *publishServer, path, headers string) (w io.Writer, r *bufio.Reader, end func()) {
	c, r := rawConn(t, s, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"+headers+"\r\n")
	return chunkWriter{c}, r, func() { io.WriteString(c, "0\r\n\r\n") }
}

type chunkWriter struct{ w io.Writer }

func (c chunkWriter) Write(p []byte) (int, error) {
	_, err := fmt.Fprintf(c.w, "%x\r\n%s\r\n", len(p), p)
	return len(p), err
}

// waitFor waits for topic to have n events.
func (s *publishServer) waitFor(topic string, n int) {
	s.t.Helper()
	wake := make(chan struct{}, 1)
	stop, err := s.hub.log.Watch(Selector{Topics: []string{topic}}, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	defer stop()
	timeout := time.After(10 * time.Second)
	for len(s.stored(topic)) < n {
		select {
		case <-wake:
		case <-timeout:
			s.t.Fatalf("%d events stored, want %d", len(s.stored(topic)), n)
		}
	}
}

func TestBlocksArePublishedAsTheyArrive(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	w, r, end := startUpload(t, s, "/v1/topics/demo", "")
	for i := range 3 {
		fmt.Fprintf(w, "data: %d\n", i)
		io.WriteString(w, "\n")
		s.waitFor("demo", i+1)
	}
	end()
	if resp, text := readAnswer(t, r); resp.StatusCode != 200 || !strings.Contains(text, `"accepted":3`) {
		t.Errorf("got %s %s", resp.Status, text)
	}
}

func TestSilentUploadIsEnded(t *testing.T) {
	t.Parallel()
	times := defaultPublishTimes
	times.idle = time.Second
	for _, headers := range []string{"", "Accept: application/x-ndjson\r\n"} {
		s := newPublishServer(t, nil, times, false)
		_, r := rawConn(t, s, "POST /v1/topics/demo HTTP/1.1\r\nHost: x\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\n"+
			headers+"\r\nid: 9\ndata: 1\n\ndata: 2")
		resp, text := readAnswer(t, r)
		if headers == "" && (resp.StatusCode != 408 || !resp.Close) {
			t.Errorf("got %s close=%v", resp.Status, resp.Close)
		}
		if !strings.Contains(text, "/docs/problems/upload-idle") || !strings.Contains(text, `"accepted":1`) || !strings.Contains(text, `"last_id":"9"`) {
			t.Errorf("got %s", text)
		}
		if got := s.texts("demo"); got != "1" {
			t.Errorf("stored %q", got)
		}
	}
}

func TestSilentUploadIsEndedOverHTTP2(t *testing.T) {
	t.Parallel()
	times := defaultPublishTimes
	times.idle = time.Second
	s := newPublishServer(t, nil, times, true)
	r, w := io.Pipe()
	defer w.Close()
	go io.WriteString(w, "data: 1\n\n")
	if a := s.do("POST", "/v1/topics/demo", r, eventStream).expect(408, "upload-idle"); a.json["accepted"] != 1.0 {
		t.Errorf("got %s", a.text)
	}
}

// deadlines is a ResponseWriter that notes how far off each read deadline is.
type deadlines struct {
	http.ResponseWriter
	set []time.Duration // -1 is none
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	if t.IsZero() {
		d.set = append(d.set, -1)
	} else {
		d.set = append(d.set, time.Until(t).Round(time.Minute))
	}
	return nil
}

// Any byte starts the idle time anew, also that of a comment, and the end of
// the body ends it.
func TestEachReadOfAnUploadHasItsDeadline(t *testing.T) {
	d := &deadlines{}
	body := &uploadBody{ctx: t.Context(), rc: http.NewResponseController(d), body: &chunks{":\n", ":\n", "data: 1\n\n"}, idle: time.Hour}
	if _, err := io.ReadAll(body); err != nil {
		t.Fatal(err)
	}
	if want := []time.Duration{time.Hour, time.Hour, time.Hour, time.Hour, -1}; !slices.Equal(d.set, want) {
		t.Errorf("deadlines %v, want %v", d.set, want)
	}
}

func TestBrokenUploadKeepsWhatHasArrived(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		s := newPublishServer(t, nil, defaultPublishTimes, http2)
		r, w := io.Pipe()
		go func() {
			io.WriteString(w, "id: a\ndata: 1\n\nid: b\ndata: 2\n\nid: c\nda")
			s.waitFor("demo", 2)
			w.CloseWithError(io.ErrUnexpectedEOF)
		}()
		if a, err := s.try("POST", "/v1/topics/demo", r, eventStream); err == nil && a.status < 400 {
			t.Fatalf("got %d %s", a.status, a.text)
		}
		// How to go on: the page shows the last event stored; all after it is
		// sent again, and to be sure what is before it too.
		a := s.do("GET", "/v1/topics/demo?format=json&from=last:1", nil).expect(200, "")
		if last := a.json["events"].([]any)[0].(map[string]any); last["id"] != "b" {
			t.Errorf("got %s", a.text)
		}
		if a := s.post("/v1/topics/demo", "id: b\ndata: 2\n\nid: c\ndata: 3\n\n", eventStream).expect(200, ""); a.json["duplicates"] != 1.0 {
			t.Errorf("got %s", a.text)
		}
		if got := s.texts("demo"); got != "1|2|3" {
			t.Errorf("stored %q", got)
		}
	}
}

func TestTwoConnectionsOfOneUpload(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	const events = 300
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			r, w := io.Pipe()
			go func() {
				for i := range events {
					fmt.Fprintf(w, "data: %d\n\n", i)
				}
				w.Close()
			}()
			if a, err := s.try("POST", "/v1/topics/demo?upload=src", r, eventStream); err != nil || a.json["accepted"] != float64(events) {
				t.Errorf("got %v %v", a.text, err)
			}
		})
	}
	wg.Wait()
	stored := s.stored("demo")
	if len(stored) != events {
		t.Fatalf("%d events stored, want %d", len(stored), events)
	}
	for i, ev := range stored {
		if string(ev.Data) != fmt.Sprint(i) || ev.ID != fmt.Sprintf("src.%d", i) {
			t.Fatalf("event %d: %s %s", i, ev.ID, ev.Data)
		}
	}
}

func TestAcksComeWhileTheUploadRuns(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		times := defaultPublishTimes
		times.ack = time.Millisecond
		s := newPublishServer(t, nil, times, http2)
		r, w := io.Pipe()
		req, _ := http.NewRequestWithContext(t.Context(), "POST", s.server.URL+"/v1/topics/demo", r)
		req.Header.Set("Content-Type", "text/event-stream")
		req.Header.Set("Accept", "text/html;q=0.1, application/x-ndjson")
		resp, err := s.server.Client().Do(req) // the head comes before any event
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Fatalf("got %s %v", resp.Status, resp.Header)
		}
		lines := bufio.NewReader(resp.Body)
		for i := range 3 {
			fmt.Fprintf(w, "id: %d\ndata: x\n\n", i)
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf(`{"accepted":%d,"duplicates":0,"skipped":0,"last_id":"%d","last_cursor":"%s","incomplete":false}`+"\n", i+1, i, s.stored("demo")[i].Cursor)
			if line != want {
				t.Errorf("got %s, want %s", line, want)
			}
		}
		w.Close()
		line, err := lines.ReadString('\n')
		if err != nil || !strings.Contains(line, `"accepted":3`) || !strings.Contains(line, `"done":true`) {
			t.Errorf("got %s %v", line, err)
		}
		if _, err := lines.ReadByte(); err != io.EOF {
			t.Errorf("more after the end: %v", err)
		}
	}
}

func TestLastAckHasTheProblem(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		s := newPublishServer(t, nil, defaultPublishTimes, http2)
		r, w := io.Pipe()
		go io.WriteString(w, "data: 1\n\nevent: tailrace.gap\ndata: {}\n\n") // and then silence
		a := s.do("POST", "/v1/topics/demo", r, eventStream, "Accept: application/x-ndjson")
		w.Close()
		var last struct {
			Accepted int
			Error    struct {
				Type       string
				Status     int
				Accepted   int
				LastCursor string `json:"last_cursor"`
			}
		}
		lines := strings.Split(strings.TrimSpace(a.text), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			t.Fatalf("%v: %s", err, a.text)
		}
		if last.Error.Type != "/docs/problems/upstream-gap" || last.Error.Status != 409 || last.Error.Accepted != 1 ||
			last.Error.LastCursor != s.stored("demo")[0].Cursor.String() {
			t.Errorf("got %s", a.text)
		}
	}
}

func TestAcksAreFewForManyAppends(t *testing.T) {
	times := defaultPublishTimes
	times.ack = time.Hour
	s := newPublishServer(t, nil, times, false)
	w, r, end := startUpload(t, s, "/v1/topics/demo", "Accept: application/x-ndjson\r\n")
	for i := range 20 {
		fmt.Fprintf(w, "data: %d\n\n", i)
		s.waitFor("demo", i+1)
	}
	end()
	_, text := readAnswer(t, r)
	if lines := strings.Count(text, "\n"); lines < 1 || lines > 2 || !strings.Contains(text, `"accepted":20`) {
		t.Errorf("got %d lines: %s", lines, text)
	}
}

func TestAcksAfterExpectContinue(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	w, r, end := startUpload(t, s, "/v1/topics/demo", "Accept: application/x-ndjson\r\nExpect: 100-continue\r\n")
	if line, _ := r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q", line)
	}
	r.ReadString('\n')
	io.WriteString(w, "data: 1\n\n")
	end()
	if resp, text := readAnswer(t, r); resp.StatusCode != 200 || !strings.Contains(text, `"done":true`) {
		t.Errorf("got %s %s", resp.Status, text)
	}
}

func TestClientThatReadsNoAcksDoesNotHoldUpItsUpload(t *testing.T) {
	times := defaultPublishTimes
	times.ack = 0
	s := newPublishServer(t, nil, times, false)
	w, _, end := startUpload(t, s, "/v1/topics/demo", "Accept: application/x-ndjson\r\n")
	id := strings.Repeat("i", 200)
	for i := range 2000 {
		fmt.Fprintf(w, "id: %s%d\ndata: x\n\n", id, i)
	}
	end()
	s.waitFor("demo", 2000)
}

func TestDrainEndsAnUpload(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		s := newPublishServer(t, nil, defaultPublishTimes, http2)
		r, w := io.Pipe()
		defer w.Close()
		go func() {
			io.WriteString(w, "data: 1\n\n")
			s.waitFor("demo", 1)
			s.hub.streamsMu.Lock()
			s.hub.refused = true // draining has begun; the log is still there
			s.hub.streamsMu.Unlock()
		}()
		a := s.do("POST", "/v1/topics/demo", r, eventStream).expect(503, "draining")
		if a.json["accepted"] != 1.0 || a.json["last_cursor"] != s.stored("demo")[0].Cursor.String() {
			t.Errorf("got %s", a.text)
		}
	}
}

func TestRefusedUploadDoesNotWaitForTheRest(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	for _, path := range []string{"/v1/topics/demo?colour=1", "/v1/topics/demo"} {
		_, r := rawConn(t, s, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"23\r\nevent: tailrace.gap\ndata: {}     \n\n\r\n") // and then silence
		resp, text := readAnswer(t, r)
		if resp.StatusCode < 400 || !resp.Close {
			t.Errorf("got %s close=%v %s", resp.Status, resp.Close, text)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("the connection stays open: %v", err)
		}
	}
}
