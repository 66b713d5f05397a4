package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// countingConn counts what has been read.
type countingConn struct {
	net.Conn
	n int
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n += n
	return n, err
}

// errRefused says that a client was not served: by a status, or because nobody
// listened any more.
var errRefused = errors.New("refused")

// readWhole opens a stream and reads numbered events until its end, which must
// be a whole one. opened is called once it is served.
func (s *server) readWhole(path string, opened func()) (events int, err error) {
	dialled, err := net.DialTimeout("tcp", s.addr, startTime)
	if err != nil {
		return 0, errRefused
	}
	defer dialled.Close()
	conn := &countingConn{Conn: dialled}
	conn.SetDeadline(time.Now().Add(2 * startTime))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, s.addr)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if conn.n == 0 {
			return 0, errRefused // it was in the kernel's queue when the listener closed
		}
		return 0, fmt.Errorf("half a head: %w", err)
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		return 0, errRefused
	}
	if resp.StatusCode != http.StatusOK {
		return 0, errors.New(resp.Status)
	}
	opened()
	dec := sse.NewDecoder(resp.Body, nil)
	var ev sse.Event
	for last := -1; ; events++ {
		if err := dec.Decode(&ev); err == io.EOF {
			return events, nil
		} else if err != nil {
			return events, fmt.Errorf("torn after %d events: %w", events, err)
		}
		n, err := strconv.Atoi(string(ev.Data))
		if err != nil || last >= 0 && n != last+1 {
			return events, fmt.Errorf("event %q after %d", ev.Data, last)
		}
		last = n
	}
}

// TestTermInAStorm: a server that is told to stop while clients pour in gives
// each of them a whole stream or a refusal, and ends in time.
func TestTermInAStorm(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"auto", "portable"} {
		t.Run(engine, func(t *testing.T) { testTermInAStorm(t, engine) })
	}
}

func testTermInAStorm(t *testing.T, engine string) {
	const crowd, before = 2000, 700
	s := startServer(t, "--engine="+engine, "--drain.delay=500ms", "--drain.window=1s", "--drain.max=30s")
	ctx, cancel := context.WithCancel(t.Context())
	var publisher sync.WaitGroup
	defer publisher.Wait()
	defer cancel()
	publisher.Go(func() {
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		for n := 0; ctx.Err() == nil; n++ {
			resp, err := client.Post(s.url("/v1/topics/storm"), "text/plain", strings.NewReader(strconv.Itoa(n)))
			if err != nil {
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return // it drains; a number that is left out would look like a loss
			}
			time.Sleep(5 * time.Millisecond)
		}
	})
	var served, refused, events atomic.Int64
	enough := make(chan struct{})
	places := make(chan struct{}, 32) // connecting at once
	var clients sync.WaitGroup
	clients.Go(func() {
		for range crowd {
			places <- struct{}{}
			leave := sync.OnceFunc(func() { <-places })
			clients.Go(func() {
				defer leave()
				n, err := s.readWhole("/v1/topics/storm", func() {
					if served.Add(1) == before {
						close(enough)
					}
					leave()
				})
				events.Add(int64(n))
				switch {
				case err == errRefused:
					refused.Add(1)
				case err != nil:
					t.Error(err)
				}
			})
		}
	})
	select {
	case <-enough:
	case <-time.After(startTime):
		t.Fatalf("only %d streams", served.Load())
	}
	s.stop()
	clients.Wait()
	t.Logf("%d served, %d refused, %d events", served.Load(), refused.Load(), events.Load())
	if served.Load()+refused.Load() != crowd {
		t.Errorf("%d served and %d refused of %d", served.Load(), refused.Load(), crowd)
	}
}
