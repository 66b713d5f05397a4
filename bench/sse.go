package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/bench/figure"
)

// tokens is how many events an operation of BenchmarkDecode/tokens decodes.
const tokens = 10_000

// measureProtocol runs the benchmarks of package sse, which have their ceilings
// beside them.
func measureProtocol(ctx context.Context, l *lab) ([]figure.Row, error) {
	out, err := l.output(ctx, "go", "test", "-run=^$", "-bench=^Benchmark(Decode|Decode64K|Encode)$",
		"-benchmem", "-benchtime=0.3s", "-count="+strconv.Itoa(l.rounds), "./sse")
	if err != nil {
		return nil, err
	}
	l.notes.Write(out)
	results := parseBenchmarks(out)
	var missing error
	of := func(benchmark, unit string, scale float64) []float64 {
		values := results[benchmark][unit]
		if values == nil {
			missing = fmt.Errorf("benchmark %s reports no %s", benchmark, unit)
		}
		scaled := make([]float64, len(values))
		for i, v := range values {
			scaled[i] = v * scale
		}
		return scaled
	}
	share := func(name, benchmark, unit, ceiling string, target *figure.Target) figure.Row {
		return figure.Row{Name: name, Unit: "of " + ceiling, Ours: of(benchmark, unit, 1), Value: target}
	}
	allocs := func(name, benchmark string, scale, atMost float64) figure.Row {
		return figure.Row{Name: name + ", allocations", Unit: "an event", Ours: of(benchmark, "allocs/op", scale), Value: figure.AtMost(atMost)}
	}
	const indexByte = "bytes.IndexByte a line"
	rows := []figure.Row{
		share("decode, borrowed bytes", "Decode/tokens/borrowed", "xIndexByte", indexByte, figure.AtLeast(0.4)),
		allocs("decode, borrowed bytes", "Decode/tokens/borrowed", 1./tokens, 0),
		share("decode, borrowed bytes, a new id each", "Decode/tokens-new-ids/borrowed", "xIndexByte", indexByte, nil),
		allocs("decode, borrowed bytes, a new id each", "Decode/tokens-new-ids/borrowed", 1./tokens, 0.05),
		share("decode, owned", "Decode/tokens/owned", "xIndexByte", indexByte, figure.AtLeast(0.25)),
		allocs("decode, owned", "Decode/tokens/owned", 1./tokens, 0.1),
		share("decode, borrowed bytes, 64 KiB events", "Decode64K", "xMemmove", "copy", figure.AtLeast(0.25)),
		{
			Name: "decode, borrowed bytes, a new id each", Unit: "MB/s",
			Ours:    of("Decode/tokens-new-ids/borrowed", "MB/s", 1),
			Against: "encode", Base: of("Encode/150", "MB/s", 1),
		},
		{Name: "encode 150 bytes with id and type", Unit: "ns", Ours: of("Encode/150", "ns/event", 1)},
		allocs("encode 150 bytes with id and type", "Encode/150", 1, 0),
		{Name: "encode 64 KiB", Unit: "times copy", Ours: of("Encode/64K", "memmoves", 1), Value: figure.AtMost(4)},
		allocs("encode 64 KiB", "Encode/64K", 1, 0),
	}
	return rows, missing
}

// procSuffix is the number of processors at the end of a benchmark's name.
var procSuffix = regexp.MustCompile(`-\d+$`)

// parseBenchmarks reads what go test -bench prints: benchmark, without the
// word, to unit to values, one for each line.
func parseBenchmarks(out []byte) map[string]map[string][]float64 {
	results := map[string]map[string][]float64{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		name := procSuffix.ReplaceAllString(strings.TrimPrefix(words[0], "Benchmark"), "")
		if results[name] == nil {
			results[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(words); i += 2 {
			if v, err := strconv.ParseFloat(words[i], 64); err == nil {
				results[name][words[i+1]] = append(results[name][words[i+1]], v)
			}
		}
	}
	return results
}
