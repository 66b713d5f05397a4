package cli

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tailrace/tailrace/internal/auth"
)

// guardedServer runs a server with that configuration until stop is called, or
// the test ends.
func guardedServer(t *testing.T, file string) (url string, errw *buffer, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	errw = &buffer{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if code := Run(ctx, []string{"serve", "--config", file, "--listen.http", "127.0.0.1:0"}, nil, strings.NewReader(""), io.Discard, errw); code != 0 {
			t.Errorf("the server ended with %d:\n%s", code, errw.String())
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	errw.wait(t, "the log is in")
	return welcomeURL.FindString(errw.String()), errw, stop
}

// ask makes a request with a credential, or none, and returns its status.
func ask(t *testing.T, method, url, key, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// What was revoked stays so over a restart, on disk.
func TestServeWithAuth(t *testing.T) {
	dir := t.TempDir()
	config := "log: {dir: " + filepath.Join(dir, "data") + "}\ndrain: {delay: 0s, window: 1ms, max: 1s}\nauth:\n  keys:\n"
	keys := map[string]string{}
	for name, grants := range map[string]string{"app": `{publish: ["demo"], subscribe: ["demo"]}`, "root": `{admin: ["**"]}`} {
		key, hash, err := auth.NewKey(name)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
		config += "    - {name: " + name + ", hash: \"" + hash + "\", grants: " + grants + "}\n"
	}
	file := filepath.Join(dir, "tailrace.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}

	url, _, stop := guardedServer(t, file)
	for _, c := range []struct {
		method, path, key string
		want              int
	}{
		{"POST", "/v1/topics/demo", "", 401},
		{"POST", "/v1/topics/demo", "app", 200},
		{"POST", "/v1/topics/other", "app", 403},
		{"GET", "/v1/topics/demo?format=json", "app", 200},
		{"GET", "/v1/topics/demo?format=json", "root", 403},
		{"GET", "/metrics", "app", 403},
		{"GET", "/metrics", "root", 200},
		{"GET", "/readyz", "", 200},
		{"GET", "/", "", 404},
	} {
		body := ""
		if c.method == "POST" {
			body = "x"
		}
		if got := ask(t, c.method, url+c.path, keys[c.key], body); got != c.want {
			t.Errorf("%s %s by %q: %d, want %d", c.method, c.path, c.key, got, c.want)
		}
	}
	if got := ask(t, "POST", url+"/v1/revocations", keys["root"], `{"key":"app"}`); got != 200 {
		t.Fatalf("revoking: %d", got)
	}
	stop()

	url, errw, _ := guardedServer(t, file)
	if got := ask(t, "POST", url+"/v1/topics/demo", keys["app"], "x"); got != 401 {
		t.Errorf("a revoked key after a restart: %d", got)
	}

	// A hangup reloads the file, unless anything in it is wrong.
	hangUp := func(text, told string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Signal(syscall.SIGHUP)
		}
		if err != nil {
			t.Fatal(err)
		}
		errw.wait(t, told)
	}
	if got := ask(t, "GET", url+"/v1/topics/open?format=json", "", ""); got != 401 {
		t.Errorf("a topic that is not public: %d", got)
	}
	hangUp(config+"policies: [{pattern: open, public: true}]\nlisten: {htp: x}\n", "stays as it was")
	if got := ask(t, "GET", url+"/v1/topics/open?format=json", "", ""); got != 401 {
		t.Errorf("after a wrong configuration: %d", got)
	}
	hangUp(config+"policies: [{pattern: open, public: true}]\n", "are reloaded")
	if got := ask(t, "GET", url+"/v1/topics/open?format=json", "", ""); got != 200 {
		t.Errorf("a topic that is public: %d", got)
	}
}
