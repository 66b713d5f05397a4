package auth

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestAddressesThatAreNotDialled(t *testing.T) {
	for _, tc := range []struct {
		address           string
		loopback, private bool // what the configuration says
		ok                bool
	}{
		{"93.184.216.34:443", false, false, true},
		{"[2606:2800:220:1::1]:443", false, false, true},
		{"127.0.0.1:80", true, false, true},
		{"[::1]:80", true, false, true},
		{"127.0.0.1:80", false, true, false},
		{"[::1]:80", false, true, false},
		{"[::ffff:127.0.0.1]:80", false, true, false},
		{"10.0.0.1:443", false, false, false},
		{"10.0.0.1:443", false, true, true},
		{"192.168.1.1:443", false, false, false},
		{"172.16.0.1:443", false, false, false},
		{"100.64.0.1:443", false, false, false},
		{"[fd00::1]:443", false, false, false},
		{"[fd00::1]:443", false, true, true},
		{"169.254.169.254:80", false, true, false}, // metadata of cloud machines
		{"[::ffff:169.254.169.254]:80", false, true, false},
		{"[64:ff9b::a9fe:a9fe]:80", false, true, false},
		{"[2002:a9fe:a9fe::1]:80", false, true, false},
		{"[64:ff9b::a00:1]:80", false, false, false},
		{"[fe80::1%lo]:80", false, true, false},
		{"0.0.0.0:80", true, true, false},
		{"0.1.2.3:80", true, true, false},
		{"[::]:80", true, true, false},
		{"224.0.0.1:80", false, true, false},
		{"[ff02::1]:80", false, true, false},
		{"255.255.255.255:80", false, true, false},
		{"junk", true, true, false},
	} {
		if err := checkDial(tc.address, tc.loopback, tc.private); (err == nil) != tc.ok {
			t.Errorf("%s, loopback %v, private %v: %v", tc.address, tc.loopback, tc.private, err)
		}
	}
}

func TestURLs(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://example.com/x": true, "http://127.0.0.1:8/x": true, "http://localhost/": true, "http://[::1]/": true,
		"http://example.com": false, "http://127.0.0.1.example.com": false, "file:///etc/passwd": false, "https://": false,
		"https://user:secret@example.com": false, "": false, "example.com": false, "gopher://example.com": false,
	} {
		if _, err := checkURL(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The real client, over loopback: no redirects, and no host that only
// resolves to this machine.
func TestClientStaysWhereItWasSent(t *testing.T) {
	reached := false
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer inner.Close()
	outer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inner.URL, http.StatusFound)
	}))
	defer outer.Close()
	get := func(asIf string, target string) error {
		u, err := url.Parse(asIf)
		if err != nil {
			t.Fatal(err)
		}
		client := newClient(u, false, 5*time.Second, nil)
		defer client.CloseIdleConnections()
		_, err = fetch(t.Context(), client, target, 100)
		return err
	}
	if err := get(outer.URL, outer.URL); err == nil || !strings.Contains(err.Error(), "302") || reached {
		t.Errorf("a redirect: %v, followed %v", err, reached)
	}
	if err := get("https://example.com", inner.URL); err == nil || !strings.Contains(err.Error(), "this machine") || reached {
		t.Errorf("a name that leads here: %v, reached %v", err, reached)
	}
	if err := get(inner.URL, inner.URL); err != nil || !reached {
		t.Errorf("a URL that says this machine: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	u, _ := url.Parse(inner.URL)
	if _, err := fetch(ctx, newClient(u, false, time.Second, nil), inner.URL, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}
