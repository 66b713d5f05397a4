package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledServerLosesNothing pipes lines into pub and reads them with sub
// while the server is killed and started again on its directory.
func TestKilledServerLosesNothing(t *testing.T) {
	dir := t.TempDir()
	server := serveProcess(t, "0", dir)
	port, env := server.port(t), []string{"TAILRACE_SERVER=" + server.url}

	const lines = 200
	var out, errw buffer
	subbed := make(chan int, 1)
	go func() {
		subbed <- Run(t.Context(), []string{"sub", "host/**", "--from", "start", "--strict", "--json", "--count", fmt.Sprint(lines)}, env, nil, &out, &errw)
	}()
	in, w := io.Pipe()
	pubbed := make(chan result, 1)
	go func() { pubbed <- command(t, in, env, "pub", "host/load") }()
	kills := 0
	for i := range lines {
		fmt.Fprintf(w, "line %d\n", i)
		time.Sleep(2 * time.Millisecond) // a source, not a file
		if i%60 == 59 {
			server.Process.Kill()
			server.end(t)
			server = serveProcess(t, port, dir)
			kills++
		}
	}
	w.Close()
	if r := <-pubbed; r.code != 0 || r.out != "" {
		t.Errorf("pub: %+v", r)
	}
	select {
	case code := <-subbed:
		if code != 0 {
			t.Errorf("sub ended with %d: %s", code, errw.String())
		}
	case <-time.After(time.Minute):
		t.Fatalf("sub has only:\n%s\n%s", out.String(), errw.String())
	}
	i := 0
	for line := range strings.Lines(out.String()) {
		if !strings.Contains(line, fmt.Sprintf(`"data":"line %d"`, i)) {
			t.Fatalf("in the place of line %d there is %s", i, line)
		}
		i++
	}
	if i != lines || kills != 3 {
		t.Errorf("%d lines over %d kills", i, kills)
	}
}

// TestSecondServerIsRefused holds that two processes never share a directory.
func TestSecondServerIsRefused(t *testing.T) {
	dir := t.TempDir()
	server := serveProcess(t, "0", dir)
	r := command(t, nil, nil, "serve", "--dev", "--listen.http", "127.0.0.1:0", "--log.dir", dir)
	if r.code != exitFailed || !strings.Contains(r.err, fmt.Sprintf("in use by process %d", server.Process.Pid)) {
		t.Errorf("%+v", r)
	}
}

func TestFirstSignalDrains(t *testing.T) {
	server := serveProcess(t, "0", t.TempDir(), "--telemetry.log.level", "debug")
	var out, errw buffer
	ctx, cancel := context.WithCancel(t.Context())
	subbed := make(chan int, 1)
	go func() {
		subbed <- Run(ctx, []string{"sub", "demo", "--from", "start", "--server", server.url}, nil, nil, &out, &errw)
	}()
	if r := command(t, nil, nil, "pub", "demo", "hello", "--server", server.url); r.code != 0 {
		t.Fatal(r)
	}
	out.wait(t, "hello")
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := server.end(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	server.err.wait(t, `"reason":"drain"`)
	errw.wait(t, "trying again")
	cancel()
	if code := <-subbed; code != exitInterrupted {
		t.Errorf("sub ended with %d", code)
	}
}

func TestSecondSignalEndsNow(t *testing.T) {
	server := serveProcess(t, "0", t.TempDir(), "--drain.delay", "10m", "--drain.window", "10m", "--drain.max", "1h")
	ctx, cancel := context.WithCancel(t.Context())
	var out, errw buffer
	subbed := make(chan int, 1)
	go func() {
		subbed <- Run(ctx, []string{"sub", "demo", "--from", "start", "--server", server.url}, nil, nil, &out, &errw)
	}()
	if r := command(t, nil, nil, "pub", "demo", "hello", "--server", server.url); r.code != 0 {
		t.Fatal(r)
	}
	out.wait(t, "hello")
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	server.err.wait(t, "draining")
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := server.end(t); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	cancel()
	<-subbed
}
