package main

import "github.com/tailrace/tailrace/bench/figure"

// delivery is what an event costs on its way to its subscribers, and when it
// arrives.
func delivery() []experiment {
	one := apart("-n", "1000", "-d", "3s", "-settle", "200ms")
	busy := apart("-n", "1000", "-rate", "500", "-c", "16", "-d", "3s", "-settle", "200ms")
	rush := apart("-n", "1000", "-rate", "1500", "-c", "16", "-poll", "1ms", "-d", "3s", "-settle", "200ms")
	calm := []string{"-n", "1000", "-rate", "10", "-d", "6s", "-settle", "200ms"}
	slow := []string{"-n", "500", "-size", "2000", "-rate", "150", "-c", "16", "-d", "3s"}
	memoryReplay := []string{"-n", "500", "-history", "1000"}
	diskReplay := func(n string) []string {
		return []string{"-topic", syncedTopic, "-n", n, "-history", "50000"}
	}
	spread := apart("-n", "10000", "-topics", "1000", "-d", "3s", "-settle", "200ms")

	const (
		m1   = "M1 one event at a time to 1,000"
		m2   = "M2 one event at a time to 1,000"
		m3   = "M3 500 events/s to 1,000"
		m4   = "M4 1,500 events/s to 1,000"
		m5   = "M5 portable, 1,500 events/s to 1,000"
		m5b  = "M5 portable, one event at a time to 1,000"
		m6   = "M6 10 events/s to 1,000"
		m11  = "M11 10 of 500 do not read, 2,000 bytes, 150 events/s"
		m11b = "M11 2,000 do not read"
		m12  = "M12 replay of 1,000 to 500"
		m12b = "M12 replay of 50,000 from disk to 1"
		m12c = "M12 replay of 50,000 from disk to 10"
		m13  = "M13 50 events/s to 1,000 while 100 replay"
		m16  = "M16 one event at a time, 10,000 over 1,000 topics"
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
				load("10 stalled", fast, "slow", append(slow, "-stall", "10")...),
				load("1 stalled", fast, "slow", append(slow, "-stall", "1")...),
				load("flush, 10 stalled", flush, "slow", append(slow, "-stall", "10")...),
				stalledCost("2,000 stalled", fast, "-size", "2000", "-rate", "150", "-c", "16", "-d", "3s"),
			},
			lines: []line{
				{m11, p99, "10 stalled", "1 stalled", figure.AtMost(1.2), nil},
				{m11, growth, "10 stalled", "flush, 10 stalled", figure.AtMost(1), nil},
				{m11, neverGot, "10 stalled", "", nil, figure.AtMost(0)},
				{m11b, stalled, "2,000 stalled", "", nil, figure.AtMost(1)},
			},
		},
		{
			sides: []side{
				load("to 500", fast, "replay", memoryReplay...),
				load("floor", floor, "replay", memoryReplay...),
				load("to 1", fast, "replay", diskReplay("1")...),
				load("flush", flush, "replay", diskReplay("1")...),
				load("to 10", fast, "replay", diskReplay("10")...),
				load("flush, to 10", flush, "replay", diskReplay("10")...),
			},
			lines: []line{
				{m12, cpu, "to 500", "floor", figure.AtMost(4), nil},
				{m12, rss, "to 500", "", nil, figure.AtMost(64)},
				{m12b, cpu, "to 1", "flush", figure.AtMost(0.8), figure.AtMost(0.5)},
				{m12b, firstEvent, "to 1", "", nil, figure.AtMost(50)},
				{m12c, cpu, "to 10", "flush, to 10", figure.AtMost(0.8), figure.AtMost(0.5)},
				{m12c, rss, "to 10", "", nil, figure.AtMost(64)},
			},
		},
		{
			sides: []side{live("with replays", true), live("without", false)},
			lines: []line{
				{m13, p99, "with replays", "without", figure.AtMost(1.5), nil},
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
