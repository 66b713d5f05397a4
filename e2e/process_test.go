package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTime is how long a child may take to come up, in a test that shares two
// cores with others.
const startTime = 60 * time.Second

// server is tailrace serve --dev as a child process. A restart keeps its
// address and its directory.
type server struct {
	t      testing.TB
	path   string // of the binary
	scheme string
	args   []string
	env    []string // besides that of the test
	addr   string   // host:port; port 0 before the first start
	dir    string

	cmd    *exec.Cmd
	stderr *output
	exited chan struct{} // closed when the process is gone
	err    error         // of Wait, once exited is closed
}

// newServer returns a server that has not started. More flags may be given.
func newServer(t testing.TB, flags ...string) *server {
	s := &server{t: t, path: binary(t), scheme: "http", addr: loopback() + ":0", dir: t.TempDir()}
	s.args = append([]string{"--log.min_free=64MiB", "--engine=" + *engine}, flags...)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() && s.stderr != nil {
			t.Logf("the server's last words:\n%s", s.stderr.tail(4000))
		}
	})
	return s
}

// startServer returns a server that runs.
func startServer(t testing.TB, flags ...string) *server {
	t.Helper()
	s := newServer(t, flags...)
	s.start()
	return s
}

// loopback returns an address of this machine. Where all of 127/8 is, it is a
// random one: then no other socket takes the port while the server is down,
// and a client that dials it meanwhile cannot meet itself, which happens on
// 127.0.0.1 when the kernel picks the very port that is dialled.
func loopback() string {
	if runtime.GOOS != "linux" {
		return "127.0.0.1"
	}
	return fmt.Sprintf("127.%d.%d.%d", 1+rand.N(250), rand.N(250), 1+rand.N(250))
}

// url returns the URL of a path.
func (s *server) url(path string) string { return s.scheme + "://" + s.addr + path }

// start runs the process and waits until it listens.
func (s *server) start() {
	s.t.Helper()
	s.spawn()
	if err := s.await(); err != nil {
		s.t.Fatal(err)
	}
}

// spawn runs the process and returns at once.
func (s *server) spawn() {
	s.t.Helper()
	args := append([]string{"serve", "--dev", "--listen.http", s.addr, "--log.dir", s.dir}, s.args...)
	s.cmd = command(context.Background(), s.path, args...)
	s.cmd.Env = append(s.cmd.Env, s.env...)
	s.stderr = &output{}
	s.cmd.Stderr = s.stderr
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exited := s.cmd, make(chan struct{})
	s.exited = exited
	go func() {
		s.err = cmd.Wait()
		close(exited)
	}()
}

var welcome = regexp.MustCompile(`is at https?://([0-9.:]+)/`)

// await waits until the process listens, and learns its port.
func (s *server) await() error {
	deadline := time.After(startTime)
	for {
		more := s.stderr.more() // before the look, so that nothing is missed
		if m := welcome.FindStringSubmatch(s.stderr.String()); m != nil {
			if s.addr != m[1] { // readers of a restarted server look at it all the time
				s.addr = m[1]
			}
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("the server did not come up: %v\n%s", s.err, s.stderr.tail(4000))
		case <-more:
		case <-deadline:
			return errors.New("the server did not come up in time")
		}
	}
}

// kill ends the process as kill -9 does, if it runs.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.exited
	s.check()
	s.cmd = nil
}

// stop ends the process with SIGTERM, and fails the test if it does not end in
// good order.
func (s *server) stop() {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		s.t.Error("the server does not end after SIGTERM")
		s.dump()
	}
	if s.err != nil {
		s.t.Errorf("after SIGTERM: %v\n%s", s.err, s.stderr.tail(4000))
	}
	s.check()
	s.cmd = nil
}

// dump ends a server that is stuck, and logs where its goroutines are.
func (s *server) dump() {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGQUIT)
	<-s.exited
	s.t.Log(s.stderr.tail(200_000))
}

// check fails the test for what a server must never say.
func (s *server) check() {
	s.t.Helper()
	text := s.stderr.String()
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:", `"msg":"panic"`, "msg=panic"} {
		if i := strings.Index(text, bad); i >= 0 {
			s.t.Errorf("the server says:\n%s", text[i:min(len(text), i+6000)])
		}
	}
}

// alive fails the test unless the server runs and is ready.
func (s *server) alive() {
	s.t.Helper()
	s.answers("/livez", http.StatusOK)
	s.answers("/readyz", http.StatusOK)
	s.check()
}

// answers fails the test unless a path answers with a status.
func (s *server) answers(path string, want int) {
	s.t.Helper()
	resp, err := http.Get(s.url(path))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		s.t.Fatalf("%s: %s, want %d", path, resp.Status, want)
	}
}

// command prepares a child that dies with this process and has none of the
// settings of its environment.
func command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TAILRACE_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(cmd.SysProcAttr)
	return cmd
}

// output gathers what a process writes. It is safe for concurrent use.
type output struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	wakeup chan struct{}
}

var _ io.Writer = (*output)(nil)

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wakeup != nil {
		close(o.wakeup)
		o.wakeup = nil
	}
	return o.buf.Write(p)
}

// more is closed at the next Write.
func (o *output) more() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wakeup == nil {
		o.wakeup = make(chan struct{})
	}
	return o.wakeup
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) tail(n int) string {
	text := o.String()
	return text[max(0, len(text)-n):]
}

// problemOf reads the name of the problem that an answer is.
func problemOf(t testing.TB, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p struct{ Type string }
	if err := json.Unmarshal(body, &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s of type %q is no problem: %s", resp.Status, resp.Header.Get("Content-Type"), body)
	}
	return strings.TrimPrefix(p.Type, "/docs/problems/")
}
