package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/tailrace/tailrace/sse"
)

// limitFiles sets how many files the server may have open, now.
func (s *server) limitFiles(n int) {
	s.t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil { // the server's too
		s.t.Fatal(err)
	}
	limit.Cur = uint64(n)
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(s.cmd.Process.Pid), syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		s.t.Fatal(errno)
	}
}

// files counts the files that the server has open.
func (s *server) files() int {
	s.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(list)
}

// cpu is the time that the server has computed.
func (s *server) cpu() time.Duration {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // the kernel's ticks
}

// resident is the memory that the server has, in bytes.
func (s *server) resident() int64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// visitor is a client that has sent its request and may not have been served.
type visitor struct {
	net.Conn
	served chan error // one value, when there is a head or will be none
	dec    *sse.Decoder
}

// visit sends a request for a stream and does not wait for the answer.
func (s *server) visit(t testing.TB, path string) *visitor {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(2 * startTime))
	v := &visitor{Conn: conn, served: make(chan error, 1)}
	go func() {
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, s.addr)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s", resp.Status)
		}
		if err == nil {
			v.dec = sse.NewDecoder(resp.Body, nil)
		}
		v.served <- err
	}()
	return v
}

// TestNoFilesLeft: when the process may open no more files, those who connect
// wait and nobody loses anything: streams go on, publishers that are there go
// on, the log says so once, and nothing spins. When files come back, those who
// waited are served.
func TestNoFilesLeft(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"auto", "portable"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			testNoFilesLeft(t, engine)
		})
	}
}

func testNoFilesLeft(t *testing.T, engine string) {
	const room, crowd = 40, 100
	s := startServer(t, "--engine="+engine)
	publisher := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}} // it keeps its connection
	defer publisher.CloseIdleConnections()
	number := 0
	publish := func() string {
		t.Helper()
		text := strconv.Itoa(number)
		number++
		resp, err := publisher.Post(s.url("/v1/topics/demo"), "text/plain", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
		return text
	}
	expect := func(v *visitor, want string) {
		t.Helper()
		var ev sse.Event
		if err := v.dec.Decode(&ev); err != nil || string(ev.Data) != want {
			t.Fatalf("event %q (%v), want %q", ev.Data, err, want)
		}
	}

	first := s.visit(t, "/v1/topics/demo")
	defer first.Close()
	if err := <-first.served; err != nil {
		t.Fatal(err)
	}
	expect(first, publish()) // the engine stands
	s.limitFiles(s.files() + room)

	var visitors, open, waiting []*visitor
	for range crowd {
		v := s.visit(t, "/v1/topics/demo")
		defer v.Close()
		visitors = append(visitors, v)
	}
	// Each is served or waits. Who gets the last file, with none left for what
	// the fast engine needs besides, has a clean end at once and may come back.
	quiet := time.After(2 * time.Second)
	for _, v := range visitors {
		select {
		case err := <-v.served:
			if err != nil {
				t.Fatalf("neither served nor kept waiting: %v", err)
			}
			open = append(open, v)
		case <-quiet:
			quiet = time.After(0)
			waiting = append(waiting, v)
		}
	}
	text := publish()
	expect(first, text)
	live := open[:0:0]
	for _, v := range open {
		var ev sse.Event
		switch err := v.dec.Decode(&ev); {
		case err == io.EOF:
			v.Close()
		case err != nil || string(ev.Data) != text:
			t.Fatalf("event %q (%v), want %q", ev.Data, err, text)
		default:
			live = append(live, v)
		}
	}
	t.Logf("%d are served, %d were ended, %d wait", len(live), len(open)-len(live), len(waiting))
	if len(live) < room/2 || len(live) > room+5 {
		t.Fatalf("%d streams with %d files", len(live), room)
	}

	before := s.cpu()
	time.Sleep(2 * time.Second)
	if spent := s.cpu() - before; spent > time.Second {
		t.Errorf("with nothing to do it computes %v in two seconds", spent)
	}
	if n := strings.Count(s.stderr.String(), "too many open files"); n != 1 {
		t.Errorf("the log says %d times that there are no files:\n%s", n, s.stderr.tail(2000))
	}

	// Some leave, others come in.
	for _, v := range live[:len(live)/2] {
		v.Close()
	}
	live = live[len(live)/2:]
	deadline := time.After(startTime)
	served := 0
	for served == 0 && len(waiting) > 0 {
		for _, v := range waiting {
			select {
			case err := <-v.served:
				if err != nil {
					t.Fatal(err)
				}
				served++
			default:
			}
		}
		select {
		case <-deadline:
			t.Fatal("nobody of those who wait is let in")
		case <-time.After(10 * time.Millisecond):
		}
	}
	text = publish()
	expect(first, text)
	for _, v := range live {
		expect(v, text)
	}
	s.limitFiles(s.files() + crowd)
	last := s.visit(t, "/v1/topics/demo")
	defer last.Close()
	if err := <-last.served; err != nil {
		t.Fatal(err)
	}
	expect(last, publish())
	s.alive()
}
