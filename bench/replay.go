package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/tailrace/tailrace/bench/figure"
	"github.com/tailrace/tailrace/sse"
)

const (
	replayed  = 50_000 // events of the history
	batchSize = 1000   // events of one publish, the most that the server takes
)

// replayData is the data of event i of the history, of the size of a token.
func replayData(i int) []byte {
	return fmt.Appendf(nil, `{"n":%08d,"object":"chat.completion.chunk","model":"small","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}],"created":1762937000}`, i)
}

// measureReplay times one client that asks for a whole history, from a server
// that has just been started on it, each round anew since it keeps what it has
// read, and from a handler that writes the same bytes.
func measureReplay(ctx context.Context, l *lab) ([]figure.Row, error) {
	tailrace, err := l.build(ctx, ".", "./cmd/tailrace", "tailrace")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := serverArgs(filepath.Join(l.dir, "replay"))
	server, err := l.start(ctx, tailrace, args)
	if err != nil {
		return nil, err
	}
	err = publishHistory(ctx, server.addr)
	server.stop()
	if err != nil {
		return nil, err
	}
	ask := func(replay func(url string) error) error {
		server, err := l.start(ctx, tailrace, args)
		if err != nil {
			return err
		}
		defer server.stop()
		return replay("http://" + server.addr + "/v1/topics/history?from=start")
	}
	var stream []byte
	if err := ask(func(url string) (err error) {
		stream, err = firstReplay(ctx, url)
		return err
	}); err != nil {
		return nil, err
	}
	file := filepath.Join(l.dir, "history.sse")
	if err := os.WriteFile(file, stream, 0o644); err != nil {
		return nil, err
	}
	writer, err := l.start(ctx, self, func(addr string) []string { return []string{childWriter, addr, file} })
	if err != nil {
		return nil, err
	}
	defer writer.stop()

	lost := int64(0)
	var rate, baseRate, throughput []float64
	for range l.rounds {
		var took time.Duration
		if err := ask(func(url string) (err error) {
			took, err = timedReplay(ctx, url, stream)
			return err
		}); err != nil {
			return nil, err
		}
		lost += wrongIn(stream)
		baseTook, err := timedReplay(ctx, "http://"+writer.addr, stream)
		if err != nil {
			return nil, err
		}
		rate = append(rate, replayed/took.Seconds())
		baseRate = append(baseRate, replayed/baseTook.Seconds())
		throughput = append(throughput, float64(len(stream))/1e6/took.Seconds())
	}
	return []figure.Row{
		{Name: "50,000 events to one client", Unit: "events/s", Ours: rate, Value: figure.AtLeast(500_000), Lost: &lost},
		{Name: "50,000 events to one client", Unit: "events/s", Ours: rate, Against: "net/http, same bytes", Base: baseRate, Lost: &lost},
		{Name: "50,000 events to one client", Unit: "MB/s", Ours: throughput, Lost: &lost},
	}, nil
}

// publishHistory publishes the events in batches.
func publishHistory(ctx context.Context, addr string) error {
	var body []byte
	for i := 0; i < replayed; {
		body = body[:0]
		for range batchSize {
			body = fmt.Appendf(body, "{\"data\":%q}\n", replayData(i))
			i++
		}
		if err := publishBatch(ctx, "http://"+addr+"/v1/topics/history", body); err != nil {
			return err
		}
	}
	return nil
}

// publishBatch posts JSON lines, all of which must be stored.
func publishBatch(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := publishClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf(`{"stored":%d,`, bytes.Count(body, []byte("\n"))); !bytes.HasPrefix(answer, []byte(want)) {
		return fmt.Errorf("the batch was answered with %s: %.300s", resp.Status, answer)
	}
	return nil
}

// publishClient keeps a connection for each publisher.
var publishClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: topicConns}}

// open begins a stream.
func open(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := replayTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return resp.Body, nil
}

// replayTransport reads in large pieces, so that the client is not what is
// measured.
var replayTransport = &http.Transport{DisableKeepAlives: true, ReadBufferSize: 256 << 10}

// firstReplay returns the bytes of the stream up to the end of the history.
func firstReplay(ctx context.Context, url string) ([]byte, error) {
	body, err := open(ctx, url)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var stream bytes.Buffer
	d := sse.NewDecoder(io.TeeReader(body, &stream), nil)
	var ev sse.Event
	for range replayed {
		if err := d.Decode(&ev); err != nil {
			return nil, err
		}
	}
	if n := wrongIn(stream.Bytes()); n > 0 {
		return nil, fmt.Errorf("%d of %d events are wrong in the first replay", n, replayed)
	}
	return stream.Bytes(), nil
}

// timedReplay fills stream and returns the time from the request to its last
// byte.
func timedReplay(ctx context.Context, url string, stream []byte) (time.Duration, error) {
	start := time.Now()
	body, err := open(ctx, url)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	_, err = io.ReadFull(body, stream)
	return time.Since(start), err
}

// wrongIn counts the events that are not in the stream, or not in their place.
func wrongIn(stream []byte) (wrong int64) {
	d := sse.NewDecoder(bytes.NewReader(stream), nil)
	var ev sse.Event
	i := 0
	for ; d.Decode(&ev) == nil; i++ {
		if i >= replayed || !bytes.Equal(ev.Data, replayData(i)) {
			wrong++
		}
	}
	return wrong + max(0, int64(replayed-i))
}
