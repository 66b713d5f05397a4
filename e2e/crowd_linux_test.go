package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// TestCrowdsComeAndGo: files and memory come back, however often a crowd comes
// and leaves.
func TestCrowdsComeAndGo(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"auto", "portable"} {
		t.Run(engine, func(t *testing.T) { testCrowdsComeAndGo(t, engine) })
	}
}

func testCrowdsComeAndGo(t *testing.T, engine string) {
	rounds, crowd := 5, 1000
	if long {
		rounds, crowd = 100, 10_000
	}
	s := newServer(t, "--engine="+engine)
	s.path = plainBinary(t)
	s.start()
	var files int
	var memory int64
	for round := range rounds {
		streams := s.crowd(t, crowd, func(int) string { return "/v1/topics/crowd" })
		post(t, s.url("/v1/topics/crowd"), "hello")
		for i, v := range streams {
			var ev sse.Event
			if err := v.dec.Decode(&ev); err != nil || string(ev.Data) != "hello" {
				t.Fatalf("stream %d: %q (%v)", i, ev.Data, err)
			}
			if i%2 == 0 {
				v.conn.SetLinger(0)
			}
			v.conn.Close()
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if round == 0 {
			s.settle(t, "streams are counted still", func() bool { return s.streams(t) == 0 })
			files, memory = s.files()+4, s.resident()+int64(crowd)*2048 // what the log and /metrics open, and the pools
		}
		s.settle(t, "files are open still", func() bool { return s.files() <= files })
	}
	s.settle(t, "memory has not come back", func() bool { return s.resident() <= memory })
	s.alive()
}

// settle waits for what must come about.
func (s *server) settle(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(startTime); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// streams returns how many the server says it has.
func (s *server) streams(t testing.TB) int {
	t.Helper()
	resp, err := http.Get(s.url("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("tailrace_connections{")) {
			v, _ := strconv.ParseFloat(string(bytes.TrimSpace(line[bytes.LastIndexByte(line, ' '):])), 64)
			n += int(v)
		}
	}
	return n
}

// member is one of a crowd.
type member struct {
	conn *net.TCPConn
	dec  *sse.Decoder
}

// crowd opens n streams; path names each one's.
func (s *server) crowd(t testing.TB, n int, path func(i int) string) []member {
	t.Helper()
	list := make([]member, n)
	var wg sync.WaitGroup
	const workers = 32
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				conn, err := net.DialTimeout("tcp", s.addr, startTime)
				if err != nil {
					t.Error(err)
					return
				}
				conn.SetDeadline(time.Now().Add(5 * startTime))
				fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path(i), s.addr)
				resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
				if err == nil && resp.StatusCode != http.StatusOK {
					err = errors.New(resp.Status)
				}
				if err != nil {
					t.Error(err)
					conn.Close()
					return
				}
				list[i] = member{conn.(*net.TCPConn), sse.NewDecoder(resp.Body, nil)}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return list
}

// roomFor returns how many streams a test may open: each end is a file.
func roomFor(t testing.TB, wanted int) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n := min(wanted, int(limit.Cur)*85/100-500) // the server keeps a tenth for others
	if n < wanted {
		t.Logf("%d streams, not %d, for want of files", n, wanted)
	}
	return n
}

// TestCrowds: however many subscribers a topic, a subscriber, or the server
// has, each event arrives once and in order. The short form has a twentieth of
// them.
func TestCrowds(t *testing.T) {
	n := 500
	if long {
		n = 10_000
	}
	own := map[int]bool{} // which topics a stream has, from its own number on
	for k := range 20 {
		own[k*499%n] = true
	}
	for _, c := range []struct {
		name           string
		streams        int
		topics, events int // of all; of each topic
		path           func(i int) string
		has            func(i, topic int) bool
	}{
		{"many of one topic", 2 * n, 1, 50,
			func(int) string { return "/v1/topics/c/0" },
			func(int, int) bool { return true }},
		{"many with 20 topics each", n, n, 1,
			func(i int) string {
				parts := make([]string, 20)
				for k := range parts {
					parts[k] = fmt.Sprint("topic=c/", (i+k*499)%n)
				}
				return "/v1/events?" + strings.Join(parts, "&")
			},
			func(i, topic int) bool { return own[(topic-i+n)%n] }},
		{"many topics, one subscriber in ten", n, 10 * n, 1,
			func(i int) string { return fmt.Sprint("/v1/topics/c/", i*10) },
			func(i, topic int) bool { return topic == i*10 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			s.path = plainBinary(t)
			s.start()
			n := roomFor(t, c.streams)
			streams := s.crowd(t, n, c.path)
			want := make([][]string, n)
			members := make([][]int, c.topics) // streams of each topic
			for i := range n {
				for topic := range c.topics {
					if c.has(i, topic) {
						members[topic] = append(members[topic], i)
					}
				}
			}
			var readers sync.WaitGroup
			defer func() {
				for _, v := range streams {
					v.conn.Close()
				}
				readers.Wait()
			}()
			for round := range c.events {
				for topic, list := range members {
					for _, i := range list {
						want[i] = append(want[i], fmt.Sprint(topic, " ", round))
					}
				}
			}
			for i, v := range streams {
				readers.Go(func() {
					var ev sse.Event
					for k, w := range want[i] {
						if err := v.dec.Decode(&ev); err != nil || string(ev.Data) != w {
							t.Errorf("stream %d, event %d: %q (%v), want %q", i, k, ev.Data, err, w)
							return
						}
					}
				})
			}
			for round := range c.events {
				for from := 0; from < c.topics; from += 100 { // as many as one publish may name
					var lines strings.Builder
					for topic := from; topic < min(c.topics, from+100); topic++ {
						fmt.Fprintf(&lines, "{\"topic\":\"c/%d\",\"data\":\"%d %d\"}\n", topic, topic, round)
					}
					resp, err := http.Post(s.url("/v1/events"), "application/x-ndjson", strings.NewReader(lines.String()))
					if err != nil {
						t.Fatal(err)
					}
					text, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						t.Fatalf("%s\n%s", resp.Status, text)
					}
				}
			}
			readers.Wait()
			s.alive()
		})
	}
}
