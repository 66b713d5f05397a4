package cli

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A limit of the configuration holds for streams, and counts who is behind a
// proxy that the configuration trusts.
func TestServeHoldsTheLimitsOfItsConfiguration(t *testing.T) {
	url := serveHere(t, "--limits.streams_per_address", "1", "--limits.connect_rate", "none", "--listen.trusted_proxies", "127.0.0.1")
	open := func(from string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/v1/topics/demo", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", from)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	for _, tt := range []struct {
		from   string
		status int
	}{{"192.0.2.1", 200}, {"192.0.2.2", 200}, {"192.0.2.1", 429}} {
		if resp := open(tt.from); resp.StatusCode != tt.status {
			t.Errorf("%s gets %s, want %d", tt.from, resp.Status, tt.status)
		}
	}
	resp := open("192.0.2.2")
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "too-many-connections") {
		t.Errorf("got %s %v", body, err)
	}
}
