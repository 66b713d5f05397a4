package server

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const form = "application/x-www-form-urlencoded"

func TestQuery(t *testing.T) {
	h := start(t, nil, nil)
	h.fill("a/b", 2)
	h.fill("c", 1)
	body := url.Values{"topic": {"a/*", "c"}, "from": {"start"}, "limit": {"3"}}.Encode()
	if p := decode[page](t, h.do("QUERY", "/v1/events?format=json", body, "Content-Type", form).wantStatus(t, 200)); p.data() != "1 2 1" {
		t.Errorf("the page has %q", p.data())
	}
	resp, err := client.Do(h.request("QUERY", "/v1/events", body, "Content-Type", form))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{resp, ""}
	a.wantStatus(t, 200)
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("QUERY gave %v", resp.Header)
	}
	for _, tt := range []struct{ body, media, problem string }{
		{body, "text/plain", "unsupported-type"},
		{body, "", "unsupported-type"},
		{"topic=a&topc=b", form, "unknown-parameter"},
		{"topic=%zz", form, "invalid-request"},
		{"", form, "no-topic"},
		{"topic=" + strings.Repeat("x", 513), form, "invalid-topic"},
		{strings.Repeat("topic=a&", 129), form, "invalid-parameter"},
		{"topic=" + strings.Repeat("x", maxQueryBody), form, "too-large"},
	} {
		h.do("QUERY", "/v1/events", tt.body, "Content-Type", tt.media).wantProblem(t, tt.problem)
	}
	h.do("QUERY", "/v1/events", body, "Content-Type", form, "Content-Encoding", "gzip").wantProblem(t, "unsupported-encoding")
}

func TestQueryBodyThatDoesNotCome(t *testing.T) {
	s := newServer(t, nil, nil)
	s.bodyTime = 20 * time.Millisecond
	a := run(t, s).exchange("QUERY /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: " + form + "\r\nContent-Length: 20\r\n\r\ntopic=")
	a.wantStatus(t, 408).wantProblem(t, "body-timeout")
}

func TestSlowHeadIsCutOff(t *testing.T) {
	s := newServer(t, nil, nil)
	if s.http.ReadHeaderTimeout != headerTime || s.http.IdleTimeout != idleTime || s.http.WriteTimeout != 0 || s.http.ReadTimeout != 0 {
		t.Errorf("time-outs are %+v", s.http)
	}
	s.http.ReadHeaderTimeout = 20 * time.Millisecond
	if answer := run(t, s).raw("GET /livez HTTP/1.1\r\nHost: local"); strings.Contains(answer, " 200 ") {
		t.Errorf("half a head got %q", answer)
	}
}

func TestResumeByHeaderAndQuery(t *testing.T) {
	h := start(t, nil, nil)
	cursors := h.fill("demo", 3)
	for name, sub := range map[string]*subscriber{
		"header":                h.open("/v1/topics/demo", "Last-Event-ID", cursors[1]),
		"parameter":             h.open("/v1/topics/demo?last_event_id=" + cursors[1]),
		"alias":                 h.open("/v1/topics/demo?lastEventId=" + cursors[1]),
		"header over parameter": h.open("/v1/topics/demo?last_event_id="+cursors[0], "Last-Event-ID", cursors[1]),
		"over from":             h.open("/v1/topics/demo?from=start", "Last-Event-ID", cursors[1]),
		"pattern":               h.open("/v1/events?topic=*&last_event_id=" + cursors[1]),
	} {
		if data := sub.waitFor("data: "); data != "3" {
			t.Errorf("%s: the first event is %q", name, data)
		}
	}
	for name, id := range map[string]string{"junk": "junk", "long": strings.Repeat("x", 600), "another log's": "0000000001.5", "ahead": cursors[2] + "00"} {
		sub := h.open("/v1/topics/demo?last_event_id=" + id)
		if event := sub.waitFor("event: "); event != "tailrace.gap" {
			t.Errorf("%s: the first event is a %s", name, event)
		}
		if data := sub.waitFor("data: 1"); data != "" {
			t.Errorf("%s: not all that is kept follows", name)
		}
	}
}

func TestNothingIsCachedOrSniffed(t *testing.T) {
	h := start(t, nil, nil)
	h.fill("demo", 1)
	for _, target := range []string{"/v1/topics", "/v1/stat/demo", "/v1/connections", "/livez", "/v1/stat/none", "/v1/topics/demo?format=json"} {
		head := h.do("GET", target, "").Header
		if head.Get("Cache-Control") != "no-store" || head.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", target, head)
		}
	}
	stream := h.open("/v1/topics/demo").Header
	if stream.Get("Cache-Control") != "no-cache, no-transform" || stream.Get("X-Accel-Buffering") != "no" || stream.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a stream has %v", stream)
	}
	if got := len(stream[http.CanonicalHeaderKey("Content-Type")]); got != 1 {
		t.Errorf("%d content types", got)
	}
}
