package app_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/examples/hello/app"
	"github.com/tailrace/tailrace/internal/memhttp"
	"github.com/tailrace/tailrace/sse"
)

func TestNumbersGoOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var current atomic.Pointer[memhttp.Listener]
		start := func() *http.Server {
			l := memhttp.Listen()
			current.Store(l)
			srv := &http.Server{Handler: app.New(nil)}
			go srv.Serve(l)
			return srv
		}
		srv := start()
		hc := &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return current.Load().Dial(ctx, network, addr)
			},
		}}
		defer hc.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://memory.test/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := (&sse.Client{HTTPClient: hc}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()

		began, n := time.Now(), 0
		for ev, err := range conn.Events() {
			if err != nil {
				t.Fatal(err)
			}
			n++
			var data struct {
				N    int
				Time time.Time
			}
			if err := json.Unmarshal(ev.Data, &data); err != nil {
				t.Fatal(err)
			}
			if data.N != n || ev.ID != strconv.Itoa(n) || ev.Type != "" || data.Time.IsZero() {
				t.Fatalf("event %d: id %q, type %q, data %s", n, ev.ID, ev.Type, ev.Data)
			}
			if n == 3 {
				if d := time.Since(began); d != 2*time.Second {
					t.Errorf("three events took %v, want 2s: the first at once", d)
				}
				srv.Close()
				srv = start()
				defer srv.Close()
			}
			if n == 6 {
				break
			}
		}
	})
}

func TestStrangeIDsStartAtTheBeginning(t *testing.T) {
	for _, id := range []string{"", "-1", "1.5", "abc", "99999999999999999999"} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // ends the stream after the first event
			r := httptest.NewRequestWithContext(ctx, "GET", "/events", nil)
			r.Header.Set("Last-Event-ID", id)
			w := httptest.NewRecorder()
			app.New(nil).ServeHTTP(w, r)
			if body := w.Body.String(); !strings.HasPrefix(body, "id: 1\ndata: {\"n\":1,") || strings.Count(body, "id:") != 1 {
				t.Errorf("after %q: %q", id, body)
			}
		})
	}
}

func TestPage(t *testing.T) {
	srv := httptest.NewServer(http.StripPrefix("/demo/hello", app.New(nil)))
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/demo/hello/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(string(body), `new EventSource("events")`) {
		t.Errorf("%s, %s", resp.Header.Get("Content-Type"), body)
	}
}
