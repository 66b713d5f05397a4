package tailrace

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

const ndjson = "Content-Type: application/x-ndjson"

func TestBatchIsStoredInOrder(t *testing.T) {
	for _, contentType := range []string{"application/x-ndjson", "application/ndjson", "application/jsonl; charset=utf-8"} {
		s := newPublishServer(t, nil, defaultPublishTimes, false)
		a := s.post("/v1/topics/demo", `{"data":"text\n\u00e9\u0000"}`+"\r\n"+
			"\n  \t\r\n"+
			` {"event":"e","id":"i-1","key":"k","retry":1500,"remove":true,"data":"x"}`+"\n"+
			`{"data": { "a" : [1, 2] } , "event":""}`+"\n"+
			`{"data":null}`+"\n"+
			`{"data":-1.5e3}`+"\n"+
			`{"data":[]}`+"\n"+
			`{"data":true,"remove":false}`+"\n"+
			`{}`, "Content-Type: "+contentType).expect(200, "")
		if got, want := s.texts("demo"), "text\né\x00|x|{ \"a\" : [1, 2] }|null|-1.5e3|[]|true|"; got != want {
			t.Errorf("stored %q, want %q", got, want)
		}
		events := s.stored("demo")
		if ev := events[1]; ev.Type != "e" || ev.ID != "i-1" || ev.Key != "k" || ev.Retry.Milliseconds() != 1500 || !ev.Remove {
			t.Errorf("stored %+v", ev)
		}
		if a.json["stored"] != 8.0 || a.json["duplicates"] != 0.0 || a.header.Get("Tailrace-Cursor") != events[7].Cursor.String() {
			t.Errorf("got %s", a.text)
		}
		for i, r := range a.json["results"].([]any) {
			if got := r.(map[string]any)["cursor"]; got != events[i].Cursor.String() {
				t.Errorf("result %d: %v, want %v", i, got, events[i].Cursor)
			}
		}
		if id := a.json["results"].([]any)[1].(map[string]any)["id"]; id != "i-1" {
			t.Errorf("id %v", id)
		}
	}
}

func TestBatchNamesTheLinesThatAreWrong(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	for _, tt := range []struct{ name, line, problem string }{
		{"broken", `{"data":`, "invalid-json"},
		{"no object", `"text"`, "invalid-json"},
		{"array", `[1]`, "invalid-json"},
		{"two objects", `{} {}`, "invalid-json"},
		{"deep", `{"data":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "invalid-json"},
		{"unknown member", `{"evnt":"a"}`, "unknown-parameter"},
		{"member of another case", `{"Data":"a"}`, "unknown-parameter"},
		{"topic in the line", `{"topic":"b"}`, "unknown-parameter"},
		{"cursor", `{"cursor":"b"}`, "unknown-parameter"},
		{"member twice", `{"data":"a","data":"b"}`, "conflicting-parameter"},
		{"member twice, escaped", `{"data":"a","d\u0061ta":"b"}`, "conflicting-parameter"},
		{"event no string", `{"event":1}`, "invalid-parameter"},
		{"event null", `{"event":null}`, "invalid-parameter"},
		{"event reserved", `{"event":"tailrace.gap"}`, "reserved-type"},
		{"event with LF", `{"event":"a\nb"}`, "invalid-parameter"},
		{"event too long", `{"event":"` + strings.Repeat("e", 129) + `"}`, "invalid-parameter"},
		{"id empty", `{"id":""}`, "invalid-parameter"},
		{"id with NUL", `{"id":"\u0000"}`, "invalid-parameter"},
		{"id with space", `{"id":"a "}`, "invalid-parameter"},
		{"id too long", `{"id":"` + strings.Repeat("i", 257) + `"}`, "invalid-parameter"},
		{"id an object", `{"id":{}}`, "invalid-parameter"},
		{"key empty", `{"key":""}`, "invalid-parameter"},
		{"key with control", `{"key":"\u0085"}`, "invalid-parameter"},
		{"key an array", `{"key":[]}`, "invalid-parameter"},
		{"retry a string", `{"retry":"5"}`, "invalid-parameter"},
		{"retry a fraction", `{"retry":1.5}`, "invalid-parameter"},
		{"retry negative", `{"retry":-1}`, "invalid-parameter"},
		{"retry with an exponent", `{"retry":1e3}`, "invalid-parameter"},
		{"remove a number", `{"remove":1,"key":"k"}`, "invalid-parameter"},
		{"remove without key", `{"remove":true}`, "invalid-parameter"},
		{"data too large", `{"data":"` + strings.Repeat("x", DefaultMaxEvent+1) + `"}`, "too-large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.t = t
			a := s.post("/v1/topics/demo", `{"data":"good"}`+"\n\n"+tt.line+"\n"+`{"data":"good"}`, ndjson).expect(400, "invalid-batch")
			errs := a.json["errors"].([]any)
			if len(errs) != 1 {
				t.Fatalf("errors %v", errs)
			}
			e := errs[0].(map[string]any)
			if e["line"] != 3.0 || e["type"] != "/docs/problems/"+tt.problem || e["detail"] == "" {
				t.Errorf("got %v, want line 3 and %s", e, tt.problem)
			}
			if len(a.text) > 2000 {
				t.Errorf("the answer repeats the input: %d bytes", len(a.text))
			}
		})
	}
	if n := len(s.stored("demo")); n != 0 {
		t.Errorf("%d events of wrong batches are stored", n)
	}
}

func TestOneBadLineOfAThousand(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	line := `{"data":"x"}` + "\n"
	a := s.post("/v1/topics/demo", strings.Repeat(line, 499)+"{\n"+strings.Repeat(line, 500), ndjson).expect(400, "invalid-batch")
	if e := a.json["errors"].([]any); len(e) != 1 || e[0].(map[string]any)["line"] != 500.0 {
		t.Errorf("got %s", a.text)
	}
	a = s.post("/v1/topics/demo", strings.Repeat("{\n", 1000), ndjson).expect(400, "invalid-batch")
	if e := a.json["errors"].([]any); len(e) != 20 {
		t.Errorf("%d errors named, want the first 20", len(e))
	}
	if n := len(s.stored("demo")); n != 0 {
		t.Errorf("%d events stored", n)
	}
	s.post("/v1/topics/demo", strings.Repeat(line, 1000), ndjson).expect(200, "")
	if a := s.post("/v1/topics/demo", strings.Repeat(line, 1001), ndjson).expect(413, "too-large"); a.json["limit"] != 1000.0 {
		t.Errorf("got %s", a.text)
	}
	if n := len(s.stored("demo")); n != 1000 {
		t.Errorf("%d events stored, want 1000", n)
	}
}

func TestBatchBodyLimitIsExact(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	item := `{"data":"` + strings.Repeat("x", 1<<20-20) + `"}`
	body := strings.Repeat(item+strings.Repeat(" ", 1<<20-len(item)-1)+"\n", 8)
	s.post("/v1/topics/demo", body, ndjson).expect(200, "")
	if a := s.post("/v1/topics/demo", body+"\n", ndjson).expect(413, "too-large"); a.json["limit"] != float64(8<<20) {
		t.Errorf("got %s", a.text)
	}
	s.do("POST", "/v1/topics/demo", &chunks{body, "\n"}, ndjson).expect(413, "too-large")
	if n := len(s.stored("demo")); n != 8 {
		t.Errorf("%d events stored", n)
	}
}

func TestBatchAcknowledgesDuplicatesInPlace(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	s.post("/v1/topics/demo?id=b", "first b").expect(200, "")
	a := s.post("/v1/topics/demo", `{"id":"a","data":"1"}
{"id":"b","data":"2"}
{"data":"3"}
{"id":"a","data":"4"}`, ndjson).expect(200, "")
	if a.json["stored"] != 2.0 || a.json["duplicates"] != 2.0 || s.texts("demo") != "first b|1|3" {
		t.Fatalf("got %s, stored %q", a.text, s.texts("demo"))
	}
	events := s.stored("demo")
	for i, want := range []struct {
		cursor    Cursor
		duplicate bool
	}{{events[1].Cursor, false}, {events[0].Cursor, true}, {events[2].Cursor, false}, {events[1].Cursor, true}} {
		r := a.json["results"].([]any)[i].(map[string]any)
		if r["cursor"] != want.cursor.String() || r["duplicate"] != want.duplicate {
			t.Errorf("result %d: %v, want %v", i, r, want)
		}
	}
}

func TestParametersOfABatch(t *testing.T) {
	s := newPublishServer(t, &Options{Rules: []TopicRule{{Pattern: "c/*", Policy: Policy{Closable: true}}}}, defaultPublishTimes, false)
	for _, q := range []string{"event=a", "id=a", "key=a", "remove=1&key=a", "retry=5", "encode=base64", "upload=a"} {
		s.post("/v1/topics/demo?"+q, "{}", ndjson).expect(400, "invalid-parameter")
	}
	s.post("/v1/topics/demo", "{\"data\":\"\xff\"}", ndjson).expect(415, "not-text")
	if a := s.post("/v1/topics/demo", "", ndjson).expect(200, ""); a.text != `{"stored":0,"duplicates":0,"results":[]}`+"\n" {
		t.Errorf("an empty batch: %s", a.text)
	}
	s.post("/v1/topics/demo?if_head=none", "\n\n", ndjson).expect(400, "invalid-batch")
	s.post("/v1/topics/demo?close=1", "{}", ndjson).expect(409, "not-closable")

	a := s.post("/v1/topics/c/1?if_head=none", "{\"data\":1}\n{\"data\":2}", ndjson).expect(200, "")
	head := a.header.Get("Tailrace-Cursor")
	if a := s.post("/v1/topics/c/1?if_head=none", "{}", ndjson).expect(412, "head-mismatch"); a.json["head"] != head {
		t.Errorf("got %s", a.text)
	}
	a = s.post("/v1/topics/c/1?close=1&if_head="+head, "{\"data\":3}\n{\"data\":4}", ndjson).expect(200, "")
	final := a.header.Get("Tailrace-Cursor")
	if a := s.post("/v1/topics/c/1", "{}", ndjson).expect(409, "topic-closed"); a.json["final"] != final {
		t.Errorf("got %s, want final %s", a.text, final)
	}
	if got := s.texts("c/1"); got != "1|2|3|4" {
		t.Errorf("stored %q", got)
	}
}

func TestBatchToTopicsOfItsLines(t *testing.T) {
	rules := []TopicRule{{Pattern: "small", Policy: Policy{MaxEvent: 3}}, {Pattern: "gone", Retired: true}}
	s := newPublishServer(t, &Options{Rules: rules}, defaultPublishTimes, false)
	a := s.post("/v1/events", `{"topic":"a","data":"1"}
{"topics":["b","a","b"],"data":"2"}
{"topic":"a","data":"3"}`, ndjson).expect(200, "")
	if s.texts("a") != "1|2|3" || s.texts("b") != "2" {
		t.Errorf("stored %q and %q", s.texts("a"), s.texts("b"))
	}
	var topics []string
	for _, r := range a.json["results"].([]any) {
		topics = append(topics, r.(map[string]any)["topic"].(string))
	}
	if got := strings.Join(topics, " "); got != "a b a a" || a.json["stored"] != 4.0 {
		t.Errorf("results for %q: %s", got, a.text)
	}
	// Lines without a topic go to those of the call.
	s.post("/v1/events?topic=c&topic=d", `{"data":"1"}`+"\n"+`{"data":"2","topic":"e"}`, ndjson).expect(200, "")
	if s.texts("c") != "1" || s.texts("d") != "1" || s.texts("e") != "2" {
		t.Errorf("stored %q, %q, %q", s.texts("c"), s.texts("d"), s.texts("e"))
	}
	for _, tt := range []struct{ name, line, problem string }{
		{"none", `{"data":1}`, "no-topic"},
		{"both", `{"topic":"x","topics":["y"]}`, "conflicting-parameter"},
		{"empty list", `{"topics":[]}`, "invalid-parameter"},
		{"no list", `{"topics":"x"}`, "invalid-parameter"},
		{"no string", `{"topics":["x",1]}`, "invalid-parameter"},
		{"pattern", `{"topic":"x/*"}`, "invalid-topic"},
		{"control", `{"topic":"x\u0001"}`, "invalid-topic"},
		{"system", `{"topic":"$x"}`, "reserved-topic"},
		{"retired", `{"topic":"gone"}`, "topic-retired"},
		{"too large for one of them", `{"topics":["x","small"],"data":"1234"}`, "too-large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.t = t
			a := s.post("/v1/events", `{"topic":"x","data":"good"}`+"\n"+tt.line, ndjson).expect(400, "invalid-batch")
			if e := a.json["errors"].([]any)[0].(map[string]any); e["line"] != 2.0 || e["type"] != "/docs/problems/"+tt.problem {
				t.Errorf("got %v", e)
			}
			if got := s.texts("x"); got != "" {
				t.Errorf("stored %q", got)
			}
		})
	}
	s.post("/v1/events?if_head=none", `{"topic":"x"}`+"\n"+`{"topic":"y"}`, ndjson).expect(400, "invalid-parameter")

	// 100 topics and no more, in one line or in many.
	names := make([]string, 101)
	var lines strings.Builder
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i)
		fmt.Fprintf(&lines, `{"topic":"m%d"}`+"\n", i)
	}
	list := func(n int) string {
		text, _ := json.Marshal(names[:n])
		return `{"topics":` + string(text) + `}`
	}
	s.post("/v1/events", list(100), ndjson).expect(200, "")
	s.post("/v1/events", list(101), ndjson).expect(400, "invalid-batch")
	s.post("/v1/events", lines.String(), ndjson).expect(400, "invalid-batch")
	if n := len(s.stored("m0")); n != 0 {
		t.Errorf("%d events of a refused batch are stored", n)
	}
	s.post("/v1/events", strings.Repeat(list(100)+"\n", 101), ndjson).expect(413, "too-large")
}
