// Package chromium drives a headless Chromium in tests, over the DevTools
// protocol on its debugging pipe: messages of JSON, each ended by a NUL.
package chromium

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// patience is how long a page may take to do what a test waits for.
const patience = 30 * time.Second

// Browser is one running Chromium. Its pages may be used from several
// goroutines.
type Browser struct {
	t  testing.TB
	in *os.File // commands

	mu      sync.Mutex // guards what follows
	next    int
	waiting map[int]chan answer
	gone    bool
}

type command struct {
	ID      int    `json:"id"`
	Method  string `json:"method"`
	Params  any    `json:"params"`
	Session string `json:"sessionId,omitempty"`
}

type answer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Start runs a Chromium until the test ends. Without one on this machine the
// test is skipped, and says so.
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
		t.Skip("no Chromium on this machine: what a browser does with this is not tested (make deps)")
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
		"--disable-component-update", "--disable-sync", "--no-first-run", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe")
	cmd.ExtraFiles = []*os.File{commands, answers} // 3 and 4 in the process
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	commands.Close()
	answers.Close()

	b := &Browser{t: t, in: in, waiting: map[int]chan answer{}}
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
		if json.Unmarshal(message[:len(message)-1], &a) == nil && a.ID != 0 {
			b.waiting[a.ID] <- a
			delete(b.waiting, a.ID)
		}
		b.mu.Unlock()
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
}

// Open opens a page.
func (b *Browser) Open(url string) *Page {
	b.t.Helper()
	var target struct {
		ID string `json:"targetId"`
	}
	var session struct {
		ID string `json:"sessionId"`
	}
	err := b.call("", "Target.createTarget", map[string]any{"url": url}, &target)
	if err == nil {
		err = b.call("", "Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &session)
	}
	if err != nil {
		b.t.Fatalf("chromium: open %s: %v", url, err)
	}
	return &Page{b, session.ID}
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
