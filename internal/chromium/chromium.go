// Package chromium drives a headless Chromium in tests, over the DevTools
// protocol on its debugging pipe: messages of JSON, each ended by a NUL.
package chromium

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a page may take to do what a test waits for.
const patience = 90 * time.Second // of a machine that is busy with other tests

// Browser is one running Chromium. Its pages may be used from several
// goroutines.
type Browser struct {
	t  testing.TB
	in *os.File // commands

	mu      sync.Mutex // guards what follows
	next    int
	waiting map[int]chan answer
	pages   map[string]*Page // by session
	gone    bool
}

type command struct {
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params,omitempty"`
	Session string `json:"sessionId,omitempty"`
}

// answer is what the browser says: the result of a command, or an event of a
// page.
type answer struct {
	ID      int             `json:"id"`
	Result  json.RawMessage `json:"result"`
	Session string          `json:"sessionId"`
	Method  string          `json:"method"`
	Params  struct {
		Payload string `json:"payload"`
	} `json:"params"`
	Error *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Start runs a Chromium until the test ends. Without one on this machine the
// test fails, and says what to install.
func Start(t testing.TB) *Browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Fatal("this test needs Chromium: make deps, or apt-get install chromium")
	}
	commands, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-quic", "--disable-extensions", "--no-first-run", "--window-size=1280,900",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{commands, answers} // 3 and 4 in the process
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	commands.Close()
	answers.Close()

	b := &Browser{t: t, in: in, waiting: map[int]chan answer{}, pages: map[string]*Page{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.read(out)
	}()
	t.Cleanup(func() {
		in.Close() // the end of its commands ends it, files written
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
		out.Close()
		<-done
	})
	return b
}

// read hands answers to who waits for them, until the browser has ended.
func (b *Browser) read(out *os.File) {
	r := bufio.NewReader(out)
	for {
		message, err := r.ReadBytes(0)
		b.mu.Lock()
		if err != nil {
			b.gone = true
			for _, c := range b.waiting {
				close(c)
			}
			b.waiting = nil
			b.mu.Unlock()
			return
		}
		var a answer
		err = json.Unmarshal(message[:len(message)-1], &a)
		waiting, page := b.waiting[a.ID], b.pages[a.Session]
		delete(b.waiting, a.ID)
		b.mu.Unlock()
		switch {
		case err != nil: // of no kind that is used here
		case waiting != nil:
			waiting <- a
		case a.Method == "Runtime.bindingCalled" && page != nil:
			page.reports <- a.Params.Payload
		}
	}
}

// call sends one command and decodes its result.
func (b *Browser) call(session, method string, params, result any) error {
	c := make(chan answer, 1)
	b.mu.Lock()
	if b.gone {
		b.mu.Unlock()
		return fmt.Errorf("%s: the browser has ended", method)
	}
	b.next++
	text, err := json.Marshal(command{b.next, method, params, session})
	if err == nil {
		b.waiting[b.next] = c
		_, err = b.in.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case a, ok := <-c:
		switch {
		case !ok:
			return fmt.Errorf("%s: the browser has ended", method)
		case a.Error != nil:
			return fmt.Errorf("%s: %s", method, a.Error.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(a.Result, result)
	case <-time.After(patience):
		return fmt.Errorf("%s: no answer", method)
	}
}

// Page is a tab.
type Page struct {
	b       *Browser
	session string
	reports chan string
}

// maxReports is how many reports may wait to be read.
const maxReports = 10_000

// Open opens a page and waits until it has loaded.
func (b *Browser) Open(url string) *Page {
	b.t.Helper()
	var target struct {
		ID string `json:"targetId"`
	}
	var session struct {
		ID string `json:"sessionId"`
	}
	err := b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	if err == nil {
		err = b.call("", "Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &session)
	}
	p := &Page{b: b, session: session.ID, reports: make(chan string, maxReports)}
	b.mu.Lock()
	b.pages[session.ID] = p
	b.mu.Unlock()
	for _, c := range []command{
		{Method: "Runtime.enable"},
		{Method: "Runtime.addBinding", Params: map[string]any{"name": "report"}},
		{Method: "Page.enable"},
		{Method: "Page.navigate", Params: map[string]any{"url": url}},
	} {
		if err == nil {
			err = b.call(session.ID, c.Method, c.Params, nil)
		}
	}
	if err != nil {
		b.t.Fatalf("chromium: open %s: %v", url, err)
	}
	p.Wait(`document.readyState === "complete" && location.href !== "about:blank"`)
	return p
}

// Report returns the next text that a script of the page has passed to the
// function report.
func (p *Page) Report() string {
	p.b.t.Helper()
	select {
	case text := <-p.reports:
		return text
	case <-time.After(patience):
		p.b.t.Fatal("chromium: the page reports nothing more")
		return ""
	}
}

// Screenshot writes a picture of the page to NAME.png in the directory that
// TAILRACE_SCREENSHOTS names, if it names one.
func (p *Page) Screenshot(name string) {
	p.b.t.Helper()
	dir := os.Getenv("TAILRACE_SCREENSHOTS")
	if dir == "" {
		return
	}
	var shot struct {
		Data []byte `json:"data"`
	}
	err := p.b.call(p.session, "Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	file := filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".png")
	if err == nil {
		err = os.WriteFile(file, shot.Data, 0o644)
	}
	if err != nil {
		p.b.t.Fatalf("chromium: screenshot: %v", err)
	}
	p.b.t.Log("screenshot: ", file)
}

// Eval runs JavaScript in the page, waits for it if it gives a promise, and
// decodes its value, which must be one that JSON can say, into result. A nil
// result drops it.
func (p *Page) Eval(js string, result any) {
	p.b.t.Helper()
	if err := p.eval(js, result); err != nil {
		p.b.t.Fatalf("chromium: %s: %v", js, err)
	}
}

func (p *Page) eval(js string, result any) error {
	var got struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	err := p.b.call(p.session, "Runtime.evaluate", map[string]any{"expression": js, "awaitPromise": true, "returnByValue": true}, &got)
	switch {
	case err != nil:
		return err
	case got.Exception != nil:
		return fmt.Errorf("%s %s", got.Exception.Text, got.Exception.Exception.Description)
	case result == nil || got.Result.Value == nil:
		return nil
	}
	return json.Unmarshal(got.Result.Value, result)
}

// Wait waits until a JavaScript expression is true.
func (p *Page) Wait(js string) {
	p.b.t.Helper()
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var ok bool
		if last = p.eval("Boolean("+js+")", &ok); last == nil && ok {
			return
		}
	}
	p.b.t.Fatalf("chromium: never true: %s (%v)", js, last)
}
