package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// Topics of the load. One name needs escaping, one gets a single event.
const (
	hotTopic  = "load/hot"
	idleTopic = "idle"
)

var loadTopics = []string{hotTopic, "load/a", "load/b", "deep/a/x", "deep/b", "plain", "é %/+?", idleTopic}

// away is how long who finds no server waits before it tries again.
const away = 5 * time.Millisecond

// drainTime is how long readers and publishers may take to finish once nothing
// disturbs them any more.
const drainTime = 60 * time.Second

// load publishes from 8 connections and reads with 8 subscribers, and records
// both.
type load struct {
	t      testing.TB
	server *server
	seed   uint64
	paused bool // readers now and then stay away until many events have passed

	ctx    context.Context // of everything
	cancel context.CancelFunc
	ending chan struct{} // closed when publishers shall end
	pubs   sync.WaitGroup
	reads  sync.WaitGroup
	acked  atomic.Int64 // events

	mu      sync.Mutex
	history history
}

// startLoad starts a load against a server that runs. keeps is of the history.
func startLoad(t testing.TB, s *server, chance *rand.Rand, keeps map[string]int) *load {
	l := &load{t: t, server: s, seed: chance.Uint64(), paused: len(keeps) > 0, ending: make(chan struct{}), history: history{keeps: keeps}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	t.Cleanup(func() {
		l.cancel()
		l.pubs.Wait()
		l.reads.Wait()
	})
	idle := l.publisher(0, form{ids: true})
	idle.publish([]string{idleTopic}, 1)
	idle.done()

	busy := loadTopics[:len(loadTopics)-1]
	for i, form := range []form{
		{ids: true}, {ids: true}, {ids: true, batch: true}, {ids: true, upload: true},
		{}, {}, {batch: true}, {},
	} {
		p := l.publisher(i+1, form)
		topics := busy
		if i%4 == 3 {
			topics = []string{hotTopic}
		}
		l.pubs.Go(func() {
			defer p.done()
			for !isClosed(l.ending) && l.ctx.Err() == nil {
				p.publish(topics, 1+p.chance.IntN(5))
			}
		})
	}
	envelopes := l.paused // a bare reader does not show where it stands
	for i, r := range []subscriber{
		{name: "one, bare, by header", topics: []string{hotTopic}, bare: !envelopes},
		{name: "one, bare, by query", topics: []string{"é %/+?"}, bare: !envelopes, byQuery: true},
		{name: "one, slow", topics: []string{hotTopic}, slow: true},
		{name: "three, by header", topics: []string{hotTopic, "load/a", idleTopic}},
		{name: "three, by query", topics: []string{"plain", "deep/b", "load/b"}, byQuery: true},
		{name: "pattern, by header", topics: []string{"load/*"}},
		{name: "pattern and topics, by query", topics: []string{"deep/**", "plain", idleTopic}, byQuery: true},
		{name: "everything, by package sse", topics: []string{"**"}, client: true},
	} {
		l.reader(i, &r)
	}
	return l
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// finish ends the publishers, waits until every reader is at the end, and
// returns what was recorded.
func (l *load) finish() *history {
	l.t.Helper()
	timer := time.AfterFunc(drainTime, l.cancel)
	defer timer.Stop()
	close(l.ending)
	l.pubs.Wait()
	p := l.publisher(99, form{ids: true})
	for _, topic := range loadTopics {
		p.end = true
		p.publish([]string{topic}, 1)
	}
	p.done()
	l.reads.Wait()
	if l.ctx.Err() != nil {
		l.t.Error("not all publishers and readers came to the end in time")
		l.server.dump()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history.final = wholeLog(l.t, l.server)
	return &l.history
}

// wholeLog reads all that is kept, up to the end marks.
func wholeLog(t testing.TB, s *server) []record {
	t.Helper()
	for range 100 {
		if log, ok := readLog(t, s); ok {
			return log
		}
	}
	t.Error("retention never comes to rest")
	return nil
}

// readLog reads the log once. It fails if retention removes events meanwhile.
func readLog(t testing.TB, s *server) (log []record, ok bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.url("/v1/events?topic=**&from=start&meta=1"), nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ends := 0
	for ev, err := range sse.Events(resp.Body) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type == tailrace.TypeGap {
			return nil, false
		}
		var e envelope
		if err := json.Unmarshal(ev.Data, &e); err != nil {
			t.Fatalf("%v in %s", err, ev.Data)
		}
		log = append(log, e.record())
		if e.Data == endMark+e.Topic {
			if ends++; ends == len(loadTopics) {
				return log, true
			}
		}
	}
	t.Fatal("the stream ends before the log does")
	return nil, false
}

// envelope is the JSON form of an event.
type envelope struct {
	Topic, ID, Event, Data string
	Cursor                 tailrace.Cursor
}

func (e *envelope) record() record { return record{e.Topic, e.ID, e.Data, e.Cursor} }

// getJSON reads a JSON answer into v.
func getJSON(t testing.TB, url string, v any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s\n%s", url, resp.Status, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		t.Fatalf("GET %s: %v\n%s", url, err, body)
	}
}

// form is how a publisher publishes.
type form struct {
	ids    bool // own ids, and repeats until acknowledged
	batch  bool // several events a call, as NDJSON
	upload bool // several events a call, as an event stream
}

// publisher publishes over one connection, one call after the other.
type publisher struct {
	*load
	form
	number int
	chance *rand.Rand
	http   *http.Client
	calls  []call
	end    bool // its events are the last of their topics
}

func (l *load) publisher(number int, form form) *publisher {
	return &publisher{
		load: l, form: form, number: number,
		chance: rand.New(rand.NewPCG(l.seed, uint64(number))),
		http:   &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: 30 * time.Second},
	}
}

func (p *publisher) done() {
	p.http.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history.calls = append(p.history.calls, p.calls...)
}

const endMark = "end of "

// publish makes a call of up to n events to one of the topics.
func (p *publisher) publish(topics []string, n int) {
	c := call{publisher: p.number, n: len(p.calls), topic: topics[p.chance.IntN(len(topics))]}
	if !p.batch && !p.upload {
		n = 1
	}
	name := fmt.Sprintf("p%d.%d", p.number, c.n)
	for i := range n {
		e := sent{data: fmt.Sprintf("%s.%d %d", name, i, p.chance.Uint64())}
		if p.end {
			e.data = endMark + c.topic
		}
		if p.ids {
			e.id = fmt.Sprintf("%s.%d", name, i)
		}
		c.events = append(c.events, e)
	}
	query := url.Values{}
	contentType, body := "text/plain", []byte(c.events[0].data)
	switch {
	case p.batch:
		contentType, body = "application/x-ndjson", nil
		for _, e := range c.events {
			line, _ := json.Marshal(struct {
				ID   string `json:"id,omitempty"`
				Data string `json:"data"`
			}{e.id, e.data})
			body = append(append(body, line...), '\n')
		}
	case p.upload:
		contentType, body = "text/event-stream", nil
		query.Set("upload", name) // which gives the ids above
		for _, e := range c.events {
			body = fmt.Appendf(body, "data: %s\n\n", e.data)
		}
	case p.ids:
		query.Set("id", c.events[0].id)
	}
	for !p.post(&c, query, contentType, body) && p.ctx.Err() == nil {
		wait(p.ctx, away)
		if !p.ids {
			break
		}
	}
	if c.acked {
		p.acked.Add(int64(len(c.events)))
	}
	p.calls = append(p.calls, c)
}

// post sends a call once, and says whether it was acknowledged.
func (p *publisher) post(c *call, query url.Values, contentType string, body []byte) bool {
	target := p.server.url("/v1/topics/" + url.PathEscape(c.topic))
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(p.ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		p.fail("%v", err)
		return false
	}
	req.Header.Set("Content-Type", contentType)
	req.GetBody = nil // the transport shall not repeat it by itself
	resp, err := p.http.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil, resp.StatusCode == http.StatusServiceUnavailable:
		return false
	case resp.StatusCode != http.StatusOK:
		p.fail("POST %s: %s\n%s", target, resp.Status, text)
		return false
	}
	var answer struct {
		Cursor     tailrace.Cursor
		LastCursor tailrace.Cursor `json:"last_cursor"`
		Results    []struct{ Cursor tailrace.Cursor }
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		p.fail("%v in %s", err, text)
		return false
	}
	last := &c.events[len(c.events)-1]
	switch {
	case p.upload:
		last.cursor = answer.LastCursor
	case p.batch:
		if len(answer.Results) != len(c.events) {
			p.fail("%d results for %d events: %s", len(answer.Results), len(c.events), text)
			return false
		}
		for i, r := range answer.Results {
			c.events[i].cursor = r.Cursor
		}
	default:
		last.cursor = answer.Cursor
	}
	if last.cursor.IsZero() {
		p.fail("no cursor in %s", text)
		return false
	}
	c.acked = true
	return true
}

// fail ends the whole load.
func (p *publisher) fail(format string, args ...any) {
	p.t.Errorf(format, args...)
	p.cancel()
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// subscriber reads a selection from the start to the end marks of its topics,
// over as many connections as that takes.
type subscriber struct {
	*load
	name    string
	topics  []string // and patterns
	bare    bool     // no envelopes
	byQuery bool     // it resumes by the query and not by the header
	slow    bool
	client  bool // through sse.Client

	chance *rand.Rand
	http   *http.Client
	lastID string
	ends   map[string]bool
	want   int // end marks
	out    *reading
}

func (l *load) reader(number int, r *subscriber) {
	sel, err := tailrace.ParseSelector(r.topics...)
	if err != nil {
		l.t.Fatal(err)
	}
	r.load, r.ends, r.out = l, map[string]bool{}, &reading{name: r.name, sel: sel, bare: r.bare}
	r.chance = rand.New(rand.NewPCG(l.seed, 1000+uint64(number)))
	for _, topic := range loadTopics {
		if sel.Match(topic) {
			r.want++
		}
	}
	transport := &http.Transport{DisableKeepAlives: true}
	if r.slow {
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				conn.(*net.TCPConn).SetReadBuffer(4 << 10)
			}
			return conn, err
		}
	}
	r.http = &http.Client{Transport: transport}
	l.history.readings = append(l.history.readings, r.out)
	l.reads.Go(func() {
		for len(r.ends) < r.want && l.ctx.Err() == nil {
			if r.client {
				r.persist()
			} else {
				r.connect()
			}
		}
	})
}

// request is the one that opens or resumes the stream.
func (r *subscriber) request(ctx context.Context) *http.Request {
	query := url.Values{"from": {"start"}}
	if !r.bare {
		query.Set("meta", "1")
	}
	if r.byQuery && r.lastID != "" {
		query.Set("last_event_id", r.lastID)
	}
	path := "/v1/events"
	if _, one := r.out.sel.Single(); one {
		path = "/v1/topics/" + url.PathEscape(r.topics[0])
	} else {
		query["topic"] = r.topics
	}
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, r.server.url(path+"?"+query.Encode()), nil)
	if !r.byQuery && r.lastID != "" {
		req.Header.Set("Last-Event-ID", r.lastID)
	}
	return req
}

// connect reads over one connection, until it breaks or the reader has had
// enough of it.
func (r *subscriber) connect() {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	resp, err := r.http.Do(r.request(ctx))
	if err != nil {
		wait(r.ctx, away)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		r.t.Errorf("reader %s: %s\n%s", r.name, resp.Status, text)
		r.cancel()
		return
	}
	if r.lastID != "" {
		r.out.resume++
	}
	enough := 1 + r.chance.IntN(300)
	dec := sse.NewDecoder(resp.Body, &sse.DecoderOptions{LastEventID: r.lastID})
	for ev, err := range dec.Events() {
		if err != nil {
			break
		}
		if r.take(&ev); len(r.ends) == r.want {
			break
		}
		r.lastID = dec.LastEventID()
		if enough--; enough == 0 {
			break
		}
		if r.slow {
			wait(r.ctx, time.Duration(r.chance.IntN(2000))*time.Microsecond)
		}
	}
	if r.paused && enough == 0 {
		r.progress(r.chance.IntN(500))
	}
}

// progress waits until n more events are acknowledged, or publishing ends. It
// says whether that was in time.
func (l *load) progress(n int) bool {
	deadline := time.Now().Add(drainTime)
	for until := l.acked.Load() + int64(n); l.acked.Load() < until && !isClosed(l.ending) && l.ctx.Err() == nil; {
		if time.Now().After(deadline) {
			return false
		}
		wait(l.ctx, time.Millisecond)
	}
	return true
}

// trim has all but the newest events of a topic removed, again and again.
func (l *load) trim(topic string, keep int) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	body := fmt.Sprintf(`{"keep":%d}`, keep)
	for !isClosed(l.ending) && l.ctx.Err() == nil {
		resp, err := client.Post(l.server.url("/v1/trim/"+topic), "application/json", strings.NewReader(body))
		if err == nil {
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotFound {
				l.t.Errorf("trim: %s\n%s", resp.Status, text)
			}
		}
		wait(l.ctx, 10*away)
	}
}

// persist reads through an sse.Client, which connects again by itself.
func (r *subscriber) persist() {
	var conn *sse.Conn
	client := &sse.Client{
		HTTPClient: r.http,
		OnOpen:     func(*http.Response) { r.out.resume++ },
		OnRetry: func(error, time.Duration) {
			if conn != nil { // its delay is for fleets of browsers
				time.AfterFunc(4*away, conn.Restart)
			}
		},
	}
	conn, err := client.Do(r.request(r.ctx))
	if err != nil {
		if r.ctx.Err() == nil {
			r.t.Errorf("reader %s: %v", r.name, err)
			r.cancel()
		}
		return
	}
	defer conn.Close()
	for ev, err := range conn.Events() {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				r.t.Errorf("reader %s: %v", r.name, err)
				r.cancel()
			}
			return
		}
		if r.take(&ev); len(r.ends) == r.want {
			return
		}
	}
}

// take records an event.
func (r *subscriber) take(ev *sse.Event) {
	s := sighting{wireID: ev.ID}
	switch {
	case ev.Type == tailrace.TypeGap:
		s.gap = &tailrace.Gap{}
		if err := json.Unmarshal(ev.Data, s.gap); err != nil {
			r.t.Errorf("reader %s: %v in gap %s", r.name, err, ev.Data)
		}
		var err error
		if s.cursor, err = tailrace.ParseCursor(ev.ID); err != nil {
			r.t.Errorf("reader %s: gap with the id %q: %v", r.name, ev.ID, err)
		}
	case r.bare:
		s.data = string(ev.Data)
	default:
		var e envelope
		if err := json.Unmarshal(ev.Data, &e); err != nil {
			r.t.Errorf("reader %s: %v in envelope %s", r.name, err, ev.Data)
		}
		s.record = e.record()
	}
	r.out.seen = append(r.out.seen, s)
	if topic, ok := strings.CutPrefix(s.data, endMark); ok && slices.Contains(loadTopics, topic) {
		r.ends[topic] = true
	}
}
