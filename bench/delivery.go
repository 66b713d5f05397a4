package main

import (
	"slices"
	"strconv"

	"github.com/tailrace/tailrace/bench/figure"
)

// delivery is what an event costs on its way to its subscribers, and when it
// arrives.
func delivery() []experiment {
	short := []string{"-warmup", "500ms", "-settle", "200ms"}
	one := apart(short, "-n", "1000", "-d", "2500ms")
	busy := apart(short, "-n", "1000", "-rate", "500", "-c", "16", "-d", "2500ms")
	rush := apart(short, "-n", "1000", "-rate", "1500", "-c", "16", "-poll", "1ms", "-d", "2500ms")
	calm := slices.Concat(short, []string{"-n", "1000", "-rate", "10", "-d", "6s"})
	spread := apart(short, "-n", "10000", "-topics", "1000", "-d", "2500ms")
	stall := slices.Concat(short, []string{"-size", "2000", "-rate", "150", "-c", "16", "-d", "2500ms"})
	few := func(stalled string) []string {
		return slices.Concat(stall, []string{"-n", "500", "-stall", stalled})
	}
	history := func(n string) []string { return []string{"-n", n, "-history", strconv.Itoa(diskHistory)} }
	events := []string{"-n", "500", "-history", "1000"}

	const (
		m1   = "M1 one event at a time to 1,000"
		m2   = "M2 one event at a time to 1,000"
		m3   = "M3 500 events/s to 1,000"
		m4   = "M4 1,500 events/s to 1,000"
		m5   = "M5 portable, 1,500 events/s to 1,000"
		m5b  = "M5 portable, one event at a time to 1,000"
		m6   = "M6 10 events/s to 1,000"
		m11  = "M11 10 of 500 do not read"
		m11b = "M11 1,000 do not read"
		m12  = "M12 replay of 1,000 to 500"
		m12b = "M12 replay of 50,000 from disk to 1"
		m12c = "M12 replay of 50,000 from disk to 10"
		m12d = "M12 replay of 50,000 from disk to 100"
		m13  = "M13 50 events/s to 1,000 while 100 replay"
		m13b = "M13 the same of the floor"
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
				// The aim is all of the 1.5 M that are offered, less the time in
				// which the last ones arrive.
				{m4, rate, "fast rush", "", nil, figure.AtLeast(1.4e6).Aiming(1.47e6)},
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
				load("10 stalled", fast, "slow", few("10")...),
				load("1 stalled", fast, "slow", few("1")...),
				load("flush, 10 stalled", flush, "slow", few("10")...),
				stalledShare("1,000 stalled", fast, stall...),
			},
			lines: []line{
				{m11, p99, "10 stalled", "1 stalled", figure.AtMost(1.2), nil},
				{m11, growth, "10 stalled", "flush, 10 stalled", figure.AtMost(1), nil},
				{m11, neverGot, "10 stalled", "", nil, figure.AtMost(0)},
				{m11b, share, "1,000 stalled", "", nil, figure.AtMost(1)},
			},
		},
		{
			sides: []side{
				load("to 500", fast, "replay", events...),
				load("floor", floor, "replay", events...),
				fromDisk("to 1", 1),
				load("flush", flush, "replay", history("1")...),
				fromDisk("to 10", 10),
				readerShare("to 100"),
				load("flush, to 10", flush, "replay", history("10")...),
			},
			lines: []line{
				{m12, cpu, "to 500", "floor", figure.AtMost(4), nil},
				{m12, rss, "to 500", "", nil, figure.AtMost(64)},
				{m12b, cpu, "to 1", "flush", figure.AtMost(0.8), figure.AtMost(0.5)},
				{m12b, firstEvent, "to 1", "", nil, figure.AtMost(50)},
				{m12c, cpu, "to 10", "flush, to 10", figure.AtMost(0.8), figure.AtMost(0.5)},
				{m12d, share, "to 100", "", nil, figure.AtMost(64)},
			},
		},
		{
			sides: []side{
				live("with replays", fast, true),
				live("without", fast, false),
				live("floor with replays", floor, true),
				live("floor without", floor, false),
			},
			lines: []line{
				{m13, p99, "with replays", "without", figure.AtMost(1.5), nil},
				{m13b, p99, "floor with replays", "floor without", nil, nil},
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
