package server

import (
	"context"
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/problem"
	"github.com/tailrace/tailrace/pebblelog"
)

func TestMetrics(t *testing.T) {
	h := start(t, nil, nil)
	h.fill("secret-name", 3)
	stream := h.open("/v1/topics/secret-name?from=start")
	for range 3 {
		stream.waitFor("data: ")
	}
	for h.hub.Stats().Delivered < 3 { // counted after the write, which the reader has seen
		runtime.Gosched()
	}
	h.do("GET", "/v1/stat/none", "")
	h.do("BREW", "/nowhere", "")
	a := h.do("GET", "/metrics", "").wantStatus(t, 200)
	for _, line := range []string{
		`tailrace_connects_total{result="admitted"} 1`,
		`tailrace_events_published_total{result="stored"} 3`,
		`tailrace_bytes_published_total 3`,
		`tailrace_gaps_total{reason="trimmed"} 0`,
		`tailrace_disconnects_total{reason="client"} 0`,
		`tailrace_http_requests_total{method="POST",route="/v1/topics/{topic}",status="200"} 3`,
		`tailrace_http_requests_total{method="GET",route="/v1/topics/{topic}",status="200"} 1`,
		`tailrace_http_requests_total{method="GET",route="/v1/stat/{topic}",status="404"} 1`,
		`tailrace_http_requests_total{method="other",route="other",status="404"} 1`,
		`tailrace_http_request_seconds_count{route="/v1/topics/{topic}"} 4`,
		`tailrace_build_info{version="dev"} 1`,
	} {
		if !strings.Contains(a.body, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(a.body, "secret-name") || strings.Contains(a.body, "127.0.0.1") {
		t.Error("a topic or an address is a label")
	}
	lint(t, a.body)
	quiet := start(t, nil, &Options{NoMetrics: true, DrainDelay: -1})
	quiet.do("GET", "/metrics", "").wantStatus(t, 404).wantProblem(t, "not-found")
}

// lint fails on figures that are not as Prometheus wants them.
func lint(t *testing.T, text string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestLogMetrics(t *testing.T) {
	log, err := pebblelog.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, &tailrace.Options{Log: log, DrainWindow: -1}, nil)
	h.fill("demo", 3)
	a := h.do("GET", "/metrics", "").wantStatus(t, 200)
	for _, line := range []string{"tailrace_log_events_total 3", "tailrace_log_full 0", "tailrace_log_stopped 0"} {
		if !strings.Contains(a.body, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if !strings.Contains(a.body, "\ntailrace_log_sync_seconds_count ") || strings.Contains(a.body, "\ntailrace_log_sync_seconds_count 0\n") {
		t.Error("no sync was timed")
	}
	lint(t, a.body)
	h.do("GET", "/readyz", "").wantStatus(t, 200)
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), []tailrace.Event{{Topic: "demo"}}); err == nil {
		t.Error("the log is still open")
	}
}

func TestHealth(t *testing.T) {
	log := &faultyLog{Log: tailrace.NewMemoryLog(nil)}
	h := start(t, &tailrace.Options{Log: log, DrainWindow: -1}, nil)
	for _, target := range []string{"/livez", "/readyz", "/healthz", "/readyz?verbose=0"} {
		if got := h.do("GET", target, "").wantStatus(t, 200).body; got != `{"status":"ok"}`+"\n" {
			t.Errorf("%s: %s", target, got)
		}
	}
	if got := h.do("GET", "/readyz?verbose=1", "").wantStatus(t, 200).body; !strings.Contains(got, `{"name":"log","ok":true}`) {
		t.Errorf("verbose: %s", got)
	}
	log.fail(func() error { return tailrace.ErrStopped })
	h.do("GET", "/livez", "").wantStatus(t, 200)
	for _, target := range []string{"/readyz", "/healthz"} {
		a := h.do("GET", target, "").wantStatus(t, 503)
		if m := a.wantProblem(t, "unavailable"); m["checks"] != nil || a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v", target, m)
		}
	}
	if m := h.do("GET", "/readyz?verbose=1", "").wantProblem(t, "unavailable"); m["checks"] == nil {
		t.Errorf("verbose: %v", m)
	}
}

func TestProblemPages(t *testing.T) {
	h := start(t, nil, nil)
	index := h.do("GET", "/docs/problems", "", "Accept", "text/html").wantStatus(t, 200)
	for _, typ := range problem.Types() {
		target := problem.TypePrefix + typ.Name
		page := h.do("GET", target, "", "Accept", "text/html,*/*").wantStatus(t, 200)
		if !strings.Contains(page.body, typ.Title) || page.Header.Get("Content-Type") != "text/html; charset=utf-8" ||
			!strings.Contains(page.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: %v %s", target, page.Header, page.body)
		}
		if text := h.do("GET", target, ""); !strings.Contains(text.body, typ.Help) {
			t.Errorf("%s as text: %s", target, text.body)
		}
		if !strings.Contains(index.body, `"`+target+`"`) {
			t.Errorf("the index lacks %s", target)
		}
	}
	if text := h.do("GET", "/docs/problems", "").body; strings.Count(text, "\n") != len(problem.Types()) {
		t.Errorf("the index as text:\n%s", text)
	}
}

func TestStartPage(t *testing.T) {
	h := start(t, nil, &Options{DrainDelay: -1, Pages: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("page of " + r.URL.Path)) })})
	for target, want := range map[string]string{"/": "page of /", "/start/page.js": "page of /start/page.js"} {
		if got := h.do("GET", target, "").wantStatus(t, 200).body; got != want {
			t.Errorf("%s: %q", target, got)
		}
	}
	for _, target := range []string{"/other", "/starting", "//", "/v1/", "//v1/topics/x"} {
		h.do("GET", target, "").wantStatus(t, 404).wantProblem(t, "not-found")
	}
	h.do("GET", "/", "", "Host", "evil.example").wantStatus(t, 421)
}

func TestOpenAPIIsServed(t *testing.T) {
	h := start(t, nil, nil)
	yaml := h.do("GET", "/openapi.yaml", "").wantStatus(t, 200)
	if !strings.HasPrefix(yaml.body, "openapi: 3.2.0\n") {
		t.Errorf("yaml: %.40s", yaml.body)
	}
	doc := decode[map[string]json.RawMessage](t, h.do("GET", "/openapi.json", "").wantStatus(t, 200))
	if string(doc["openapi"]) != `"3.2.0"` || doc["paths"] == nil {
		t.Errorf("json: %.40s", doc["openapi"])
	}
}

// Requests that the log answers late or not at all.
func TestLogFailures(t *testing.T) {
	log := &faultyLog{Log: tailrace.NewMemoryLog(nil)}
	h := start(t, &tailrace.Options{Log: log, DrainWindow: -1, Rules: []tailrace.TopicRule{{Pattern: "**", Policy: tailrace.Policy{Closable: true}}}}, nil)
	h.fill("demo", 2)
	for _, tt := range []struct {
		name   string
		err    error
		read   string // the problem of reads
		append string // and of appends
	}{
		{"stopped", tailrace.ErrStopped, "unavailable", "unavailable"},
		{"full", tailrace.ErrFull, "", "log-full"},
		{"late", context.DeadlineExceeded, "unavailable", "outcome-unknown"},
		{"unexpected", errSecret{}, "internal", "outcome-unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log.fail(func() error { return tt.err })
			defer log.fail(nil)
			if tt.read != "" {
				for _, target := range []string{"/v1/topics", "/v1/stat/demo"} {
					a := h.do("GET", target, "")
					a.wantProblem(t, tt.read)
					if strings.Contains(a.body, "secret") {
						t.Errorf("the client is told: %s", a.body)
					}
				}
				h.do("POST", "/v1/trim/demo", `{"keep":1}`).wantProblem(t, tt.read)
				h.do("DELETE", "/v1/topics/demo", "").wantProblem(t, tt.read)
			}
			h.do("POST", "/v1/close/other", "").wantProblem(t, tt.append)
			h.do("PUT", "/v1/policies", `{"policies":[]}`, "If-Match", "*").wantProblem(t, tt.append)
			h.do("POST", "/v1/topics/demo", "x").wantProblem(t, tt.append)
		})
	}
	if p := h.page("/v1/topics/demo?from=start"); p.data() != "1 2" {
		t.Errorf("left: %q", p.data())
	}
}

type errSecret struct{}

func (errSecret) Error() string { return "the secret path of the disk" }
