package tailrace

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// publishServer is a hub behind a server that routes /v1/topics/NAME and
// /v1/events to it, over HTTP/1.1 or HTTP/2.
type publishServer struct {
	t      testing.TB
	hub    *Hub
	server *httptest.Server
	times  publishTimes
}

// defaultPublishTimes are those of ServePublish.
var defaultPublishTimes = publishTimes{body: bodyTimeout, idle: uploadIdle, ack: ackInterval}

func newPublishServer(t testing.TB, opts *Options, times publishTimes, http2 bool) *publishServer {
	t.Helper()
	var o Options
	if opts != nil {
		o = *opts
	}
	o.DrainWindow = -1
	o.Logger = slog.New(slog.DiscardHandler)
	h, err := New(&o)
	if err != nil {
		t.Fatal(err)
	}
	s := &publishServer{t: t, hub: h, times: times}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/events", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			h.servePublish(w, r, nil, times)
			return
		}
		h.ServeHTTP(w, r)
	})
	mux.HandleFunc("/v1/topics/{topic...}", func(w http.ResponseWriter, r *http.Request) {
		topic := r.PathValue("topic")
		if r.Method == "POST" {
			h.servePublish(w, r, []string{topic}, times)
			return
		}
		sub, err := ParseSubscription(r, 128, topic)
		if err != nil {
			writeProblem(w, err)
			return
		}
		h.Serve(w, r, sub)
	})
	s.server = httptest.NewUnstartedServer(mux)
	if http2 {
		s.server.EnableHTTP2 = true
		s.server.StartTLS()
	} else {
		s.server.Start()
	}
	t.Cleanup(func() {
		s.server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return s
}

// answer is a response that was read to its end.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	text   string
	json   map[string]any // nil if it is not an object
}

// do sends a request. Headers are "Name: value".
func (s *publishServer) do(method, path string, body io.Reader, headers ...string) answer {
	s.t.Helper()
	a, err := s.try(method, path, body, headers...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (s *publishServer) try(method, path string, body io.Reader, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, body)
	if err != nil {
		return answer{}, err
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := s.server.Client().Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{t: s.t, status: resp.StatusCode, header: resp.Header, text: string(text)}
	json.Unmarshal(text, &a.json)
	return a, nil
}

func (s *publishServer) post(path, body string, headers ...string) answer {
	s.t.Helper()
	return s.do("POST", path, strings.NewReader(body), headers...)
}

// expect fails the test unless the status is as wanted, and, of a refusal, the
// problem's type.
func (a answer) expect(status int, problemType string) answer {
	a.t.Helper()
	got := ""
	if typ, ok := a.json["type"].(string); ok {
		got = strings.TrimPrefix(typ, "/docs/problems/")
	}
	if a.status != status || status >= 400 && got != problemType {
		a.t.Fatalf("got %d %s, want %d %s; body %s", a.status, got, status, problemType, a.text)
	}
	if status >= 400 {
		typ, ok := problem.Find(got)
		if !ok || a.json["title"] != typ.Title || a.json["status"] != float64(status) || a.json["detail"] == "" || a.header.Get("Content-Type") != problem.ContentType {
			a.t.Errorf("not a whole problem of the table: %v %s", a.header, a.text)
		}
	}
	return a
}

// stored returns the events of topic that the log keeps.
func (s *publishServer) stored(topic string) []Event {
	s.t.Helper()
	page, err := s.hub.log.Read(s.t.Context(), Query{Select: Selector{Topics: []string{topic}}, Limit: 100_000, MaxBytes: 64 << 20})
	if err != nil {
		s.t.Fatal(err)
	}
	return page.Events
}

// texts returns the data of the events of topic, joined with "|".
func (s *publishServer) texts(topic string) string {
	s.t.Helper()
	var b strings.Builder
	for i, ev := range s.stored(topic) {
		if i > 0 {
			b.WriteByte('|')
		}
		b.Write(ev.Data)
	}
	return b.String()
}

func TestPublishAnswersWithTheCursor(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		s := newPublishServer(t, nil, defaultPublishTimes, http2)
		a := s.post("/v1/topics/demo?event=created&key=k&id=o-1&retry=2500", "hello").expect(200, "")
		ev := s.stored("demo")
		if len(ev) != 1 || string(ev[0].Data) != "hello" || ev[0].Type != "created" || ev[0].Key != "k" || ev[0].ID != "o-1" || ev[0].Retry != 2500*time.Millisecond {
			t.Fatalf("stored %+v", ev)
		}
		want := `{"cursor":"` + ev[0].Cursor.String() + `","id":"o-1","time":"` + string(AppendTime(nil, ev[0].Time)) + `","duplicate":false}` + "\n"
		if a.text != want || a.header.Get("Tailrace-Cursor") != ev[0].Cursor.String() || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("got %s %v, want %s", a.text, a.header, want)
		}
	}
}

// A handler gets requests from more than net/http: recorders, which have no
// deadlines, and requests without a body.
func TestPublishWithoutAServer(t *testing.T) {
	h := newUploadHub(t, nil)
	for _, contentType := range []string{"", "application/json", "application/x-ndjson", "text/event-stream", "application/cloudevents+json"} {
		for _, query := range []string{"?topic=a", "?topic=a&colour=1", ""} {
			w := httptest.NewRecorder()
			r, _ := http.NewRequestWithContext(t.Context(), "POST", "/"+query, nil)
			r.Header.Set("Content-Type", contentType)
			r.Header.Set("Accept", "application/x-ndjson")
			h.PublishHandler().ServeHTTP(w, r)
			if want := query == "?topic=a" && !strings.HasSuffix(contentType, "+json") && contentType != "application/json"; (w.Code == 200) != want && contentType != "application/x-ndjson" {
				t.Errorf("%q %q: %d %s", contentType, query, w.Code, w.Body)
			}
		}
	}
	w := httptest.NewRecorder()
	h.ServePublish(w, httptest.NewRequest("POST", "/", strings.NewReader("data: 1\n\n")), []string{"raw"})
	r := httptest.NewRequest("POST", "/", strings.NewReader("data: 1\n\n"))
	r.Header.Set("Content-Type", "text/event-stream")
	h.ServePublish(w, r, []string{"upload"})
	if summary(topicEvents(t, h, "raw")) != "#=data: 1\n\n;" || summary(topicEvents(t, h, "upload")) != "#=1;" {
		t.Errorf("stored %q and %q", summary(topicEvents(t, h, "raw")), summary(topicEvents(t, h, "upload")))
	}
}
