package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tailrace/tailrace/bench/figure"
)

const topics = 1_000_000

// measureTopics publishes one event of 200 bytes to each of a million topics
// and looks at the server's memory.
func measureTopics(ctx context.Context, l *lab) ([]figure.Row, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	rate := figure.Row{Name: "publish to 1,000,000 new topics, synced", Unit: "events/s"}
	busy := figure.Row{Name: "memory of 1,000,000 topics, at once", Unit: "MB"}
	rest := figure.Row{Name: "memory of 1,000,000 topics, collected", Unit: "MB", AtMost: new(100.0)}
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
	data := strings.Repeat("x", 200)
	start := time.Now()
	var body []byte
	for i := 0; i < topics; {
		body = body[:0]
		for range batchSize {
			body = fmt.Appendf(body, "{\"topic\":\"bench/topic/%07d\",\"data\":%q}\n", i, data)
			i++
		}
		if err := publishBatch(ctx, "http://"+server.addr+"/v1/events", body); err != nil {
			return 0, 0, 0, err
		}
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

// collectedResident is the resident memory after a forced collection.
func (p *process) collectedResident() (int64, error) {
	if err := p.collect(); err != nil {
		return 0, err
	}
	return p.resident()
}
