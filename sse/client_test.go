package sse_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

// A run is what a client did with a script.
type run struct {
	data     []string // of the events
	err      error    // of Do or of the last event
	retries  []string // errors that OnRetry got
	delays   []time.Duration
	opened   int
	requests []ssetest.Request
	elapsed  time.Duration
}

// play reads a scripted stream to its end, within a minute of fake time. change may alter the
// client and the request.
func play(t *testing.T, steps []ssetest.Step, change func(c *sse.Client, req *http.Request)) run {
	t.Helper()
	var got run
	synctest.Test(t, func(t *testing.T) {
		srv := ssetest.NewMemoryServer(t, steps...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &sse.Client{
			HTTPClient: srv.Client(),
			OnOpen:     func(*http.Response) { got.opened++ },
			OnRetry: func(err error, delay time.Duration) {
				got.retries = append(got.retries, err.Error())
				got.delays = append(got.delays, delay)
			},
		}
		if change != nil {
			change(c, req)
		}
		start := time.Now()
		conn, err := c.Do(req)
		if err != nil {
			got.err = err
		} else {
			for ev, err := range conn.Events() {
				if err != nil {
					got.err = err
					break
				}
				got.data = append(got.data, string(ev.Data))
			}
			if conn.Err() != got.err {
				t.Errorf("Err is %v, the last error %v", conn.Err(), got.err)
			}
			conn.Close()
		}
		got.elapsed = time.Since(start)
		got.requests = srv.Requests()
	})
	return got
}

// isStatus returns a check for a ResponseError.
func isStatus(status int) func(error) bool {
	return func(err error) bool {
		var re *sse.ResponseError
		return errors.As(err, &re) && re.StatusCode == status
	}
}

func event(data string) []string { return []string{"data: " + data + "\n\n"} }

func TestClientResponses(t *testing.T) {
	status := func(code int, kv ...string) ssetest.Step {
		h := http.Header{}
		for i := 0; i < len(kv); i += 2 {
			h.Set(kv[i], kv[i+1])
		}
		return ssetest.Step{Status: code, Header: h}
	}
	redirects := func(n int) []ssetest.Step {
		return slices.Repeat([]ssetest.Step{status(302, "Location", "/next")}, n)
	}
	ok := ssetest.Step{Chunks: event("x")}
	prepare := func(c *sse.Client, _ *http.Request) {
		c.Prepare = func(*http.Request, *sse.ResponseError) error { return nil }
	}
	type test struct {
		name     string
		steps    []ssetest.Step
		change   func(c *sse.Client, req *http.Request)
		requests int
		data     []string
		final    func(error) bool // nil is an end without an error
	}
	tests := []test{
		{"204", []ssetest.Step{status(204), ok}, nil, 1, nil, nil},
		{"204 after events", []ssetest.Step{ok, status(204)}, nil, 2, []string{"x"}, nil},
		{"type with parameters", []ssetest.Step{{Header: http.Header{"Content-Type": {"Text/Event-Stream ; charset=latin1"}}, Chunks: event("x")}}, nil, 2, []string{"x"}, nil},
		{"type with broken parameters", []ssetest.Step{{Header: http.Header{"Content-Type": {"text/event-stream; charset"}}, Chunks: event("x")}}, nil, 2, []string{"x"}, nil},
		{"wrong type", []ssetest.Step{status(200, "Content-Type", "text/html"), ok}, nil, 1, nil, isStatus(200)},
		{"similar type", []ssetest.Step{status(200, "Content-Type", "text/event-streams"), ok}, nil, 1, nil, isStatus(200)},
		{"empty type", []ssetest.Step{status(200, "Content-Type", ""), ok}, nil, 1, nil, isStatus(200)},
		{"wrong type after events", []ssetest.Step{ok, status(200, "Content-Type", "text/html")}, nil, 2, []string{"x"}, isStatus(200)},
		{"clean end", []ssetest.Step{ok, ok, ok}, nil, 4, []string{"x", "x", "x"}, nil},
		{"abort", []ssetest.Step{{Chunks: event("x"), Then: ssetest.Abort}, ok}, nil, 3, []string{"x", "x"}, nil},
		{"abort before an event", []ssetest.Step{{Then: ssetest.Abort}, ok}, nil, 3, []string{"x"}, nil},
		{"503 at first", []ssetest.Step{status(503), ok}, nil, 3, []string{"x"}, nil},
		{"503 after events", []ssetest.Step{ok, status(503), ok}, nil, 4, []string{"x", "x"}, nil},
		{"event too long", []ssetest.Step{{Chunks: event(strings.Repeat("x", 100))}, ok}, func(c *sse.Client, _ *http.Request) {
			c.MaxEventSize = 50
		}, 1, nil, func(err error) bool {
			var e *sse.TooLongError
			return errors.As(err, &e)
		}},
		{"307 followed", []ssetest.Step{status(307, "Location", "/next"), ok}, nil, 3, []string{"x"}, nil},
		{"10 redirects", append(redirects(10), ok), nil, 12, []string{"x"}, nil},
		{"11 redirects", append(redirects(11), ok), nil, 11, nil, func(err error) bool {
			return strings.Contains(err.Error(), "more than 10 redirects")
		}},
		{"no location", []ssetest.Step{status(302), ok}, nil, 1, nil, isStatus(302)},
		{"empty location", []ssetest.Step{status(301, "Location", ""), ok}, nil, 1, nil, isStatus(301)},
		{"malformed location", []ssetest.Step{status(308, "Location", "http://[::1"), ok}, nil, 1, nil, func(err error) bool {
			return strings.Contains(err.Error(), "Location")
		}},
		{"location of another scheme", []ssetest.Step{status(302, "Location", "ftp://memory.test/"), ok}, nil, 1, nil, func(err error) bool {
			return strings.Contains(err.Error(), "scheme")
		}},
		{"401 without Prepare", []ssetest.Step{status(401), ok}, nil, 1, nil, isStatus(401)},
		{"403 without Prepare", []ssetest.Step{status(403), ok}, nil, 1, nil, isStatus(403)},
		{"401 with Prepare", []ssetest.Step{status(401), ok}, prepare, 3, []string{"x"}, nil},
		{"401 twice with Prepare", []ssetest.Step{status(401), status(403), ok}, prepare, 2, nil, isStatus(403)},
		{"401 twice, not in a row", []ssetest.Step{status(401), ok, status(401), ok}, prepare, 5, []string{"x", "x"}, nil},
		{"ShouldRetry retries 404", []ssetest.Step{status(404), ok}, func(c *sse.Client, _ *http.Request) {
			c.ShouldRetry = func(resp *http.Response, err error) bool { return resp != nil && resp.StatusCode == 404 }
		}, 3, []string{"x"}, nil},
		{"ShouldRetry gives up on 503", []ssetest.Step{status(503), ok}, func(c *sse.Client, _ *http.Request) {
			c.ShouldRetry = func(*http.Response, error) bool { return false }
		}, 1, nil, isStatus(503)},
		{"ShouldRetry is not asked about other rows", []ssetest.Step{ok, ok, status(204)}, func(c *sse.Client, _ *http.Request) {
			c.ShouldRetry = func(resp *http.Response, err error) bool {
				panic(fmt.Sprint("asked about ", resp, err))
			}
		}, 3, []string{"x", "x"}, nil},
	}
	for _, code := range []int{408, 425, 429, 500, 502, 503, 504, 507, 520} {
		tests = append(tests, test{fmt.Sprint(code), []ssetest.Step{status(code), ok}, nil, 3, []string{"x"}, nil})
	}
	for _, code := range []int{201, 202, 206, 300, 304, 305, 400, 404, 405, 406, 410, 421, 422, 451, 501, 505} {
		tests = append(tests, test{fmt.Sprint(code), []ssetest.Step{status(code), ok}, nil, 1, nil, isStatus(code)})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := play(t, tt.steps, tt.change)
			if tt.final == nil && got.err != nil || tt.final != nil && (got.err == nil || !tt.final(got.err)) {
				t.Errorf("error %v", got.err)
			}
			if !slices.Equal(got.data, tt.data) {
				t.Errorf("events %q, want %q", got.data, tt.data)
			}
			if len(got.requests) != tt.requests {
				t.Errorf("%d requests, want %d", len(got.requests), tt.requests)
			}
		})
	}
}

func TestClientRequest(t *testing.T) {
	t.Run("defaults", func(t *testing.T) {
		got := play(t, nil, nil)
		h := got.requests[0].Header
		if h.Get("Accept") != "text/event-stream" || h.Get("Cache-Control") != "no-cache" {
			t.Errorf("header %v", h)
		}
		if _, ok := h["Last-Event-Id"]; ok {
			t.Errorf("an empty Last-Event-ID was sent")
		}
	})
	t.Run("the caller's", func(t *testing.T) {
		got := play(t, nil, func(c *sse.Client, req *http.Request) {
			req.Method = "REPORT"
			req.Header.Set("Accept", "text/event-stream, application/json")
			req.Header.Set("Cache-Control", "no-store")
			req.Header.Set("X-Own", "yes")
			req.Header.Set("Last-Event-ID", "17")
		})
		r := got.requests[0]
		if r.Method != "REPORT" || r.Header.Get("Accept") != "text/event-stream, application/json" ||
			r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("X-Own") != "yes" || r.Header.Get("Last-Event-ID") != "17" {
			t.Errorf("request %+v", r)
		}
	})
}

func TestClientResumes(t *testing.T) {
	tests := []struct {
		name    string
		initial string
		chunks  []string // one response each, a clean end after it
		ids     []string // of the requests that follow
	}{
		{"id of the last event", "", []string{"id: 1\ndata: a\n\nid: 2\ndata: b\n\n"}, []string{"2"}},
		{"an unfinished block does not count", "", []string{"id: 1\ndata: a\n\nid: 2\ndata: b\n"}, []string{"1"}},
		{"a block without data counts", "", []string{"id: 7\n\n"}, []string{"7"}},
		{"kept without a new one", "", []string{"id: 1\ndata: a\n\n", "data: b\n\n", ""}, []string{"1", "1", "1"}},
		{"kept over responses from the first request", "0", []string{"data: b\n\n"}, []string{"0"}},
		{"reset by an empty one", "9", []string{"id\ndata: a\n\n"}, []string{""}},
		{"UTF-8", "", []string{"id: größe\ndata: a\n\n"}, []string{"größe"}},
		{"a tab", "", []string{"id: a\tb\ndata: a\n\n"}, []string{"a\tb"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var steps []ssetest.Step
			for _, chunk := range tt.chunks {
				steps = append(steps, ssetest.Step{Chunks: []string{chunk}})
			}
			got := play(t, steps, func(_ *sse.Client, req *http.Request) {
				if tt.initial != "" {
					req.Header.Set("Last-Event-ID", tt.initial)
				}
			})
			var ids []string
			for _, r := range got.requests[1:] {
				if v, ok := r.Header["Last-Event-Id"]; ok && v[0] == "" {
					t.Error("an empty Last-Event-ID was sent")
				}
				ids = append(ids, r.Header.Get("Last-Event-ID"))
			}
			if !slices.Equal(ids, tt.ids) {
				t.Errorf("ids %q, want %q", ids, tt.ids)
			}
		})
	}

	t.Run("not with an id that HTTP cannot carry", func(t *testing.T) {
		got := play(t, []ssetest.Step{{Chunks: []string{"id: a\x01b\ndata: x\n\n"}}}, nil)
		var e *sse.FieldError
		if !errors.As(got.err, &e) || e.Field != "id" {
			t.Errorf("error %v, want a FieldError of the id", got.err)
		}
		if len(got.requests) != 1 || len(got.data) != 1 {
			t.Errorf("%d requests and %d events, want 1 and 1", len(got.requests), len(got.data))
		}
	})
}

func TestClientDelays(t *testing.T) {
	ms := time.Millisecond
	refuse := ssetest.Step{Status: 503}
	tests := []struct {
		name  string
		steps []ssetest.Step
		want  [][2]time.Duration // bounds of each delay
	}{
		{
			"doubling from the minimum, cleared by an event",
			[]ssetest.Step{refuse, refuse, refuse, {Chunks: event("x")}, refuse, refuse},
			[][2]time.Duration{{0, 1000 * ms}, {0, 2000 * ms}, {0, 4000 * ms}, {0, 1000 * ms}, {0, 2000 * ms}, {0, 4000 * ms}},
		},
		{
			"an open stream without an event clears nothing",
			[]ssetest.Step{refuse, {Chunks: []string{": hi\n"}}, refuse},
			[][2]time.Duration{{0, 1000 * ms}, {0, 2000 * ms}, {0, 4000 * ms}},
		},
		{
			"retry is the floor, with a quarter of jitter",
			[]ssetest.Step{{Chunks: []string{"retry: 3000\ndata: x\n\n"}}, refuse},
			[][2]time.Duration{{3000 * ms, 3750 * ms}, {3000 * ms, 6000 * ms}},
		},
		{
			"retry 0 is no loop",
			[]ssetest.Step{{Chunks: []string{"retry: 0\ndata: x\n\n"}}, {Chunks: event("x")}},
			[][2]time.Duration{{100 * ms, 100 * ms}, {100 * ms, 100 * ms}},
		},
		{
			"Retry-After in seconds",
			[]ssetest.Step{{Status: 429, Header: http.Header{"Retry-After": {"8"}}}, refuse},
			[][2]time.Duration{{8000 * ms, 10000 * ms}, {0, 2000 * ms}},
		},
		{
			"Retry-After as a date", // fake time begins at midnight UTC 2000-01-01
			[]ssetest.Step{{Status: 503, Header: http.Header{"Retry-After": {"Sat, 01 Jan 2000 00:00:20 GMT"}}}},
			[][2]time.Duration{{20000 * ms, 25000 * ms}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := play(t, tt.steps, nil)
			if got.err != nil {
				t.Fatal(got.err)
			}
			if len(got.delays) != len(tt.want) || len(got.requests) != len(tt.want)+1 {
				t.Fatalf("%d delays and %d requests, want %d delays", len(got.delays), len(got.requests), len(tt.want))
			}
			for i, d := range got.delays {
				if d < tt.want[i][0] || d > tt.want[i][1] {
					t.Errorf("delay %d is %v, want %v", i, d, tt.want[i])
				}
				if apart := got.requests[i+1].Time.Sub(got.requests[i].Time); apart != max(d, 100*ms) {
					t.Errorf("requests %d and %d are %v apart, the delay was %v", i, i+1, apart, d)
				}
			}
		})
	}

	t.Run("the refusal of a token is no delay", func(t *testing.T) {
		got := play(t, []ssetest.Step{{Status: 401}}, func(c *sse.Client, _ *http.Request) {
			c.Prepare = func(*http.Request, *sse.ResponseError) error { return nil }
		})
		if len(got.delays) != 1 || got.delays[0] != 100*ms {
			t.Errorf("delays %v, want the least one", got.delays)
		}
	})
}

func TestClientMaxAttempts(t *testing.T) {
	limit := func(n int) func(c *sse.Client, _ *http.Request) {
		return func(c *sse.Client, _ *http.Request) { c.MaxAttempts = n }
	}
	refuse, ok := ssetest.Step{Status: 503}, ssetest.Step{Chunks: event("x")}
	empty := ssetest.Step{}
	tests := []struct {
		name     string
		n        int
		steps    []ssetest.Step
		requests int
		final    func(error) bool
	}{
		{"the first", 1, []ssetest.Step{refuse, ok}, 1, isStatus(503)},
		{"the third", 3, []ssetest.Step{refuse, refuse, refuse, ok}, 3, isStatus(503)},
		{"an event clears the count", 2, []ssetest.Step{refuse, ok, refuse, ok, refuse, refuse, ok}, 6, isStatus(503)},
		{"an end after an event is no failure", 1, []ssetest.Step{ok, ok, refuse}, 3, isStatus(503)},
		{"a stream without an event is", 2, []ssetest.Step{empty, empty, ok}, 2, func(err error) bool {
			return errors.Is(err, io.ErrUnexpectedEOF)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := play(t, tt.steps, limit(tt.n))
			if got.err == nil || !tt.final(got.err) {
				t.Errorf("error %v", got.err)
			}
			if len(got.requests) != tt.requests {
				t.Errorf("%d requests, want %d", len(got.requests), tt.requests)
			}
		})
	}
}

func TestClientIdle(t *testing.T) {
	hold := func(heartbeat string) []ssetest.Step {
		step := ssetest.Step{Header: http.Header{}, Chunks: event("x"), Then: ssetest.Hold}
		if heartbeat != "" {
			step.Header.Set("Tailrace-Heartbeat", heartbeat)
		}
		return []ssetest.Step{step}
	}
	tests := []struct {
		name      string
		heartbeat string
		timeout   time.Duration
		want      time.Duration // 0 is no idle timeout within the minute
	}{
		{"set", "", 5 * time.Second, 5 * time.Second},
		{"announced", "4", 0, 12 * time.Second},
		{"set and announced", "4", 5 * time.Second, 5 * time.Second},
		{"announced, but off", "4", -1, 0},
		{"neither", "", 0, 0},
		{"announced nonsense", "4s", 0, 0},
		{"announced negative", "-4", 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := play(t, hold(tt.heartbeat), func(c *sse.Client, _ *http.Request) { c.IdleTimeout = tt.timeout })
			if tt.want == 0 {
				if !errors.Is(got.err, context.DeadlineExceeded) || len(got.retries) != 0 || got.elapsed != time.Minute {
					t.Errorf("error %v, retries %q after %v, want none in a minute", got.err, got.retries, got.elapsed)
				}
				return
			}
			if got.err != nil || len(got.retries) != 1 || got.retries[0] != sse.ErrIdle.Error() {
				t.Fatalf("error %v, retries %q, want ErrIdle", got.err, got.retries)
			}
			if idle := got.elapsed - got.delays[0]; idle != tt.want {
				t.Errorf("idle after %v, want %v", idle, tt.want)
			}
		})
	}

	t.Run("any byte restarts the clock, and a slow reader does not run it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			pr, pw := io.Pipe()
			hc := &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
				context.AfterFunc(req.Context(), func() { pw.CloseWithError(req.Context().Err()) })
				return response(200, pr), nil
			})}
			go func() {
				for range 8 {
					time.Sleep(4 * time.Second)
					io.WriteString(pw, ":") // not even a whole line
				}
				io.WriteString(pw, "\ndata: x\n\n")
				io.WriteString(pw, "data: y\n\n")
			}()
			req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://memory.test", nil)
			conn, err := (&sse.Client{HTTPClient: hc, IdleTimeout: 5 * time.Second}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var ev sse.Event
			if err := conn.Decode(&ev); err != nil || string(ev.Data) != "x" {
				t.Fatalf("%q, %v", ev.Data, err)
			}
			time.Sleep(time.Hour)
			if err := conn.Decode(&ev); err != nil || string(ev.Data) != "y" {
				t.Fatalf("after an hour's work: %q, %v", ev.Data, err)
			}
			if err := conn.Decode(&ev); !errors.Is(err, sse.ErrIdle) {
				t.Fatalf("error %v, want ErrIdle", err)
			}
		})
	})
}

func TestClientHeadTimeout(t *testing.T) {
	for name, tt := range map[string]struct {
		set, want time.Duration
	}{
		"default": {0, 30 * time.Second},
		"set":     {7 * time.Second, 7 * time.Second},
		"off":     {-1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hc := &http.Client{
					Timeout: time.Second, // which the client must not use
					Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
						<-req.Context().Done()
						return nil, req.Context().Err()
					}),
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://memory.test", nil)
				start := time.Now()
				_, err := (&sse.Client{HTTPClient: hc, HeadTimeout: tt.set, MaxAttempts: 1}).Do(req)
				if tt.want == 0 {
					if time.Since(start) != time.Hour || ctx.Err() == nil {
						t.Errorf("error %v after %v", err, time.Since(start))
					}
				} else if !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(fmt.Sprint(err), "no response head") || time.Since(start) != tt.want {
					t.Errorf("error %v after %v, want a timeout after %v", err, time.Since(start), tt.want)
				}
			})
		})
	}
}

func TestClientConsent(t *testing.T) {
	post := func(resend bool, key string) func(c *sse.Client, req *http.Request) {
		return func(c *sse.Client, req *http.Request) {
			body := `{"stream":true}`
			r, _ := http.NewRequestWithContext(req.Context(), "POST", req.URL.String(), strings.NewReader(body))
			if key != "" {
				r.Header.Set("Idempotency-Key", key)
			}
			*req = *r
			c.Resend = resend
		}
	}
	ok := ssetest.Step{Chunks: event("x")}
	tests := []struct {
		name     string
		steps    []ssetest.Step
		change   func(c *sse.Client, req *http.Request)
		requests int
		data     []string
		failed   bool
	}{
		{"without: a clean end is the end", []ssetest.Step{ok, ok}, post(false, ""), 1, []string{"x"}, false},
		{"without: 503 is final", []ssetest.Step{{Status: 503}, ok}, post(false, ""), 1, nil, true},
		{"without: a reset is final", []ssetest.Step{{Chunks: event("x"), Then: ssetest.Abort}, ok}, post(false, ""), 1, []string{"x"}, true},
		{"without: 401 is final", []ssetest.Step{{Status: 401}, ok}, func(c *sse.Client, req *http.Request) {
			post(false, "")(c, req)
			c.Prepare = func(*http.Request, *sse.ResponseError) error { return nil }
		}, 1, nil, true},
		{"Resend", []ssetest.Step{{Status: 503}, ok, {Chunks: event("y"), Then: ssetest.Abort}}, post(true, ""), 4, []string{"x", "y"}, false},
		{"Idempotency-Key", []ssetest.Step{{Status: 503}, ok}, post(false, "k"), 3, []string{"x"}, false},
		{"a redirect that keeps the body", []ssetest.Step{{Status: 307, Header: http.Header{"Location": {"/x"}}}, ok}, post(true, ""), 3, []string{"x"}, false},
		{"a redirect that drops it", []ssetest.Step{{Status: 302, Header: http.Header{"Location": {"/x"}}}, ok}, post(true, ""), 1, nil, true},
		{"PUT", []ssetest.Step{ok, ok}, func(c *sse.Client, req *http.Request) {
			post(false, "")(c, req)
			req.Method = "PUT"
		}, 3, []string{"x", "x"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := play(t, tt.steps, tt.change)
			if (got.err != nil) != tt.failed {
				t.Errorf("error %v", got.err)
			}
			if !slices.Equal(got.data, tt.data) {
				t.Errorf("events %q, want %q", got.data, tt.data)
			}
			if len(got.requests) != tt.requests {
				t.Fatalf("%d requests, want %d", len(got.requests), tt.requests)
			}
			for i, r := range got.requests {
				if r.Method == "GET" || string(r.Body) != `{"stream":true}` {
					t.Errorf("request %d: %s %q", i, r.Method, r.Body)
				}
			}
		})
	}

	t.Run("a body that cannot be sent again is refused", func(t *testing.T) {
		got := play(t, []ssetest.Step{ok}, func(c *sse.Client, req *http.Request) {
			post(true, "")(c, req)
			req.GetBody = nil
		})
		if got.err == nil || !strings.Contains(got.err.Error(), "GetBody") || len(got.requests) != 0 {
			t.Errorf("error %v, %d requests", got.err, len(got.requests))
		}
	})
}

func TestClientPrepare(t *testing.T) {
	t.Run("gets the refusal and a fresh request", func(t *testing.T) {
		var last []int
		got := play(t, []ssetest.Step{
			{Status: 401, Chunks: []string{"expired"}}, {Chunks: event("x")}, {Status: 503}, {Chunks: event("x")},
		}, func(c *sse.Client, _ *http.Request) {
			c.Prepare = func(req *http.Request, refusal *sse.ResponseError) error {
				if req.Header.Get("Authorization") != "" {
					t.Error("the request is not fresh")
				}
				req.Header.Set("Authorization", fmt.Sprint("token ", len(last)))
				if refusal == nil {
					last = append(last, 0)
				} else {
					last = append(last, refusal.StatusCode)
					if refusal.StatusCode == 401 && string(refusal.Body) != "expired" {
						t.Errorf("body %q", refusal.Body)
					}
				}
				return nil
			}
		})
		if got.err != nil || !slices.Equal(last, []int{0, 401, 0, 503, 0}) {
			t.Errorf("error %v, refusals %v", got.err, last)
		}
		for i, r := range got.requests {
			if want := fmt.Sprint("token ", i); r.Header.Get("Authorization") != want {
				t.Errorf("request %d has %q", i, r.Header.Get("Authorization"))
			}
		}
	})
	t.Run("its error is final", func(t *testing.T) {
		refused := errors.New("no credentials")
		got := play(t, nil, func(c *sse.Client, _ *http.Request) {
			c.Prepare = func(*http.Request, *sse.ResponseError) error { return refused }
		})
		if !errors.Is(got.err, refused) || len(got.requests) != 0 || len(got.retries) != 0 {
			t.Errorf("error %v, %d requests, retries %q", got.err, len(got.requests), got.retries)
		}
	})
	t.Run("but for one of the network", func(t *testing.T) {
		calls := 0
		got := play(t, nil, func(c *sse.Client, _ *http.Request) {
			c.Prepare = func(*http.Request, *sse.ResponseError) error {
				if calls++; calls == 1 {
					return fmt.Errorf("refresh: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
				}
				return nil
			}
		})
		if got.err != nil || len(got.requests) != 1 || len(got.retries) != 1 {
			t.Errorf("error %v, %d requests, retries %q", got.err, len(got.requests), got.retries)
		}
	})
}

func TestClientNetworkErrors(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	tests := []struct {
		name  string
		url   string
		err   error
		retry bool
	}{
		{"refused", "http://memory.test", refused, true},
		{"reset", "http://memory.test", syscall.ECONNRESET, true},
		{"DNS", "http://memory.test", &net.DNSError{Err: "no such host", IsNotFound: true}, true},
		{"broken off", "http://memory.test", io.ErrUnexpectedEOF, true},
		{"TLS broken off", "https://memory.test", tls.RecordHeaderError{Msg: "not TLS"}, true},
		{"certificate", "https://memory.test", &tls.CertificateVerificationError{Err: errors.New("who?")}, false},
		{"scheme", "ws://memory.test", errors.New("unsupported protocol scheme"), false},
		{"no host", "http:///path", errors.New("no Host in request URL"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				c := sse.Client{HTTPClient: &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
					if requests++; requests > 1 {
						return response(204, http.NoBody), nil
					}
					return nil, tt.err
				})}}
				req, err := http.NewRequestWithContext(t.Context(), "GET", tt.url, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, err = c.Do(req)
				if tt.retry && (err != nil || requests != 2) {
					t.Errorf("error %v after %d requests, want a retry", err, requests)
				}
				if !tt.retry && (!errors.Is(err, tt.err) || requests != 1) {
					t.Errorf("error %v after %d requests, want a final one", err, requests)
				}
			})
		})
	}

	t.Run("a real certificate that is not trusted", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(http.NotFoundHandler())
		srv.Config.ErrorLog = discardLog()
		srv.StartTLS()
		defer srv.Close()
		tr := &http.Transport{}
		defer tr.CloseIdleConnections()
		req, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
		var certificate *tls.CertificateVerificationError
		if _, err := (&sse.Client{HTTPClient: &http.Client{Transport: tr}}).Do(req); !errors.As(err, &certificate) {
			t.Errorf("error %v, want a final one of the certificate", err)
		}
	})
	t.Run("a header that cannot be sent", func(t *testing.T) {
		got := play(t, nil, func(_ *sse.Client, req *http.Request) { req.Header.Set("X-Bad", "a\nb") })
		if got.err == nil || len(got.retries) != 0 {
			t.Errorf("error %v, retries %q, want a final error", got.err, got.retries)
		}
	})
}

func TestClientRedirects(t *testing.T) {
	// Each reconnection starts again where the request went, not where a redirect led. Across
	// hosts, credentials stay behind and the last event id goes along.
	synctest.Test(t, func(t *testing.T) {
		var log []string
		hc := serve(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			log = append(log, fmt.Sprintf("%s auth=%q id=%q", r.Host, r.Header.Get("Authorization"), r.Header.Get("Last-Event-ID")))
			switch {
			case r.Host == "a.test":
				http.Redirect(w, r, "http://b.test/there", http.StatusMovedPermanently)
			case len(log) > 2:
				w.WriteHeader(http.StatusNoContent)
			default:
				w.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(w, "id: 5\ndata: x\n\n")
			}
		})}, http1())
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://a.test/start", nil)
		req.Header.Set("Authorization", "Bearer secret")
		conn, err := (&sse.Client{HTTPClient: hc}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range conn.Events() {
			if err != nil {
				t.Fatal(err)
			}
		}
		want := []string{
			`a.test auth="Bearer secret" id=""`, `b.test auth="" id=""`,
			`a.test auth="Bearer secret" id="5"`, `b.test auth="" id="5"`,
		}
		if !slices.Equal(log, want) {
			t.Errorf("requests\n%q, want\n%q", log, want)
		}
	})
}

func TestClientHooksInOrder(t *testing.T) {
	var log []string
	got := play(t, []ssetest.Step{
		{Chunks: []string{": one\ndata: a\n\n: two\n", ":three\ndata: b\n\n"}},
	}, func(c *sse.Client, _ *http.Request) {
		c.OnOpen = func(resp *http.Response) { log = append(log, "open") }
		c.OnComment = func(text []byte) { log = append(log, "comment"+string(text)) }
		c.OnRetry = func(err error, _ time.Duration) {
			if err != io.EOF {
				t.Errorf("error %v, want io.EOF", err)
			}
			log = append(log, "retry")
		}
	})
	if want := []string{"open", "comment one", "comment two", "commentthree", "retry"}; !slices.Equal(log, want) {
		t.Errorf("hooks %q, want %q", log, want)
	}
	if !slices.Equal(got.data, []string{"a", "b"}) {
		t.Errorf("events %q", got.data)
	}
}

func TestConnClose(t *testing.T) {
	tests := []struct {
		name string
		step ssetest.Step
		wait time.Duration // after Do, before Close
	}{
		{"while reading", ssetest.Step{Then: ssetest.Hold}, time.Second},
		{"while waiting", ssetest.Step{Chunks: []string{"retry: 3600000\n"}}, time.Minute},
	}
	for _, tt := range tests {
		for _, how := range []string{"Close", "context"} {
			t.Run(tt.name+", by "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					srv := ssetest.NewMemoryServer(t, tt.step)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
					conn, err := (&sse.Client{HTTPClient: srv.Client()}).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					time.AfterFunc(tt.wait, func() {
						if how == "Close" {
							conn.Close()
						} else {
							cancel()
						}
					})
					start := time.Now()
					var ev sse.Event
					err = conn.Decode(&ev)
					if time.Since(start) != tt.wait {
						t.Errorf("ended after %v, want %v", time.Since(start), tt.wait)
					}
					switch how {
					case "Close":
						if err != io.EOF || conn.Err() != nil {
							t.Errorf("errors %v and %v, want io.EOF and nil", err, conn.Err())
						}
					case "context":
						if !errors.Is(err, context.Canceled) || conn.Err() != err {
							t.Errorf("errors %v and %v, want context.Canceled", err, conn.Err())
						}
					}
					if again := conn.Decode(&ev); again != err {
						t.Errorf("then %v, want the same again", again)
					}
				})
			})
		}
	}

	t.Run("between events", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := ssetest.NewMemoryServer(t, ssetest.Step{Chunks: event("x"), Then: ssetest.Hold})
			req, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
			conn, err := (&sse.Client{HTTPClient: srv.Client()}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			for range conn.Events() {
				break
			}
			conn.Close()
			conn.Close()
			for range conn.Events() {
				t.Error("an event after Close")
			}
			if conn.Err() != nil {
				t.Error(conn.Err())
			}
		})
	})
}

func TestConnRestart(t *testing.T) {
	tests := []struct {
		name  string
		first ssetest.Step
		after time.Duration
	}{
		{"while reading", ssetest.Step{Chunks: []string{"id: 1\ndata: x\n\nid: 2\ndata: half"}, Then: ssetest.Hold}, time.Second},
		{"while waiting", ssetest.Step{Chunks: []string{"retry: 3600000\nid: 1\ndata: x\n\n"}}, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := ssetest.NewMemoryServer(t, tt.first, ssetest.Step{Chunks: event("y"), Then: ssetest.Hold})
				req, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
				c := &sse.Client{HTTPClient: srv.Client(), OnRetry: func(err error, _ time.Duration) {
					if err != io.EOF {
						t.Errorf("OnRetry got %v", err)
					}
				}}
				conn, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				start := time.Now()
				time.AfterFunc(tt.after, conn.Restart)
				var data []string
				for ev, err := range conn.Events() {
					if err != nil {
						t.Fatal(err)
					}
					if data = append(data, string(ev.Data)); len(data) == 2 {
						break
					}
				}
				if !slices.Equal(data, []string{"x", "y"}) {
					t.Errorf("events %q", data)
				}
				if time.Since(start) != tt.after {
					t.Errorf("the second connection came after %v, want %v", time.Since(start), tt.after)
				}
				if id := srv.Requests()[1].Header.Get("Last-Event-ID"); id != "1" {
					t.Errorf("resumed after %q, want 1", id)
				}
			})
		})
	}

	t.Run("again and again, without a pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			step := ssetest.Step{Chunks: event("x"), Then: ssetest.Hold}
			srv := ssetest.NewMemoryServer(t, slices.Repeat([]ssetest.Step{step}, 20)...)
			req, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
			conn, err := (&sse.Client{HTTPClient: srv.Client()}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			start, n := time.Now(), 0
			for _, err := range conn.Events() {
				if err != nil {
					t.Fatal(err)
				}
				if n++; n == 20 {
					break
				}
				conn.Restart()
			}
			if time.Since(start) != 0 {
				t.Errorf("took %v", time.Since(start))
			}
		})
	})

	t.Run("shortens no later delay", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := ssetest.NewMemoryServer(t,
				ssetest.Step{Then: ssetest.Hold},
				ssetest.Step{Chunks: []string{"retry: 20000\ndata: x\n\n"}},
			)
			req, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
			conn, err := (&sse.Client{HTTPClient: srv.Client()}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			conn.Restart()
			for _, err := range conn.Events() {
				if err != nil {
					t.Fatal(err)
				}
			}
			if d := time.Since(start); d < 20*time.Second {
				t.Errorf("the third request came after %v, want 20 s or more", d)
			}
		})
	})

	t.Run("not without consent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			step := ssetest.Step{Chunks: event("x"), Then: ssetest.Hold}
			srv := ssetest.NewMemoryServer(t, step, step)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, "POST", srv.URL, nil)
			conn, err := (&sse.Client{HTTPClient: srv.Client()}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			conn.Restart()
			n := 0
			for range conn.Events() {
				n++
			}
			if n != 2 || len(srv.Requests()) != 1 || !errors.Is(conn.Err(), context.DeadlineExceeded) {
				t.Errorf("%d events, %d requests, error %v", n-1, len(srv.Requests()), conn.Err())
			}
		})
	})
}

func TestClientOverSockets(t *testing.T) {
	for name, client := range map[string]func(*ssetest.Server) *http.Client{
		"HTTP/1.1": (*ssetest.Server).Client,
		"h2c":      (*ssetest.Server).HTTP2Client,
	} {
		t.Run(name, func(t *testing.T) {
			srv := ssetest.NewServer(t,
				ssetest.Step{Chunks: []string{"retry: 0\nid: 1\ndata: a\n\n"}, Then: ssetest.Abort},
				ssetest.Step{Chunks: []string{"id: 2\ndata: b\n\n"}, Then: ssetest.Hold},
				ssetest.Step{Chunks: []string{"id: 3\ndata: c\n\n"}},
			)
			var reasons []error
			c := &sse.Client{
				HTTPClient:  client(srv),
				Backoff:     sse.Backoff{Min: time.Millisecond},
				IdleTimeout: 500 * time.Millisecond,
				OnRetry:     func(err error, _ time.Duration) { reasons = append(reasons, err) },
			}
			req, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
			conn, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for ev, err := range conn.Events() {
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, ev.ID)
			}
			if !slices.Equal(ids, []string{"1", "2", "3"}) || len(srv.Requests()) != 4 {
				t.Errorf("ids %q after %d requests", ids, len(srv.Requests()))
			}
			if len(reasons) != 3 || reasons[0] == io.EOF || reasons[1] != sse.ErrIdle || reasons[2] != io.EOF {
				t.Errorf("reconnected because of %v, want a reset, ErrIdle and io.EOF", reasons)
			}
		})
	}
}

// roundTrip is a transport.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// response returns a response as it comes from a transport.
func response(status int, body io.ReadCloser) *http.Response {
	return &http.Response{
		StatusCode: status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"text/event-stream"}},
		Body:   body,
	}
}
