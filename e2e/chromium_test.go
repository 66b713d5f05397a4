package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// browserTime is how long the browser may take for anything.
const browserTime = 90 * time.Second

// browser is a headless Chromium, driven through the pipe of its debugging
// protocol: JSON messages that end in NUL, read by it on descriptor 3 and
// written on 4.
type browser struct {
	t  testing.TB
	in *os.File

	mu       sync.Mutex
	last     int
	answers  map[int]chan answer
	sessions map[string]*page
}

type answer struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

// startBrowser runs Chromium until the test ends.
func startBrowser(t testing.TB) *browser {
	t.Helper()
	path := findChromium()
	if path == "" {
		t.Fatal("this test needs Chromium: make deps, or apt-get install chromium")
	}
	profile, err := os.MkdirTemp(scratch, "chromium-")
	if err != nil {
		t.Fatal(err)
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := command(context.Background(), path, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
		"--disable-extensions", "--disable-dev-shm-usage", "--window-size=1280,900",
		"--user-data-dir="+profile, "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.SysProcAttr.Setpgid = true
	stderr := &output{}
	cmd.Stderr = stderr
	cmd.WaitDelay = time.Second // a helper process may hold stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &browser{t: t, in: in, answers: map[int]chan answer{}, sessions: map[string]*page{}}
	var reading sync.WaitGroup
	reading.Go(func() { b.read(out) })
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		in.Close()
		out.Close()
		reading.Wait()
		if t.Failed() {
			t.Logf("Chromium says:\n%s", stderr.tail(2000))
		}
	})
	return b
}

func findChromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// read hands out what the browser says.
func (b *browser) read(out *os.File) {
	r := bufio.NewReader(out)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m struct {
			ID        int
			SessionID string
			Method    string
			Params    struct{ Payload string }
			answer
		}
		if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
			continue // of no kind that is used here
		}
		b.mu.Lock()
		waiting, page := b.answers[m.ID], b.sessions[m.SessionID]
		delete(b.answers, m.ID)
		b.mu.Unlock()
		switch {
		case waiting != nil:
			waiting <- m.answer
		case m.Method == "Runtime.bindingCalled" && page != nil:
			page.reports <- m.Params.Payload
		}
	}
}

// call sends a command to a session ("" is the browser) and returns its result.
func (b *browser) call(session, method string, params any) json.RawMessage {
	b.t.Helper()
	done := make(chan answer, 1)
	b.mu.Lock()
	b.last++
	id := b.last
	b.answers[id] = done
	b.mu.Unlock()
	text, err := json.Marshal(struct {
		ID        int    `json:"id"`
		SessionID string `json:"sessionId,omitempty"`
		Method    string `json:"method"`
		Params    any    `json:"params"`
	}{id, session, method, params})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		b.t.Fatalf("chromium: %v", err)
	}
	select {
	case a := <-done:
		if a.Error != nil {
			b.t.Fatalf("chromium: %s: %s", method, a.Error.Message)
		}
		return a.Result
	case <-time.After(browserTime):
		b.t.Fatalf("chromium: no answer to %s", method)
	}
	return nil
}

// page is a tab. What its scripts pass to report() comes out of reports.
type page struct {
	*browser
	session string
	reports chan string
}

type object map[string]any

// open opens a tab at url.
func (b *browser) open(url string) *page {
	b.t.Helper()
	var target struct{ TargetID string }
	b.result(b.call("", "Target.createTarget", object{"url": "about:blank"}), &target)
	var attached struct{ SessionID string }
	b.result(b.call("", "Target.attachToTarget", object{"targetId": target.TargetID, "flatten": true}), &attached)
	p := &page{browser: b, session: attached.SessionID, reports: make(chan string, 10_000)}
	b.mu.Lock()
	b.sessions[p.session] = p
	b.mu.Unlock()
	b.call(p.session, "Runtime.enable", object{})
	b.call(p.session, "Runtime.addBinding", object{"name": "report"})
	b.call(p.session, "Page.enable", object{})
	b.call(p.session, "Page.navigate", object{"url": url})
	p.eval(`new Promise(done => document.readyState === "complete" ? done() : addEventListener("load", () => done()))`)
	return p
}

func (b *browser) result(text json.RawMessage, v any) {
	b.t.Helper()
	if err := json.Unmarshal(text, v); err != nil {
		b.t.Fatalf("chromium: %v in %s", err, text)
	}
}

// eval runs a script, waits for its promise if it gives one, and returns its
// value as JSON.
func (p *page) eval(script string) json.RawMessage {
	p.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	p.result(p.call(p.session, "Runtime.evaluate", object{"expression": script, "awaitPromise": true, "returnByValue": true}), &r)
	if e := r.ExceptionDetails; e != nil {
		p.t.Fatalf("chromium: %s %s in %s", e.Text, e.Exception.Description, script)
	}
	return r.Result.Value
}

// await waits until a condition of the page is true.
func (p *page) await(condition string) {
	p.t.Helper()
	p.eval(fmt.Sprintf(`new Promise((done, fail) => {
		const end = Date.now() + %d;
		const look = () => (%s) ? done() : Date.now() > end ? fail(new Error("it never came true")) : setTimeout(look, 20);
		look();
	})`, (browserTime / 2).Milliseconds(), condition))
}

// screenshot writes a picture of the page if TAILRACE_SCREENSHOTS names a
// directory.
func (p *page) screenshot(name string) {
	p.t.Helper()
	dir := os.Getenv("TAILRACE_SCREENSHOTS")
	if dir == "" {
		return
	}
	var shot struct{ Data []byte }
	p.result(p.call(p.session, "Page.captureScreenshot", object{"format": "png"}), &shot)
	file := filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".png")
	if err := os.WriteFile(file, shot.Data, 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.t.Log("screenshot: ", file)
}
