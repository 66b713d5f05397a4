package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestDoctor: the report goes to stdout, as text or as JSON, and the exit code
// says how it went.
func TestDoctor(t *testing.T) {
	server := serveHere(t, "--stream.heartbeat", "5s")
	r := command(t, nil, nil, "doctor", server, "--wait", "1ms", "--origin", "http://localhost:3000")
	if r.code != exitDone || r.err != "" {
		t.Errorf("exit code %d, stderr %q\n%s", r.code, r.err, r.out)
	}
	for _, want := range []string{
		"http://127.0.0.1:", "\nok      buffering    events arrive at once\n", "\nok      resume       ", "\nunseen  heartbeat    ",
		"\nno fault, 0 to consider, ",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("it does not say %q:\n%s", want, r.out)
		}
	}
	if strings.Contains(r.out, "\x1b") {
		t.Error("colours without a terminal")
	}
	if page := get(t, server+"/v1/topics?pattern=doctor/**"); strings.Contains(page, "doctor/") {
		t.Errorf("its topic is left: %s", page)
	}

	answer := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer from-environment" {
				t.Errorf("Authorization is %q", r.Header.Get("Authorization"))
			}
			w.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for _, tc := range []struct {
		name string
		url  string
		code int
		want string // in stdout
	}{
		{"refused", answer(http.StatusUnauthorized), exitRefused, `"check": "reach"`},
		{"a proxy without a server", answer(http.StatusBadGateway), exitUnreachable, "does not answer"},
		{"something else", answer(http.StatusOK), exitUnhealthy, "not the API"},
		{"nothing", "127.0.0.1:1", exitUnreachable, "no server answers"},
		{"no URL", "ftp://x", exitUsage, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := command(t, nil, []string{"TAILRACE_TOKEN=from-environment"}, "doctor", tc.url, "--json")
			if r.code != tc.code || !strings.Contains(r.out, tc.want) {
				t.Errorf("exit code %d, want %d; stderr %q\n%s", r.code, tc.code, r.err, r.out)
			}
			if tc.want != "" && !json.Valid([]byte(r.out)) {
				t.Errorf("this is no JSON: %s", r.out)
			}
		})
	}
}
