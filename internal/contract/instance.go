package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// callbackTimeout bounds one callback, so that a harness that is stuck does not hold an instance.
const callbackTimeout = 30 * time.Second

// An instance is one client. Its goroutine reads the stream and sends the callbacks, one at a
// time, in the order of the stream.
type instance struct {
	http     *http.Client
	callback string // base URL
	logger   *slog.Logger
	cancel   context.CancelFunc
	done     chan struct{}
	sent     int // callbacks so far

	mu   sync.Mutex // guards what follows
	conn *sse.Conn  // nil before the stream is open
}

// A message is the body of a callback.
type message struct {
	Kind    string  `json:"kind"`
	Event   *event  `json:"event,omitempty"`
	Comment *string `json:"comment,omitempty"`
	Error   string  `json:"error,omitempty"`
}

type event struct {
	Type string `json:"type,omitempty"`
	Data string `json:"data"`
	ID   string `json:"id"`
}

// startInstance starts a client. It fails if no request can be made of p.
func startInstance(p *params, hc *http.Client, logger *slog.Logger) (*instance, error) {
	ctx, cancel := context.WithCancel(context.Background())
	req, err := p.request(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	in := &instance{
		http:     hc,
		callback: strings.TrimSuffix(p.CallbackURL, "/"),
		logger:   logger,
		cancel:   cancel,
		done:     make(chan struct{}),
	}
	client := &sse.Client{
		HTTPClient: hc,
		Resend:     true,
		OnComment: func(text []byte) {
			comment := string(text)
			in.send(ctx, &message{Kind: "comment", Comment: &comment})
		},
		OnRetry: func(err error, delay time.Duration) {
			in.logger.Info("reconnect", "err", err, "delay", delay)
			if err != io.EOF {
				in.sendError(ctx, err)
			}
		},
	}
	if p.InitialDelayMS != nil {
		client.Backoff.Min = max(time.Duration(*p.InitialDelayMS)*time.Millisecond, time.Millisecond)
	}
	if p.ReadTimeoutMS != nil {
		client.IdleTimeout = time.Duration(*p.ReadTimeoutMS) * time.Millisecond
	}
	go in.run(ctx, client, req)
	return in, nil
}

// request returns the stream's request.
func (p *params) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	if p.Body != nil {
		body = strings.NewReader(*p.Body)
	}
	req, err := http.NewRequestWithContext(ctx, p.Method, p.StreamURL, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "text/plain")
	}
	for name, value := range p.Headers {
		if strings.EqualFold(name, "host") {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	if p.LastEventID != "" {
		req.Header.Set("Last-Event-ID", p.LastEventID)
	}
	return req, nil
}

// run reads the stream to its end.
func (in *instance) run(ctx context.Context, client *sse.Client, req *http.Request) {
	defer close(in.done)
	conn, err := client.Do(req)
	if err != nil {
		in.sendError(ctx, err)
		return
	}
	defer conn.Close()
	in.mu.Lock()
	in.conn = conn
	in.mu.Unlock()
	for ev, err := range conn.Events() {
		if err != nil {
			in.sendError(ctx, err)
			return
		}
		in.send(ctx, &message{Kind: "event", Event: &event{Type: ev.Type, Data: string(ev.Data), ID: ev.ID}})
	}
}

// restart drops the connection. Before the stream is open there is none.
func (in *instance) restart() {
	in.mu.Lock()
	conn := in.conn
	in.mu.Unlock()
	if conn != nil {
		conn.Restart()
	}
}

// close ends the instance and waits for it. Afterwards there are no more callbacks.
func (in *instance) close() {
	in.cancel()
	<-in.done
}

// sendError reports an error, under both names that harnesses read.
func (in *instance) sendError(ctx context.Context, err error) {
	text := err.Error()
	in.send(ctx, &message{Kind: "error", Error: text, Comment: &text})
}

// send makes a callback and waits for its answer. A callback that fails is logged and not
// repeated: the harness may have got it.
func (in *instance) send(ctx context.Context, m *message) {
	if ctx.Err() != nil {
		return // the harness has deleted the instance
	}
	in.sent++
	err := in.post(ctx, fmt.Sprint(in.callback, "/", in.sent), m)
	if err != nil && !errors.Is(err, context.Canceled) {
		in.logger.Error("callback", "n", in.sent, "err", err)
	}
}

func (in *instance) post(ctx context.Context, url string, m *message) error {
	ctx, cancel := context.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := in.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("status %s", resp.Status)
	}
	return err
}
