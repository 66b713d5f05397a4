package server

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace"
)

// pipes is a listener in memory, so that a server runs on a fake clock.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// startPipes runs a server in memory; signal is what SIGTERM does.
func startPipes(t *testing.T, hubOpts *tailrace.Options, opts *Options) (h *harness, c *http.Client, signal func(), ended chan error) {
	p := newPipes()
	s := newServer(t, hubOpts, opts)
	s.listener = p
	ctx, signal := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	tr := &http.Transport{DialContext: p.dial}
	t.Cleanup(tr.CloseIdleConnections)
	return &harness{Server: s, t: t, url: "http://localhost"}, &http.Client{Transport: tr}, signal, ended
}

// After the signal: not ready at once; streams go on for the delay; then each
// ends at its own moment in the window, while new ones are refused.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 30
		h, c, signal, ended := startPipes(t, &tailrace.Options{DrainWindow: 30 * time.Second}, &Options{DrainDelay: 5 * time.Second})
		do := func(method, target, body string, headers ...string) answer {
			resp, err := c.Do(h.request(method, target, body, headers...))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return answer{resp, string(text)}
		}
		var mu sync.Mutex
		var signalled time.Time
		var moments []time.Duration
		var retries []int
		open := func() {
			resp, err := c.Do(h.request("GET", "/v1/topics/demo", ""))
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			go func() {
				defer resp.Body.Close()
				last, lines := "", bufio.NewScanner(resp.Body)
				for lines.Scan() {
					if value, ok := strings.CutPrefix(lines.Text(), "retry: "); ok {
						last = value
					}
				}
				if err := lines.Err(); err != nil {
					t.Errorf("a stream broke: %v", err)
				}
				ms, _ := strconv.Atoi(last)
				mu.Lock()
				defer mu.Unlock()
				moments, retries = append(moments, time.Since(signalled)), append(retries, ms)
			}()
		}
		for range streams {
			open()
		}

		signalled = time.Now()
		signal()
		synctest.Wait()
		do("GET", "/readyz", "").wantStatus(t, 503).wantProblem(t, "draining")
		do("GET", "/livez", "").wantStatus(t, 200)
		time.Sleep(4900 * time.Millisecond)
		open() // balancers may not have noticed
		do("POST", "/v1/topics/demo", "x").wantStatus(t, 200)
		if n := h.hub.Count(); n != streams+1 {
			t.Errorf("%d streams are open before the delay is over, of %d", n, streams+1)
		}

		time.Sleep(10 * time.Second)
		for _, headers := range [][]string{{"User-Agent", "curl/8"}, {"User-Agent", "Mozilla/5.0", "Tailrace-Client", "x"}} {
			a := do("GET", "/v1/topics/demo", "", headers...).wantStatus(t, 503)
			a.wantProblem(t, "draining")
			if a.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		if a := do("GET", "/v1/topics/demo", "", "User-Agent", "Mozilla/5.0").wantStatus(t, 200); !strings.HasPrefix(a.body, ": draining\nretry: ") || a.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("a browser gets %v %q", a.Header, a.body)
		}

		if err := <-ended; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(moments) != streams+1 {
			t.Fatalf("%d of %d streams have ended", len(moments), streams+1)
		}
		slices.Sort(moments)
		if first, last := moments[0], moments[streams]; first < 5*time.Second || last > 36*time.Second {
			t.Errorf("streams end from %v to %v after the signal, want 5 s to 35 s", first, last)
		}
		for i := range moments[1:] {
			if gap := moments[i+1] - moments[i]; gap > 15*time.Second {
				t.Errorf("between two ends there are %v of 30 s: %v", gap, moments)
			}
		}
		if n := len(slices.Compact(moments)); n < streams/2 {
			t.Errorf("%d streams end at %d moments", streams+1, n)
		}
		slices.Sort(retries)
		if retries[0] < 500 || retries[streams] > 5000 || retries[0] == retries[streams] {
			t.Errorf("clients come back after %v ms", retries)
		}
	})
}

// What has not ended by DrainMax is cut, the window and slow readers
// notwithstanding.
func TestDrainIsCutAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c, signal, ended := startPipes(t, &tailrace.Options{DrainWindow: time.Hour}, &Options{DrainDelay: time.Second, DrainMax: 10 * time.Second})
		for range 10 {
			resp, err := c.Do(h.request("GET", "/v1/topics/demo", ""))
			if err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			defer resp.Body.Close() // and it reads nothing
		}
		if _, err := h.hub.Publish(t.Context(), tailrace.Event{Topic: "demo", Data: make([]byte, 64<<10)}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		signal()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 9*time.Second || took > 16*time.Second {
			t.Errorf("the server took %v to end, DrainMax is 10 s", took)
		}
		if n := h.hub.Count(); n != 0 {
			t.Errorf("%d streams are counted", n)
		}
	})
}
