package main

import "github.com/tailrace/tailrace/bench/figure"

// connect is what requests cost: publishing one event, coming, and leaving.
func connect() []experiment {
	publish := apart(nil, "-n", "0", "-c", "8", "-warmup", "500ms", "-d", "2500ms")
	storm := []string{"-n", "9000"}

	const (
		m14 = "M14 publish, one event a request"
		m15 = "M15 9,000 connect at once"
	)
	return []experiment{
		{
			sides: []side{
				load("ours", fast, "publish", publish...),
				load("flush", flush, "publish", publish...),
			},
			lines: []line{
				{m14, publishCPU, "ours", "flush", figure.AtMost(1.2), figure.AtMost(12)},
			},
		},
		{
			sides: []side{
				load("ours", fast, "storm", storm...),
				load("flush", flush, "storm", storm...),
			},
			lines: []line{
				{m15, connectCPU, "ours", "flush", figure.AtMost(1), figure.AtMost(60)},
				{m15, leaveCPU, "ours", "flush", nil, nil},
				{m15, gone, "ours", "flush", nil, figure.AtMost(0.5)},
			},
		},
	}
}
