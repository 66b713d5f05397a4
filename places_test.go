package tailrace

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/ssetest"
)

func TestNetworkOfAnAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7":                             "192.0.2.7",
		"::ffff:192.0.2.7":                      "192.0.2.7",
		"2001:db8:0:1::7":                       "2001:db8:0:1::",
		"2001:db8:0:1:ffff:ffff::1":             "2001:db8:0:1::",
		"2001:db8:0:2::7":                       "2001:db8:0:2::",
		"fe80::1%eth0":                          "fe80::",
		"fe80::1%" + strings.Repeat("x", 1<<10): "fe80::",
		"":                                      "",
		"@":                                     "",
		"192.0.2.7:80":                          "",
		"localhost":                             "",
	} {
		got, ok := network(addr)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q counts as %v, %v; want %q", addr, got, ok, want)
		}
	}
}

func TestStreamsLeaveFilesForOthers(t *testing.T) {
	for files, want := range map[uint64]int{
		0: 1, 256: 1, 285: 1, 286: 2, 1024: 666, 20_000: 17_744, 1 << 20: 943_463, 1<<64 - 1: 1<<31 - 1,
	} {
		if got := streamsFor(files); got != want {
			t.Errorf("%d files are for %d streams, want %d", files, got, want)
		}
	}
}

func TestOpenFilesBoundTheStreams(t *testing.T) {
	files, ok := fileLimit()
	if !ok {
		t.Skip("this system has no limit on open files")
	}
	most := streamsFor(files)
	for _, tt := range []struct{ max, want, lines int }{
		{most + 1, most, 1},
		{most, most, 0},
		{1, 1, 0},
		{-1, most, 0}, // who asks for no limit is not told of this one
	} {
		var log bytes.Buffer
		h, err := New(&Options{MaxStreams: tt.max, DrainWindow: -1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(log.Bytes(), []byte("\n")); h.places.max != tt.want || lines != tt.lines {
			t.Errorf("MaxStreams %d became %d and %d lines in the log, want %d and %d:\n%s", tt.max, h.places.max, lines, tt.want, tt.lines, &log)
		}
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		burst := func(th *throttle) (n int) {
			for n < 1000 && th.pass() {
				n++
			}
			return n
		}
		th := newThrottle(10, 25)
		for _, step := range []struct {
			rest time.Duration
			want int
		}{
			{0, 25},
			{0, 0},
			{99 * time.Millisecond, 0},
			{time.Millisecond, 1},
			{time.Second, 10},
			{time.Hour, 25},
			{50 * time.Millisecond, 0},
			{50 * time.Millisecond, 1}, // what a refused one found was kept
		} {
			time.Sleep(step.rest)
			if got := burst(&th); got != step.want {
				t.Errorf("after %v %d pass, want %d", step.rest, got, step.want)
			}
		}
		for _, none := range []throttle{newThrottle(-1, 1), newThrottle(1, -1)} {
			if got := burst(&none); got != 1000 {
				t.Errorf("without a limit only %d pass", got)
			}
		}
	})
}

// Clients that come and go leave nothing behind, and an address that holds its
// places keeps them.
func TestClientsThatLeaveAreForgotten(t *testing.T) {
	h := newHubOf(t, &Options{ConnectRate: -1, MaxStreamsPerAddr: 2})
	if _, err := h.Publish(t.Context(), Event{Topic: "a", Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, p := h.admit("stays", "203.0.113.1"); p != nil {
		t.Fatal(p)
	}
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := worker; i < 10_000; i += 4 {
				r := httptest.NewRequest("GET", "/?topic=a&from=start&limit=1", nil)
				r.RemoteAddr = fmt.Sprintf("10.1.%d.%d:80", i/256, i%256)
				if i%2 == 0 {
					r.RemoteAddr = fmt.Sprintf("[2001:db8:0:%x::1]:80", i)
				}
				sub, err := ParseSubscription(r, 1)
				if err != nil {
					t.Error(err)
					return
				}
				sub.Principal = fmt.Sprint("user ", i)
				rec := ssetest.NewRecorder()
				if h.Serve(rec, r, sub); rec.Code() != 200 || len(rec.Events()) != 1 {
					t.Errorf("%s: %d %s", r.RemoteAddr, rec.Code(), rec.Bytes())
					return
				}
			}
		})
	}
	wg.Wait()
	p := &h.places
	if p.taken != 1 || len(p.addrs) != 1 || len(p.principals) != 1 {
		t.Errorf("%d streams, %d addresses, %d principals are counted; one is open", p.taken, len(p.addrs), len(p.principals))
	}
	p.giveBack("stays", "203.0.113.1")
	h.streamsWG.Done()
	if p.taken != 0 || len(p.addrs) != 0 || len(p.principals) != 0 {
		t.Errorf("%d streams, %d addresses, %d principals are counted; none is open", p.taken, len(p.addrs), len(p.principals))
	}
}

// However many come at the same moment, no more get in than the limit says.
func TestLimitsHoldUnderARush(t *testing.T) {
	const limit, each = 5, 40
	h := newHubOf(t, &Options{MaxStreams: 3 * limit, MaxStreamsPerAddr: limit, MaxStreamsPerPrincipal: limit, ConnectRate: -1})
	var in [4]atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 * each {
		wg.Go(func() {
			if _, p := h.admit(fmt.Sprint("user ", i%4), fmt.Sprint("192.0.2.", i%4)); p == nil {
				in[i%4].Add(1)
			}
		})
	}
	wg.Wait()
	all := int64(0)
	for i := range in {
		n := in[i].Load()
		all += n
		if n > limit {
			t.Errorf("%d streams of one address, the limit is %d", n, limit)
		}
		for range n {
			h.places.giveBack(fmt.Sprint("user ", i), fmt.Sprint("192.0.2.", i))
			h.streamsWG.Done()
		}
	}
	if all != 3*limit || h.places.taken != 0 {
		t.Errorf("%d streams got in, the node's limit is %d; %d are still counted", all, 3*limit, h.places.taken)
	}
}

// newHubOf returns a hub that ends with the test and logs nothing.
func newHubOf(t *testing.T, opts *Options) *Hub {
	t.Helper()
	opts.DrainWindow, opts.Logger = -1, slog.New(slog.DiscardHandler)
	h, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return h
}
