package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sse"
)

func TestUsage(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		code int
		want string // in stderr
	}{
		{"no such command", []string{"serv"}, exitUsage, `unknown command "serv"`},
		{"no such flag", []string{"pub", "a", "b", "--evnt", "x"}, exitUsage, "did you mean --event?"},
		{"no such key", []string{"serve", "--listen.htp", "x"}, exitUsage, "did you mean --listen.http?"},
		{"no topic", []string{"pub"}, exitUsage, "accepts between 1 and 2 arg(s)"},
		{"no selector", []string{"sub"}, exitUsage, "requires at least 1 arg"},
		{"two forms of input", []string{"pub", "a", "--sse", "--ndjson"}, exitUsage, "give one"},
		{"data and input", []string{"pub", "a", "b", "--sse"}, exitUsage, "leave the data out"},
		{"a type for events that have their own", []string{"pub", "a", "--ndjson", "--event", "x"}, exitUsage, "own events"},
		{"gaps of no stream", []string{"pub", "a", "--skip-gaps"}, exitUsage, "needs --sse"},
		{"a server that is none", []string{"sub", "a", "--server", "ftp://x"}, exitUsage, "not the URL of a server"},
		{"a server that is not there", []string{"pub", "a", "b", "--server", "127.0.0.1:1"}, exitUnreachable, "nothing listens at http://127.0.0.1:1 (start it with"},
		{"health of a server that is not there", []string{"healthcheck", "--server", "127.0.0.1:1"}, exitUnhealthy, "not ready"},
		{"serve without auth", []string{"serve"}, exitConfiguration, "auth: is not set"},
		{"two wrong keys", []string{"serve", "--dev", "--drain.window", "5", "--log.engine", "x"}, exitConfiguration, "--log.engine"},
		{"an open address", []string{"serve", "--dev", "--listen.http", ":0"}, exitConfiguration, "open to other machines"},
		{"a configuration that is wrong", []string{"config", "check", "--drain.max", "1s"}, exitConfiguration, "drain.max: 1s is less"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := command(t, strings.NewReader(""), nil, tc.args...)
			if r.code != tc.code || !strings.Contains(r.err, tc.want) || r.out != "" {
				t.Errorf("exit code %d, stdout %q, stderr %q; want %d and %q", r.code, r.out, r.err, tc.code, tc.want)
			}
		})
	}
}

func TestVersionAndCompletion(t *testing.T) {
	r := command(t, nil, nil, "version", "--json")
	var b build
	if err := json.Unmarshal([]byte(r.out), &b); err != nil || b.Version == "" || b.Go == "" {
		t.Errorf("version --json printed %q: %v", r.out, err)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := command(t, nil, nil, "completion", shell); r.code != 0 || !strings.Contains(r.out, "tailrace") {
			t.Errorf("completion %s: exit code %d", shell, r.code)
		}
	}
}

func TestPublishAndSubscribe(t *testing.T) {
	server := serveHere(t)
	env := []string{"TAILRACE_SERVER=" + server}
	if r := command(t, nil, env, "healthcheck"); r.code != 0 {
		t.Errorf("healthcheck: %+v", r)
	}
	if r := command(t, nil, env, "pub", "demo/a b", "hello\nworld", "--event", "greeting", "--key", "k", "--id", "own"); r != (result{}) {
		t.Errorf("pub: %+v", r)
	}
	r := command(t, nil, env, "pub", "demo/a b", "hello\nworld", "--id", "own", "--json")
	if r.code != 0 || !strings.Contains(r.out, `"duplicate":true`) {
		t.Errorf("pub again: %+v", r)
	}
	if r := command(t, strings.NewReader("one\r\n\nlast"), env, "pub", "demo/lines", "--id", "file"); r != (result{}) {
		t.Errorf("pub of lines: %+v", r)
	}
	if r := command(t, strings.NewReader(`{"data":{"n": 1},"event":"x"}`+"\n\n"+`{"id":"mine","data":"two"}`), env, "pub", "demo/nd", "--ndjson"); r != (result{}) {
		t.Errorf("pub --ndjson: %+v", r)
	}

	r = command(t, nil, env, "sub", "demo/**", "--from", "start", "--count", "6", "--json")
	var got []string
	for line := range strings.Lines(r.out) {
		var e envelope
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Event == "x" {
			e.ID = "made up"
		}
		got = append(got, fmt.Sprintf("%s %s %s %s %q", e.Topic, e.ID, e.Event, e.Key, e.Data))
	}
	want := []string{
		`demo/a b own greeting k "hello\nworld"`,
		`demo/lines file.0   "one"`,
		`demo/lines file.1   ""`,
		`demo/lines file.2   "last"`,
		`demo/nd made up x  "{\"n\": 1}"`,
		`demo/nd mine   "two"`,
	}
	if r.code != 0 || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("sub --json: exit code %d, stderr %q, events\n%s\nwant\n%s", r.code, r.err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	r = command(t, nil, env, "sub", "demo/a b", "--from", "last:1", "--count", "1")
	_, text, _ := strings.Cut(r.out, "  ")
	if text != "demo/a b  greeting  [k]  hello\n  world\n" {
		t.Errorf("sub printed %q, stderr %q", r.out, r.err)
	}
	if r := command(t, nil, env, "sub", "demo/a b", "--snapshot", "--count", "1"); !strings.HasSuffix(r.out, "world\n") {
		t.Errorf("sub --snapshot: %+v", r)
	}
}

func TestRefusalsNameTheLine(t *testing.T) {
	server := serveHere(t, "--policies", `[{pattern: "small", max_event: 4B}]`)
	for _, tc := range []struct {
		name, topic, in string
		flags           []string
		want            string
		stored          int
	}{
		{"too large", "small", "a\nb\nlong enough\nc\n", nil, "line 3 of the input: too-large", 2},
		{"not UTF-8", "text", "a\n\xff\nb\n", nil, "line 2 of the input: is not UTF-8", 1},
		{"unknown member", "nd", `{"data":"a"}` + "\n" + `{"dat":"b"}` + "\n", []string{"--ndjson"}, "line 2 of the input: unknown-parameter", 1},
		{"no JSON", "nojson", `{"data":"a"}` + "\nb\n", []string{"--ndjson"}, "line 2 of the input: is not a JSON object", 1},
		{"reserved topic", "$x", "a\n", nil, "reserved-topic", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append([]string{"pub", tc.topic, "--server", server}, tc.flags...)
			r := command(t, strings.NewReader(tc.in), nil, args...)
			if r.code == 0 || !strings.Contains(r.err, tc.want) {
				t.Errorf("exit code %d, stderr %q; want %q", r.code, r.err, tc.want)
			}
			page := get(t, server+topicPath(tc.topic)+"?format=json")
			if n := strings.Count(page, `"cursor"`); n != tc.stored {
				t.Errorf("%d events are stored, want %d: %s", n, tc.stored, page)
			}
		})
	}
}

// TestLinesAreSentAgainUnderTheSameIDs holds that an answer that never came,
// a busy server and a slow one all lead to the same request again.
func TestLinesAreSentAgainUnderTheSameIDs(t *testing.T) {
	var bodies []string
	failures := []func(http.ResponseWriter){
		func(w http.ResponseWriter) { // it may be stored: nobody knows
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		},
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies = append(bodies, r.Header.Get("Content-Type")+" "+string(body))
		if n := len(bodies) - 1; n < len(failures) {
			failures[n](w)
			return
		}
		fmt.Fprint(w, `{"results":[{"cursor":"c.1"}]}`)
	}))
	defer srv.Close()
	r := command(t, strings.NewReader("a <b>\n"), nil, "pub", "x", "--server", srv.URL, "--id", "file", "--json")
	if r.code != 0 || r.out != `{"cursor":"c.1"}`+"\n" || strings.Count(r.err, "trying again") != 1 || !strings.Contains(r.err, "published again") {
		t.Errorf("pub: %+v", r)
	}
	if len(bodies) != 4 {
		t.Fatalf("%d requests", len(bodies))
	}
	var e struct{ ID, Data string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(bodies[0], "application/x-ndjson ")), &e); err != nil || e.ID != "file.0" || e.Data != "a <b>" {
		t.Errorf("sent %s: %v", bodies[0], err)
	}
	for _, b := range bodies[1:] {
		if b != bodies[0] {
			t.Errorf("then sent %s", b)
		}
	}
}

func TestRetryHasAnEnd(t *testing.T) {
	requests := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer srv.Close()
	r := command(t, strings.NewReader("a\n"), nil, "pub", "x", "--server", srv.URL, "--retry", "0s")
	if r.code != exitFailed || requests != 1 {
		t.Errorf("%d requests, %+v", requests, r)
	}
	r = command(t, nil, nil, "pub", "x", "a", "--server", srv.URL)
	if r.code != exitFailed || requests != 2 {
		t.Errorf("one event: %d requests, %+v", requests, r)
	}
}

// TestEventStreamsAreCopied also holds which blocks are events of the copy.
func TestEventStreamsAreCopied(t *testing.T) {
	server := serveHere(t)
	env := []string{"TAILRACE_SERVER=" + server}
	stream := ":\nretry: 3000\n" +
		"event: tailrace.hello\nid: c.0\ndata: {}\n\n" +
		"id: a\nevent: t\ndata: 1\ndata: 2\n\n" +
		"data: no id of its own\n\n" +
		"id: b\ndata: 3\n\n" +
		"id: unfinished\ndata: 4\n"
	for range 2 { // the second time everything is there already
		if r := command(t, strings.NewReader(stream), env, "pub", "copy", "--sse", "--id", "source"); r != (result{}) {
			t.Errorf("pub --sse: %+v", r)
		}
	}
	page := get(t, server+"/v1/topics/copy?format=json")
	var p struct{ Events []envelope }
	if err := json.Unmarshal([]byte(page), &p); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range p.Events {
		got = append(got, fmt.Sprintf("%s %s %q", e.ID, e.Event, e.Data))
	}
	if want := `a t "1\n2"; source.1  "no id of its own"; b  "3"`; strings.Join(got, "; ") != want {
		t.Errorf("stored %s, want %s", strings.Join(got, "; "), want)
	}

	gap := "data: before\n\nevent: tailrace.gap\ndata: {\"reason\":\"trimmed\"}\n\ndata: after\n\n"
	r := command(t, strings.NewReader(gap), env, "pub", "gap", "--sse")
	if r.code != exitFailed || !strings.Contains(r.err, "has a gap before event 2") {
		t.Errorf("a gap: %+v", r)
	}
	if page := get(t, server+"/v1/topics/gap?format=json"); !strings.Contains(page, "before") || strings.Contains(page, "after") {
		t.Errorf("stored round the gap: %s", page)
	}
	if r := command(t, strings.NewReader(gap), env, "pub", "gap2", "--sse", "--skip-gaps"); r != (result{}) {
		t.Errorf("--skip-gaps: %+v", r)
	}
	if page := get(t, server+"/v1/topics/gap2?format=json"); !strings.Contains(page, "after") {
		t.Errorf("--skip-gaps stored %s", page)
	}
}

// TestGapsAndCursors runs sub against a scripted stream.
func TestGapsAndCursors(t *testing.T) {
	var lastIDs []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lastIDs = append(lastIDs, r.Header.Get("Last-Event-ID"))
		s, err := sse.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		for _, ev := range []sse.Event{
			{ID: "c.1", Type: "tailrace.gap", Data: []byte(`{"reason":"trimmed","requested":"c.0"}`)},
			{ID: "c.2", Type: "x", Data: []byte(`{"topic":"t","cursor":"c.2","event":"x","data":"\u001b[31mred"}`)},
			{Type: "tailrace.live", Data: []byte("{}")},
			{ID: "c.3", Data: []byte(`{"topic":"t","cursor":"c.3","data":"last"}`)},
		} {
			if err := s.Send(&ev); err != nil {
				return
			}
		}
		<-s.Context().Done()
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "cursor")
	args := []string{"sub", "t", "--server", srv.URL, "--count", "2", "--cursor-file", file}
	r := command(t, nil, nil, append(args, "--strict")...)
	if r.code != exitGap || !strings.Contains(r.err, "gap: events after c.0 are missing (trimmed)") || strings.Count(r.out, "\n") != 2 {
		t.Errorf("with --strict: %+v", r)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "c.3\n" {
		t.Errorf("the cursor file has %q, %v", text, err)
	}
	if r := command(t, nil, nil, args...); r.code != exitDone {
		t.Errorf("without --strict: %+v", r)
	}
	if strings.Join(lastIDs, ",") != ",c.3" {
		t.Errorf("asked to go on after %q", lastIDs)
	}
	if err := os.WriteFile(file, []byte("two\nlines"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := command(t, nil, nil, args...); r.code != exitFailed || !strings.Contains(r.err, "holds no cursor") {
		t.Errorf("with another file: %+v", r)
	}
}

func TestRefusedSubscriptions(t *testing.T) {
	server := serveHere(t)
	r := command(t, nil, nil, "sub", "a", "--from", "yesterday", "--server", server)
	if r.code != exitFailed || !strings.Contains(r.err, "invalid-parameter: ") {
		t.Errorf("a bad from: %+v", r)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer srv.Close()
	if r := command(t, nil, nil, "sub", "a", "--server", srv.URL); r.code != exitRefused {
		t.Errorf("403: %+v", r)
	}
	if r := command(t, nil, nil, "pub", "a", "b", "--server", srv.URL); r.code != exitRefused {
		t.Errorf("403: %+v", r)
	}
}

// closedPipe is the stdout of a command whose reader has gone.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestClosedPipeIsAGoodEnd(t *testing.T) {
	server := serveHere(t)
	if r := command(t, nil, nil, "pub", "a", "b", "--server", server); r.code != 0 {
		t.Fatal(r)
	}
	var errw buffer
	code := Run(t.Context(), []string{"sub", "a", "--from", "start", "--server", server}, nil, nil, closedPipe{}, &errw)
	if code != exitDone || errw.String() != "" {
		t.Errorf("exit code %d, stderr %q", code, errw.String())
	}
}

func TestTerminalIsSafeFromPublishers(t *testing.T) {
	ev := &sse.Event{Data: []byte(`{"topic":"t","time":"2026-01-02T03:04:05Z","event":"x\u0007","data":"a\u001b]0;owned\u0007\tb\nc\u009b"}`)}
	var out strings.Builder
	if err := newPrinter(&out, false, true, true).print(ev); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(out.String(), "  ")
	if want := "t  x\\x07  a\\x1b]0;owned\\x07\tb\n  c\\x9b\n"; text != want {
		t.Errorf("printed %q, want %q", text, want)
	}
	out.Reset()
	if err := newPrinter(&out, false, true, false).print(ev); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), cyan+"t"+reset) {
		t.Errorf("no colour in %q", out.String())
	}
}

func TestIDsArePutIntoJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"data": 1}`:           `{"data": 1,"id":"n"}`,
		` { } `:                 `{ "id":"n"}`,
		`{"id":"own","data":1}`: `{"id":"own","data":1}`,
		``:                      ``,
	} {
		got, err := withID([]byte(in), "n")
		if err != nil || string(got) != want {
			t.Errorf("%s became %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{`[1]`, `{"a":1`, `1`, `{} {}`} {
		if got, err := withID([]byte(in), "n"); err == nil {
			t.Errorf("%s became %s", in, got)
		}
	}
}

func TestRetryDelay(t *testing.T) {
	told := &refusal{status: 503, header: http.Header{"Retry-After": {"7"}}}
	for range 1000 {
		for n := range 20 {
			if d := retryDelay(io.EOF, n); d < firstDelay/5 || d > maxDelay {
				t.Fatalf("after %d failures: %v", n+1, d)
			}
			if d := retryDelay(told, n); d < 7*time.Second || d > 11*time.Second {
				t.Fatalf("told to wait 7 s: %v", d)
			}
		}
	}
}
