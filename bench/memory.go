package main

import "github.com/tailrace/tailrace/bench/figure"

// memory is what a subscriber costs the server while it waits, and what TLS and
// HTTP/2 cost.
func memory() []experiment {
	// The rest before memory is read: what connecting left behind goes back to
	// the system meanwhile. Each connection gets one heartbeat in 15 s.
	idle := []string{"-n", "10000", "-settle", "8s", "-d", "100ms"}
	beats := []string{"-n", "10000", "-settle", "8s", "-d", "16s"}
	tls := []string{"-proto", "tls", "-n", "2000", "-settle", "7s", "-warmup", "500ms", "-d", "2500ms"}
	idleTLS := []string{"-proto", "tls", "-n", "10000", "-settle", "8s", "-d", "100ms"}
	h2 := []string{"-proto", "h2", "-n", "2000", "-settle", "7s", "-warmup", "500ms", "-d", "2500ms"}

	const (
		m7  = "M7 10,000 idle"
		m8  = "M8 10,000 idle, heartbeats"
		m9  = "M9 TLS, one event at a time to 2,000"
		m9b = "M9 TLS, 10,000 idle"
		m10 = "M10 HTTP/2, one event at a time to 2,000"
	)
	return []experiment{
		{
			sides: []side{
				load("ours", fast, "idle", beats...),
				load("flush", flush, "idle", idle...),
			},
			lines: []line{
				{m7, rss, "ours", "flush", figure.AtMost(0.06), figure.AtMost(1.2).Aiming(1)},
				{m8, idleCPU, "ours", "", nil, figure.AtMost(1.5)},
			},
		},
		{
			sides: []side{
				load("ours", secure, "fanout", tls...),
				load("flush over TLS", flushTLS, "fanout", tls...),
				load("ours, idle", secure, "idle", idleTLS...),
			},
			lines: []line{
				{m9, cpu, "ours", "flush over TLS", figure.AtMost(0.8), nil},
				{m9, rss, "ours", "flush over TLS", figure.AtMost(0.3), figure.AtMost(12)},
				{m9b, rss, "ours, idle", "", nil, figure.AtMost(12).Aiming(10)},
			},
		},
		{
			sides: []side{
				load("ours", secure, "fanout", h2...),
				load("flush over HTTP/2", flushTLS, "fanout", h2...),
			},
			lines: []line{
				{m10, cpu, "ours", "flush over HTTP/2", figure.AtMost(1), nil},
				{m10, rss, "ours", "flush over HTTP/2", figure.AtMost(1), figure.AtMost(10)},
			},
		},
	}
}
