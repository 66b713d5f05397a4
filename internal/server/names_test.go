package server

import (
	"net/url"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
)

// A name is what is behind the prefix, decoded once: over every route, and in
// a query.
func TestNameIsTheSameOnEveryRoute(t *testing.T) {
	h := start(t, &tailrace.Options{DrainWindow: -1, Rules: []tailrace.TopicRule{{Pattern: "**", Policy: tailrace.Policy{Closable: true}}}}, nil)
	for _, tt := range []struct{ escaped, name string }{
		{"plain", "plain"},
		{"a/b", "a/b"},
		{"a%2Fb", "a/b"},
		{"a%2fb", "a/b"},
		{"a//b", "a//b"},
		{"/lead", "/lead"},
		{"trail/", "trail/"},
		{"..", ".."},
		{"%2e%2e/%2e%2e/etc", "../../etc"},
		{"a/../b", "a/../b"},
		{"./x", "./x"},
		{"100%25", "100%"},
		{"%2525", "%25"},
		{"a+b", "a+b"},
		{"a%20b", "a b"},
		{"what%3Fis=it", "what?is=it"},
		{"frag%23ment", "frag#ment"},
		{"https%3A%2F%2Fexample.net%2Fx", "https://example.net/x"},
		{"%F0%9F%90%9F/%C3%A9", "🐟/é"},
		{"b**d", "b**d"},
		{"{id}", "{id}"},
		{"events", "events"},
		{"x/events", "x/events"},
		{strings.Repeat("n", 512), strings.Repeat("n", 512)},
	} {
		t.Run(tt.escaped[:min(len(tt.escaped), 20)], func(t *testing.T) {
			data := "data of " + tt.name
			h.do("DELETE", "/v1/topics/"+tt.escaped, "").wantStatus(t, 204)
			h.do("POST", "/v1/topics/"+tt.escaped, data).wantStatus(t, 200)
			for _, target := range []string{
				"/v1/topics/" + tt.escaped + "?from=start&limit=1&meta=1",
				"/v1/events?from=start&limit=1&meta=1&topic=" + url.QueryEscape(tt.name),
			} {
				sub := h.open(target)
				if got := sub.waitFor("data: "); !strings.Contains(got, `"topic":`+jsonText(tt.name)) || !strings.Contains(got, jsonText(data)) {
					t.Errorf("GET %s gave %s", target, got)
				}
			}
			if got := decode[topicItem](t, h.do("GET", "/v1/stat/"+tt.escaped, "").wantStatus(t, 200)).Topic; got != tt.name {
				t.Errorf("stat is of %q", got)
			}
			if got := decode[map[string]any](t, h.do("GET", "/v1/policy/"+tt.escaped, "").wantStatus(t, 200))["topic"]; got != tt.name {
				t.Errorf("policy is of %q", got)
			}
			h.do("POST", "/v1/trim/"+tt.escaped, `{"keep":0}`).wantStatus(t, 200)
			h.do("POST", "/v1/close/"+tt.escaped, "").wantStatus(t, 200)
			h.do("DELETE", "/v1/topics/"+tt.escaped, "").wantStatus(t, 204)
		})
	}
}

func jsonText(s string) string {
	b := []byte(`"`)
	for _, r := range s {
		if r == '"' || r == '\\' {
			b = append(b, '\\')
		}
		b = append(b, string(r)...)
	}
	return string(append(b, '"'))
}

func TestBadNames(t *testing.T) {
	h := start(t, nil, nil)
	for _, tt := range []struct {
		escaped string
		offset  float64
	}{
		{"", 0},
		{"a%00b", 1},
		{"a%0Ab", 1},
		{"a%7Fb", 1},
		{"ab%C2%85", 2},
		{"ab%FF", 2},
		{"%ED%A0%80", 0},
		{"%EF%BF%BF", 0},
		{strings.Repeat("n", 513), 512},
		{"*", 0},
		{"a/*/b", 2},
		{"a/**", 2},
		{"a%2F%2A", 2},
	} {
		for _, route := range []struct{ method, path, body string }{
			{"POST", "/v1/topics/", "x"},
			{"GET", "/v1/topics/", ""},
			{"DELETE", "/v1/topics/", ""},
			{"GET", "/v1/stat/", ""},
			{"GET", "/v1/policy/", ""},
			{"POST", "/v1/trim/", "{}"},
			{"POST", "/v1/close/", ""},
		} {
			a := h.do(route.method, route.path+tt.escaped, route.body).wantStatus(t, 400)
			if m := a.wantProblem(t, "invalid-topic"); m["offset"] != tt.offset {
				t.Errorf("%s %s%s: offset %v, want %v", route.method, route.path, tt.escaped[:min(len(tt.escaped), 20)], m["offset"], tt.offset)
			}
		}
	}
}

func TestSystemTopicsCannotBeWritten(t *testing.T) {
	h := start(t, nil, nil)
	for _, r := range []struct{ method, target, body string }{
		{"POST", "/v1/topics/$x", "x"},
		{"POST", "/v1/topics/%24x", "x"},
		{"POST", "/v1/events?topic=$x", "x"},
		{"POST", "/v1/events?topic=a&topic=$config/policies", "x"},
		{"DELETE", "/v1/topics/$x", ""},
		{"POST", "/v1/trim/$x", `{"keep":0}`},
		{"POST", "/v1/close/$x", ""},
	} {
		h.do(r.method, r.target, r.body).wantStatus(t, 403).wantProblem(t, "reserved-topic")
	}
	if got := decode[map[string][]topicItem](t, h.do("GET", "/v1/topics?pattern=$x", ""))["topics"]; len(got) != 0 {
		t.Errorf("something was written: %v", got)
	}
	h.do("GET", "/v1/topics/$x?from=start&format=json", "") // reading is allowed
	h.open("/v1/topics/$x")
}
