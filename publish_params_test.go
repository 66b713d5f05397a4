package tailrace

import (
	"net/url"
	"strings"
	"testing"
)

func TestPublishParameters(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	for _, tt := range []struct {
		name    string
		query   string
		headers []string
		status  int
		problem string
		detail  string // part of it
	}{
		{name: "none", status: 200},
		{name: "unknown", query: "colour=1", status: 400, problem: "unknown-parameter", detail: `"colour"`},
		{name: "misspelt", query: "evnt=a", status: 400, problem: "unknown-parameter", detail: "did you mean event?"},
		{name: "of subscribers", query: "from=start", status: 400, problem: "unknown-parameter"},
		{name: "topic beside the path", query: "topic=b", status: 400, problem: "unknown-parameter"},
		{name: "cache buster", query: "_=123&_x=1", status: 200},
		{name: "empty parts", query: "&&event=a&", status: 200},
		{name: "broken escape of a name", query: "%zz=1", status: 400, problem: "invalid-request"},
		{name: "broken escape of a value", query: "event=%2", status: 400, problem: "invalid-request"},

		{name: "event", query: "event=a", status: 200},
		{name: "event twice the same", query: "event=a&event=a", status: 200},
		{name: "event twice", query: "event=a&event=b", status: 400, problem: "conflicting-parameter"},
		{name: "event as both the same", query: "event=a", headers: []string{"Tailrace-Event: a"}, status: 200},
		{name: "event as both", query: "event=a", headers: []string{"Tailrace-Event: b"}, status: 400, problem: "conflicting-parameter"},
		{name: "event in two headers", headers: []string{"Tailrace-Event: a", "Tailrace-Event: b"}, status: 400, problem: "conflicting-parameter"},
		{name: "event empty", query: "event=", status: 200},
		{name: "event of 128", query: "event=" + strings.Repeat("e", 128), status: 200},
		{name: "event of 129", query: "event=" + strings.Repeat("e", 129), status: 400, problem: "invalid-parameter", detail: "128"},
		{name: "event with LF", query: "event=a%0Adata:evil", status: 400, problem: "invalid-parameter", detail: "at byte 1"},
		{name: "event with CR", query: "event=a%0D", status: 400, problem: "invalid-parameter"},
		{name: "event with NUL", query: "event=%00", status: 400, problem: "invalid-parameter"},
		{name: "event with C1", query: "event=%C2%85", status: 400, problem: "invalid-parameter"},
		{name: "event not UTF-8", query: "event=%ff", status: 400, problem: "invalid-parameter"},
		{name: "event reserved", query: "event=tailrace.gap", status: 400, problem: "reserved-type"},
		{name: "event reserved in a header", headers: []string{"Tailrace-Event: tailrace.x"}, status: 400, problem: "reserved-type"},
		{name: "event with a tab in a header", headers: []string{"Tailrace-Event: a\tb"}, status: 400, problem: "invalid-parameter"},

		{name: "id", query: "id=p-1", status: 200},
		{name: "id of 256", query: "id=" + strings.Repeat("i", 256), status: 200},
		{name: "id of 257", query: "id=" + strings.Repeat("i", 257), status: 400, problem: "invalid-parameter"},
		{name: "id empty", query: "id=", status: 400, problem: "invalid-parameter", detail: "empty"},
		{name: "id with a space before", query: "id=%20a", status: 400, problem: "invalid-parameter", detail: "white space"},
		{name: "id with a wide space after", query: "id=a%E2%80%83", status: 400, problem: "invalid-parameter", detail: "white space"},
		{name: "id with a space inside", query: "id=a+b", status: 200},
		{name: "id with LF", query: "id=a%0Ab", status: 400, problem: "invalid-parameter"},
		{name: "id with CR", query: "id=a%0Db", status: 400, problem: "invalid-parameter"},
		{name: "id with NUL", query: "id=a%00b", status: 400, problem: "invalid-parameter"},
		{name: "idempotency key", headers: []string{"Idempotency-Key: k-1"}, status: 200},
		{name: "idempotency key and id the same", query: "id=k-2", headers: []string{`Idempotency-Key: "k-2"`, "Tailrace-Id: k-2"}, status: 200},
		{name: "idempotency key and id", headers: []string{"Idempotency-Key: k-2", "Tailrace-Id: k-3"}, status: 400, problem: "conflicting-parameter"},
		{name: "idempotency key of quotes alone", headers: []string{`Idempotency-Key: ""`}, status: 400, problem: "invalid-parameter"},

		{name: "key of 255", query: "key=" + strings.Repeat("k", 255), status: 200},
		{name: "key of 256", query: "key=" + strings.Repeat("k", 256), status: 400, problem: "invalid-parameter"},
		{name: "key empty", query: "key=", status: 400, problem: "invalid-parameter"},
		{name: "key with LF", query: "key=%0A", status: 400, problem: "invalid-parameter"},
		{name: "remove", query: "key=k&remove=1", status: 200},
		{name: "remove without key", query: "remove=1", status: 400, problem: "invalid-parameter", detail: "needs a key"},
		{name: "remove off", query: "remove=0", status: 200},
		{name: "remove true", query: "key=k&remove=true", status: 400, problem: "invalid-parameter", detail: "not 1 or 0"},
		{name: "remove empty", query: "key=k&remove=", status: 400, problem: "invalid-parameter"},

		{name: "retry", query: "retry=3600000", status: 200},
		{name: "retry of zero", query: "retry=0", status: 200},
		{name: "retry too long", query: "retry=3600001", status: 400, problem: "invalid-parameter"},
		{name: "retry with a unit", query: "retry=3s", status: 400, problem: "invalid-parameter"},
		{name: "retry negative", query: "retry=-1", status: 400, problem: "invalid-parameter"},
		{name: "retry empty", query: "retry=", status: 400, problem: "invalid-parameter"},
		{name: "retry huge", query: "retry=99999999999999999999", status: 400, problem: "invalid-parameter"},

		{name: "if_head no cursor", query: "if_head=x", status: 400, problem: "invalid-parameter"},
		{name: "if_head empty", query: "if_head=", status: 400, problem: "invalid-parameter"},
		{name: "close not allowed", query: "close=1", status: 409, problem: "not-closable"},
		{name: "close in a header", headers: []string{"Tailrace-Close: 1"}, status: 409, problem: "not-closable"},
		{name: "encode", query: "encode=base64", status: 200},
		{name: "encode unknown", query: "encode=hex", status: 400, problem: "invalid-parameter"},
		{name: "upload of a raw body", query: "upload=a", status: 400, problem: "invalid-parameter", detail: "text/event-stream"},
		{name: "skip_gaps of a raw body", query: "skip_gaps=1", status: 400, problem: "invalid-parameter"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.t = t
			a := s.post("/v1/topics/demo?"+tt.query, "x", tt.headers...).expect(tt.status, tt.problem)
			if detail, _ := a.json["detail"].(string); !strings.Contains(detail, tt.detail) {
				t.Errorf("detail %q lacks %q", detail, tt.detail)
			}
		})
	}
}

func TestParametersAsHeaders(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	s.post("/v1/topics/demo", "x", "Tailrace-Event: ärger", "Tailrace-Id: o-1", "Tailrace-Key: k", "Tailrace-Remove: 1",
		"Tailrace-Retry: 1500", "Tailrace-If-Head: none").expect(200, "")
	ev := s.stored("demo")[0]
	if ev.Type != "ärger" || ev.ID != "o-1" || ev.Key != "k" || !ev.Remove || ev.Retry.Milliseconds() != 1500 {
		t.Errorf("stored %+v", ev)
	}
}

func TestQuotesOfAnIdempotencyKeyAreTakenOff(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	s.post("/v1/topics/demo", "x", `Idempotency-Key: "8e03978e"`).expect(200, "")
	if a := s.post("/v1/topics/demo?id=8e03978e", "y").expect(200, ""); a.json["duplicate"] != true || a.json["id"] != "8e03978e" || a.json["time"] != nil {
		t.Errorf("got %s", a.text)
	}
	if got := s.texts("demo"); got != "x" {
		t.Errorf("stored %q", got)
	}
	for in, want := range map[string]string{`"`: `"`, `"a`: `"a`, `a"b"`: `a"b"`, `""`: ``, ``: ``} {
		if got := unquoted(in); got != want {
			t.Errorf("unquoted(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestTopicsThatCannotBePublishedTo(t *testing.T) {
	s := newPublishServer(t, &Options{Rules: []TopicRule{{Pattern: "gone", Retired: true}}}, defaultPublishTimes, false)
	for _, tt := range []struct {
		name, topic string
		status      int
		problem     string
		offset      any
	}{
		{"empty", "", 400, "invalid-topic", 0.0},
		{"control", "a\x01b", 400, "invalid-topic", 1.0},
		{"NUL", "ab\x00", 400, "invalid-topic", 2.0},
		{"DEL", "\x7f", 400, "invalid-topic", 0.0},
		{"not UTF-8", "abc\xff", 400, "invalid-topic", 3.0},
		{"noncharacter", "a\ufffe", 400, "invalid-topic", 1.0},
		{"512 bytes", strings.Repeat("t", 512), 200, "", nil},
		{"513 bytes", strings.Repeat("t", 513), 400, "invalid-topic", 512.0},
		{"pattern", "a/*", 400, "invalid-topic", nil},
		{"deep pattern", "a/**", 400, "invalid-topic", nil},
		{"literal star", "a*b", 200, "", nil},
		{"system", "$presence/x", 403, "reserved-topic", nil},
		{"retired", "gone", 410, "topic-retired", nil},
		{"URL", "https://example.net/x?y", 200, "", nil},
		{"dots", "../a/..", 200, "", nil},
		{"emoji", "🚂", 200, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.t = t
			a := s.post("/v1/events?topic="+url.QueryEscape(tt.topic), "x").expect(tt.status, tt.problem)
			if tt.offset != nil && a.json["offset"] != tt.offset {
				t.Errorf("offset %v, want %v: %s", a.json["offset"], tt.offset, a.text)
			}
		})
	}
	s.post("/v1/events", "x").expect(400, "no-topic")
	s.post("/v1/events?topik=a", "x").expect(400, "unknown-parameter")
}

func TestPublishHandlerTakesOnlyPost(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	s.server.Config.Handler = s.hub.PublishHandler()
	s.do("PUT", "/?topic=a", nil).expect(405, "method-not-allowed")
	if a := s.do("GET", "/?topic=a", nil).expect(405, "method-not-allowed"); a.header.Get("Allow") != "POST" {
		t.Errorf("Allow: %q", a.header.Get("Allow"))
	}
	s.post("/?topic=a", "x").expect(200, "")
	if got := s.texts("a"); got != "x" {
		t.Errorf("stored %q", got)
	}
}
