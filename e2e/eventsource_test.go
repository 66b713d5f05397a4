package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/tailrace/tailrace/internal/chromium"
)

// listener is a page of another origin that opens native EventSources and
// reports what they see.
const listener = `<!doctype html><title>listener</title><script>
function listen(name, url) {
	const source = new EventSource(url), tell = m => report(JSON.stringify({name, ...m}));
	for (const type of ["message", "typed", "tailrace.gap", "tailrace.end"])
		source.addEventListener(type, e => tell({type, id: e.lastEventId, data: e.data}));
	source.onopen = () => tell({state: "open"});
	source.onerror = () => tell({state: ["connecting", "open", "closed"][source.readyState]});
	(window.sources ??= {})[name] = source;
}
</script>`

// report is what the page tells: an event, or a state that an EventSource
// came to.
type report struct {
	Name, State    string
	Type, ID, Data string
}

// listening is a tab that reports what its EventSources see.
type listening struct {
	*chromium.Page
	t *testing.T
}

func openListener(t *testing.T, b *chromium.Browser) *listening {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, listener)
	}))
	t.Cleanup(site.Close)
	return &listening{b.Open(site.URL), t}
}

func (p *listening) listen(name, url string) {
	p.Eval(fmt.Sprintf("listen(%q, %q)", name, url), nil)
}

// next returns the next report.
func (p *listening) next() report {
	p.t.Helper()
	var r report
	if err := json.Unmarshal([]byte(p.Report()), &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// state waits for the next state of an EventSource.
func (p *listening) state(name string) string {
	p.t.Helper()
	for {
		if r := p.next(); r.Name == name && r.State != "" {
			return r.State
		}
	}
}

// post publishes and returns the status; it fails the test for any other than
// 2xx.
func post(t testing.TB, target, body string) {
	t.Helper()
	resp, err := http.Post(target, "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		t.Fatalf("POST %s: %s\n%s", target, resp.Status, text)
	}
}

// TestEventSourceResumes: the EventSource of a real browser goes over kill -9
// and over an orderly restart, with no event lost or doubled, on one topic and
// on three with a pattern.
func TestEventSourceResumes(t *testing.T) {
	t.Parallel()
	b := chromium.Start(t)
	s := startServer(t)
	p := openListener(t, b)
	topics := []string{"one", "two", "three", "many/a", "many/b/c"}
	published := 0
	publish := func(n int) {
		for range n {
			target := s.url("/v1/topics/" + topics[published%len(topics)])
			if published%2 == 1 {
				target += "?event=typed"
			}
			post(t, target, strconv.Itoa(published))
			published++
		}
	}
	// What each source has seen must be, at any time, a head of what it shall see.
	seen := map[string]int{}
	due := func(name string, n int) bool { return name == "several" || topics[n%len(topics)] == "one" }
	catchUp := func() {
		t.Helper()
		for seen["single"] < published || seen["several"] < published {
			for name, n := range seen {
				for n < published && !due(name, n) {
					n++
				}
				seen[name] = n
			}
			if seen["single"] == published && seen["several"] == published {
				return
			}
			r := p.next()
			if r.State == "closed" {
				t.Fatalf("source %s is closed for good", r.Name)
			}
			if r.State != "" {
				continue
			}
			data := r.Data
			if r.Name == "several" && r.Type != "tailrace.gap" {
				var e envelope
				if err := json.Unmarshal([]byte(r.Data), &e); err != nil {
					t.Fatal(err)
				}
				if n := seen[r.Name]; e.Topic != topics[n%len(topics)] || r.ID != e.Cursor.String() {
					t.Errorf("source several: event %d has the topic %q, the cursor %v and the id %q", n, e.Topic, e.Cursor, r.ID)
				}
				data = e.Data
			}
			wantType := [2]string{"message", "typed"}[seen[r.Name]%2]
			if data != strconv.Itoa(seen[r.Name]) || r.Type != wantType {
				t.Fatalf("source %s: event %q of type %s, want %d of type %s", r.Name, data, r.Type, seen[r.Name], wantType)
			}
			seen[r.Name]++
		}
	}
	seen["single"], seen["several"] = 0, 0
	publish(10) // which are there before anybody listens
	p.listen("single", s.url("/v1/topics/one?from=start"))
	p.listen("several", s.url("/v1/events?"+url.Values{"topic": {"one", "two", "three", "many/**"}, "from": {"start"}, "meta": {"1"}}.Encode()))
	catchUp()
	publish(10)
	catchUp()
	for _, end := range []func(){s.kill, s.stop} {
		publish(7) // which the browser may have, or not
		end()
		s.start()
		publish(20) // before the browser is back
		catchUp()
		publish(7)
		catchUp()
	}
}

// TestEventSourceEnds: a browser's EventSource ends for good where the server
// wants it to, and only there.
func TestEventSourceEnds(t *testing.T) {
	t.Parallel()
	b := chromium.Start(t)
	s := startServer(t, "--policies", `[{pattern: closing, closable: true}]`, "--limits.streams", "2")
	p := openListener(t, b)

	// A closed topic says so, and 204 stops who comes back.
	post(t, s.url("/v1/topics/closing"), "last words")
	post(t, s.url("/v1/close/closing"), "")
	p.listen("closing", s.url("/v1/topics/closing?from=start"))
	var got []string
	for {
		r := p.next()
		if r.State == "closed" {
			break
		}
		if r.State == "" {
			got = append(got, r.Type)
		}
	}
	if text := strings.Join(got, " "); text != "message tailrace.end" {
		t.Errorf("of a closed topic the browser sees %q, want the event and the end, once", text)
	}

	// What will not get better has a true status.
	req, _ := http.NewRequest(http.MethodDelete, s.url("/v1/topics/retired?retire=1"), nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for name, path := range map[string]string{
		"400":     "/v1/topics/a%00b",
		"400 too": "/v1/topics/one?form=start",
		"404":     "/v1/nothing",
		"410":     "/v1/topics/retired",
	} {
		p.listen(name, s.url(path))
		if state := p.state(name); state != "closed" {
			t.Errorf("%s: the EventSource is %s, want closed", name, state)
		}
	}

	// What will get better has not: a full server answers with a stream that
	// ends, and the browser comes back by itself.
	p.listen("first", s.url("/v1/topics/one"))
	p.state("first")
	p.listen("second", s.url("/v1/topics/one"))
	p.state("second")
	p.listen("third", s.url("/v1/topics/one"))
	for _, want := range []string{"open", "connecting"} {
		if state := p.state("third"); state != want {
			t.Fatalf("on a full server the EventSource is %s, want %s", state, want)
		}
	}
	p.Eval(`sources.first.close()`, nil)
	if state := p.state("third"); state != "open" {
		t.Fatalf("once there is room the EventSource is %s, want open", state)
	}
}

// TestStartPageIsLive: the page at / shows an event the moment it is
// published, and its publish box publishes.
func TestStartPageIsLive(t *testing.T) {
	t.Parallel()
	b := chromium.Start(t)
	s := startServer(t)
	p := b.Open(s.url("/"))
	const state = `document.getElementById("state").dataset.state`
	p.Wait(state + ` === "live"`)
	post(t, s.url("/v1/topics/demo"), "hello from outside")
	p.Wait(`document.getElementById("events").innerText.includes("hello from outside")`)
	p.Eval(`document.getElementById("publish-topic").value = "orders/eu";
		document.getElementById("publish-type").value = "created";
		document.getElementById("publish-data").value = '{"total": 7}';
		document.getElementById("publish").requestSubmit()`, nil)
	p.Wait(`document.getElementById("events").innerText.includes('{"total": 7}')`)
	p.Screenshot(t.Name())

	s.kill()
	p.Wait(state + ` !== "live"`)
	s.start()
	post(t, s.url("/v1/topics/demo"), "hello again")
	p.Wait(`document.getElementById("events").innerText.includes("hello again")`)
	p.Screenshot(t.Name() + "-after-restart")
	var shown string
	p.Eval(`[...document.querySelectorAll("#events .data")].map(e => e.textContent).join("|")`, &shown)
	if shown != `hello again|{"total": 7}|hello from outside` {
		t.Errorf("the page shows %s", shown)
	}
}
