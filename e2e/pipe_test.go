package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// TestPipeFromStreamToStream: lines go into one topic, that topic's stream into
// another, over a server that is killed in between. A subscriber of both that
// resumes again and again, and the command sub, see every event of each once.
//
//	while sleep 1; do cat /proc/loadavg; done | tailrace pub host/load
//	tailrace sub 'host/**'
//	curl -N .../v1/topics/host/load | tailrace pub copy/load --sse
func TestPipeFromStreamToStream(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const half = 20

	pub := s.client("pub", "host/load")
	lines, err := pub.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	sub := s.client("sub", "host/**", "--json", "--from", "start")
	printed, err := sub.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*exec.Cmd{pub, sub} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // for a test that fails on its way
		pub.Process.Kill()
		sub.Process.Kill()
	})

	// What each reader shall see next, by topic.
	both := &bothReader{server: s, next: map[string]int{}}
	write := func(from int) {
		for n := from; n < from+half; n++ {
			fmt.Fprintf(lines, "load %d\n", n)
		}
	}

	copying := s.copy()
	write(0)
	both.until(half)
	s.kill()
	copying() // the stream has ended, and so the pipe
	write(half)
	s.start()
	copying = s.copy() // from the start: what is there already is there once
	both.until(2 * half)

	lines.Close()
	if err := pub.Wait(); err != nil {
		t.Errorf("pub: %v", err)
	}
	out := bufio.NewScanner(printed)
	for n := 0; n < 2*half && out.Scan(); n++ {
		var e envelope
		if err := json.Unmarshal(out.Bytes(), &e); err != nil || e.Topic != "host/load" || e.Data != fmt.Sprintf("load %d", n) {
			t.Fatalf("sub prints %s as event %d (%v)", out.Bytes(), n, err)
		}
	}
	sub.Process.Signal(syscall.SIGINT)
	if out.Scan() {
		t.Errorf("sub prints too much: %s", out.Bytes())
	}
	sub.Wait()
	if code := sub.ProcessState.ExitCode(); code != 130 {
		t.Errorf("sub ends with code %d after an interrupt, want 130", code)
	}
	s.stop()
	copying()
}

// client prepares a client command that talks to s.
func (s *server) client(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), 2*startTime)
	s.t.Cleanup(cancel)
	cmd := command(ctx, s.path, append(args, "--server", s.url(""))...)
	cmd.Stderr = &output{}
	return cmd
}

// copy pipes host/load from its start into copy/load, and returns a function
// that waits for the end of the pipe.
func (s *server) copy() (wait func()) {
	s.t.Helper()
	resp, err := http.Get(s.url("/v1/topics/host/load?from=start"))
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := s.client("pub", "copy/load", "--sse")
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(in, resp.Body) // until the server ends it
		resp.Body.Close()
		in.Close()
	}()
	return func() {
		<-done
		// A pipe that breaks with its server waits for it, to tell what it has
		// left; here it need not.
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// bothReader reads both topics and breaks off after every few events.
type bothReader struct {
	server *server
	lastID string
	next   map[string]int
}

// until reads on until n events of each topic were seen.
func (r *bothReader) until(n int) {
	t := r.server.t
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*startTime)
	defer cancel()
	for r.next["host/load"] < n || r.next["copy/load"] < n {
		if ctx.Err() != nil {
			t.Fatalf("seen %v, want %d of each", r.next, n)
		}
		query := url.Values{"topic": {"host/load", "copy/load"}, "meta": {"1"}, "from": {"start"}}
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, r.server.url("/v1/events?"+query.Encode()), nil)
		req.Header.Set("Last-Event-ID", r.lastID)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			wait(ctx, away)
			continue
		}
		dec := sse.NewDecoder(resp.Body, nil)
		for range 7 {
			var ev sse.Event
			if r.next["host/load"] == n && r.next["copy/load"] == n || dec.Decode(&ev) != nil {
				break
			}
			if ev.Type == tailrace.TypeGap {
				t.Fatalf("gap: %s", ev.Data)
			}
			var e envelope
			if err := json.Unmarshal(ev.Data, &e); err != nil {
				t.Fatalf("%v in %s", err, ev.Data)
			}
			if want := fmt.Sprintf("load %d", r.next[e.Topic]); e.Data != want {
				t.Fatalf("%s of %s, want %s", e.Data, e.Topic, want)
			}
			r.next[e.Topic]++
			r.lastID = ev.ID
		}
		resp.Body.Close()
	}
}

// TestTwoProcessesOneDirectory: the second refuses to start, and says who holds
// the directory. The first goes on.
func TestTwoProcessesOneDirectory(t *testing.T) {
	t.Parallel()
	first := startServer(t)
	second := newServer(t)
	second.dir = first.dir
	second.spawn()
	select {
	case <-second.exited:
	case <-time.After(startTime):
		t.Fatal("the second process does not end")
	}
	code, said := second.cmd.ProcessState.ExitCode(), second.stderr.String()
	if code != 1 && code != 3 {
		t.Errorf("the second process ends with code %d, want a failure", code)
	}
	for _, want := range []string{first.dir, fmt.Sprint(first.cmd.Process.Pid)} {
		if !slices.Contains(strings.Fields(said), want) {
			t.Errorf("the second process does not name %s; it says:\n%s", want, said)
		}
	}
	post(t, first.url("/v1/topics/demo"), "still here")
	first.stop()

	// The directory is free once its holder is gone, however it went.
	second.start()
	second.kill()
	second.start()
	second.alive()
}
