package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// stalled is a subscriber that has read the head of its stream and then
// reads no more, until somebody reads from body.
type stalled struct {
	net.Conn
	id   string // of the connection
	body io.Reader
}

// stall opens a stream and leaves it. Its receive buffer stays as the system
// makes it: with a very small one TCP itself would take minutes to catch up.
func stall(t testing.TB, s *server, path string) *stalled {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(startTime))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, s.addr)
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", path, resp.Status)
	}
	conn.SetDeadline(time.Time{})
	return &stalled{conn, resp.Header.Get("Tailrace-Connection"), resp.Body}
}

// lag returns how many events the server has not sent to a connection, or -1
// if it is cut.
func (s *server) lag(id string) int64 {
	s.t.Helper()
	resp, err := http.Get(s.url("/v1/connections/" + id))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return -1
	}
	var info struct {
		Lag int64 `json:"lag_events"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil {
		s.t.Fatal(err)
	}
	return info.Lag
}

// ballast publishes numbered events of 4 KiB, from next on, until the
// connection is so far behind that it must have stalled, and returns the next
// number.
func (s *server) ballast(topic, connection string, next int) int {
	s.t.Helper()
	padding := strings.Repeat("x", 4<<10)
	for end := next + 20_000; next < end; {
		var batch strings.Builder
		for range 100 {
			fmt.Fprintf(&batch, "{\"event\":\"ballast\",\"data\":\"%d %s\"}\n", next, padding)
			next++
		}
		s.batch(topic, batch.String())
		// All that the system will buffer is on its way; what is left is a lag.
		if lag := s.lag(connection); lag > 200 {
			return next
		}
	}
	s.t.Fatal("a connection that nobody reads from takes 80 MB")
	return 0
}

func (s *server) batch(topic, lines string) {
	s.t.Helper()
	resp, err := http.Post(s.url("/v1/topics/"+topic), "application/x-ndjson", strings.NewReader(lines))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s\n%s", resp.Status, text)
	}
}

// readNumbers reads events whose data begin with the numbers from next up to
// last, in order, and returns the number behind the last one read and its id.
// It ends early where the stream does.
func readNumbers(t testing.TB, body io.Reader, next, last int) (behind int, id string) {
	t.Helper()
	for ev, err := range sse.Events(body) {
		if err != nil {
			break
		}
		number, _, _ := strings.Cut(string(ev.Data), " ")
		if number != strconv.Itoa(next) {
			t.Fatalf("event %.40q of type %q, want number %d", ev.Data, ev.Type, next)
		}
		next, id = next+1, ev.ID
		if next > last {
			break
		}
	}
	return next, id
}

// TestStalledReaderHarmsNobody: of a thousand readers of one topic one does not
// read. The others get each event before the next is published, and it gets all
// of them when it reads again.
func TestStalledReaderHarmsNobody(t *testing.T) {
	t.Parallel()
	readers := 200
	if long {
		readers = 1000
	}
	s := startServer(t, "--stream.stall_timeout=10m")
	victim := stall(t, s, "/v1/topics/crowd?from=start")

	// The others are of the same selection, and leave out the ballast.
	ctx, cancel := context.WithCancel(t.Context())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var got atomic.Int64
	news := make(chan struct{}, readers)
	ended := make(chan error, readers)
	for range readers {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.url("/v1/topics/crowd?event=tick"), nil)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer resp.Body.Close()
			next := 0
			for ev, err := range sse.Events(resp.Body) {
				if err == nil && string(ev.Data) != strconv.Itoa(next) {
					err = fmt.Errorf("event %q, want %d", ev.Data, next)
				}
				if err != nil {
					ended <- err
					return
				}
				next++
				got.Add(1)
				news <- struct{}{}
			}
			ended <- io.EOF
		}()
	}
	defer func() {
		cancel()
		for range readers {
			<-ended
		}
	}()
	tick := func(n int) {
		t.Helper()
		post(t, s.url("/v1/topics/crowd?event=tick"), strconv.Itoa(n))
		deadline := time.After(startTime)
		for range readers {
			select {
			case <-news:
			case err := <-ended:
				ended <- err
				t.Fatal(err)
			case <-deadline:
				t.Fatalf("tick %d: not all readers have it, %d events in all", n, got.Load())
			}
		}
	}
	const rounds = 20
	for n := range rounds {
		tick(n)
	}
	s.ballast("crowd", victim.id, 0)
	for n := range rounds {
		tick(rounds + n)
	}
	if lag := s.lag(victim.id); lag < 200 {
		t.Errorf("the reader that shall stall is only %d events behind", lag)
	}
	s.alive()
}

// TestStalledReaderReadsOn: a reader that stalls and reads again gets all on
// the same connection; one that is cut for it resumes without a gap.
func TestStalledReaderReadsOn(t *testing.T) {
	t.Parallel()
	t.Run("in time", func(t *testing.T) {
		s := startServer(t, "--stream.stall_timeout=10m")
		victim := stall(t, s, "/v1/topics/long?from=start")
		n := s.ballast("long", victim.id, 0)
		post(t, s.url("/v1/topics/long"), strconv.Itoa(n))
		victim.SetDeadline(time.Now().Add(startTime))
		if behind, _ := readNumbers(t, victim.body, 0, n); behind <= n {
			t.Errorf("the stream ends before event %d of %d", behind, n)
		}
	})
	t.Run("too late", func(t *testing.T) {
		s := startServer(t, "--stream.stall_timeout=1s")
		victim := stall(t, s, "/v1/topics/long?from=start")
		n := s.ballast("long", victim.id, 0)
		for deadline := time.Now().Add(startTime); s.lag(victim.id) >= 0; {
			if time.Now().After(deadline) {
				t.Fatal("a stalled reader is never cut")
			}
			time.Sleep(20 * time.Millisecond)
		}
		post(t, s.url("/v1/topics/long"), strconv.Itoa(n))
		victim.SetDeadline(time.Now().Add(startTime))
		behind, id := readNumbers(t, victim.body, 0, n)
		if behind > n || id == "" {
			t.Fatalf("the cut stream goes up to event %d with the id %q; it should have been cut before", behind, id)
		}
		resp, err := http.Get(s.url("/v1/topics/long?last_event_id=" + url.QueryEscape(id)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if behind, _ := readNumbers(t, resp.Body, behind, n); behind <= n {
			t.Errorf("the resumed stream ends before event %d of %d", behind, n)
		}
	})
}

// TestStalledReaderCost: a reader that has stalled costs the server less than
// 64 KiB: there is no queue for it.
func TestStalledReaderCost(t *testing.T) {
	t.Parallel()
	const readers, limit = 200, 64 << 10
	used := func(readers int) int64 {
		s := newServer(t, "--stream.stall_timeout=10m")
		s.path = plainBinary(t)
		s.env = []string{"GOGC=5"} // what is garbage shall hardly count
		s.start()
		// One is there in either case; it shows when the sockets are full.
		victims := []*stalled{stall(t, s, "/v1/topics/crowd")}
		for range readers {
			victims = append(victims, stall(t, s, "/v1/topics/crowd"))
		}
		next := 0
		for _, v := range victims {
			for s.lag(v.id) <= 200 {
				next = s.ballast("crowd", v.id, next)
			}
		}
		for next < 4000 { // the same load, whatever it took to fill the sockets
			next = s.ballast("crowd", victims[0].id, next)
		}
		n := s.memory()
		t.Logf("%d stalled readers, %d events of 4 KiB: %d KiB in use", len(victims), next, n>>10)
		s.kill()
		return n
	}
	without, with := used(0), used(readers)
	each := (with - without) / readers
	t.Logf("a stalled reader costs %d bytes", each)
	if each >= limit {
		t.Errorf("a stalled reader costs %d bytes of memory, the limit is %d", each, limit)
	}
}

var inUse = regexp.MustCompile(`(?m)^go_memstats_(?:heap|stack)_inuse_bytes (\S+)$`)

// memory returns the bytes of the server's heap and stacks that are in use. That
// is what a stream can cost; resident memory has the store's buffers as well,
// which come and go by the 10 MiB. The least of many looks is the one after a
// collection, which they bring about themselves.
func (s *server) memory() int64 {
	s.t.Helper()
	least := math.Inf(1)
	for range 100 {
		resp, err := http.Get(s.url("/metrics"))
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		found := inUse.FindAllSubmatch(text, -1)
		if err != nil || len(found) != 2 {
			s.t.Fatalf("no memory in /metrics (%v):\n%s", err, text)
		}
		sum := 0.0
		for _, m := range found {
			n, err := strconv.ParseFloat(string(m[1]), 64)
			if err != nil {
				s.t.Fatal(err)
			}
			sum += n
		}
		least = min(least, sum)
	}
	return int64(least)
}
