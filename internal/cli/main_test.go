package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test binary is the command itself when this variable is set, so that
// tests can kill it.
const asCommand = "CLI_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(Main())
	}
	os.Exit(m.Run())
}

// result is what a command line printed and how it ended.
type result struct {
	code     int
	out, err string
}

// command runs a command line in this process.
func command(t *testing.T, in io.Reader, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errw buffer
	code := Run(ctx, args, env, in, &out, &errw)
	return result{code, out.String(), errw.String()}
}

// buffer is a bytes.Buffer that may be read while a command writes to it.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// wait waits until what was written has text in it.
func (b *buffer) wait(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !strings.Contains(b.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%q never came; there is only:\n%s", text, b.String())
		}
	}
}

// process is the command as a process of its own.
type process struct {
	*exec.Cmd
	url string
	err *buffer
}

// serveProcess starts a server process and waits until it listens. port 0
// takes a free one.
func serveProcess(t *testing.T, port, dir string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"serve", "--dev", "--listen.http", "127.0.0.1:" + port, "--log.dir", dir}, args...)...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TAILRACE_") }), asCommand+"=1")
	p := &process{Cmd: cmd, err: &buffer{}}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		found := false
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(p.err, lines.Text())
			if m := welcomeURL.FindString(lines.Text()); m != "" && !found {
				found = true
				ready <- m
			}
		}
		if !found {
			close(ready)
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
		cmd.Wait()
	})
	select {
	case p.url = <-ready:
	case <-time.After(30 * time.Second):
	}
	if p.url == "" {
		t.Fatalf("the server did not start:\n%s", p.err)
	}
	return p
}

var welcomeURL = regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`)

// port returns the port of the server.
func (p *process) port(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// end waits for the process and returns its exit code.
func (p *process) end(t *testing.T) int {
	t.Helper()
	state, err := p.Process.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return state.ExitCode()
}

// serveHere runs a server in this process until the test ends and returns its
// URL.
func serveHere(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var errw buffer
	done := make(chan int, 1)
	go func() {
		done <- Run(ctx, append([]string{"serve", "--dev", "--listen.http", "127.0.0.1:0", "--log.engine", "memory", "--drain.window", "1ms"}, args...),
			nil, strings.NewReader(""), io.Discard, &errw)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("the server ended with %d:\n%s", code, errw.String())
		}
	})
	errw.wait(t, "curl -N")
	return welcomeURL.FindString(errw.String())
}

// get returns the body of a page.
func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
