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
)

// deliveryConfig takes the disk out of the measurement of delivery.
const deliveryConfig = `policies:
  - {pattern: "bench*", durability: memory}
`

// bench is a lab with the load tool and the server that it measures.
type bench struct {
	*lab
	tool     string // program ssebench
	tailrace string // program tailrace
	config   string // its configuration
}

// newBench builds the programs.
func newBench(ctx context.Context, l *lab) (*bench, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("the load tool runs on Linux only")
	}
	b := &bench{lab: l, config: filepath.Join(l.dir, "bench.yaml")}
	var err error
	if b.tailrace, err = l.build(ctx, ".", "./cmd/tailrace", "tailrace"); err != nil {
		return nil, err
	}
	if b.tool, err = l.build(ctx, "bench/ssebench", ".", "ssebench"); err != nil {
		return nil, err
	}
	return b, os.WriteFile(b.config, []byte(deliveryConfig), 0o644)
}

// server is what the load tool starts and measures.
type server struct {
	baseline string   // a reference server of the load tool; "" is ours
	flags    []string // of ours
}

var (
	fast     = server{flags: []string{"--engine", "auto"}}
	portable = server{flags: []string{"--engine", "portable"}}
	floor    = server{baseline: "floor"}
	flush    = server{baseline: "flush"}
)

// load is a side: a scenario of the load tool with its flags.
func load(name string, s server, scenario string, flags ...string) side {
	return side{name, func(ctx context.Context, b *bench) (*report, error) {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		args := append([]string{scenario, "-addr", addr}, flags...)
		if s.baseline != "" {
			return b.load(ctx, append(args, "-baseline", s.baseline)...)
		}
		dir, err := os.MkdirTemp(b.dir, "log-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		return b.load(ctx, append(args, "-adapter", "tailrace", "-exec", b.command(s, addr, dir))...)
	}}
}

// command is the shell's line for our server.
func (b *bench) command(s server, addr, dir string) string {
	args := append(serverArgs(dir)(addr), "--config", b.config)
	return "'" + b.tailrace + "' '" + strings.Join(append(args, s.flags...), "' '") + "'"
}

// load runs the load tool.
func (b *bench) load(ctx context.Context, args ...string) (*report, error) {
	out, err := b.output(ctx, b.tool, args...)
	if err != nil {
		return nil, err
	}
	var r report
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("the load tool's report: %w", err)
	}
	if r.Error != "" {
		return nil, errors.New(r.Error)
	}
	return &r, nil
}

// apart are the flags that give server and tool a processor each where there
// are two, so that neither takes the other's time.
func apart(flags ...string) []string {
	if runtime.NumCPU() >= 2 {
		flags = append(flags, "-pin", "0:1")
	}
	return flags
}

// report is what is used of the load tool's report.
type report struct {
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
func (r *report) wrong() int64 {
	return max(r.Lost, -r.Lost) + r.Gaps + r.Backs + r.Failed + r.Closed
}

// Figures of a report. CPU is the server's, in seconds for each million
// deliveries: a busy machine disturbs it least.
var (
	cpu  = measure{"CPU", "s/M", func(r *report) float64 { return r.CPU }}
	rate = measure{"deliveries", "/s", func(r *report) float64 { return r.Rate }}
	p50  = measure{"p50", "ms", func(r *report) float64 { return r.Latency.P50 / 1e3 }}
	p99  = measure{"p99", "ms", func(r *report) float64 { return r.Latency.P99 / 1e3 }}
)
