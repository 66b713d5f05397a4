package server

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// Every type that an endpoint lists is produced on the wire, with the status
// of the table.
func TestEveryProblemTypeIsProduced(t *testing.T) {
	log := &faultyLog{Log: tailrace.NewMemoryLog(nil)}
	h := start(t, &tailrace.Options{
		Log: log, DrainWindow: -1, MaxStreams: 2,
		Rules: []tailrace.TopicRule{
			{Pattern: "closable", Policy: tailrace.Policy{Closable: true}},
			{Pattern: "retired", Retired: true},
			{Pattern: "small", Policy: tailrace.Policy{MaxEvent: 4}},
		},
	}, &Options{DrainDelay: -1, Pages: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a fault") })})
	h.fill("demo", 2)
	h.do("POST", "/v1/topics/closable?close=1", "last").wantStatus(t, 200)
	slow := h.open("/v1/topics/demo")
	failing := func(err error, do func() answer) answer {
		log.fail(func() error { return err })
		defer log.fail(nil)
		return do()
	}
	publish := func(target, body string, headers ...string) func() answer {
		return func() answer { return h.do("POST", target, body, headers...) }
	}
	get := func(target string, headers ...string) func() answer {
		return func() answer { return h.do("GET", target, "", headers...) }
	}

	g := startGuarded(t, nil)
	by := func(who, method, target, body string, headers ...string) func() answer {
		return func() answer { return g.do(method, target, body, append(g.as(who), headers...)...) }
	}

	produce := map[string]func() answer{
		"at-capacity": func() answer {
			h.open("/v1/topics/other")
			return h.do("GET", "/v1/topics/demo", "")
		},
		"body-timeout": func() answer {
			s := newServer(t, nil, nil)
			s.bodyTime = 20 * time.Millisecond
			return run(t, s).exchange("POST /v1/trim/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
		},
		"conflicting-parameter": publish("/v1/topics/demo?event=a", "x", "Tailrace-Event", "b"),
		"connection-not-found":  get("/v1/connections/none"),
		"connection-slow": func() answer {
			for {
				if a := h.do("POST", "/v1/connections/"+slow.id()+"/events", strings.Repeat("x", maxControlBody)); a.StatusCode != 200 {
					return a
				}
			}
		},
		"filter-too-expensive":  func() answer { return tooExpensive(t) },
		"head-mismatch":         publish("/v1/topics/demo?if_head=none", "x"),
		"headers-too-large":     get("/livez", "X", strings.Repeat("x", maxHeaderBytes)),
		"internal":              get("/"),
		"invalid-batch":         publish("/v1/topics/demo", "{\"data\":1}\n{", "Content-Type", "application/x-ndjson"),
		"invalid-cloudevent":    publish("/v1/topics/demo", "{}", "Content-Type", "application/cloudevents+json"),
		"invalid-filter":        get("/v1/topics/demo?filter=1"),
		"invalid-json":          publish("/v1/topics/demo", "{", "Content-Type", "application/json"),
		"invalid-parameter":     get("/v1/topics/demo?from=whenever"),
		"invalid-request":       publish("/v1/trim/demo", "{}"),
		"invalid-topic":         publish("/v1/topics/a%00b", "x"),
		"log-full":              func() answer { return failing(tailrace.ErrFull, publish("/v1/topics/demo", "x")) },
		"method-not-allowed":    publish("/livez", ""),
		"no-topic":              get("/v1/events"),
		"not-acceptable":        get("/v1/topics/demo", "Accept", "image/png"),
		"not-closable":          publish("/v1/topics/demo?close=1", "x"),
		"not-found":             get("/v1/nothing"),
		"not-text":              publish("/v1/topics/demo", "\xff"),
		"origin-refused":        publish("/v1/topics/demo", "x", "Origin", "https://evil.example"),
		"outcome-unknown":       func() answer { return failing(context.DeadlineExceeded, publish("/v1/topics/demo", "x")) },
		"partial-publish":       publish("/v1/events?topic=demo&topic=closable", "x"),
		"patch-timeout":         func() answer { return changeTooSlow(t) },
		"precondition-required": func() answer { return h.do("PUT", "/v1/policies", "{}") },
		"reserved-topic":        publish("/v1/topics/$x", "x"),
		"reserved-type":         publish("/v1/topics/demo?event=tailrace.gap", "x"),
		"stale":                 func() answer { return h.do("PUT", "/v1/policies", `{"policies":[]}`, "If-Match", `"x"`) },
		"too-large":             publish("/v1/topics/small", "large"),
		"too-many-connections": func() answer {
			h := start(t, &tailrace.Options{MaxStreamsPerAddr: 1, DrainWindow: -1}, nil)
			h.open("/v1/topics/demo")
			return h.do("GET", "/v1/topics/demo", "")
		},
		"topic-closed":         publish("/v1/topics/closable", "x"),
		"topic-not-found":      get("/v1/stat/none"),
		"topic-retired":        publish("/v1/topics/retired", "x"),
		"unavailable":          func() answer { return failing(tailrace.ErrStopped, publish("/v1/topics/demo", "x")) },
		"unknown-parameter":    get("/v1/topics/demo?form=start"),
		"unsupported-charset":  publish("/v1/topics/demo", "x", "Content-Type", "text/plain; charset=latin1"),
		"unsupported-encoding": publish("/v1/topics/demo", "x", "Content-Encoding", "br"),
		"unsupported-type":     publish("/v1/topics/demo", "x", "Content-Type", "multipart/form-data; boundary=x"),
		"upstream-gap":         publish("/v1/topics/demo", "event: tailrace.gap\ndata: {}\n\n", "Content-Type", "text/event-stream"),
		"uri-too-long":         get("/livez?_=" + strings.Repeat("x", maxURL)),
		"wrong-host":           get("/livez", "Host", "evil.example"),
		"auth-unavailable": func() answer {
			g := startGuarded(t, nil)
			g.trustNobody()
			return g.do("GET", "/v1/connections", "", g.as("admin")...)
		},
		"csrf":          func() answer { return g.do("POST", "/v1/topics/room/1", "x", "Cookie", "__Host-tailrace=x") },
		"forbidden":     by("reader", "POST", "/v1/topics/room/1", "x"),
		"invalid-token": func() answer { return g.do("GET", "/v1/topics/room/1", "", bearer("x")...) },
		"not-supported": get("/v1/revocations"),
		"principal-mismatch": func() answer {
			id := g.open("/v1/topics/room/1", g.as("admin")...).id()
			return g.do("POST", "/v1/connections/"+id+"/token", "", g.as("reader")...)
		},
		"rate-limited": func() answer {
			for {
				if a := h.do("GET", "/v1/explain?topic=a", ""); a.StatusCode != 200 {
					return a
				}
			}
		},
		"ticket-spent": func() answer {
			ticket := decode[auth.Ticket](t, g.do("POST", "/v1/tickets", `{"topics":["room/1"]}`, g.as("reader")...))
			g.open(ticket.URL)
			return g.do("GET", ticket.URL, "")
		},
		"token-expired": func() answer {
			return g.do("GET", "/v1/topics/room/1", "", bearer(token(t, map[string]any{"exp": time.Now().Unix() - 1}))...)
		},
		"token-in-url": func() answer { return g.do("GET", "/v1/topics/room/1?token=x", "") },
		"token-revoked": func() answer {
			g.do("POST", "/v1/revocations", `{"key":"writer"}`, g.as("admin")...)
			return g.do("GET", "/v1/topics/room/1", "", g.as("writer")...)
		},
		"unauthenticated": func() answer { return g.do("GET", "/v1/topics/room/1", "") },

		// Last: it ends the server.
		"draining": nil,
	}
	elsewhere := map[string]bool{
		"upload-idle": true, // a minute of silence: package tailrace, where the wait can be short
	}

	var listed []string
	for _, e := range h.table() {
		listed = append(listed, e.problems...)
	}
	listed = append(listed, commonProblems...)
	slices.Sort(listed)
	for _, name := range slices.Compact(listed) {
		do, ok := produce[name]
		switch {
		case elsewhere[name] || name == "draining":
		case !ok:
			t.Errorf("nothing produces %s", name)
		default:
			a := do()
			a.wantProblem(t, name)
			if typ, _ := problem.Find(name); a.StatusCode != typ.Status {
				t.Errorf("%s has status %d, the table has %d", name, a.StatusCode, typ.Status)
			}
		}
	}
	for name := range produce {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is listed by no endpoint", name)
		}
	}
	slow.Body.Close()

	s := newServer(t, nil, nil)
	s.draining.Store(true)
	w := newRecorder()
	s.ServeHTTP(w, httpRequest(t, "GET", "/readyz"))
	if w.status != 503 || !strings.Contains(w.body.String(), "/docs/problems/draining") {
		t.Errorf("while draining: %d %s", w.status, w.body.String())
	}
}

// exchange sends bytes and reads one answer.
func (h *harness) exchange(text string) answer {
	h.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(h.raw(text))), &http.Request{Method: "POST", URL: &url.URL{}})
	if err != nil {
		h.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer{resp, string(body)}
}

func httpRequest(t *testing.T, method, target string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, "http://localhost"+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.RequestURI = target
	return r
}
