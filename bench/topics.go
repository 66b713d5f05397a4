package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace/bench/figure"
)

const (
	topics         = 1_000_000
	topicsAtOnce   = 100 // of one publish, the most that the server takes
	topicConns     = 8   // publishers
	topicPublishes = topics / topicsAtOnce
)

// measureTopics publishes one event of 200 bytes to each of a million topics
// and looks at the server's memory.
func measureTopics(ctx context.Context, l *lab) ([]figure.Row, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	rate := figure.Row{Name: "publish to 1,000,000 new topics, synced", Unit: "events/s"}
	busy := figure.Row{Name: "memory of 1,000,000 topics, at once", Unit: "MB", Value: figure.AtMost(100)}
	rest := figure.Row{Name: "memory of 1,000,000 topics, collected", Unit: "MB", Value: figure.AtMost(100)}
	for round := range min(l.rounds, 2) { // memory does not vary as time does
		dir := filepath.Join(l.dir, fmt.Sprint("topics-", round))
		took, atOnce, collected, err := millionTopics(ctx, l, self, dir)
		if err != nil {
			return nil, err
		}
		rate.Ours = append(rate.Ours, topics/took.Seconds())
		busy.Ours = append(busy.Ours, float64(atOnce)/1e6)
		rest.Ours = append(rest.Ours, float64(collected)/1e6)
		os.RemoveAll(dir)
	}
	return []figure.Row{rate, busy, rest}, nil
}

// millionTopics returns how long the publishing took, and by how many bytes the
// server grew: right afterwards, and after a forced collection.
func millionTopics(ctx context.Context, l *lab, self, dir string) (took time.Duration, atOnce, collected int64, err error) {
	args := serverArgs(dir)
	server, err := l.start(ctx, self, func(addr string) []string { return append([]string{childServer}, args(addr)...) })
	if err != nil {
		return 0, 0, 0, err
	}
	defer server.stop()
	empty, err := server.collectedResident()
	if err != nil {
		return 0, 0, 0, err
	}
	start := time.Now()
	if err := publishTopics(ctx, "http://"+server.addr+"/v1/events"); err != nil {
		return 0, 0, 0, err
	}
	took = time.Since(start)
	if atOnce, err = server.resident(); err != nil {
		return 0, 0, 0, err
	}
	if collected, err = server.collectedResident(); err != nil {
		return 0, 0, 0, err
	}
	return took, atOnce - empty, collected - empty, nil
}

// publishTopics publishes one event to each topic, from several connections.
func publishTopics(ctx context.Context, url string) error {
	data := strings.Repeat("x", 200)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var publishers sync.WaitGroup
	for range topicConns {
		publishers.Go(func() {
			var body []byte
			for n := next.Add(1) - 1; n < topicPublishes; n = next.Add(1) - 1 {
				body = body[:0]
				for i := range topicsAtOnce {
					body = fmt.Appendf(body, "{\"topic\":\"bench/topic/%07d\",\"data\":%q}\n", int(n)*topicsAtOnce+i, data)
				}
				if err := publishBatch(ctx, url, body); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	publishers.Wait()
	return context.Cause(ctx)
}

// collectedResident is the resident memory after a forced collection.
func (p *process) collectedResident() (int64, error) {
	if err := p.collect(); err != nil {
		return 0, err
	}
	return p.resident()
}
