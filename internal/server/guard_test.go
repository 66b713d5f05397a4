package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

func TestEveryAnswerHasARequestID(t *testing.T) {
	h := start(t, nil, nil)
	seen := map[string]bool{}
	for _, target := range []string{"/v1/topics", "/livez", "/nothing", "/v1/topics/", "/metrics", "/openapi.json", "/docs/problems/internal"} {
		for _, method := range []string{"GET", "OPTIONS", "PATCH"} {
			id := h.do(method, target, "").Header.Get("Tailrace-Request-Id")
			if len(id) != 16 || seen[id] {
				t.Errorf("%s %s: request id %q", method, target, id)
			}
			seen[id] = true
		}
	}
	stream := h.open("/v1/topics/demo")
	if stream.Header.Get("Tailrace-Request-Id") == "" {
		t.Error("a stream has no request id")
	}
}

func TestTraceparentIsHonoured(t *testing.T) {
	const trace = "0af7651916cd43dd8448eb211c80319c"
	for header, want := range map[string]string{
		"00-" + trace + "-b7ad6b7169203331-01":                   trace + "-",
		"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01": "",
		"00-" + strings.ToUpper(trace) + "-b7ad6b7169203331-01":  "",
		"00-" + trace:                   "",
		"\r\nX: y":                      "",
		"00-x\"-b7ad6b7169203331-01-02": "",
	} {
		id := requestID(header)
		if prefix := id[:len(id)-16]; prefix != want {
			t.Errorf("traceparent %q gives the id %q", header, id)
		}
	}
}

// DNS rebinding gives a foreign name the address of this machine: the Host
// header still has the name.
func TestOnlyLoopbackHostsAreAnswered(t *testing.T) {
	h := start(t, nil, nil)
	for host, ok := range map[string]bool{
		"localhost": true, "LOCALHOST:1": true, "127.0.0.1": true, "127.0.0.1:9": true, "127.8.9.1:80": true, "[::1]:8080": true, "[::1]": true,
		"evil.example": false, "evil.example:8080": false, "localhost.evil.example": false, "127.0.0.1.nip.io": false, "localhost.": false,
		"0.0.0.0:8080": false, "192.168.1.1": false, "2130706433": false, "[::ffff:10.0.0.1]": false, "127.1": false, "127.0.0.1%2F@evil": false,
	} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			a := h.do(method, "/v1/topics/demo?format=json", "", "Host", host)
			if ok && a.StatusCode == 421 {
				t.Errorf("%s with Host %q is refused", method, host)
			}
			if !ok && a.StatusCode != 400 { // net/http refuses hosts of bad form itself
				a.wantStatus(t, 421).wantProblem(t, "wrong-host")
			}
		}
	}
}

func TestForeignPagesCannotWrite(t *testing.T) {
	h := start(t, nil, nil)
	const loopback, foreign = "http://localhost:3000", "https://evil.example"
	for _, tt := range []struct {
		name    string
		headers []string
		refused bool
	}{
		{"curl", nil, false},
		{"own page", []string{"Origin", h.url, "Sec-Fetch-Site", "same-origin"}, false},
		{"another port", []string{"Origin", loopback, "Sec-Fetch-Site", "same-site"}, false},
		{"address", []string{"Origin", "http://127.0.0.1:5173"}, false},
		{"version 6", []string{"Origin", "http://[::1]:5173"}, false},
		{"foreign page", []string{"Origin", foreign, "Sec-Fetch-Site", "cross-site"}, true},
		{"foreign page, old browser", []string{"Origin", foreign}, true},
		{"rebound name", []string{"Origin", "http://evil.example:8080"}, true},
		{"name that contains localhost", []string{"Origin", "http://localhost.evil.example"}, true},
		{"user info", []string{"Origin", "http://localhost@evil.example"}, true},
		{"sandboxed frame", []string{"Origin", "null"}, true},
		{"file", []string{"Origin", "file://"}, true},
		{"no origin, cross-site", []string{"Sec-Fetch-Site", "cross-site"}, true},
		{"form", []string{"Origin", foreign, "Content-Type", "application/x-www-form-urlencoded"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []struct{ method, target, body string }{
				{"POST", "/v1/topics/demo", "x"},
				{"POST", "/v1/events?topic=demo", "x"},
				{"POST", "/v1/broadcast", "x"},
				{"DELETE", "/v1/topics/other", ""},
				{"DELETE", "/v1/connections?principal=nobody", ""},
				{"POST", "/v1/trim/demo", `{"keep":1}`},
			} {
				h.do("POST", "/v1/topics/demo", "so that it exists")
				a := h.do(r.method, r.target, r.body, tt.headers...)
				if tt.refused {
					a.wantStatus(t, 403).wantProblem(t, "origin-refused")
				} else if a.StatusCode >= 300 {
					t.Errorf("%s %s: %s", r.method, r.target, a.body)
				}
			}
			h.do("GET", "/v1/topics", "", tt.headers...).wantStatus(t, 200)
		})
	}
}

func TestMethods(t *testing.T) {
	h := start(t, nil, nil)
	for target, allow := range map[string]string{
		"/v1/topics/demo":          "DELETE, GET, HEAD, OPTIONS, POST",
		"/v1/topics":               "GET, HEAD, OPTIONS",
		"/v1/events":               "GET, OPTIONS, POST, QUERY",
		"/v1/policies":             "GET, HEAD, OPTIONS, PUT",
		"/v1/trim/demo":            "OPTIONS, POST",
		"/v1/connections":          "DELETE, GET, HEAD, OPTIONS",
		"/v1/connections/x/events": "OPTIONS, POST",
		"/livez":                   "GET, HEAD, OPTIONS",
	} {
		a := h.do("FETCH", target, "").wantStatus(t, 405)
		a.wantProblem(t, "method-not-allowed")
		if got := a.Header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow is %q, want %q", target, got, allow)
		}
		if got := h.do("OPTIONS", target, "").wantStatus(t, 204).Header.Get("Allow"); got != allow {
			t.Errorf("OPTIONS %s: Allow is %q, want %q", target, got, allow)
		}
	}
	h.do("HEAD", "/v1/events?topic=demo", "").wantStatus(t, 405)
	h.do("HEAD", "/livez", "").wantStatus(t, 200)
}

func TestUnknownPathsAreNotFoundAndNeverRedirected(t *testing.T) {
	h := start(t, nil, nil)
	for _, target := range []string{
		"/v1", "/v1/", "/v2/topics/x", "/v1/topic/x", "/V1/topics/x", "/v1//topics/x", "//v1/topics/x", "/v1/events/", "/v1/topics%2Fx",
		"/x/../v1/topics/x", "/v1/./topics/x", "/v1/connections/", "/v1/connections/a/b", "/livez/", "/docs/problems/", "/docs/problems/nothing", "/docs",
		"/.git/config", "/%2e%2e/etc/passwd", "/",
	} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			a := h.do(method, target, "").wantStatus(t, map[bool]int{true: 404, false: 405}[target != "/docs/problems/nothing" || method == "GET"])
			if a.StatusCode == 404 {
				a.wantProblem(t, "not-found")
			}
		}
	}
}

func TestLimitsOfTheHead(t *testing.T) {
	h := start(t, nil, nil)
	fields := func(n, size int) []string {
		var f []string
		for i := range n {
			f = append(f, fmt.Sprintf("X-%d", i), strings.Repeat("v", size))
		}
		return f
	}
	h.do("GET", "/livez?_="+strings.Repeat("a", maxURL-len("/livez?_=")), "").wantStatus(t, 200)
	h.do("GET", "/livez?_="+strings.Repeat("a", maxURL), "").wantStatus(t, 414).wantProblem(t, "uri-too-long")
	h.do("GET", "/livez", "", fields(90, 10)...).wantStatus(t, 200)
	h.do("GET", "/livez", "", fields(101, 10)...).wantStatus(t, 431).wantProblem(t, "headers-too-large")
	h.do("GET", "/livez", "", fields(1, 31<<10)...).wantStatus(t, 200)
	h.do("GET", "/livez", "", fields(1, 33<<10)...).wantStatus(t, 431).wantProblem(t, "headers-too-large")

	// Far beyond, nothing is parsed.
	a := h.raw("GET /livez HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("A: b\r\n", 10_000) + "\r\n")
	if !strings.HasPrefix(a, "HTTP/1.1 431 ") {
		t.Errorf("10,000 fields: %.60q", a)
	}
	h.do("GET", "/livez", "").wantStatus(t, 200)
}

// raw sends bytes and returns all that comes back.
func (h *harness) raw(text string) string {
	h.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	go io.WriteString(conn, text)
	answer, _ := io.ReadAll(conn) // a reset after the answer is an answer too
	return string(answer)
}

// Whatever a client sends, one body is one event, and nothing in it is taken
// for a second request.
func TestSmuggling(t *testing.T) {
	h := start(t, nil, nil)
	const inner = "POST /v1/topics/inner HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
	const last = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	whole := "Content-Length: " + fmt.Sprint(len(inner)) + "\r\n\r\n" + inner
	for _, tt := range []struct {
		name, text string
		answers    int // with that to the last request, if the connection lives so long
	}{
		{"two lengths", "Content-Length: 0\r\n" + whole, 1},
		{"two lengths in one", "Content-Length: 0, 5\r\n\r\n" + inner, 1},
		{"negative length", "Content-Length: -1\r\n\r\n" + inner, 1},
		{"plus length", "Content-Length: +0\r\n\r\n" + inner, 1},
		{"hexadecimal length", "Content-Length: 0x0\r\n\r\n" + inner, 1},
		{"odd encoding", "Transfer-Encoding: xchunked\r\n\r\n" + inner, 1},
		{"two encodings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + inner, 1},
		{"space before the colon", "Content-Length : 0\r\n" + whole, 1},
		{"bare CR", "X: a\rContent-Length: 0\r\n" + whole, 1},
		{"NUL in a field", "X: a\x00b\r\n" + whole, 1},
		{"broken chunk", "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + inner, 1},
		{"folded line", "X: a\r\n Content-Length: 0\r\n" + whole, 2},
		{"body", whole, 2},
		{"body in chunks", "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x", len(inner)) + "\r\n" + inner + "\r\n0\r\n\r\n", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer := h.raw("POST /v1/topics/outer HTTP/1.1\r\nHost: localhost\r\n" + tt.text + last)
			if n := strings.Count(answer, "HTTP/1.1 "); n != tt.answers {
				t.Errorf("%d answers, want %d:\n%s", n, tt.answers, answer)
			}
			info, err := h.hub.Log().Stat(t.Context(), "inner")
			if err != nil || info.Exists {
				t.Errorf("the inner request was served: %v %v\n%s", info, err, answer)
			}
		})
	}
	answer := h.raw("GET /v1/topics/outer HTTP/1.1\r\nHost: localhost\r\n" + whole + last)
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || strings.Count(answer, "HTTP/1.1 ") > 2 {
		t.Errorf("a body on subscribe: %s", answer)
	}
	for name, text := range map[string]string{
		"no host":     "GET /livez HTTP/1.1\r\n\r\n",
		"two hosts":   "GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
		"garbage":     "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
		"no version":  "GET /livez\r\n\r\n",
		"bad escape":  "GET /v1/topics/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"bad target":  "GET livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"other host":  "GET http://evil.example/livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		"bare method": "CONNECT /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
	} {
		if answer := h.raw(text); !strings.HasPrefix(answer, "HTTP/1.1 4") {
			t.Errorf("%s: %.80q", name, answer)
		}
	}
}

func TestNothingInTheURLBecomesAHeaderOrALogLine(t *testing.T) {
	var lines bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := newServer(t, nil, &Options{Logger: logger})
	w := newRecorder()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET /v1/stat/a%0D%0ASet-Cookie:%20x%0Alevel=ERROR?secret=hunter2&last_event_id=%0D%0Ax HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hunter2\r\nCookie: hunter2\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	s.ServeHTTP(w, r)
	if w.Header().Get("Set-Cookie") != "" || w.status != 400 {
		t.Errorf("%d %v", w.status, w.Header())
	}
	text := lines.String()
	if strings.Count(text, "\n") != strings.Count(text, "msg=") {
		t.Errorf("a line was forged:\n%s", text)
	}
	if strings.Contains(text, "hunter2") {
		t.Errorf("a secret is in the log:\n%s", text)
	}
}

// recorder is a ResponseWriter in memory.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newRecorder() *recorder                    { return &recorder{header: http.Header{}} }
func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }

func TestPanicIsOneAnswer(t *testing.T) {
	var lines bytes.Buffer
	h := start(t, nil, &Options{DrainDelay: -1, Logger: slog.New(slog.NewTextHandler(&lines, nil)), Pages: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/start/late" {
			io.WriteString(w, "half an ")
			http.NewResponseController(w).Flush()
		}
		panic("the secret reason")
	})})
	a := h.do("GET", "/", "").wantStatus(t, 500)
	a.wantProblem(t, "internal")
	if strings.Contains(a.body, "secret") {
		t.Errorf("the reason is told: %s", a.body)
	}
	resp, err := client.Do(h.request("GET", "/start/late", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("half an answer looks like a whole one: %q", text)
	}
	h.do("GET", "/livez", "").wantStatus(t, 200)
	h.stop()
	if !strings.Contains(lines.String(), "the secret reason") || !strings.Contains(lines.String(), a.Header.Get("Tailrace-Request-Id")) {
		t.Errorf("the log does not tell: %s", lines.String())
	}
}

func TestUnknownParametersAreRefused(t *testing.T) {
	h := start(t, nil, nil)
	for target, near := range map[string]string{
		"GET /v1/topics?patern=x":           "did you mean pattern?",
		"GET /v1/topics?Limit=3":            "did you mean limit?",
		"GET /v1/topics/demo?lastEventID=3": "did you mean lastEventId?",
		"GET /v1/events?topics=demo":        "did you mean topic?",
		"GET /v1/connections?zzz=1":         "",
		"GET /v1/stat/demo?zzz=1":           "",
		"DELETE /v1/topics/demo?retired=1":  "did you mean retire?",
		"POST /v1/topics/demo?topic=other":  "",
		"POST /v1/topics/demo?evnt=x":       "did you mean event?",
		"GET /readyz?verbos=1":              "did you mean verbose?",
	} {
		method, path, _ := strings.Cut(target, " ")
		m := h.do(method, path, "").wantStatus(t, 400).wantProblem(t, "unknown-parameter")
		if !strings.Contains(m["detail"].(string), near) {
			t.Errorf("%s: %v, want %q", target, m["detail"], near)
		}
	}
	h.do("GET", "/v1/topics?_=123&_x=y", "").wantStatus(t, 200)
	h.do("GET", "/v1/topics?limit=1&limit=2", "").wantStatus(t, 400).wantProblem(t, "conflicting-parameter")
	h.do("GET", "/v1/topics?limit=%zz", "").wantStatus(t, 400).wantProblem(t, "invalid-request")
	h.do("GET", "/v1/topics?limit=0", "").wantStatus(t, 400).wantProblem(t, "invalid-parameter")
	h.do("GET", "/v1/topics?limit=1001", "").wantStatus(t, 400).wantProblem(t, "invalid-parameter")
	h.do("DELETE", "/v1/topics/demo?retire=yes", "").wantStatus(t, 400).wantProblem(t, "invalid-parameter")
}

func TestBodyWhereNoneBelongs(t *testing.T) {
	h := start(t, nil, nil)
	for _, target := range []string{"GET /v1/topics/demo", "GET /v1/events?topic=demo", "GET /v1/topics", "DELETE /v1/topics/demo", "POST /v1/close/demo", "GET /livez"} {
		method, path, _ := strings.Cut(target, " ")
		h.do(method, path, "a body").wantStatus(t, 400).wantProblem(t, "invalid-request")
	}
	answer := h.raw("GET /v1/topics/demo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 400 ") {
		t.Errorf("a chunked body: %.60q", answer)
	}
}

func TestCapacity(t *testing.T) {
	h := start(t, &tailrace.Options{DrainWindow: -1, MaxStreams: 1}, nil)
	h.open("/v1/topics/demo")
	a := h.do("GET", "/v1/topics/demo", "").wantStatus(t, 503)
	a.wantProblem(t, "at-capacity")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	browser := h.do("GET", "/v1/topics/demo", "", "User-Agent", "Mozilla/5.0").wantStatus(t, 200)
	if !strings.Contains(browser.body, "retry: ") || strings.Contains(browser.body, "id:") {
		t.Errorf("a browser got %q", browser.body)
	}
}

// A refused request whose body never comes is answered, and its connection
// ends.
func TestRefusedBodyIsNotWaitedForForever(t *testing.T) {
	s := newServer(t, nil, nil)
	s.restTime = 20 * time.Millisecond
	answer := run(t, s).raw("POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
	if !strings.HasPrefix(answer, "HTTP/1.1 404 ") {
		t.Errorf("the answer is %.60q", answer)
	}
}

// Who asks before it sends a body is refused before it has sent it.
func TestRefusalComesBeforeTheBody(t *testing.T) {
	s := newServer(t, nil, nil)
	s.restTime = 20 * time.Millisecond
	h := run(t, s)
	const head = " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
	for _, target := range []string{"/v1/topics/$x", "/v1/topics/*", "/v1/topics/demo?evnt=x", "/v1/nothing"} {
		if answer := h.raw("POST " + target + head); strings.Contains(answer, " 100 ") || !strings.HasPrefix(answer, "HTTP/1.1 4") {
			t.Errorf("%s: %.60q", target, answer)
		}
	}
	if answer := h.raw("POST /v1/topics/demo HTTP/1.0\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"); !strings.HasPrefix(answer, "HTTP/1.0 200 ") {
		t.Errorf("HTTP/1.0: %.60q", answer)
	}
}
