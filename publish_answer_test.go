package tailrace

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestErrorsOfTheLogAsAnswers(t *testing.T) {
	log := &faultLog{Log: NewMemoryLog(nil)}
	s := newPublishServer(t, &Options{Log: log, PublishTimeout: 50 * time.Millisecond}, defaultPublishTimes, false)
	for _, tt := range []struct {
		name    string
		err     error
		delay   time.Duration
		status  int
		problem string
		retry   bool
	}{
		{"full", fmt.Errorf("%w: no space left on device", ErrFull), 0, 507, "log-full", false},
		{"stopped", ErrStopped, 0, 503, "unavailable", true},
		{"disk", errDisk, 0, 503, "outcome-unknown", true},
		{"time-out", nil, time.Minute, 503, "outcome-unknown", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.t = t
			log.err, log.delay = tt.err, tt.delay
			a := s.post("/v1/topics/demo?id=o-1", "x").expect(tt.status, tt.problem)
			if (a.header.Get("Retry-After") != "") != tt.retry {
				t.Errorf("Retry-After: %q", a.header.Get("Retry-After"))
			}
			if tt.problem == "outcome-unknown" && a.json["id"] != "o-1" {
				t.Errorf("id: %v", a.json["id"])
			}
			a = s.post("/v1/topics/demo", "x").expect(tt.status, tt.problem)
			if _, ok := a.json["id"]; ok {
				t.Errorf("id where none was given: %s", a.text)
			}
			s.post("/v1/topics/demo", `{"data":"x"}`, ndjson).expect(tt.status, tt.problem)
			if tt.problem != "outcome-unknown" {
				// What stops the whole log is no partial publish.
				s.post("/v1/events?topic=a&topic=b", "x").expect(tt.status, tt.problem)
			} else {
				a := s.post("/v1/events?topic=a&topic=b", "x").expect(503, "partial-publish")
				if len(a.json["results"].([]any)) != 2 {
					t.Errorf("got %s", a.text)
				}
			}
			// A body's own mistakes come first.
			s.post("/v1/topics/demo", "\xff", "Content-Type: application/json").expect(415, "not-text")
		})
	}
}

func TestDrainingHubRefusesPublishers(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	s.hub.Shutdown(t.Context())
	if a := s.post("/v1/topics/demo", "x").expect(503, "draining"); a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestIDIsTheIdempotencyKey(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	first := s.post("/v1/topics/demo?id=a", "1").expect(200, "")
	second := s.post("/v1/topics/demo?id=a", "other").expect(200, "")
	if want := `{"cursor":"` + first.json["cursor"].(string) + `","id":"a","duplicate":true}` + "\n"; second.text != want {
		t.Errorf("got %s, want %s", second.text, want)
	}
	// An id that looks like a cursor of this log is stored with = before it.
	cursor := first.json["cursor"].(string)
	if a := s.post("/v1/topics/demo?id="+cursor, "2").expect(200, ""); a.json["id"] != "="+cursor {
		t.Errorf("got %s", a.text)
	}
	// Of two at once one is stored.
	var wg sync.WaitGroup
	stored := make([]bool, 20)
	for i := range stored {
		wg.Go(func() {
			a, err := s.try("POST", "/v1/topics/race?id=x", strings.NewReader("x"))
			stored[i] = err == nil && a.status == 200 && a.json["duplicate"] == false
		})
	}
	wg.Wait()
	n := 0
	for _, ok := range stored {
		if ok {
			n++
		}
	}
	if n != 1 || len(s.stored("race")) != 1 {
		t.Errorf("%d publishers stored it, %d events", n, len(s.stored("race")))
	}
}

func TestOneOfAHundredWritersWins(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	head := "none"
	for round := range 3 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		statuses := map[int]int{}
		for i := range 100 {
			wg.Go(func() {
				a, err := s.try("POST", "/v1/topics/demo?if_head="+head, strings.NewReader(fmt.Sprint(i)))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				statuses[a.status]++
			})
		}
		wg.Wait()
		if statuses[200] != 1 || statuses[412] != 99 {
			t.Fatalf("round %d: %v", round, statuses)
		}
		events := s.stored("demo")
		if len(events) != round+1 {
			t.Fatalf("%d events stored", len(events))
		}
		head = events[round].Cursor.String()
	}
	if a := s.post("/v1/topics/demo?if_head=none", "x").expect(412, "head-mismatch"); a.json["head"] != head {
		t.Errorf("got %s, want head %s", a.text, head)
	}
	if a := s.post("/v1/topics/new?if_head="+head, "x").expect(412, "head-mismatch"); a.json["head"] != "none" {
		t.Errorf("got %s, want head none", a.text)
	}
	// The duplicate check comes first: a retry of a success stays a success.
	s.post("/v1/topics/demo?id=r&if_head="+head, "x").expect(200, "")
	if a := s.post("/v1/topics/demo?id=r&if_head="+head, "x").expect(200, ""); a.json["duplicate"] != true {
		t.Errorf("got %s", a.text)
	}
}

func TestCloseWithTheLastEvent(t *testing.T) {
	s := newPublishServer(t, &Options{Rules: []TopicRule{{Pattern: "c", Policy: Policy{Closable: true}}}}, defaultPublishTimes, false)
	a := s.post("/v1/topics/c?close=1&id=last", "bye").expect(200, "")
	if b := s.post("/v1/topics/c", "x").expect(409, "topic-closed"); b.json["final"] != a.json["cursor"] {
		t.Errorf("got %s, want final %v", b.text, a.json["cursor"])
	}
	if b := s.post("/v1/topics/c?close=1&id=last", "bye").expect(200, ""); b.json["duplicate"] != true {
		t.Errorf("got %s", b.text)
	}
}

func TestPublishToSeveralTopics(t *testing.T) {
	rules := []TopicRule{{Pattern: "small", Policy: Policy{MaxEvent: 3}}, {Pattern: "c", Policy: Policy{Closable: true}}}
	s := newPublishServer(t, &Options{Rules: rules}, defaultPublishTimes, false)
	a := s.post("/v1/events?topic=a&topic=b&topic=a&id=i", "x").expect(200, "")
	results := a.json["results"].([]any)
	if len(results) != 2 || s.texts("a") != "x" || s.texts("b") != "x" {
		t.Fatalf("got %s", a.text)
	}
	for i, topic := range []string{"a", "b"} {
		r := results[i].(map[string]any)
		if r["topic"] != topic || r["cursor"] != s.stored(topic)[0].Cursor.String() || r["id"] != "i" || r["duplicate"] != false {
			t.Errorf("result %d: %v", i, r)
		}
	}
	if a := s.post("/v1/events?topic=one", "x").expect(200, ""); len(a.json["results"].([]any)) != 1 {
		t.Errorf("got %s", a.text)
	}

	// All are checked before anything is stored.
	for _, q := range []struct {
		query   string
		status  int
		problem string
	}{
		{"topic=x&topic=y/*", 400, "invalid-topic"},
		{"topic=x&topic=$y", 403, "reserved-topic"},
		{"topic=x&topic=small", 413, "too-large"},
		{"topic=x&topic=y&close=1", 409, "not-closable"},
		{"topic=c&topic=x&close=1", 409, "not-closable"},
		{"topic=x&topic=y&if_head=none", 400, "invalid-parameter"},
	} {
		s.post("/v1/events?"+q.query, "1234").expect(q.status, q.problem)
	}
	if s.texts("x") != "" || s.texts("c") != "" {
		t.Error("a refused call has stored something")
	}

	var list url.Values = url.Values{}
	for i := range 100 {
		list.Add("topic", fmt.Sprint(i))
	}
	s.post("/v1/events?"+list.Encode(), "x").expect(200, "")
	s.post("/v1/events?topic=one-more&"+list.Encode(), "x").expect(400, "invalid-parameter")
}

func TestPartialPublishNamesEveryResult(t *testing.T) {
	log := &faultLog{Log: NewMemoryLog(nil), topics: map[string]error{"closed": ErrClosed}}
	s := newPublishServer(t, &Options{Log: log}, defaultPublishTimes, false)
	a := s.post("/v1/events?topic=a&topic=closed&topic=b", "x").expect(409, "partial-publish")
	var body struct {
		Results []struct{ Topic, Cursor, Type string }
	}
	json.Unmarshal([]byte(a.text), &body)
	want := []struct{ Topic, Cursor, Type string }{
		{"a", s.stored("a")[0].Cursor.String(), ""},
		{"closed", "", "/docs/problems/topic-closed"},
		{"b", s.stored("b")[0].Cursor.String(), ""},
	}
	if fmt.Sprint(body.Results) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", body.Results, want)
	}
	log.topics["lost"] = context.DeadlineExceeded
	a = s.post("/v1/events?topic=a&topic=lost&topic=closed&id=i", "x").expect(503, "partial-publish")
	if !strings.Contains(a.text, "/docs/problems/outcome-unknown") || !strings.Contains(a.text, "/docs/problems/topic-closed") {
		t.Errorf("got %s", a.text)
	}
	a = s.post("/v1/events", `{"topic":"a"}`+"\n"+`{"topic":"closed"}`, ndjson).expect(409, "partial-publish")
	if len(a.json["results"].([]any)) != 2 {
		t.Errorf("got %s", a.text)
	}
	// Alone, a topic's own problem is the answer.
	s.post("/v1/events?topic=closed", "x").expect(409, "topic-closed")
}
