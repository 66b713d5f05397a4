package tailrace

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

const (
	cloudEvent  = "Content-Type: application/cloudevents+json; charset=utf-8"
	cloudEvents = "Content-Type: application/cloudevents-batch+json"
)

func TestStructuredCloudEventIsKeptByteForByte(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	body := ` { "specversion" : "1.0", "id":"1","source":"/shop","type":"order.created","partitionkey":"k", "data":{"a":[1]}, "ext":1 } ` + "\n"
	a := s.post("/v1/topics/demo", body, cloudEvent).expect(200, "")
	ev := s.stored("demo")[0]
	if string(ev.Data) != body || ev.Type != "order.created" || ev.Key != "k" || ev.ID != "/shop|1" || a.json["id"] != "/shop|1" {
		t.Errorf("stored %+v", ev)
	}
	if a := s.post("/v1/topics/demo", body, cloudEvent).expect(200, ""); a.json["duplicate"] != true {
		t.Errorf("got %s", a.text)
	}
}

func TestLongCloudEventIDIsHashed(t *testing.T) {
	long := strings.Repeat("s", 254)
	if got := cloudEventID(long, "1"); got != long+"|1" {
		t.Errorf("256 bytes: %q", got)
	}
	sum := sha256.Sum256([]byte(long + "|12"))
	if got, want := cloudEventID(long, "12"), "ce-"+base64.RawURLEncoding.EncodeToString(sum[:]); got != want {
		t.Errorf("257 bytes: %q, want %q", got, want)
	}
}

func TestCloudEventsThatAreRefused(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	for _, tt := range []struct {
		name, body string
		status     int
		problem    string
	}{
		{"no id", `{"specversion":"1.0","source":"s","type":"t"}`, 400, "invalid-cloudevent"},
		{"empty id", `{"specversion":"1.0","id":"","source":"s","type":"t"}`, 400, "invalid-cloudevent"},
		{"no source", `{"specversion":"1.0","id":"1","type":"t"}`, 400, "invalid-cloudevent"},
		{"no type", `{"specversion":"1.0","id":"1","source":"s"}`, 400, "invalid-cloudevent"},
		{"no version", `{"id":"1","source":"s","type":"t"}`, 400, "invalid-cloudevent"},
		{"version 0.3", `{"specversion":"0.3","id":"1","source":"s","type":"t"}`, 400, "invalid-cloudevent"},
		{"id a number", `{"specversion":"1.0","id":1,"source":"s","type":"t"}`, 400, "invalid-cloudevent"},
		{"id twice", `{"specversion":"1.0","id":"1","id":"2","source":"s","type":"t"}`, 400, "invalid-cloudevent"},
		{"id with LF", `{"specversion":"1.0","id":"1\n","source":"s","type":"t"}`, 400, "invalid-cloudevent"},
		{"empty key", `{"specversion":"1.0","id":"1","source":"s","type":"t","partitionkey":""}`, 400, "invalid-cloudevent"},
		{"long key", `{"specversion":"1.0","id":"1","source":"s","type":"t","partitionkey":"` + strings.Repeat("k", 256) + `"}`, 400, "invalid-cloudevent"},
		{"long type", `{"specversion":"1.0","id":"1","source":"s","type":"` + strings.Repeat("t", 129) + `"}`, 400, "invalid-cloudevent"},
		{"reserved type", `{"specversion":"1.0","id":"1","source":"s","type":"tailrace.gap"}`, 400, "reserved-type"},
		{"array", `[]`, 400, "invalid-cloudevent"},
		{"scalar", `7`, 400, "invalid-cloudevent"},
		{"no JSON", `{`, 400, "invalid-json"},
		{"empty", ``, 400, "invalid-json"},
		{"not UTF-8", "{\"\xff\":1}", 415, "not-text"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.t = t
			s.post("/v1/topics/demo", tt.body, cloudEvent).expect(tt.status, tt.problem)
			if tt.status != 400 || tt.problem == "invalid-json" {
				return
			}
			good := `{"specversion":"1.0","id":"1","source":"s","type":"t"}`
			a := s.post("/v1/topics/demo", "["+good+","+tt.body+"]", cloudEvents).expect(400, "invalid-cloudevent")
			if e := a.json["errors"].([]any)[0].(map[string]any); e["line"] != 2.0 || e["type"] != "/docs/problems/"+tt.problem {
				t.Errorf("got %v", e)
			}
		})
	}
	s.post("/v1/topics/demo?event=x", "{}", cloudEvent).expect(400, "invalid-parameter")
	s.post("/v1/topics/demo?id=x", "{}", cloudEvent).expect(400, "invalid-parameter")
	s.post("/v1/topics/demo", "{}", cloudEvents).expect(400, "invalid-cloudevent")
	if n := len(s.stored("demo")); n != 0 {
		t.Errorf("%d events stored", n)
	}
}

func TestBatchedCloudEvents(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	event := func(i int) string {
		return fmt.Sprintf(`{ "specversion":"1.0","id":"%d","source":"s","type":"t" }`, i)
	}
	a := s.post("/v1/topics/demo", " [ "+event(1)+" , "+event(2)+","+event(1)+"\n]", cloudEvents).expect(200, "")
	if a.json["stored"] != 2.0 || a.json["duplicates"] != 1.0 || s.texts("demo") != event(1)+"|"+event(2) {
		t.Errorf("got %s, stored %q", a.text, s.texts("demo"))
	}
	s.post("/v1/topics/demo", "[]", cloudEvents).expect(200, "")
	list := make([]string, 1001)
	for i := range list {
		list[i] = event(i + 10)
	}
	s.post("/v1/topics/demo", "["+strings.Join(list, ",")+"]", cloudEvents).expect(413, "too-large")
	s.post("/v1/topics/demo", "["+strings.Join(list[:1000], ",")+"]", cloudEvents).expect(200, "")
}

func TestBinaryCloudEvent(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	attrs := []string{"ce-specversion: 1.0", "ce-id: 1", "ce-source: /s", "ce-type: t"}
	base := `{"specversion":"1.0","id":"%d","source":"/s","type":"t"`
	for i, tt := range []struct {
		name, contentType, body, want string
		more                          []string
	}{
		{name: "JSON", contentType: "application/json", body: ` {"a": 1}`, want: base + `,"datacontenttype":"application/json","data": {"a": 1}}`},
		{name: "text", contentType: "text/plain; charset=utf-8", body: "a\"\nb", want: base + `,"datacontenttype":"text/plain; charset=utf-8","data":"a\"\nb"}`},
		{name: "XML", contentType: "application/xml", body: "<a/>", want: base + `,"datacontenttype":"application/xml","data":"<a/>"}`},
		{name: "bytes", contentType: "application/octet-stream", body: "\x00\xff", want: base + `,"datacontenttype":"application/octet-stream","data_base64":"AP8="}`},
		{name: "text that is none", contentType: "text/plain", body: "\xff", want: base + `,"datacontenttype":"text/plain","data_base64":"/w=="}`},
		{name: "no body", contentType: "", body: "", want: base + `}`},
		{name: "no type", contentType: "", body: "x", want: base + `,"data":"x"}`},
		{name: "ndjson is data", contentType: "application/x-ndjson", body: "{}\n", want: base + `,"datacontenttype":"application/x-ndjson","data_base64":"e30K"}`},
		{name: "attributes", body: "", more: []string{"ce-subject: Caf%C3%A9 \"x\"", "ce-traceparent: 00-1", `ce-quoted: "a \"b\" c"`},
			want: base + `,"quoted":"a \"b\" c","subject":"Café \"x\"","traceparent":"00-1"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.t = t
			topic := fmt.Sprintf("t%d", i)
			headers := append(append([]string{"Content-Type: " + tt.contentType}, attrs...), tt.more...)
			if tt.contentType == "" {
				headers = headers[1:]
			}
			s.post("/v1/topics/"+topic, tt.body, headers...).expect(200, "")
			ev := s.stored(topic)[0]
			if want := fmt.Sprintf(tt.want, 1); string(ev.Data) != want || ev.ID != "/s|1" || ev.Type != "t" {
				t.Errorf("stored %s (%s, %s), want %s", ev.Data, ev.ID, ev.Type, want)
			}
			if err := checkJSON(ev.Data); err != nil {
				t.Errorf("not JSON: %v", err)
			}
		})
	}
	s.post("/v1/topics/k", "", append(attrs, "ce-partitionkey: k%2F1")...).expect(200, "")
	if ev := s.stored("k")[0]; ev.Key != "k/1" {
		t.Errorf("key %q", ev.Key)
	}
	for _, bad := range [][]string{
		{"ce-specversion: 0.3", "ce-id: 1", "ce-source: s", "ce-type: t"},
		{"ce-specversion: 1.0", "ce-source: s", "ce-type: t"},
		append([]string{"ce-data: x"}, attrs...),
		append([]string{"ce-datacontenttype: x"}, attrs...),
		append([]string{"ce-a-b: x"}, attrs...),
		append([]string{"ce-id: 2"}, attrs...),
		append([]string{"ce-subject: %zz"}, attrs...),
		append([]string{"ce-subject: %ff"}, attrs...),
		append([]string{"ce-partitionkey: "}, attrs...),
	} {
		s.post("/v1/topics/bad", "", bad...).expect(400, "invalid-cloudevent")
	}
	s.post("/v1/topics/bad", "{", append(attrs, "Content-Type: application/json")...).expect(400, "invalid-json")
	if n := len(s.stored("bad")); n != 0 {
		t.Errorf("%d events stored", n)
	}
}
