package ssetest

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/memhttp"
)

// Ending is what a [Server] does after the chunks of a step.
type Ending int

const (
	End   Ending = iota // ends the response properly
	Abort               // resets the connection or, over HTTP/2, the stream
	Hold                // keeps the response open until the client leaves or the test ends
)

// A Step is the answer to one request.
type Step struct {
	Status int         // 0 is 200
	Header http.Header // Content-Type is text/event-stream if Status is 0 or 200 and it is not set
	Chunks []string    // parts of the body, each flushed
	Then   Ending
}

// A Request is what a client sent.
type Request struct {
	Method string
	Header http.Header
	Body   []byte
	Time   time.Time // of arrival
}

// A Server answers each request with the next step of a script. [NewServer] and [NewMemoryServer]
// make it. What comes after the last step gets 204, and is recorded like the rest.
type Server struct {
	URL string // without a slash at the end

	dial  func(ctx context.Context, network, addr string) (net.Conn, error) // nil is a real one
	done  chan struct{}                                                     // closed with the test
	steps []Step

	mu         sync.Mutex // guards what follows
	requests   []Request
	transports []*http.Transport
}

// NewServer starts a server on a loopback port, which speaks HTTP/1.1 and unencrypted HTTP/2. It
// is closed with the test.
func NewServer(t testing.TB, steps ...Step) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("ssetest: %v", err)
	}
	s := &Server{URL: "http://" + l.Addr().String(), steps: steps}
	s.start(t, l)
	return s
}

// NewMemoryServer starts a server that only its own clients reach, over pipes without buffers. It
// works inside testing/synctest, so that a test of delays takes none. Over a pipe, an aborted
// response is an unexpected end.
func NewMemoryServer(t testing.TB, steps ...Step) *Server {
	t.Helper()
	l := memhttp.Listen()
	s := &Server{URL: "http://memory.test", steps: steps, dial: l.Dial}
	s.start(t, l)
	return s
}

func (s *Server) start(t testing.TB, l net.Listener) {
	s.done = make(chan struct{})
	server := &http.Server{Handler: s, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		close(s.done)
		server.Close()
		serving.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, tr := range s.transports {
			tr.CloseIdleConnections()
		}
	})
}

// Client returns a client of its own connections that speaks HTTP/1.1 to the server.
func (s *Server) Client() *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return s.client(p)
}

// HTTP2Client returns a client of its own connections that speaks HTTP/2 to the server.
func (s *Server) HTTP2Client() *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return s.client(p)
}

func (s *Server) client(p *http.Protocols) *http.Client {
	tr := &http.Transport{Protocols: p, DialContext: s.dial, DisableCompression: true}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.transports = append(s.transports, tr)
	return &http.Client{Transport: tr}
}

// Requests returns the requests so far, in the order of their arrival. A request is among them
// before any byte of its response has left.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ServeHTTP plays the next step.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := Request{Method: r.Method, Header: r.Header.Clone(), Time: time.Now()}
	req.Body, _ = io.ReadAll(r.Body)
	s.mu.Lock()
	n := len(s.requests)
	s.requests = append(s.requests, req)
	s.mu.Unlock()
	if n >= len(s.steps) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.play(w, r, s.steps[n])
}

func (s *Server) play(w http.ResponseWriter, r *http.Request, step Step) {
	for k, v := range step.Header {
		w.Header()[http.CanonicalHeaderKey(k)] = v
	}
	if step.Status == 0 {
		step.Status = http.StatusOK
	}
	if _, ok := w.Header()["Content-Type"]; !ok && step.Status == http.StatusOK {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	rc := http.NewResponseController(w)
	if len(step.Chunks) > 0 || step.Then != End {
		w.WriteHeader(step.Status)
		_ = rc.Flush()
		for _, chunk := range step.Chunks {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
			_ = rc.Flush()
		}
	} else {
		w.WriteHeader(step.Status)
	}
	switch step.Then {
	case Abort:
		if conn, _, err := rc.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // so that Close resets
			}
			conn.Close()
			return
		}
		panic(http.ErrAbortHandler) // HTTP/2 resets the stream
	case Hold:
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	}
}
