package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// raw sends bytes and returns the answer, whose body has been read. status is 0
// if the connection was closed without one.
func (s *server) raw(t testing.TB, request string) (status int, problem string) {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(startTime))
	// The server may answer and close before it has read all that.
	go io.WriteString(conn, request)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		problem = problemOf(t, resp)
	}
	return resp.StatusCode, problem
}

// request writes a request head, and a body if there is one.
func request(line string, fields ...string) string {
	return line + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" + strings.Join(append(fields, "\r\n"), "\r\n")
}

// TestHostileInput: bad input gets a clear answer, and the server is as well as
// before.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	long := strings.Repeat("x", 513)
	parts := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "&topic=t%d/*", i)
		}
		return b.String()[1:]
	}
	fields := make([]string, 10_000)
	for i := range fields {
		fields[i] = fmt.Sprintf("X-%d: 1", i)
	}
	body := func(text string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(text), text) }
	tests := []struct {
		name    string
		send    string
		status  int
		problem string
	}{
		{"10,000 header fields", request("GET /v1/topics/a", fields...), 431, ""},
		{"101 header fields", request("GET /v1/topics/a", fields[:101]...), 431, "headers-too-large"},
		{"a header field of 1 MB", request("GET /v1/topics/a", "X: "+strings.Repeat("x", 1<<20)), 431, ""},
		{"a URL of 20 kB", request("GET /v1/events?topic=" + strings.Repeat("x", 20_000)), 414, "uri-too-long"},
		{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, ""},
		{"another host", "GET /v1/topics/a HTTP/1.1\r\nHost: example.com\r\n\r\n", 421, "wrong-host"},
		{"two lengths", request("POST /v1/topics/a", "Content-Length: 1", "Content-Length: 2"), 400, ""},
		{"a length and chunks", request("POST /v1/topics/a", "Content-Length: 1", "Transfer-Encoding: chunked", "Transfer-Encoding: x"), 501, ""},
		{"an unknown method", request("BREW /v1/topics/a"), 405, "method-not-allowed"},
		{"an unknown path", request("GET /v1/topic/a"), 404, "not-found"},
		{"dots above the API", request("GET /v1/../../etc/passwd"), 404, "not-found"},

		{"a topic of 513 bytes", request("POST /v1/topics/"+long, body("x")), 400, "invalid-topic"},
		{"a topic of 513 bytes, subscribed", request("GET /v1/topics/" + long), 400, "invalid-topic"},
		{"a topic of 171 characters and 513 bytes", request("POST /v1/topics/"+strings.Repeat("%e2%82%ac", 171), body("x")), 400, "invalid-topic"},
		{"no topic", request("POST /v1/topics/", body("x")), 400, "invalid-topic"},
		{"no selection", request("GET /v1/events"), 400, "no-topic"},
		{"NUL in a topic", request("POST /v1/topics/a%00b", body("x")), 400, "invalid-topic"},
		{"a line end in a topic", request("GET /v1/topics/a%0d%0ab"), 400, "invalid-topic"},
		{"half a character in a topic", request("POST /v1/topics/%c3", body("x")), 400, "invalid-topic"},
		{"a broken escape", request("GET /v1/topics/%zz"), 400, ""},
		{"a topic of the system", request("POST /v1/topics/$stats", body("x")), 403, "reserved-topic"},
		{"a pattern in a path", request("GET /v1/topics/a/*"), 400, "invalid-topic"},
		{"a pattern published to", request("POST /v1/events?topic=a/**", body("x")), 400, "invalid-topic"},
		{"a pattern with ** in the middle", request("GET /v1/events?topic=a/**/b"), 400, "invalid-topic"},
		{"a pattern of 513 bytes", request("GET /v1/events?topic=*/" + long[2:]), 400, "invalid-topic"},
		{"129 patterns", request("GET /v1/events?" + parts(129)), 400, "invalid-parameter"},

		{"a body on subscribe", request("GET /v1/topics/a", body("x")), 400, "invalid-request"},
		{"chunks on subscribe", request("GET /v1/topics/a", "Transfer-Encoding: chunked", "", "1", "x", "0"), 400, "invalid-request"},
		{"a form too long", request("QUERY /v1/events", "Content-Type: application/x-www-form-urlencoded", body("topic="+strings.Repeat("x", 70_000))), 413, "too-large"},
		{"an unknown parameter", request("GET /v1/topics/a?form=start"), 400, "unknown-parameter"},
		{"a parameter twice", request("GET /v1/topics/a?from=start&from=new"), 400, "conflicting-parameter"},
		{"a bad time", request("GET /v1/topics/a?from=yesterday"), 400, "invalid-parameter"},
		{"a heartbeat of a year", request("GET /v1/topics/a?heartbeat=8760h"), 400, "invalid-parameter"},
		{"a form of answer that there is not", request("GET /v1/topics/a", "Accept: image/png"), 406, "not-acceptable"},
		{"a bad cursor in a page", request("GET /v1/topics/a?format=json&last_event_id=%01"), 400, "invalid-parameter"},

		{"a body that is no text", request("POST /v1/topics/a", body("a\xff")), 415, "not-text"},
		{"a body of another charset", request("POST /v1/topics/a", "Content-Type: text/plain; charset=latin1", body("x")), 415, "unsupported-charset"},
		{"a body of another encoding", request("POST /v1/topics/a", "Content-Encoding: br", body("x")), 415, "unsupported-encoding"},
		{"a broken gzip body", request("POST /v1/topics/a", "Content-Encoding: gzip", body("no gzip")), 400, ""},
		{"a form with files", request("POST /v1/topics/a", "Content-Type: multipart/form-data; boundary=x", body("--x--")), 415, "unsupported-type"},
		{"a body of 2 MiB", request("POST /v1/topics/a", body(strings.Repeat("x", 2<<20))), 413, "too-large"},
		{"a body that says it has 1 TB", request("POST /v1/topics/a", "Content-Length: 1099511627776"), 413, "too-large"},
		{"JSON that is none", request("POST /v1/topics/a", "Content-Type: application/json", body("{")), 400, "invalid-json"},
		{"a batch with a bad line", request("POST /v1/topics/a", "Content-Type: application/x-ndjson", body("{\"data\":\"1\"}\n{\n")), 400, "invalid-batch"},
		{"a type of the system", request("POST /v1/topics/a?event=tailrace.gap", body("x")), 400, "reserved-type"},
		{"a type with a line end", request("POST /v1/topics/a?event=a%0ab", body("x")), 400, "invalid-parameter"},
		{"an id of 257 bytes", request("POST /v1/topics/a?id="+long[:257], body("x")), 400, "invalid-parameter"},
		{"an id with NUL", request("POST /v1/topics/a?id=%00", body("x")), 400, "invalid-parameter"},
		{"a removal without a key", request("POST /v1/topics/a?remove=1", body("x")), 400, "invalid-parameter"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, problem := s.raw(t, test.send)
			if status != test.status || test.problem != "" && problem != test.problem {
				t.Errorf("%d %s, want %d %s", status, problem, test.status, test.problem)
			}
		})
	}
	var list struct{ Topics []struct{ Topic string } }
	getJSON(t, s.url("/v1/topics"), &list)
	if len(list.Topics) > 0 {
		t.Errorf("bad input has made topics: %v", list.Topics)
	}
	s.alive()
}

// TestOddTopics: every valid name is a name like any other, whatever it looks
// like in a path.
func TestOddTopics(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	names := map[string]string{ // by the path it is published with
		"/v1/topics/a/b":                          "a/b",
		"/v1/topics/c%2Fd":                        "c/d",
		"/v1/topics/../../etc/passwd":             "../../etc/passwd",
		"/v1/topics/%2e%2e%2f%2e%2e%2fetc":        "../../etc",
		"/v1/topics//":                            "/",
		"/v1/topics/e//f":                         "e//f",
		"/v1/topics/a+b":                          "a+b",
		"/v1/topics/a%2Bb%20c%25":                 "a+b c%",
		"/v1/topics/a%252Fb":                      "a%2Fb",
		"/v1/topics/https%3A%2F%2Fexample.net%2F": "https://example.net/",
		"/v1/topics/%E2%82%AC/a*b":                "€/a*b",
		"/v1/topics/" + strings.Repeat("x", 512):  strings.Repeat("x", 512),
	}
	for path, name := range names {
		if status, problem := s.raw(t, request("POST "+path, "Content-Length: 1\r\n\r\nx")); status != 200 {
			t.Errorf("POST %s: %d %s", path, status, problem)
		}
		for _, path := range []string{path, "/v1/topics/" + url.PathEscape(name), "/v1/events?topic=" + url.QueryEscape(name)} {
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, request("GET "+path, "Accept: application/json"))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			var page struct{ Events []envelope }
			err = json.NewDecoder(resp.Body).Decode(&page)
			conn.Close()
			if err != nil || len(page.Events) != 1 || page.Events[0].Topic != name {
				t.Errorf("GET %s: %s %v %v, want an event of %q", path, resp.Status, page, err, name)
			}
		}
	}
}

// TestBadCursorIsAGap: a last event id that leads nowhere is answered by a
// stream that says so and goes on with what there is. A status would stop a
// browser for good.
func TestBadCursorIsAGap(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	post(t, s.url("/v1/topics/demo"), "first")
	var page struct{ Next tailrace.Cursor }
	getJSON(t, s.url("/v1/topics/demo?format=json"), &page)
	ahead, other := page.Next, page.Next
	ahead.Pos += 1000
	other.Epoch ^= 1
	tests := []struct {
		name, id string
		reason   tailrace.Reason
	}{
		{"an id of nothing", "nothing", tailrace.Unknown},
		{"a cursor of another log", other.String(), tailrace.EpochGap},
		{"a cursor of the future", ahead.String(), tailrace.Ahead},
		{"an id of 1,000 bytes", strings.Repeat("x", 1000), tailrace.Unknown},
		{"an id with a control character", "a\x01b", tailrace.Unknown},
		{"an id that is no UTF-8", "a\xffb", tailrace.Unknown},
		{"a cursor with white space", " " + page.Next.String() + "x", tailrace.Unknown},
	}
	for _, test := range tests {
		for _, path := range []string{"/v1/topics/demo?", "/v1/events?topic=demo&topic=other/**&"} {
			t.Run(test.name+path, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), startTime)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.url(path+"last_event_id="+url.QueryEscape(test.id)), nil)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Fatal(resp.Status)
				}
				dec := sse.NewDecoder(resp.Body, nil)
				var ev sse.Event
				if err := dec.Decode(&ev); err != nil {
					t.Fatal(err)
				}
				var gap tailrace.Gap
				if err := json.Unmarshal(ev.Data, &gap); err != nil || ev.Type != tailrace.TypeGap || gap.Reason != test.reason {
					t.Fatalf("%s %s (%v), want the gap %s", ev.Type, ev.Data, err, test.reason)
				}
				if err := dec.Decode(&ev); err != nil || string(ev.Data) != "first" {
					t.Fatalf("after the gap: %q (%v)", ev.Data, err)
				}
			})
		}
	}
}

// TestSlowPublishers: an upload is published as it arrives, and those who begin
// a request and never end it keep nobody out.
func TestSlowPublishers(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for i := range 200 { // half of them in the middle of the head, half in that of the body
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			io.WriteString(conn, "POST /v1/topics/demo HTTP/1.1\r\nHost: ")
		} else {
			io.WriteString(conn, "POST /v1/topics/demo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nbegun")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.url("/v1/topics/demo"), nil)
	stream, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	dec := sse.NewDecoder(stream.Body, nil)
	next := func(want string) {
		t.Helper()
		var ev sse.Event
		if err := dec.Decode(&ev); err != nil || string(ev.Data) != want {
			t.Fatalf("event %q (%v), want %q", ev.Data, err, want)
		}
	}
	body, w := io.Pipe()
	upload, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url("/v1/topics/demo"), body)
	upload.Header.Set("Content-Type", "text/event-stream")
	answered := make(chan string, 1)
	go func() {
		resp, err := http.DefaultClient.Do(upload)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		answered <- string(text)
	}()
	for n := range 3 {
		// A block arrives in pieces, with another publisher between.
		fmt.Fprintf(w, "data: block")
		post(t, s.url("/v1/topics/demo"), "between")
		next("between")
		fmt.Fprintf(w, " %d\n\n", n)
		next(fmt.Sprintf("block %d", n))
	}
	io.WriteString(w, "data: unfinished\n")
	w.Close()
	var answer struct {
		Accepted   int
		Incomplete bool
	}
	text := <-answered
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Accepted != 3 || !answer.Incomplete {
		t.Errorf("the upload is answered by %s, want three events and an unfinished block", text)
	}
	post(t, s.url("/v1/topics/demo"), "last")
	next("last")
	s.alive()
}

// TestPipelinedBytes: what a subscriber sends behind its request is no request.
// Sent with it, it ends the stream, cleanly; sent later, it is not looked at.
func TestPipelinedBytes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const request = "GET /v1/topics/demo HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
	const evil = "POST /v1/topics/demo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n\r\nevil"
	open := func(sent string) (net.Conn, *sse.Decoder) {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(startTime))
		io.WriteString(conn, sent)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return conn, sse.NewDecoder(resp.Body, nil)
	}
	var ev sse.Event
	if *engine == "auto" { // else net/http serves them when the stream has ended
		_, dec := open(request + evil)
		if err := dec.Decode(&ev); err != io.EOF {
			t.Errorf("a pipelined request: event %q (%v), want the end", ev.Data, err)
		}
	}

	conn, dec := open(request)
	for n := range 3 {
		post(t, s.url("/v1/topics/demo"), fmt.Sprint(n))
		if err := dec.Decode(&ev); err != nil || string(ev.Data) != fmt.Sprint(n) {
			t.Fatalf("event %q (%v), want %d", ev.Data, err, n)
		}
		io.WriteString(conn, evil)
	}
	s.alive()
}
