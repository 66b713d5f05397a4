package server

import (
	"strings"
	"testing"
	"time"
)

func TestTopicsOfAnOpenStreamChange(t *testing.T) {
	h := start(t, nil, nil)
	h.fill("b", 2)
	sub := h.open("/v1/topics/a?hello=1")
	sub.waitFor("event: tailrace.live")
	path := "/v1/connections/" + sub.id()
	body := `{"add":[{"topic":"b","from":"start"},{"topic":"c/*"}],"remove":["a"]}`
	got := decode[struct {
		Cursor string
		Topics []string
	}](t, h.do("PATCH", path, body).wantStatus(t, 200))
	if got.Cursor == "" || strings.Join(got.Topics, " ") != "b c/*" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{"data: 1", "data: 2", "id: " + got.Cursor, "event: tailrace.topics"} {
		sub.waitFor(want)
	}
	h.do("POST", "/v1/topics/a", "not any more").wantStatus(t, 200)
	h.do("POST", "/v1/topics/c/x", "new").wantStatus(t, 200)
	sub.waitFor("data: new")

	for body, want := range map[string]string{
		`{}`:                     "invalid-request",
		`{"remove":["a"]}`:       "invalid-parameter",
		`{"add":[{}]}`:           "invalid-topic",
		`{"add":[{"topic":1`:     "invalid-json",
		`{"addd":[]}`:            "unknown-parameter",
		`{"remove":["b","c/*"]}`: "invalid-parameter",
		`{"add":[{"topic":"x","from":"whenever"}]}`: "invalid-parameter",
	} {
		h.do("PATCH", path, body).wantProblem(t, want)
	}
	h.do("PATCH", "/v1/connections/none", `{"remove":["a"]}`).wantProblem(t, "connection-not-found")
}

func TestWhoMayChangeAStream(t *testing.T) {
	g := startGuarded(t, nil)
	as := func(sub string) []string {
		return bearer(token(t, map[string]any{"sub": sub, "tailrace": map[string]any{"subscribe": []string{"room/*"}}}))
	}
	sub := g.open("/v1/topics/room/1", as("u7")...)
	path := "/v1/connections/" + sub.id()
	g.do("PATCH", path, `{"add":[{"topic":"room/2"}]}`).wantProblem(t, "unauthenticated")
	g.do("PATCH", path, `{"add":[{"topic":"room/2"}]}`, as("u8")...).wantProblem(t, "principal-mismatch")
	g.do("PATCH", path, `{"add":[{"topic":"hall"}]}`, as("u7")...).wantProblem(t, "forbidden")
	g.do("PATCH", path, `{"add":[{"topic":"room/2"}]}`, as("u7")...).wantStatus(t, 200)
	g.do("POST", "/v1/topics/room/2", "for them", g.as("admin")...).wantStatus(t, 200)
	sub.waitFor("data: for them")
	g.wantWatched(1)
}

// changeTooSlow asks for a change that has no time.
func changeTooSlow(t *testing.T) answer {
	t.Helper()
	s := newServer(t, nil, nil)
	s.changeTime = time.Nanosecond
	h := run(t, s)
	return h.do("PATCH", "/v1/connections/"+h.open("/v1/topics/a").id(), `{"add":[{"topic":"b"}]}`)
}
