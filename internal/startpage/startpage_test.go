package startpage_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/chromium"
	"github.com/tailrace/tailrace/internal/server"
	"github.com/tailrace/tailrace/internal/startpage"
)

func status() startpage.Status {
	return startpage.Status{Version: "v0", Engine: "memory", Started: time.Now(), Connections: 3, Published: 1234}
}

func fetch(t *testing.T, url, etag string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("If-None-Match", etag)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestFiles(t *testing.T) {
	srv := httptest.NewServer(startpage.New(status))
	defer srv.Close()
	for path, contentType := range map[string]string{
		"/":               "text/html; charset=utf-8",
		"/start/page.css": "text/css; charset=utf-8",
		"/start/page.js":  "text/javascript; charset=utf-8",
		"/start/icon.svg": "image/svg+xml",
		"/start/status":   "application/json",
	} {
		resp, body := fetch(t, srv.URL+path, "")
		csp := resp.Header.Get("Content-Security-Policy")
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != contentType || body == "" ||
			!strings.Contains(csp, "script-src 'self';") || strings.Contains(csp, "unsafe") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
		if etag := resp.Header.Get("ETag"); etag != "" {
			if resp, body := fetch(t, srv.URL+path, etag); resp.StatusCode != 304 || body != "" {
				t.Errorf("%s again: %d with %d bytes", path, resp.StatusCode, len(body))
			}
		}
	}
	if resp, _ := fetch(t, srv.URL+"/other", ""); resp.StatusCode != 404 {
		t.Errorf("/other: %d", resp.StatusCode)
	}
}

// TestPageLoadsNothingElse holds the markup to what the policy admits, and to
// files of this server.
func TestPageLoadsNothingElse(t *testing.T) {
	srv := httptest.NewServer(startpage.New(status))
	defer srv.Close()
	_, page := fetch(t, srv.URL+"/", "")
	if m := regexp.MustCompile(`(?i)<script[^>]*>[^<]|<style|\sstyle=|\son[a-z]+=|(src|href)="(//|https?:)`).FindString(page); m != "" {
		t.Errorf("the page has %q", m)
	}
	for _, m := range regexp.MustCompile(`(?:src|href)="(/start/[^"]*)"`).FindAllStringSubmatch(page, -1) {
		if resp, _ := fetch(t, srv.URL+m[1], ""); resp.StatusCode != 200 {
			t.Errorf("%s: %d", m[1], resp.StatusCode)
		}
	}
	_, script := fetch(t, srv.URL+"/start/page.js", "")
	if m := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(`).FindString(script); m != "" {
		t.Errorf("the script uses %s", m)
	}
}

// TestLiveViewInChromium publishes hostile events and watches them arrive.
func TestLiveViewInChromium(t *testing.T) {
	browser := chromium.Start(t)
	hub, err := tailrace.New(&tailrace.Options{DrainWindow: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(hub, &server.Options{Addr: "127.0.0.1:0", Dev: true, DrainDelay: -1, Pages: startpage.New(status)})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	publish := func(topic, eventType, data string) {
		t.Helper()
		if _, err := hub.Publish(t.Context(), tailrace.Event{Topic: topic, Type: eventType, Data: []byte(data)}); err != nil {
			t.Fatal(err)
		}
	}

	const hostile = `<img src=x onerror="document.title='owned'"></pre><script>document.title='owned'</script>`
	publish("before", "early", hostile)
	page := browser.Open("http://" + addr.String() + "/")
	page.Wait(`document.querySelector("#state")?.dataset.state === "live"`)
	page.Wait(`document.querySelectorAll(".event").length === 1`)
	var text string
	page.Eval(`document.querySelector(".event .data").textContent`, &text)
	if text != hostile {
		t.Errorf("shown as %q", text)
	}

	publish("after/x", "", "plain")
	publish("after/y", "late", "a type that nobody listened to")
	page.Wait(`document.querySelectorAll(".event").length === 3`)
	publish("after/z", "late", "now somebody does")
	page.Wait(`document.querySelectorAll(".event").length === 4`)
	var rows []string
	page.Eval(`[...document.querySelectorAll(".event")].map(e => [".topic", ".type", ".data"].map(s => e.querySelector(s).textContent).join("|"))`, &rows)
	if got, want := strings.Join(rows, "\n"), "after/z|late|now somebody does\nafter/y|late|a type that nobody listened to\nafter/x||plain\nbefore|early|"+hostile; got != want {
		t.Errorf("rows\n%s\nwant\n%s", got, want)
	}

	page.Eval(`document.querySelector("#publish-topic").value = "boxed/ä b"; document.querySelector("#publish-data").value = "from the page"; document.querySelector("#publish").requestSubmit()`, nil)
	page.Wait(`document.querySelector(".event .data").textContent === "from the page"`)
	page.Wait(`/^Stored as [0-9a-z]+\.[0-9a-z]+$/.test(document.querySelector("#publish-result").textContent)`)
	page.Wait(`[...document.querySelectorAll("#topic-list button")].some(b => b.textContent === "boxed/ä b")`)

	page.Eval(`document.querySelector("#selector").value = "after/*"; document.querySelector("#watch").requestSubmit()`, nil)
	page.Wait(`document.querySelectorAll(".event").length === 3`)
	page.Eval(`document.querySelector("#selector").value = "**/bad"; document.querySelector("#watch").requestSubmit()`, nil)
	page.Wait(`document.querySelector("#state").dataset.state === "closed" && document.querySelector("#state").textContent !== "closed"`)

	page.Eval(`document.title`, &text)
	if text != "Tailrace" {
		t.Errorf("the title became %q", text)
	}
}
