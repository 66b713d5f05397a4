package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/ssetest"
)

// A harness has a service and gets its callbacks.
type harness struct {
	t         *testing.T
	service   string // URL
	callbacks *httptest.Server
	got       chan callback
	ended     chan error // of run
}

type callback struct {
	path string
	body string
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, service: "http://" + l.Addr().String(), got: make(chan callback, 100), ended: make(chan error, 1)}
	h.callbacks = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("callback %s with %q", r.Method, r.Header.Get("Content-Type"))
		}
		h.got <- callback{r.URL.Path, string(body)}
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ended <- run(ctx, l, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		h.callbacks.Close()
	})
	return h
}

// do sends a request and returns status, Location and body.
func (h *harness) do(method, path, body string) (status int, location, answer string) {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.service+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Location"), string(b)
}

// create makes a client of a stream, with the other parameters as given, and returns its path.
func (h *harness) create(streamURL string, params map[string]any) string {
	h.t.Helper()
	all := map[string]any{"streamUrl": streamURL, "callbackUrl": h.callbacks.URL + "/cb", "tag": h.t.Name(), "initialDelayMs": 0}
	for k, v := range params {
		all[k] = v
	}
	body, err := json.Marshal(all)
	if err != nil {
		h.t.Fatal(err)
	}
	status, location, answer := h.do("POST", "/", string(body))
	if status != 201 || !strings.HasPrefix(location, "/clients/") {
		h.t.Fatalf("create: %d, Location %q, %q", status, location, answer)
	}
	return location
}

// expect waits for the next callbacks, the first of them with number n.
func (h *harness) expect(n int, bodies ...string) {
	h.t.Helper()
	for i, want := range bodies {
		select {
		case got := <-h.got:
			if path := fmt.Sprint("/cb/", n+i); got.path != path || got.body != want {
				h.t.Fatalf("callback %s %s, want %s %s", got.path, got.body, path, want)
			}
		case <-time.After(10 * time.Second):
			h.t.Fatalf("no callback, want %s", want)
		}
	}
}

// expectError waits for callback n to be an error that has text in it.
func (h *harness) expectError(n int, text string) {
	h.t.Helper()
	select {
	case got := <-h.got:
		var m struct{ Kind, Error, Comment string }
		if err := json.Unmarshal([]byte(got.body), &m); err != nil {
			h.t.Fatal(err)
		}
		if got.path != fmt.Sprint("/cb/", n) || m.Kind != "error" || !strings.Contains(m.Error, text) || m.Comment != m.Error {
			h.t.Fatalf("callback %s %s, want error %d with %q", got.path, got.body, n, text)
		}
	case <-time.After(10 * time.Second):
		h.t.Fatalf("no callback, want an error with %q", text)
	}
}

func (h *harness) expectNone() {
	h.t.Helper()
	select {
	case got := <-h.got:
		h.t.Fatalf("callback %s %s, want none", got.path, got.body)
	default:
	}
}

func TestStatusAndQuit(t *testing.T) {
	h := newHarness(t)
	status, _, body := h.do("GET", "/", "")
	var answer struct {
		Name         string
		Capabilities []string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if status != 200 || answer.Name != "tailrace" || !slices.Equal(answer.Capabilities, capabilities) {
		t.Errorf("%d, %s", status, body)
	}
	if status, _, _ := h.do("DELETE", "/", ""); status != 204 {
		t.Errorf("DELETE /: %d", status)
	}
	if err := <-h.ended; err != nil {
		t.Errorf("the program ended with %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	h := newHarness(t)
	srv := ssetest.NewServer(t, ssetest.Step{Then: ssetest.Hold})
	client := h.create(srv.URL, nil)
	tests := []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/", ``, 400},
		{"POST", "/", `{`, 400},
		{"POST", "/", `[]`, 400},
		{"POST", "/", `{"streamUrl":"http://127.0.0.1/"}`, 400},
		{"POST", "/", `{"callbackUrl":"http://127.0.0.1/"}`, 400},
		{"POST", "/", `{"streamUrl":7,"callbackUrl":"http://127.0.0.1/"}`, 400},
		{"POST", "/", `{"streamUrl":"/relative","callbackUrl":"http://127.0.0.1/"}`, 400},
		{"POST", "/", `{"streamUrl":"http://127.0.0.1/","callbackUrl":"http://127.0.0.1/","initialDelayMs":"7"}`, 400},
		{"POST", "/", `{"streamUrl":"http://127.0.0.1/","callbackUrl":"http://127.0.0.1/","readTimeoutMs":-1}`, 400},
		{"POST", "/", `{"streamUrl":"http://127.0.0.1/","callbackUrl":"http://127.0.0.1/","method":"A B"}`, 400},
		{"POST", client, ``, 400},
		{"POST", client, `{"command":"sleep"}`, 400},
		{"POST", client, `{"command":"listen"}`, 400},
		{"POST", client, `{"command":"listen","listen":{"type":"t"}}`, 204},
		{"POST", "/clients/99", `{"command":"restart"}`, 404},
		{"DELETE", "/clients/99", ``, 404},
		{"GET", "/elsewhere", ``, 404},
		{"DELETE", client, ``, 204},
		{"DELETE", client, ``, 404},
		{"POST", client, `{"command":"restart"}`, 404},
	}
	for _, tt := range tests {
		if status, _, _ := h.do(tt.method, tt.path, tt.body); status != tt.status {
			t.Errorf("%s %s %s: %d, want %d", tt.method, tt.path, tt.body, status, tt.status)
		}
	}
}

func TestCallbacksInTheOrderOfTheStream(t *testing.T) {
	h := newHarness(t)
	srv := ssetest.NewServer(t,
		ssetest.Step{Chunks: []string{"\ufeff: one \ndata: a\n\n:two\n", "id: 7\nevent: t\ndata: b\ndata: c\n\n:\n"}},
		ssetest.Step{Status: 503},
		ssetest.Step{Chunks: []string{"data: d\n\n"}},
		ssetest.Step{Status: 400},
	)
	client := h.create(srv.URL, nil)
	h.expect(1,
		`{"kind":"comment","comment":" one "}`,
		`{"kind":"event","event":{"data":"a","id":""}}`,
		`{"kind":"comment","comment":"two"}`,
		`{"kind":"event","event":{"type":"t","data":"b\nc","id":"7"}}`,
		`{"kind":"comment","comment":""}`,
	)
	h.expectError(6, "503") // and none for the clean end before
	h.expect(7, `{"kind":"event","event":{"data":"d","id":"7"}}`)
	h.expectError(8, "400")
	if status, _, _ := h.do("DELETE", client, ""); status != 204 {
		t.Errorf("DELETE: %d", status)
	}
	h.expectNone()
}

func TestParametersReachTheStream(t *testing.T) {
	h := newHarness(t)
	srv := ssetest.NewServer(t, ssetest.Step{Chunks: []string{"data: a\n\n"}}, ssetest.Step{Chunks: []string{"id: 5\ndata: b\n\n"}})
	h.create(srv.URL, map[string]any{
		"method": "REPORT", "body": "ask", "lastEventId": "4", "headers": map[string]string{"x-own": "yes"},
	})
	h.expect(1, `{"kind":"event","event":{"data":"a","id":"4"}}`, `{"kind":"event","event":{"data":"b","id":"5"}}`)
	for i, r := range srv.Requests()[:2] {
		if r.Method != "REPORT" || string(r.Body) != "ask" || r.Header.Get("Content-Type") != "text/plain" ||
			r.Header.Get("X-Own") != "yes" || r.Header.Get("Last-Event-ID") != "4" {
			t.Errorf("request %d: %+v", i, r)
		}
	}
}

func TestPostKeepsItsContentType(t *testing.T) {
	h := newHarness(t)
	srv := ssetest.NewServer(t, ssetest.Step{Chunks: []string{"data: a\n\n"}})
	h.create(srv.URL, map[string]any{
		"method": "POST", "body": "{}", "headers": map[string]string{"content-type": "application/json"},
	})
	h.expect(1, `{"kind":"event","event":{"data":"a","id":""}}`)
	if r := srv.Requests()[0]; r.Method != "POST" || string(r.Body) != "{}" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("request %+v", r)
	}
}

func TestReadTimeout(t *testing.T) {
	h := newHarness(t)
	srv := ssetest.NewServer(t,
		ssetest.Step{Chunks: []string{"data: a\n\n"}, Then: ssetest.Hold},
		ssetest.Step{Chunks: []string{"data: b\n\n"}},
	)
	h.create(srv.URL, map[string]any{"readTimeoutMs": 50})
	h.expect(1, `{"kind":"event","event":{"data":"a","id":""}}`)
	h.expectError(2, "idle")
	h.expect(3, `{"kind":"event","event":{"data":"b","id":""}}`)
}

func TestRestart(t *testing.T) {
	h := newHarness(t)
	srv := ssetest.NewServer(t,
		ssetest.Step{Chunks: []string{"data: a\n\n"}, Then: ssetest.Hold},
		ssetest.Step{Chunks: []string{"data: b\n\n"}, Then: ssetest.Hold},
	)
	client := h.create(srv.URL, map[string]any{"initialDelayMs": 3600000})
	h.expect(1, `{"kind":"event","event":{"data":"a","id":""}}`)
	if status, _, _ := h.do("POST", client, `{"command":"restart"}`); status != 204 {
		t.Errorf("restart: %d", status)
	}
	h.expect(2, `{"kind":"event","event":{"data":"b","id":""}}`)
}

func TestServerDirectedShutdown(t *testing.T) {
	h := newHarness(t)
	srv := ssetest.NewServer(t, ssetest.Step{Chunks: []string{"data: a\n\n"}}) // then 204
	client := h.create(srv.URL, nil)
	h.expect(1, `{"kind":"event","event":{"data":"a","id":""}}`)
	for len(srv.Requests()) < 2 {
		time.Sleep(time.Millisecond)
	}
	if status, _, _ := h.do("DELETE", client, ""); status != 204 {
		t.Errorf("DELETE: %d", status)
	}
	h.expectNone()
	if n := len(srv.Requests()); n != 2 {
		t.Errorf("%d requests, want none after 204", n)
	}
}

func TestFinalErrorOfTheFirstRequest(t *testing.T) {
	h := newHarness(t)
	srv := ssetest.NewServer(t, ssetest.Step{Status: 404})
	h.create(srv.URL, nil)
	h.expectError(1, "404")
}
