package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// syncedTopic is the one topic whose events are synced.
const syncedTopic = "history"

// deliveryConfig takes the disk out of the measurement of delivery, and lets all
// subscribers come at once. That many may come from one address is what --dev
// is for.
const deliveryConfig = `policies:
  - {pattern: ` + syncedTopic + `}
  - {pattern: "**", durability: memory}
limits:
  connect_rate: none
`

// bench is a lab with the load tool and the server that it measures.
type bench struct {
	*lab
	tool     string // program ssebench
	tailrace string // program tailrace
	config   string // its configuration
	cert     string // a certificate for it
	key      string
	history  string // directory of the log of fromDisk
	first    string // the id of its first event; "" if it is not stored yet
}

// newBench builds the programs.
func newBench(ctx context.Context, l *lab) (*bench, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("the load tool runs on Linux only")
	}
	b := &bench{
		lab:    l,
		config: filepath.Join(l.dir, "bench.yaml"),
		cert:   filepath.Join(l.dir, "cert.pem"),
		key:    filepath.Join(l.dir, "key.pem"),
	}
	var err error
	if b.tailrace, err = l.build(ctx, ".", "./cmd/tailrace", "tailrace"); err != nil {
		return nil, err
	}
	if b.tool, err = l.build(ctx, "bench/ssebench", ".", "ssebench"); err != nil {
		return nil, err
	}
	if err := writeCertificate(b.cert, b.key); err != nil {
		return nil, err
	}
	return b, os.WriteFile(b.config, []byte(deliveryConfig), 0o644)
}

// server is what the load tool starts and measures.
type server struct {
	baseline string // a reference server of the load tool; "" is ours
	engine   string // of ours
	tls      bool   // ours, over TLS
}

var (
	fast     = server{engine: "auto"}
	portable = server{engine: "portable"}
	secure   = server{engine: "auto", tls: true}
	floor    = server{baseline: "floor"}
	flush    = server{baseline: "flush"}
	flushTLS = server{baseline: "flush-tls"}
)

// load is a side: a scenario of the load tool with its flags.
func load(name string, s server, scenario string, flags ...string) side {
	return side{name, func(ctx context.Context, b *bench) (*report, error) {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		if s.baseline != "" {
			return b.load(ctx, append([]string{scenario, "-addr", addr, "-baseline", s.baseline}, flags...)...)
		}
		dir, err := os.MkdirTemp(b.dir, "log-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		return b.loadOurs(ctx, s, addr, dir, scenario, flags...)
	}}
}

// loadOurs loads our server, with its log in dir.
func (b *bench) loadOurs(ctx context.Context, s server, addr, dir, scenario string, flags ...string) (*report, error) {
	command := "'" + b.tailrace + "' '" + strings.Join(b.args(s, addr, dir), "' '") + "'"
	return b.load(ctx, append([]string{scenario, "-addr", addr, "-adapter", "tailrace", "-exec", command}, flags...)...)
}

// args are the arguments of the command tailrace.
func (b *bench) args(s server, addr, dir string) []string {
	args := append(serverArgs(dir)(addr), "--config", b.config, "--engine", s.engine)
	if s.tls {
		args = append(args, "--listen.tls.cert_file", b.cert, "--listen.tls.key_file", b.key)
	}
	return args
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

// apart adds to flags those that give server and tool a processor each where
// there are two, so that neither takes the other's time.
func apart(flags []string, more ...string) []string {
	flags = slices.Concat(flags, more)
	if runtime.NumCPU() >= 2 {
		flags = append(flags, "-pin", "0:1")
	}
	return flags
}

// report is what is used of the load tool's report.
type report struct {
	Error      string  `json:"error"`
	Lost       int64   `json:"lost"`
	Gaps       int64   `json:"sequence_gaps"`
	Backs      int64   `json:"sequence_backward"`
	Failed     int64   `json:"failed"`
	Closed     int64   `json:"closed_by_server"`
	CPU        float64 `json:"server_cpu_s_per_million_deliveries"`
	PublishCPU float64 `json:"server_cpu_us_per_publish"`
	ConnectCPU float64 `json:"server_cpu_us_per_connect"`
	IdleCPU    float64 `json:"idle_cpu_percent"`
	Rate       float64 `json:"deliveries_per_s"`
	RSS        float64 `json:"rss_per_subscriber_bytes"`
	Latency    struct {
		P50 float64 `json:"p50_us"`
		P99 float64 `json:"p99_us"`
	} `json:"latency"`
	Extra struct {
		LastID      string  `json:"last_id"`
		Inexact     int64   `json:"clients_without_exact_history"`
		StallGrowth float64 `json:"rss_growth_while_stalled"`
		NeverGot    float64 `json:"stalled_never_got"`
		LeaveCPU    float64 `json:"server_cpu_us_per_disconnect"`
		Gone        float64 `json:"all_gone_after_s"`
		First       struct {
			P50 float64 `json:"p50"`
		} `json:"first_event_after_connect_us"`
	} `json:"extra"`

	share float64 // bytes that one subscriber more costs
}

// wrong counts what makes the other figures worthless. With several publishers
// the tool sees gaps in the order of the first one alone.
func (r *report) wrong() int64 {
	return max(r.Lost, -r.Lost) + r.Gaps + r.Backs + r.Failed + r.Closed + r.Extra.Inexact
}

// Figures of a report. CPU is the server's: a busy machine disturbs it least.
var (
	cpu        = measure{"CPU", "s/M", func(r *report) float64 { return r.CPU }} // seconds for a million deliveries
	rate       = measure{"deliveries", "/s", func(r *report) float64 { return r.Rate }}
	p50        = measure{"p50", "ms", func(r *report) float64 { return r.Latency.P50 / 1e3 }}
	p99        = measure{"p99", "ms", func(r *report) float64 { return r.Latency.P99 / 1e3 }}
	firstEvent = measure{"first event", "ms", func(r *report) float64 { return r.Extra.First.P50 / 1e3 }}
	rss        = measure{"memory each", "KB", func(r *report) float64 { return r.RSS / 1e3 }}
	growth     = measure{"growth of memory", "MB", func(r *report) float64 { return r.Extra.StallGrowth / 1e6 }}
	share      = measure{"memory of one more", "KB", func(r *report) float64 { return r.share / 1e3 }}
	neverGot   = measure{"never got by the stalled", "events", func(r *report) float64 { return r.Extra.NeverGot }}
	idleCPU    = measure{"CPU", "% of a core", func(r *report) float64 { return r.IdleCPU }}
	publishCPU = measure{"CPU", "µs", func(r *report) float64 { return r.PublishCPU }}
	connectCPU = measure{"CPU", "µs", func(r *report) float64 { return r.ConnectCPU }}
	leaveCPU   = measure{"CPU of leaving", "µs", func(r *report) float64 { return r.Extra.LeaveCPU }}
	gone       = measure{"descriptors back after", "s", func(r *report) float64 { return r.Extra.Gone }}
)
