package tailrace

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tailrace/tailrace/internal/problem"
)

// fuzzHub is a hub whose rules are all at their defaults.
func fuzzHub(f *testing.F) *Hub { return newUploadHub(f, nil) }

// FuzzBatch: every item of a batch that is taken can be stored, its data is
// that of encoding/json or the bytes in the line, and nothing panics.
func FuzzBatch(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "{}", `{"data":"x"}`, `{"event":"e","id":"i","key":"k","retry":5,"remove":true,"data":{"a":[1,"\""]}}`,
		`{"topic":"a"}` + "\n" + `{"topics":["a","b"],"data":null}`, `{"data":"\ud800"}`, `{"data":1`, `{"a":1}`, `[1]`, `"x"`, ` { "data" : [ { } , "]" ] } `,
		`{"data":"\\\""}`, `{"":""}`, `{"data":"a","d\u0061ta":1}`,
	} {
		f.Add([]byte(seed))
	}
	h := fuzzHub(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if !utf8.Valid(body) {
			return // refused before
		}
		lines := bytes.Split(body, []byte("\n"))
		for _, withTopics := range []bool{false, true} {
			var wrong batchErrors
			items, err := parseBatch(body, withTopics, &wrong)
			if err != nil {
				if items != nil || bytes.Count(body, []byte("\n")) < maxBatchItems {
					t.Fatalf("%v of %d lines", err, len(lines))
				}
				continue
			}
			for _, it := range items {
				var m map[string]json.RawMessage
				if err := json.Unmarshal(lines[it.line-1], &m); err != nil {
					t.Fatalf("line %d is taken: %v", it.line, err)
				}
				want := []byte(m["data"])
				var text string
				if json.Unmarshal(want, &text) == nil && len(want) > 0 && want[0] == '"' {
					want = []byte(text)
				}
				if !bytes.Equal(it.event.Data, want) {
					t.Fatalf("line %d: data %q, want %q", it.line, it.event.Data, want)
				}
			}
			p := &publication{hub: h, topics: []string{"demo"}}
			for _, ev := range p.expand(items, &wrong) {
				if err := ev.Check(&Policy{MaxEvent: DefaultMaxEvent}); err != nil {
					t.Fatalf("%+v is taken: %v", ev, err)
				}
				if strings.HasPrefix(ev.Type, ReservedTypePrefix) || strings.HasPrefix(ev.Topic, "$") {
					t.Fatalf("%+v is taken", ev)
				}
			}
			if prob := wrong.problem("invalid-batch", "line"); prob != nil {
				if len(wrong.list) == 0 || len(wrong.list) > maxBatchErrors || len(wrong.list) > wrong.count {
					t.Fatalf("%d errors of %d", len(wrong.list), wrong.count)
				}
				if _, err := json.Marshal(prob); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// FuzzCloudEvent: what is taken can be stored, is its own text, and its binary
// form wrapped is taken alike.
func FuzzCloudEvent(f *testing.F) {
	for _, seed := range []string{
		`{"specversion":"1.0","id":"1","source":"s","type":"t"}`, `{"specversion":"1.0","id":"1","source":"s","type":"t","partitionkey":"k","data":[1]}`,
		`[{"specversion":"1.0","id":"1","source":"s","type":"t"}, {}]`, `{}`, `[]`, `1`, `{"id":1}`, `{"id":"1","id":"2"}`,
	} {
		f.Add([]byte(seed), "application/json")
		f.Add([]byte(seed), "text/plain")
	}
	f.Fuzz(func(t *testing.T, body []byte, mediaType string) {
		attrs := map[string]string{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
		if text, err := wrapCloudEvent(attrs, mediaType, mediaType, bytes.Clone(body)); err == nil {
			if !json.Valid(text) || !utf8.Valid(text) {
				t.Fatalf("wrapped as %q", text)
			}
			if ev, err := parseCloudEvent(text); err != nil || ev.ID != "s|1" {
				t.Fatalf("%q: %+v %v", text, ev, err)
			}
		}
		if !utf8.Valid(body) || checkJSON(body) != nil {
			return
		}
		texts := [][]byte{body}
		for text := range jsonElements(body) {
			if !json.Valid(text) {
				t.Fatalf("element %q", text)
			}
			texts = append(texts, text)
		}
		for _, text := range texts {
			ev, err := parseCloudEvent(text)
			if err != nil {
				continue
			}
			ev.Topic = "t"
			if err := ev.Check(&Policy{MaxEvent: DefaultMaxEvent}); err != nil {
				t.Fatalf("%q is taken: %v", text, err)
			}
			var want struct{ ID, Source, Type, Partitionkey string }
			json.Unmarshal(text, &want)
			if !bytes.Equal(ev.Data, text) || ev.Type == "" || ev.ID == "" {
				t.Fatalf("%+v of %q", ev, text)
			}
		}
	})
}

// FuzzPublishParams: what is taken can be stored; a query that net/url refuses
// or an unknown name is refused; nothing panics.
func FuzzPublishParams(f *testing.F) {
	for _, seed := range []string{
		"", "event=a&id=b&key=c", "retry=5&remove=1&key=k", "if_head=none", "if_head=0000000001.a", "close=1", "encode=base64",
		"upload=a&upload_from=5&skip_gaps=1", "topic=a&topic=b", "_x=1", "%zz", "id=%00", "event=tailrace.x", "a;b", "id=a&id=a", "&&=", "event",
	} {
		f.Add(seed, "id-1", "a")
	}
	f.Fuzz(func(t *testing.T, query, idempotency, event string) {
		for _, inPath := range []bool{false, true} {
			r := &http.Request{URL: &url.URL{RawQuery: query}, Header: http.Header{}}
			if idempotency != "" {
				r.Header.Set("Idempotency-Key", idempotency)
			}
			if event != "" {
				r.Header.Set("Tailrace-Event", event)
			}
			p, err := readPublishParams(r, inPath)
			if err != nil {
				if _, ok := err.(*problem.Problem); !ok {
					t.Fatalf("%T %v", err, err)
				}
				continue
			}
			ev := Event{Topic: "t", Type: p.event, ID: p.id, Key: p.key, Remove: p.remove, Retry: p.retry}
			if err := ev.Check(&Policy{Closable: true}); err != nil {
				t.Fatalf("%q is taken: %v", query, err)
			}
			if values, err := url.ParseQuery(query); err == nil {
				for name, v := range values {
					known := strings.HasPrefix(name, "_")
					for _, k := range publishNames {
						known = known || name == k && (name != "topic" || !inPath)
					}
					if !known {
						t.Fatalf("%q is taken in %q", name, query)
					}
					if name == "topic" && strings.Join(v, "\n") != strings.Join(p.topics, "\n") {
						t.Fatalf("topics %q, want %q", p.topics, v)
					}
				}
			}
		}
	})
}

// FuzzJSONMembers: the walk sees what encoding/json sees.
func FuzzJSONMembers(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, ` { "a" : [ 1 , {"]":"}"} ] , "b\"" : "\\" } `, `{"a":{}}`, `[1, [2], "3,]", {"a":4}]`, `[]`, `"x"`, `{"a":-1e5,"b":true}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !utf8.Valid(b) || checkJSON(b) != nil {
			return
		}
		var list []json.RawMessage
		if json.Unmarshal(b, &list) == nil {
			i := 0
			for v := range jsonElements(b) {
				if i >= len(list) || !bytes.Equal(v, list[i]) {
					t.Fatalf("element %d: %q of %q", i, v, list)
				}
				i++
			}
			if i != len(list) {
				t.Fatalf("%d elements, want %d", i, len(list))
			}
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(b, &object) == nil {
			last := map[string]string{}
			for name, v := range jsonMembers(b) {
				last[name] = string(v)
			}
			if len(last) != len(object) {
				t.Fatalf("members %q, want %q", last, object)
			}
			for name, v := range object {
				if last[name] != string(v) {
					t.Fatalf("%q: %q, want %q", name, last[name], v)
				}
			}
		}
	})
}
