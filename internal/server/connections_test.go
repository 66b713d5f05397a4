package server

import (
	"strings"
	"testing"
)

func TestConnectionManager(t *testing.T) {
	h := start(t, nil, nil)
	one := h.open("/v1/topics/demo", "User-Agent", "tester/1", "Tailrace-Client", "lib/2")
	two := h.open("/v1/events?topic=demo&topic=orders/*&hello=1")
	three := h.open("/v1/topics/other")

	type list struct {
		Connections []connection
		After       string
	}
	count := func(query string) float64 {
		t.Helper()
		return decode[map[string]any](t, h.do("GET", "/v1/connections?count=1"+query, "").wantStatus(t, 200))["count"].(float64)
	}
	for query, want := range map[string]float64{
		"": 3, "&topic=demo": 2, "&topic=orders/7": 1, "&topic=none": 0, "&topic=demo&topic=other": 3,
		"&principal=anon:127.0.0.1": 3, "&principal=nobody": 0, "&node=local": 3, "&node=elsewhere": 0, "&limit=1": 3,
	} {
		if got := count(query); got != want {
			t.Errorf("count%s is %v, want %v", query, got, want)
		}
	}

	seen := map[string]connection{}
	for after := ""; ; {
		l := decode[list](t, h.do("GET", "/v1/connections?limit=2&after="+after, "").wantStatus(t, 200))
		for _, c := range l.Connections {
			seen[c.ID] = c
		}
		if after = l.After; after == "" {
			break
		}
	}
	if len(seen) != 3 {
		t.Fatalf("walked %v", seen)
	}
	c := seen[one.id()]
	if c.UserAgent != "tester/1" || c.Client != "lib/2" || c.IP != "127.0.0.1" || c.Principal != "anon:127.0.0.1" || c.Protocol != "HTTP/1.1" ||
		c.Engine == "" || c.Node != "local" || c.Opened.IsZero() || strings.Join(c.Topics, " ") != "demo" {
		t.Errorf("the connection is %+v", c)
	}
	if c := seen[two.id()]; strings.Join(c.Topics, " ") != "demo orders/*" {
		t.Errorf("the connection is %+v", c)
	}
	if got := decode[connection](t, h.do("GET", "/v1/connections/"+one.id(), "").wantStatus(t, 200)); got.ID != one.id() {
		t.Errorf("one is %+v", got)
	}

	// Send to one.
	h.do("POST", "/v1/connections/"+one.id()+"/events?event=note&retry=1234", "for you").wantStatus(t, 200)
	block := readBlock(one, "note")
	if !strings.Contains(block, "data: for you\n") || !strings.Contains(block, "retry: 1234\n") || strings.Contains(block, "id:") {
		t.Errorf("sent to one: %q", block)
	}

	// Broadcast.
	b := decode[map[string]any](t, h.do("POST", "/v1/broadcast", "to all", "Tailrace-Event", "news").wantStatus(t, 200))
	if b["queued"] != 3.0 || b["skipped"] != 0.0 {
		t.Errorf("broadcast: %v", b)
	}
	for _, sub := range []*subscriber{one, two, three} {
		if block := readBlock(sub, "news"); !strings.Contains(block, "data: to all\n") {
			t.Errorf("broadcast: %q", block)
		}
	}
	if b := decode[map[string]any](t, h.do("POST", "/v1/broadcast?topic=orders/1&event=sale", "x").wantStatus(t, 200)); b["queued"] != 1.0 {
		t.Errorf("broadcast to a topic: %v", b)
	}
	readBlock(two, "sale")

	// Disconnect.
	h.do("DELETE", "/v1/connections/"+two.id()+"?reason=maintenance", "").wantStatus(t, 204)
	lines := strings.Join(two.rest(), "\n")
	if !strings.Contains(lines, "retry: ") || !strings.Contains(lines, "event: tailrace.close\n") || !strings.Contains(lines, "maintenance") {
		t.Errorf("a disconnected stream ended with\n%s", lines)
	}
	h.eventually("the stream to be forgotten", func() bool { return h.do("GET", "/v1/connections/"+two.id(), "").StatusCode == 404 })
	h.do("GET", "/v1/connections/"+two.id(), "").wantStatus(t, 404).wantProblem(t, "connection-not-found")
	h.do("DELETE", "/v1/connections/"+two.id(), "").wantStatus(t, 404).wantProblem(t, "connection-not-found")
	h.do("POST", "/v1/connections/"+two.id()+"/events", "x").wantStatus(t, 404).wantProblem(t, "connection-not-found")
	h.do("DELETE", "/v1/connections", "").wantStatus(t, 400).wantProblem(t, "invalid-request")
	h.do("DELETE", "/v1/connections?topic=demo", "").wantStatus(t, 204)
	one.rest()
	h.eventually("one connection to be left", func() bool { return count("") == 1 })
	if got := count(""); got != 1 {
		t.Errorf("%v connections are left", got)
	}
	h.do("DELETE", "/v1/connections?principal=anon:127.0.0.1", "").wantStatus(t, 204)
	three.rest()
}

// readBlock reads lines to the end of the first block of the event type.
func readBlock(s *subscriber, event string) string {
	s.t.Helper()
	var block strings.Builder
	for s.lines.Scan() {
		line := s.lines.Text()
		if line != "" {
			block.WriteString(line + "\n")
			continue
		}
		if strings.Contains(block.String(), "event: "+event+"\n") {
			return block.String()
		}
		block.Reset()
	}
	s.t.Fatalf("no event %s", event)
	return ""
}

func TestControlEventsAreChecked(t *testing.T) {
	h := start(t, nil, nil)
	id := h.open("/v1/topics/demo").id()
	for _, target := range []string{"/v1/connections/" + id + "/events", "/v1/broadcast"} {
		for _, tt := range []struct {
			query, body string
			headers     []string
			problem     string
		}{
			{"?event=tailrace.gap", "x", nil, "reserved-type"},
			{"?event=a%0Ab", "x", nil, "invalid-parameter"},
			{"?event=" + strings.Repeat("e", 129), "x", nil, "invalid-parameter"},
			{"?retry=-1", "x", nil, "invalid-parameter"},
			{"?retry=3600001", "x", nil, "invalid-parameter"},
			{"?retry=soon", "x", nil, "invalid-parameter"},
			{"?event=a", "x", []string{"Tailrace-Event", "b"}, "conflicting-parameter"},
			{"?id=1", "x", nil, "unknown-parameter"},
			{"", "\xff", nil, "not-text"},
			{"", "{", []string{"Content-Type", "application/json"}, "invalid-json"},
			{"", "x", []string{"Content-Type", "multipart/form-data; boundary=b"}, "unsupported-type"},
			{"", "x", []string{"Content-Type", "text/plain; charset=latin1"}, "unsupported-charset"},
			{"", "x", []string{"Content-Encoding", "br"}, "unsupported-encoding"},
			{"", strings.Repeat("x", maxControlBody+1), nil, "too-large"},
		} {
			h.do("POST", target+tt.query, tt.body, tt.headers...).wantProblem(t, tt.problem)
		}
		h.do("POST", target+"?event=a", "x", "Tailrace-Event", "a").wantStatus(t, 200)
		h.do("POST", target, strings.Repeat("x", maxControlBody)).wantStatus(t, 200)
		h.do("POST", target, "").wantStatus(t, 200)
	}
	h.do("POST", "/v1/broadcast?topic=*", "x").wantStatus(t, 400).wantProblem(t, "invalid-topic")
}

// Sixteen control events may wait on a stream that does not read; the next is
// refused, and nobody else is harmed.
func TestSlowConnection(t *testing.T) {
	h := start(t, nil, nil)
	slow := h.open("/v1/topics/demo")
	quick := h.open("/v1/topics/demo")
	big := strings.Repeat("x", maxControlBody)
	refused := false
	for range 64 {
		a := h.do("POST", "/v1/connections/"+slow.id()+"/events", big)
		if a.StatusCode == 429 {
			a.wantProblem(t, "connection-slow")
			refused = true
			break
		}
		a.wantStatus(t, 200)
	}
	if !refused {
		t.Fatal("nothing is ever refused")
	}
	b := decode[map[string]any](t, h.do("POST", "/v1/broadcast?event=news", "x").wantStatus(t, 200))
	if b["queued"] != 1.0 || b["skipped"] != 1.0 {
		t.Errorf("broadcast: %v", b)
	}
	readBlock(quick, "news")
	if c, ok := h.hub.Connection(slow.id()); !ok || c.Select.Topics[0] != "demo" {
		t.Errorf("the slow one is gone: %v", c)
	}
	slow.Body.Close()
}
