package main

import "github.com/tailrace/tailrace/bench/figure"

// delivery is what an event costs on its way to its subscribers, and when it
// arrives.
func delivery() []experiment {
	one := apart("-n", "1000", "-d", "3s", "-settle", "200ms")
	busy := apart("-n", "1000", "-rate", "500", "-c", "16", "-d", "3s", "-settle", "200ms")
	rush := apart("-n", "1000", "-rate", "1500", "-c", "16", "-poll", "1ms", "-d", "3s", "-settle", "200ms")
	calm := []string{"-n", "1000", "-rate", "10", "-d", "6s", "-settle", "200ms"}
	spread := apart("-n", "10000", "-topics", "1000", "-d", "3s", "-settle", "200ms")

	const (
		m1  = "M1 one event at a time to 1,000"
		m2  = "M2 one event at a time to 1,000"
		m3  = "M3 500 events/s to 1,000"
		m4  = "M4 1,500 events/s to 1,000"
		m5  = "M5 portable, 1,500 events/s to 1,000"
		m5b = "M5 portable, one event at a time to 1,000"
		m6  = "M6 10 events/s to 1,000"
		m16 = "M16 one event at a time, 10,000 over 1,000 topics"
	)
	return []experiment{
		{
			sides: []side{
				load("fast rush", fast, "fanout", rush...),
				load("fast", fast, "fanout", one...),
				load("floor", floor, "fanout", one...),
				load("portable", portable, "fanout", one...),
				load("flush", flush, "fanout", one...),
				load("portable rush", portable, "fanout", rush...),
				load("fast busy", fast, "fanout", busy...),
				load("floor, same load", floor, "fanout", busy...),
			},
			lines: []line{
				{m1, cpu, "fast", "floor", figure.AtMost(1.35).Aiming(1.15), nil},
				{m2, cpu, "fast", "flush", figure.AtMost(0.65), nil},
				{m3, cpu, "fast busy", "floor, same load", figure.AtMost(0.35).Aiming(0.25), nil},
				{m3, p99, "fast busy", "floor, same load", figure.AtMost(0.4), figure.AtMost(40)},
				{m4, rate, "fast rush", "", nil, figure.AtLeast(1.4e6).Aiming(1.5e6)},
				{m4, cpu, "fast rush", "floor", figure.AtMost(0.15), nil},
				{m4, p99, "fast rush", "", nil, figure.AtMost(40).Aiming(25)},
				{m5, cpu, "portable rush", "floor", figure.AtMost(0.25), nil},
				{m5b, cpu, "portable", "flush", figure.AtMost(1), nil},
			},
		},
		{
			sides: []side{
				load("fast", fast, "fanout", calm...),
				load("flush", flush, "fanout", calm...),
			},
			lines: []line{
				{m6, p50, "fast", "flush", figure.AtMost(1), nil},
				{m6, p99, "fast", "flush", figure.AtMost(1), nil},
			},
		},
		{
			sides: []side{
				load("fast", fast, "fanout", spread...),
				load("floor", floor, "fanout", spread...),
			},
			lines: []line{
				{m16, cpu, "fast", "floor", figure.AtMost(1.5), nil},
			},
		},
	}
}
