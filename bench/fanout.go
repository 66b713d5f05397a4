package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tailrace/tailrace/bench/figure"
)

// deliveryConfig takes the disk out of the measurement of delivery.
const deliveryConfig = `policies:
  - {pattern: "bench*", durability: memory}
`

// load is one load on a server with 1,000 subscribers, and what the server is
// compared with.
type load struct {
	name      string
	engine    string // of the configuration
	flags     []string
	reference string // a baseline of ssebench
	atMost    float64
}

func loads() []load {
	oneByOne := []string{"-d", "3s"}
	fiveHundred := []string{"-rate", "500", "-c", "16", "-d", "1s", "-warmup", "500ms"}
	return []load{
		{"portable engine, one event at a time to 1,000", "portable", oneByOne, "flush", 1.0},
		{"portable engine, 500 events/s to 1,000", "portable", fiveHundred, "floor", 0.6},
		{"fast engine, one event at a time to 1,000", "auto", oneByOne, "floor", 1.35},
		{"fast engine, 500 events/s to 1,000", "auto", fiveHundred, "floor", 0.35},
	}
}

// measureFanout measures delivery with the load tool: CPU for each delivery,
// which a busy machine disturbs least, and latency.
func measureFanout(ctx context.Context, l *lab) ([]figure.Row, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("the load tool runs on Linux only")
	}
	tailrace, err := l.build(ctx, ".", "./cmd/tailrace", "tailrace")
	if err != nil {
		return nil, err
	}
	tool, err := l.build(ctx, "bench/ssebench", ".", "ssebench")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(l.dir, "bench.yaml")
	if err := os.WriteFile(config, []byte(deliveryConfig), 0o644); err != nil {
		return nil, err
	}
	var rows []figure.Row
	for _, ld := range loads() {
		got, err := ld.measure(ctx, l, tool, func(addr, dir string) string {
			args := append(serverArgs(dir)(addr), "--config", config, "--engine", ld.engine)
			return "'" + tailrace + "' '" + strings.Join(args, "' '") + "'"
		})
		rows = append(rows, got...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

// measure runs the load on both servers in turn, each time as new processes.
// command is the shell's line for our server.
func (ld *load) measure(ctx context.Context, l *lab, tool string, command func(addr, dir string) string) ([]figure.Row, error) {
	lost := int64(0)
	row := func(unit string, atMost *float64) figure.Row {
		return figure.Row{Name: ld.name, Unit: unit, Against: ld.reference, AtMost: atMost, Lost: &lost}
	}
	cpu := row("s/M", &ld.atMost) // CPU seconds for each million deliveries
	p50, p99, rate := row("ms p50", nil), row("ms p99", nil), row("deliveries/s", nil)
	for round := range l.rounds {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(l.dir, fmt.Sprint("fanout-", round))
		ours, err := ld.run(ctx, l, tool, addr, "-adapter", "tailrace", "-exec", command(addr, dir))
		os.RemoveAll(dir)
		if err != nil {
			return nil, err
		}
		base, err := ld.run(ctx, l, tool, addr, "-baseline", ld.reference)
		if err != nil {
			return nil, err
		}
		lost += ours.wrong()
		if n := base.wrong(); n != 0 {
			return nil, fmt.Errorf("%s: the reference %s lost %d events, so there is nothing to compare with", ld.name, ld.reference, n)
		}
		for _, x := range []struct {
			row        *figure.Row
			ours, base float64
		}{
			{&cpu, ours.CPU, base.CPU},
			{&p50, ours.Latency.P50 / 1e3, base.Latency.P50 / 1e3},
			{&p99, ours.Latency.P99 / 1e3, base.Latency.P99 / 1e3},
			{&rate, ours.Rate, base.Rate},
		} {
			x.row.Ours, x.row.Base = append(x.row.Ours, x.ours), append(x.row.Base, x.base)
		}
	}
	return []figure.Row{cpu, p50, p99, rate}, nil
}

// loadReport is what is used of the load tool's report.
type loadReport struct {
	Error   string  `json:"error"`
	Lost    int64   `json:"lost"`
	Gaps    int64   `json:"sequence_gaps"`
	Backs   int64   `json:"sequence_backward"`
	Failed  int64   `json:"failed"`
	Closed  int64   `json:"closed_by_server"`
	CPU     float64 `json:"server_cpu_s_per_million_deliveries"`
	Rate    float64 `json:"deliveries_per_s"`
	Latency struct {
		P50 float64 `json:"p50_us"`
		P99 float64 `json:"p99_us"`
	} `json:"latency"`
}

// wrong counts what makes the other figures worthless. With several publishers
// the tool sees gaps in the order of the first one alone.
func (r *loadReport) wrong() int64 {
	return max(r.Lost, -r.Lost) + r.Gaps + r.Backs + r.Failed + r.Closed
}

// run measures one server. Server and tool have a processor each where there
// are two, so that neither takes the other's time.
func (ld *load) run(ctx context.Context, l *lab, tool, addr string, server ...string) (*loadReport, error) {
	args := append([]string{"fanout", "-n", "1000", "-settle", "200ms", "-addr", addr}, ld.flags...)
	if runtime.NumCPU() >= 2 {
		args = append(args, "-pin", "0:1")
	}
	out, err := l.output(ctx, tool, append(args, server...)...)
	if err != nil {
		return nil, err
	}
	var r loadReport
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("the load tool's report: %w", err)
	}
	if r.Error != "" {
		return nil, fmt.Errorf("%s: %s", ld.name, r.Error)
	}
	return &r, nil
}
