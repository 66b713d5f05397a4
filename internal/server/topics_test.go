package server

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
)

// fill publishes n events "1", "2", … and returns their cursors.
func (h *harness) fill(topic string, n int) []string {
	h.t.Helper()
	cursors := make([]string, n)
	for i := range n {
		a := h.do("POST", "/v1/topics/"+topic, fmt.Sprint(i+1)).wantStatus(h.t, 200)
		cursors[i] = a.Header.Get("Tailrace-Cursor")
	}
	return cursors
}

// page is a page of events.
type page struct {
	Events []struct{ Topic, Cursor, Data string }
	Next   string
	Gap    *tailrace.Gap
}

func (h *harness) page(target string) page {
	h.t.Helper()
	return decode[page](h.t, h.do("GET", target, "", "Accept", "application/json").wantStatus(h.t, 200))
}

func (p page) data() string {
	var all []string
	for _, ev := range p.Events {
		all = append(all, ev.Data)
	}
	return strings.Join(all, " ")
}

func TestListTopics(t *testing.T) {
	h := start(t, nil, nil)
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("list/%02d", i)
		want = append(want, name)
		h.do("POST", "/v1/topics/"+name, "x")
	}
	h.do("POST", "/v1/topics/other", "x")
	type list struct {
		Topics []topicItem
		After  string
	}
	var got []string
	after := ""
	for {
		l := decode[list](t, h.do("GET", "/v1/topics?pattern=list/*&limit=10&after="+after, "").wantStatus(t, 200))
		for _, item := range l.Topics {
			if item.Head == "" || item.Closed {
				t.Errorf("%+v", item)
			}
			got = append(got, item.Topic)
		}
		if after = l.After; after == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("walked %v", got)
	}
	if l := decode[list](t, h.do("GET", "/v1/topics", "")); len(l.Topics) != 26 {
		t.Errorf("all: %v", l.Topics)
	}
	if l := decode[list](t, h.do("GET", "/v1/topics?pattern=other", "")); len(l.Topics) != 1 {
		t.Errorf("by name: %v", l.Topics)
	}
	h.do("GET", "/v1/topics?pattern=a/**/b", "").wantStatus(t, 400).wantProblem(t, "invalid-topic")
}

func TestStatAndHead(t *testing.T) {
	h := start(t, nil, nil)
	h.do("GET", "/v1/stat/demo", "").wantStatus(t, 404).wantProblem(t, "topic-not-found")
	h.do("HEAD", "/v1/topics/demo", "").wantStatus(t, 404)
	cursors := h.fill("demo", 3)
	h.open("/v1/topics/demo")
	h.open("/v1/events?topic=*")
	h.open("/v1/topics/other")
	stat := decode[map[string]any](t, h.do("GET", "/v1/stat/demo", "").wantStatus(t, 200))
	if stat["head"] != cursors[2] || stat["count"] != 3.0 || stat["closed"] != false || stat["connections"] != 2.0 || stat["oldest"] != nil {
		t.Errorf("stat is %v", stat)
	}
	if p := stat["policy"].(map[string]any); p["age"] != "24h0m0s" || p["durability"] != "fsync" || p["max_event"] != float64(1<<20) {
		t.Errorf("policy is %v", p)
	}
	head := h.do("HEAD", "/v1/topics/demo", "", "Accept", "*/*").wantStatus(t, 200)
	if head.Header.Get("Tailrace-Head") != cursors[2] || head.Header.Get("Tailrace-Count") != "3" {
		t.Errorf("HEAD has %v", head.Header)
	}
}

// A trim removes what it says, and who was behind is told by a gap.
func TestTrim(t *testing.T) {
	for name, tt := range map[string]struct {
		body func(cursors []string) string
		left string
	}{
		"before the third":      {func(c []string) string { return `{"before":"` + c[2] + `"}` }, "3 4 5"},
		"before the first":      {func(c []string) string { return `{"before":"` + c[0] + `"}` }, "1 2 3 4 5"},
		"keep two":              {func([]string) string { return `{"keep":2}` }, "4 5"},
		"keep all":              {func([]string) string { return `{"keep":5}` }, "1 2 3 4 5"},
		"keep more than a page": {func([]string) string { return `{"keep":100000}` }, "1 2 3 4 5"},
		"keep none":             {func([]string) string { return `{"keep":0}` }, ""},
		"older than an hour":    {func([]string) string { return `{"age":"1h"}` }, "1 2 3 4 5"},
		"older than now":        {func([]string) string { return `{"age":"0s"}` }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, nil, nil)
			h.fill("other", 2)
			cursors := h.fill("demo", 5)
			a := decode[map[string]string](t, h.do("POST", "/v1/trim/demo", tt.body(cursors)).wantStatus(t, 200))
			p := h.page("/v1/topics/demo?from=start")
			if got := p.data(); got != tt.left {
				t.Errorf("%q is left, want %q", got, tt.left)
			}
			if tt.left == "1 2 3 4 5" {
				if a["oldest"] != "" {
					t.Errorf("nothing was trimmed, oldest is %q", a["oldest"])
				}
				return
			}
			if p := h.page("/v1/topics/demo?last_event_id=" + a["oldest"]); p.Gap != nil || p.data() != tt.left {
				t.Errorf("behind oldest: %q, gap %v", p.data(), p.Gap)
			}
			if p := h.page("/v1/topics/demo?last_event_id=" + cursors[0]); p.Gap == nil || p.Gap.Reason != tailrace.Trimmed || p.data() != tt.left {
				t.Errorf("behind the first: %q, gap %v", p.data(), p.Gap)
			}
			sub := h.open("/v1/topics/demo", "Last-Event-ID", cursors[0])
			if event := sub.waitFor("event: "); event != "tailrace.gap" {
				t.Errorf("the stream began with %q", event)
			}
			if p := h.page("/v1/topics/other?from=start"); p.data() != "1 2" {
				t.Errorf("another topic lost events: %q", p.data())
			}
		})
	}
}

// More than a thousand kept events are counted from the old end.
func TestTrimKeepsMany(t *testing.T) {
	h := start(t, nil, nil)
	events := make([]tailrace.Event, 2500)
	for i := range events {
		events[i] = tailrace.Event{Topic: "demo", Data: fmt.Append(nil, i)}
	}
	for chunk := range slices.Chunk(events, 500) {
		if _, err := h.hub.Publish(t.Context(), chunk...); err != nil {
			t.Fatal(err)
		}
	}
	h.do("POST", "/v1/trim/demo", `{"keep":1200}`).wantStatus(t, 200)
	if p := h.page("/v1/topics/demo?from=start&limit=1"); p.data() != "1300" {
		t.Errorf("the oldest is %q", p.data())
	}
}

func TestTrimRefuses(t *testing.T) {
	h := start(t, nil, nil)
	h.fill("demo", 3)
	for body, name := range map[string]string{
		``:                                  "invalid-json",
		`[]`:                                "invalid-parameter",
		`{"keep":1`:                         "invalid-json",
		`{"keep":1} x`:                      "invalid-json",
		`{"keep":"1"}`:                      "invalid-parameter",
		`{"before":"nonsense"}`:             "invalid-parameter",
		"{\"age\":\"\xff\"}":                "invalid-json",
		`{}`:                                "invalid-request",
		`{"keep":1,"age":"1h"}`:             "invalid-request",
		`{"keep":-1}`:                       "invalid-parameter",
		`{"age":"1"}`:                       "invalid-parameter",
		`{"age":"-1h"}`:                     "invalid-parameter",
		`{"before":"0000000001.1"}`:         "invalid-parameter",
		`{"kep":1}`:                         "unknown-parameter",
		strings.Repeat(" ", maxAdminBody+1): "too-large",
	} {
		h.do("POST", "/v1/trim/demo", body).wantProblem(t, name)
	}
	h.do("POST", "/v1/trim/none", `{"keep":1}`).wantStatus(t, 404).wantProblem(t, "topic-not-found")
	if p := h.page("/v1/topics/demo?from=start"); p.data() != "1 2 3" {
		t.Errorf("left: %q", p.data())
	}
}

func TestCloseTopic(t *testing.T) {
	h := start(t, &tailrace.Options{DrainWindow: -1, Rules: []tailrace.TopicRule{{Pattern: "c/*", Policy: tailrace.Policy{Closable: true}}}}, nil)
	h.do("POST", "/v1/close/demo", "").wantStatus(t, 409).wantProblem(t, "not-closable")
	h.fill("c/1", 2)
	reader := h.open("/v1/topics/c/1?from=start")
	final := decode[map[string]string](t, h.do("POST", "/v1/close/c/1", "").wantStatus(t, 200))["final"]
	if again := decode[map[string]string](t, h.do("POST", "/v1/close/c/1", "").wantStatus(t, 200))["final"]; again != final || final == "" {
		t.Errorf("closing twice: %q, %q", final, again)
	}
	m := h.do("POST", "/v1/topics/c/1", "late").wantStatus(t, 409).wantProblem(t, "topic-closed")
	if m["final"] != final {
		t.Errorf("final is %v, want %q", m["final"], final)
	}
	lines := strings.Join(reader.rest(), "\n")
	if !strings.Contains(lines, "data: 1\n") || !strings.Contains(lines, "data: 2\n") || !strings.Contains(lines, "event: tailrace.end\n") {
		t.Errorf("a reader saw\n%s", lines)
	}
	h.do("GET", "/v1/topics/c/1", "", "Last-Event-ID", final).wantStatus(t, 204)
	if stat := decode[topicItem](t, h.do("GET", "/v1/stat/c/1", "")); !stat.Closed {
		t.Error("stat does not say closed")
	}
	h.do("DELETE", "/v1/topics/c/1", "").wantStatus(t, 204)
	h.do("POST", "/v1/topics/c/1", "a new life").wantStatus(t, 200)
}

func TestDeleteTopic(t *testing.T) {
	h := start(t, nil, nil)
	cursors := h.fill("demo", 3)
	h.do("DELETE", "/v1/topics/demo", "").wantStatus(t, 204)
	h.do("DELETE", "/v1/topics/demo", "").wantStatus(t, 204)
	h.do("DELETE", "/v1/topics/never", "").wantStatus(t, 204)
	h.do("GET", "/v1/stat/demo", "").wantStatus(t, 404)
	p := h.page("/v1/topics/demo?last_event_id=" + cursors[0])
	if p.Gap == nil || p.Gap.Reason != tailrace.Deleted || len(p.Events) != 0 {
		t.Errorf("an old cursor gets %+v", p)
	}
	h.fill("demo", 1)
	if p := h.page("/v1/topics/demo?from=start"); p.data() != "1" {
		t.Errorf("the new life has %q", p.data())
	}
}

func TestRetireTopic(t *testing.T) {
	log := tailrace.NewMemoryLog(nil)
	h := start(t, &tailrace.Options{Log: log, DrainWindow: -1}, nil)
	h.fill("demo", 3)
	h.do("DELETE", "/v1/topics/demo?retire=1", "").wantStatus(t, 204)
	h.do("DELETE", "/v1/topics/demo?retire=1", "").wantStatus(t, 204)
	retired := func(h *harness) {
		t.Helper()
		h.do("POST", "/v1/topics/demo", "x").wantStatus(t, 410).wantProblem(t, "topic-retired")
		h.do("GET", "/v1/topics/demo", "").wantStatus(t, 410).wantProblem(t, "topic-retired")
		h.do("GET", "/v1/topics/demo?format=json", "").wantStatus(t, 410).wantProblem(t, "topic-retired")
		h.do("HEAD", "/v1/topics/demo", "").wantStatus(t, 410)
		h.do("POST", "/v1/close/demo", "").wantStatus(t, 410).wantProblem(t, "topic-retired")
		h.do("POST", "/v1/topics/demo/sub", "x").wantStatus(t, 200)
	}
	retired(h)
	list := decode[map[string][]sourcedPolicy](t, h.do("GET", "/v1/policies", ""))["policies"]
	if len(list) != 1 || list[0].Pattern != "demo" || !list[0].Retired || list[0].Source != "api" {
		t.Errorf("policies are %+v", list)
	}
	// Another server over the same log knows it.
	retired(start(t, &tailrace.Options{Log: log, DrainWindow: -1}, nil))
}

func TestPolicies(t *testing.T) {
	file := []tailrace.TopicRule{
		{Pattern: "orders/**", Policy: tailrace.Policy{MaxCount: 7, MaxAge: -1}, Overflow: tailrace.Conflate},
		{Pattern: "**", Policy: tailrace.Policy{MaxBytes: -1}},
	}
	h := start(t, &tailrace.Options{DrainWindow: -1, Rules: file}, nil)
	a := h.do("GET", "/v1/policies", "").wantStatus(t, 200)
	etag := a.Header.Get("ETag")
	list := decode[map[string][]sourcedPolicy](t, a)["policies"]
	if len(list) != 2 || list[0].Pattern != "orders/**" || list[0].Count != 7 || list[0].Age.v >= 0 || list[0].Overflow != tailrace.Conflate || list[0].Source != "file" || list[1].Bytes.v >= 0 {
		t.Errorf("the list is %+v", list)
	}

	const put = `{"policies":[{"pattern":"orders/eu","count":3,"age":"90m","closable":true,"idle_delete":"none"}]}`
	h.do("PUT", "/v1/policies", put).wantStatus(t, 428).wantProblem(t, "precondition-required")
	h.do("PUT", "/v1/policies", put, "If-Match", `"other"`).wantStatus(t, 412).wantProblem(t, "stale")
	a = h.do("PUT", "/v1/policies", put, "If-Match", etag).wantStatus(t, 200)
	if a.Header.Get("ETag") == etag {
		t.Error("the ETag did not change")
	}
	h.do("PUT", "/v1/policies", put, "If-Match", etag).wantStatus(t, 412).wantProblem(t, "stale")
	etag = a.Header.Get("ETag")

	for topic, want := range map[string]string{
		"orders/eu":        `{"pattern":"orders/eu","age":"1h30m0s","count":3,"bytes":268435456,"durability":"fsync","keep_latest":false,"idle_delete":"none","max_event":1048576,"closable":true,"overflow":"resume","public":false,"retired":false,"source":"api"}`,
		"orders/us":        `{"pattern":"orders/**","age":"none","count":7,"bytes":268435456,"durability":"fsync","keep_latest":false,"idle_delete":"168h0m0s","max_event":1048576,"closable":false,"overflow":"conflate","public":false,"retired":false,"source":"file"}`,
		"$config/policies": `{"pattern":"$config/**","age":"none","count":100,"bytes":"none","durability":"fsync","keep_latest":true,"idle_delete":"none","max_event":1048576,"closable":false,"overflow":"resume","public":false,"retired":false,"source":"system"}`,
	} {
		got := decode[struct{ Policy json.RawMessage }](t, h.do("GET", "/v1/policy/"+topic, "").wantStatus(t, 200)).Policy
		if string(got) != want {
			t.Errorf("the policy of %s is\n%s, want\n%s", topic, got, want)
		}
	}
	if got := decode[struct{ Policy sourcedPolicy }](t, h.do("GET", "/v1/policy/$other", "")).Policy; got.Source != "default" || got.Pattern != "" {
		t.Errorf("a topic without a rule has %+v", got)
	}
	h.do("POST", "/v1/close/orders/eu", "").wantStatus(t, 200) // it is in force
	for range 5 {
		h.do("POST", "/v1/topics/orders/eu/x", "x").wantStatus(t, 200)
	}

	// What GET answers can be sent back, changed or not.
	a = h.do("GET", "/v1/policies", "")
	h.do("PUT", "/v1/policies", a.body, "If-Match", etag).wantStatus(t, 200)
	if again := h.do("GET", "/v1/policies", ""); again.body != a.body {
		t.Errorf("after PUT of what GET answered:\n%s, before\n%s", again.body, a.body)
	}
	h.do("PUT", "/v1/policies", `{"policies":[]}`, "If-Match", "*").wantStatus(t, 200)
	if list := decode[map[string][]sourcedPolicy](t, h.do("GET", "/v1/policies", ""))["policies"]; len(list) != 2 {
		t.Errorf("the emptied list leaves %+v", list)
	}
}

func TestPoliciesRefuse(t *testing.T) {
	h := start(t, nil, nil)
	for body, name := range map[string]string{
		`{}`:                                  "invalid-request",
		`[]`:                                  "invalid-parameter",
		`{"policies":[{"pattern":""}]}`:       "invalid-topic",
		`{"policies":[{"pattern":"a/**/b"}]}`: "invalid-topic",
		`{"policies":[{"pattern":"a","durability":"never"}]}`: "invalid-parameter",
		`{"policies":[{"pattern":"a","overflow":"drop"}]}`:    "invalid-parameter",
		`{"policies":[{"pattern":"a","count":-1}]}`:           "invalid-parameter",
		`{"policies":[{"pattern":"a","max_event":-1}]}`:       "invalid-parameter",
		`{"policies":[{"pattern":"a","age":"a day"}]}`:        "invalid-parameter",
		`{"policies":[{"pattern":"a","age":5}]}`:              "invalid-parameter",
		`{"policies":[{"pattern":"a","age":"-5s"}]}`:          "invalid-parameter",
		`{"policies":[{"pattern":"a","bytes":-5}]}`:           "invalid-parameter",
		`{"policies":[{"pattern":"a","closeable":true}]}`:     "unknown-parameter",
		`{"policys":[]}`: "unknown-parameter",
	} {
		h.do("PUT", "/v1/policies", body, "If-Match", "*").wantProblem(t, name)
	}
	h.do("PUT", "/v1/policies", `{"policies":[]}`, "If-Match", "*", "Content-Encoding", "gzip").wantStatus(t, 415).wantProblem(t, "unsupported-encoding")
	if list := decode[map[string][]sourcedPolicy](t, h.do("GET", "/v1/policies", ""))["policies"]; len(list) != 0 {
		t.Errorf("something was stored: %v", list)
	}
}

// One of several who change the list at once wins; the others are told.
func TestPoliciesRace(t *testing.T) {
	h := start(t, nil, nil)
	etag := h.do("GET", "/v1/policies", "").Header.Get("ETag")
	status := make(chan int)
	for i := range 8 {
		go func() {
			status <- h.do("PUT", "/v1/policies", fmt.Sprintf(`{"policies":[{"pattern":"p%d"}]}`, i), "If-Match", etag).StatusCode
		}()
	}
	won := 0
	for range 8 {
		switch s := <-status; s {
		case 200:
			won++
		case 412:
		default:
			t.Errorf("status %d", s)
		}
	}
	if won != 1 {
		t.Errorf("%d won", won)
	}
}

// A list that another node stores is in force here.
func TestPoliciesAreFollowed(t *testing.T) {
	log := tailrace.NewMemoryLog(nil)
	a := start(t, &tailrace.Options{Log: log, DrainWindow: -1}, nil)
	b := start(t, &tailrace.Options{Log: log, DrainWindow: -1}, nil)
	a.do("PUT", "/v1/policies", `{"policies":[{"pattern":"x","retired":true}]}`, "If-Match", "*").wantStatus(t, 200)
	deadline := 0
	for b.hub.Rule("x").Pattern != "x" {
		if deadline++; deadline > 1000 {
			t.Fatal("it is not followed")
		}
		b.do("GET", "/livez", "")
	}
	b.do("POST", "/v1/topics/x", "x").wantStatus(t, 410)
}
