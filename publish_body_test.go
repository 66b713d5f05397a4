package tailrace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// chunks is a body without a length that comes in pieces.
type chunks []string

func (c *chunks) Read(p []byte) (int, error) {
	if len(*c) == 0 {
		return 0, io.EOF
	}
	n := copy(p, (*c)[0])
	if (*c)[0] = (*c)[0][n:]; (*c)[0] == "" {
		*c = (*c)[1:]
	}
	return n, nil
}

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.String()
}

func TestBodyIsStoredByteForByte(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		s := newPublishServer(t, nil, defaultPublishTimes, http2)
		for i, tt := range []struct{ name, contentType, body string }{
			{"no type", "", "hello"},
			{"form type of curl -d", "application/x-www-form-urlencoded", "a=1&b=%20+"},
			{"text", "text/plain", "text"},
			{"charset", "text/plain; charset=UTF-8", "text"},
			{"quoted charset", `text/plain; charset="us-ascii"`, "text"},
			{"empty", "text/plain", ""},
			{"CR and CRLF", "text/plain", "a\rb\r\nc\n\n"},
			{"NUL", "text/plain", "a\x00b"},
			{"BOM", "text/plain", "\ufeffa"},
			{"JSON keeps its spaces", "application/json", " { \"b\" : 1 ,\n\"a\":[ ] } \n"},
			{"JSON scalar", "application/json; charset=utf-8", "7"},
			{"JSON of another name", "application/problem+json", `{"x":"\ud83d\ude00"}`},
			{"malformed type", "garbage/", "x"},
			{"malformed parameter", "application/json; x", "1"},
			{"unknown type", "image/svg+xml", "<svg/>"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := *s
				s.t = t
				topic := fmt.Sprintf("t%d", i)
				s.post("/v1/topics/"+topic, tt.body, "Content-Type: "+tt.contentType).expect(200, "")
				// The same without a length, a byte at a time.
				body := make(chunks, 0, len(tt.body))
				for i := range len(tt.body) {
					body = append(body, tt.body[i:i+1])
				}
				s.do("POST", "/v1/topics/"+topic, &body, "Content-Type: "+tt.contentType).expect(200, "")
				s.post("/v1/topics/"+topic, zipped(tt.body), "Content-Type: "+tt.contentType, "Content-Encoding: gzip").expect(200, "")
				events := s.stored(topic)
				if len(events) != 3 {
					t.Fatalf("%d events", len(events))
				}
				for _, ev := range events {
					if string(ev.Data) != tt.body {
						t.Errorf("stored %q, want %q", ev.Data, tt.body)
					}
				}
			})
		}
	}
}

func TestBodiesThatAreRefused(t *testing.T) {
	deep := strings.Repeat("[", 65) + strings.Repeat("]", 65)
	for _, http2 := range []bool{false, true} {
		s := newPublishServer(t, nil, defaultPublishTimes, http2)
		for _, tt := range []struct {
			name, body string
			headers    []string
			status     int
			problem    string
			offset     any
		}{
			{"not UTF-8", "abc\xffdef", nil, 415, "not-text", 3.0},
			{"cut in a character", "abc\xf0\x9f\x92", nil, 415, "not-text", 3.0},
			{"JSON not UTF-8", "\"\xff\"", []string{"Content-Type: application/json"}, 415, "not-text", 1.0},
			{"latin1", "x", []string{"Content-Type: text/plain; charset=latin1"}, 415, "unsupported-charset", nil},
			{"utf-16", "x", []string{"Content-Type: application/json; charset=utf-16"}, 415, "unsupported-charset", nil},
			{"multipart", "x", []string{"Content-Type: multipart/form-data; boundary=x"}, 415, "unsupported-type", nil},
			{"CloudEvents in XML", "x", []string{"Content-Type: application/cloudevents+xml"}, 415, "unsupported-type", nil},
			{"brotli", "x", []string{"Content-Encoding: br"}, 415, "unsupported-encoding", nil},
			{"two encodings", "x", []string{"Content-Encoding: gzip, gzip"}, 415, "unsupported-encoding", nil},
			{"two encoding fields", "x", []string{"Content-Encoding: gzip", "Content-Encoding: br"}, 415, "unsupported-encoding", nil},
			{"no gzip", "plain", []string{"Content-Encoding: gzip"}, 400, "invalid-request", nil},
			{"empty gzip", "", []string{"Content-Encoding: gzip"}, 400, "invalid-request", nil},
			{"cut gzip", zipped("hello")[:20], []string{"Content-Encoding: gzip"}, 400, "invalid-request", nil},
			{"bytes after gzip", zipped("hello") + "x", []string{"Content-Encoding: gzip"}, 400, "invalid-request", nil},
			{"broken JSON", `{"a":}`, []string{"Content-Type: application/json"}, 400, "invalid-json", 5.0},
			{"two JSON texts", `1 2`, []string{"Content-Type: application/json"}, 400, "invalid-json", 2.0},
			{"empty JSON", ``, []string{"Content-Type: application/json"}, 400, "invalid-json", nil},
			{"JSON with BOM", "\ufeff1", []string{"Content-Type: application/json"}, 400, "invalid-json", 0.0},
			{"cut JSON", `{"a":[1,2`, []string{"Content-Type: application/x+json"}, 400, "invalid-json", 9.0},
			{"deep JSON", deep, []string{"Content-Type: application/json"}, 400, "invalid-json", 64.0},
		} {
			t.Run(tt.name, func(t *testing.T) {
				s := *s
				s.t = t
				a := s.post("/v1/topics/demo", tt.body, tt.headers...).expect(tt.status, tt.problem)
				if tt.offset != nil && a.json["offset"] != tt.offset {
					t.Errorf("offset %v, want %v", a.json["offset"], tt.offset)
				}
				if tt.problem == "unsupported-encoding" && a.header.Get("Accept-Encoding") != "gzip" {
					t.Errorf("Accept-Encoding: %q", a.header.Get("Accept-Encoding"))
				}
				// The same in chunks that cut characters.
				if len(tt.headers) == 0 || !strings.HasPrefix(tt.headers[0], "Content-Encoding") {
					body := chunks(strings.SplitAfter(tt.body, ""))
					s.do("POST", "/v1/topics/demo", &body, tt.headers...).expect(tt.status, tt.problem)
				}
			})
		}
		if n := len(s.stored("demo")); n != 0 {
			t.Errorf("%d events of refused requests are stored", n)
		}
		s.post("/v1/topics/demo", deep[1:len(deep)-1], "Content-Type: application/json").expect(200, "")
	}
}

func TestEncodeBase64(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	body := "\x00\xff\xfe raw"
	s.post("/v1/topics/demo?encode=base64", body).expect(200, "")
	if got := s.texts("demo"); got != base64.StdEncoding.EncodeToString([]byte(body)) {
		t.Errorf("stored %q", got)
	}
	// The limit is that of the event as it is stored.
	s.post("/v1/topics/demo?encode=base64", strings.Repeat("\xff", DefaultMaxEvent/4*3)).expect(200, "")
	s.post("/v1/topics/demo?encode=base64", strings.Repeat("\xff", DefaultMaxEvent/4*3+1)).expect(413, "too-large")
}

func TestLimitOfABodyIsExact(t *testing.T) {
	rules := []TopicRule{{Pattern: "small", Policy: Policy{MaxEvent: 100}}}
	for _, http2 := range []bool{false, true} {
		s := newPublishServer(t, &Options{Rules: rules}, defaultPublishTimes, http2)
		for _, tt := range []struct {
			topic string
			limit int
		}{{"demo", DefaultMaxEvent}, {"small", 100}} {
			exact, over := strings.Repeat("x", tt.limit), strings.Repeat("x", tt.limit+1)
			path := "/v1/topics/" + tt.topic
			s.post(path, exact).expect(200, "")
			s.do("POST", path, &chunks{exact}).expect(200, "")
			s.post(path, zipped(exact), "Content-Encoding: gzip").expect(200, "")
			for _, a := range []answer{
				s.post(path, over),
				s.do("POST", path, &chunks{over}),
				s.post(path, zipped(over), "Content-Encoding: gzip"),
			} {
				a.expect(413, "too-large")
				if a.json["limit"] != float64(tt.limit) {
					t.Errorf("limit %v, want %d", a.json["limit"], tt.limit)
				}
			}
			if n := len(s.stored(tt.topic)); n != 3 {
				t.Errorf("%s: %d events stored", tt.topic, n)
			}
		}
	}
}

// rawConn writes an HTTP/1.1 request by hand.
func rawConn(t testing.TB, s *publishServer, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", s.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func readAnswer(t testing.TB, r *bufio.Reader) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the answer's body: %v", err)
	}
	return resp, string(text)
}

func TestTooLargeIsRefusedUnreadAndTheConnectionCloses(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	for _, head := range []string{
		"Content-Length: 104857600\r\n",
		"Content-Length: 104857600\r\nExpect: 100-continue\r\n",
	} {
		_, r := rawConn(t, s, "POST /v1/topics/demo HTTP/1.1\r\nHost: x\r\n"+head+"\r\n")
		resp, text := readAnswer(t, r)
		if resp.StatusCode != 413 || !resp.Close || !strings.Contains(text, "too-large") {
			t.Errorf("got %s close=%v %s", resp.Status, resp.Close, text)
		}
		if _, err := r.ReadByte(); err != io.EOF {
			t.Errorf("the connection stays open: %v", err)
		}
	}
}

func TestExpectContinueIsAnsweredForAGoodRequest(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	c, r := rawConn(t, s, "POST /v1/topics/demo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if line, _ := r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q", line)
	}
	r.ReadString('\n')
	io.WriteString(c, "hello")
	if resp, text := readAnswer(t, r); resp.StatusCode != 200 {
		t.Errorf("got %s %s", resp.Status, text)
	}
}

func TestConnectionOfARefusedShortBodyIsUsedAgain(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	c, r := rawConn(t, s, "POST /v1/topics/demo?colour=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
	if resp, text := readAnswer(t, r); resp.StatusCode != 400 || resp.Close {
		t.Fatalf("got %s close=%v %s", resp.Status, resp.Close, text)
	}
	io.WriteString(c, "POST /v1/topics/demo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
	if resp, text := readAnswer(t, r); resp.StatusCode != 200 {
		t.Errorf("got %s %s", resp.Status, text)
	}
}

func TestStalledBodyTimesOut(t *testing.T) {
	times := defaultPublishTimes
	times.body = 50 * time.Millisecond
	s := newPublishServer(t, nil, times, false)
	for _, head := range []string{
		"Content-Length: 10\r\n\r\nhello",
		"Content-Length: 500000\r\n\r\nhello",
		"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n",
		"Content-Type: application/x-ndjson\r\nContent-Length: 10\r\n\r\n{",
	} {
		_, r := rawConn(t, s, "POST /v1/topics/demo HTTP/1.1\r\nHost: x\r\n"+head)
		resp, text := readAnswer(t, r)
		if resp.StatusCode != 408 || !resp.Close || !strings.Contains(text, "body-timeout") {
			t.Errorf("got %s close=%v %s", resp.Status, resp.Close, text)
		}
	}
	if n := len(s.stored("demo")); n != 0 {
		t.Errorf("%d events stored", n)
	}
}

func TestStalledBodyTimesOutOverHTTP2(t *testing.T) {
	times := defaultPublishTimes
	times.body = 50 * time.Millisecond
	s := newPublishServer(t, nil, times, true)
	r, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte("hello"))
	s.do("POST", "/v1/topics/demo", r).expect(408, "body-timeout")
}

// A deadline that outlives the body looks like the client's leaving and would
// cut the answer.
func TestBodyDeadlineIsClearedAfterTheBody(t *testing.T) {
	t.Parallel()
	times := defaultPublishTimes
	times.body = 500 * time.Millisecond
	slow := &faultLog{Log: NewMemoryLog(nil), delay: time.Second}
	s := newPublishServer(t, &Options{Log: slow}, times, false)
	s.post("/v1/topics/demo", "hello").expect(200, "")
	s.post("/v1/topics/demo", "hello").expect(200, "")
}

func TestGzipBomb(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	bomb := strings.Repeat(zipped(strings.Repeat("\n", 1<<20)), 64) // gzip files may follow one another
	s.post("/v1/topics/demo", bomb, "Content-Encoding: gzip").expect(413, "too-large")
	s.post("/v1/topics/demo", bomb, "Content-Encoding: gzip", "Content-Type: application/x-ndjson").expect(413, "too-large")
	a := s.post("/v1/topics/demo", strings.Repeat(zipped(strings.Repeat(":\n", 1<<19)), 64), "Content-Encoding: gzip", "Content-Type: text/event-stream").expect(413, "too-large")
	if a.json["accepted"] != 0.0 {
		t.Errorf("got %s", a.text)
	}
	if n := len(s.stored("demo")); n != 0 {
		t.Errorf("%d events stored", n)
	}
}

func TestBrokenBodyStoresNothing(t *testing.T) {
	s := newPublishServer(t, nil, defaultPublishTimes, false)
	c, r := rawConn(t, s, "POST /v1/topics/demo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
	c.(*net.TCPConn).CloseWrite()
	resp, text := readAnswer(t, r)
	if resp.StatusCode != 400 || !strings.Contains(text, "invalid-request") {
		t.Errorf("got %s %s", resp.Status, text)
	}
	if n := len(s.stored("demo")); n != 0 {
		t.Errorf("%d events stored", n)
	}
}

func TestMemoryFollowsTheBodyNotThePromise(t *testing.T) {
	const size = 1 << 20
	text := strings.Repeat("x", size)
	for _, arrived := range []int{0, 100, promptBody, promptBody + 1, 3 * promptBody} {
		r := io.LimitReader(strings.NewReader(text), int64(arrived))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		readKnown(r, size)
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		if most := uint64(4*arrived + 2*promptBody); allocated > most {
			t.Errorf("%d of %d bytes arrived: %d bytes set aside, want at most %d", arrived, size, allocated, most)
		}
	}
}
