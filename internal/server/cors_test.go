package server

import (
	"slices"
	"strings"
	"testing"
)

func TestCORS(t *testing.T) {
	h := start(t, nil, &Options{DrainDelay: -1, CORSOrigins: []string{"https://app.example.com", "https://*.example.org"}})
	for origin, ok := range map[string]bool{
		"http://localhost:3000":                true,
		"https://localhost":                    true,
		"http://127.0.0.1":                     true,
		"http://[::1]:1":                       true,
		"https://app.example.com":              true,
		"https://a.example.org":                true,
		"https://evil.example":                 false,
		"https://a.b.example.org":              false,
		"https://example.org":                  false,
		"https://.example.org":                 false,
		"http://a.example.org":                 false,
		"https://a.example.org:8443":           false,
		"https://app.example.com.evil.example": false,
		"https://evil.example/.example.org":    false,
		"HTTPS://app.example.com":              false,
		"null":                                 false,
		"http://localhost:3000/":               false,
		"ftp://localhost":                      false,
	} {
		t.Run(origin, func(t *testing.T) {
			want := ""
			if ok {
				want = origin
			}
			get := h.do("GET", "/v1/topics", "", "Origin", origin).wantStatus(t, 200)
			check := func(what string, a answer) {
				t.Helper()
				if got := a.Header.Get("Access-Control-Allow-Origin"); got != want {
					t.Errorf("%s: allowed origin %q, want %q", what, got, want)
				}
				if vary := strings.Join(a.Header.Values("Vary"), ","); !strings.Contains(vary, "Origin") {
					t.Errorf("%s: Vary is %q", what, vary)
				}
				if a.Header.Get("Access-Control-Allow-Credentials") != "" {
					t.Errorf("%s: allows credentials", what)
				}
			}
			check("GET", get)
			if exposed := get.Header.Get("Access-Control-Expose-Headers"); strings.Contains(exposed, "Tailrace-Cursor") != ok {
				t.Errorf("exposed is %q", exposed)
			}
			check("problem", h.do("GET", "/v1/stat/none", "", "Origin", origin).wantStatus(t, 404))
			pre := h.do("OPTIONS", "/v1/topics/demo", "", "Origin", origin, "Access-Control-Request-Method", "POST",
				"Access-Control-Request-Headers", "content-type,ce-id, ce-bad\x80,x-other").wantStatus(t, 204)
			check("preflight", pre)
			allowed := strings.Split(strings.ToLower(pre.Header.Get("Access-Control-Allow-Headers")), ", ")
			for _, name := range []string{"content-type", "last-event-id", "tailrace-if-head", "idempotency-key", "ce-id"} {
				if slices.Contains(allowed, name) != ok {
					t.Errorf("preflight allows %q", allowed)
				}
			}
			if slices.Contains(allowed, "x-other") || pre.Header.Get("Access-Control-Allow-Methods") != "" && !ok {
				t.Errorf("preflight allows too much: %v", pre.Header)
			}
			if ok && (pre.Header.Get("Access-Control-Max-Age") != "7200" || !strings.Contains(pre.Header.Get("Access-Control-Allow-Methods"), "QUERY")) {
				t.Errorf("preflight: %v", pre.Header)
			}
		})
	}
	stream := h.open("/v1/topics/demo", "Origin", "https://app.example.com")
	if stream.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
		t.Errorf("a stream has %v", stream.Header)
	}
	h.do("POST", "/v1/topics/demo", "x", "Origin", "https://app.example.com", "Sec-Fetch-Site", "cross-site").wantStatus(t, 200)
	if got := h.do("GET", "/v1/topics", "").Header; got.Get("Access-Control-Allow-Origin") != "" || got.Get("Vary") == "" {
		t.Errorf("without Origin: %v", got)
	}
}

func TestBadCORSOriginsAreRefused(t *testing.T) {
	for _, origin := range []string{
		"", "*", "null", "app.example.com", "https://app.example.com/", "https://app.example.com/x", "https://a.*.com", "https://*.com",
		"https://*", "https://*.*.example.com", "ftp://example.com", "https://user@example.com", "https://example.com?x", "https://exa mple.com",
	} {
		opts := &Options{Dev: true, CORSOrigins: []string{origin}}
		if _, err := opts.withDefaults(); err == nil {
			t.Errorf("%q was taken", origin)
		}
	}
	if err := checkOriginPattern("http://app.example.com", false); err == nil {
		t.Error("plain http was taken outside dev mode")
	}
	if err := checkOriginPattern("http://localhost:3000", false); err != nil {
		t.Error(err)
	}
}
