package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/bench/figure"
	"github.com/tailrace/tailrace/internal/config"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		only  string
		byRow bool
		want  []string
	}{
		{"", false, []string{"sse", "log", "replay", "topics", "delivery", "memory", "connect"}},
		{"", true, []string{"delivery", "memory", "connect"}},
		{"delivery", false, []string{"delivery"}},
		{"delivery,sse", false, []string{"sse", "delivery"}},
		{"delivery,sse", true, []string{"sse", "delivery"}},
		{"disk", false, nil},
	} {
		chosen, err := choose(c.only, c.byRow)
		var got []string
		for _, g := range chosen {
			got = append(got, g.name)
		}
		if c.want == nil && err == nil || c.want != nil && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%q, %v: %v, %v", c.only, c.byRow, got, err)
		}
	}
}

func TestParseBenchmarks(t *testing.T) {
	got := parseBenchmarks([]byte(`goos: linux
cpu: some
BenchmarkDecode/tokens-new-ids/borrowed-2         	     100	   1000 ns/op	2385.5 MB/s	         0.41 xIndexByte	      17 B/op	       0 allocs/op
BenchmarkDecode/tokens-new-ids/borrowed-2         	     100	   2000 ns/op	2400 MB/s	         0.43 xIndexByte	      17 B/op	       1 allocs/op
PASS
`))
	want := map[string]map[string][]float64{"Decode/tokens-new-ids/borrowed": {
		"ns/op": {1000, 2000}, "MB/s": {2385.5, 2400}, "xIndexByte": {0.41, 0.43}, "B/op": {17, 17}, "allocs/op": {0, 1},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

// A replay that is not exact must not pass for a fast one.
func TestWrongEventsAreCounted(t *testing.T) {
	history := func(numbers func(yield func(int) bool)) []byte {
		var b bytes.Buffer
		for i := range numbers {
			fmt.Fprintf(&b, "id: %d\ndata: %s\n\n", i, replayData(i))
		}
		return b.Bytes()
	}
	all := func(yield func(int) bool) {
		for i := range replayed {
			if !yield(i) {
				return
			}
		}
	}
	exact := history(all)
	for _, c := range []struct {
		name   string
		stream []byte
		want   int64
	}{
		{"exact", exact, 0},
		{"empty", nil, replayed},
		{"cut within the last event", exact[:len(exact)-2], 1},
		{"one too many", append(bytes.Clone(exact), "data: more\n\n"...), 1},
		{"two swapped", history(func(yield func(int) bool) {
			for i := range all {
				if i == 7 || i == 8 {
					i = 15 - i
				}
				if !yield(i) {
					return
				}
			}
		}), 2},
		{"the first lost", history(func(yield func(int) bool) {
			for i := range replayed - 1 {
				if !yield(i + 1) {
					return
				}
			}
		}), replayed},
	} {
		if got := wrongIn(c.stream); got != c.want {
			t.Errorf("%s: %d wrong, want %d", c.name, got, c.want)
		}
	}
}

func TestLossMakesALoadWorthless(t *testing.T) {
	var inexact report
	inexact.Extra.Inexact = 1
	for _, r := range []report{{Lost: 1}, {Lost: -1}, {Gaps: 1}, {Backs: 1}, {Failed: 1}, {Closed: 1}, inexact} {
		if r.wrong() != 1 {
			t.Errorf("%+v counts %d", r, r.wrong())
		}
	}
	if n := (&report{CPU: 4, Rate: 1000}).wrong(); n != 0 {
		t.Errorf("a clean run counts %d", n)
	}
}

// made is a side with a figure for each round; what is left of it runs on.
func made(name string, reports ...*report) side {
	return side{name, func(context.Context, *bench) (*report, error) {
		r := reports[0]
		reports = reports[1:]
		if r == nil {
			return nil, errors.New("broken")
		}
		return r, nil
	}}
}

func TestOnlyWantedRowsAreMeasured(t *testing.T) {
	e := experiment{
		sides: []side{made("a"), made("b"), made("c")},
		lines: []line{
			{"M1 one", cpu, "a", "b", nil, nil},
			{"M2 two", cpu, "a", "c", nil, nil},
			{"M2 two", p99, "c", "", nil, nil},
		},
	}
	for _, c := range []struct {
		wanted       string
		lines, sides []string
	}{
		{"", []string{"M1 one, CPU", "M2 two, CPU", "M2 two, p99"}, []string{"a", "b", "c"}},
		{"M1", []string{"M1 one, CPU"}, []string{"a", "b"}},
		{"p99$", []string{"M2 two, p99"}, []string{"c"}},
		{"^delivery: M2 .*CPU", []string{"M2 two, CPU"}, []string{"a", "c"}},
		{"M3", nil, nil},
	} {
		part := e.only("delivery", regexp.MustCompile(c.wanted))
		var lines, sides []string
		for _, ln := range part.lines {
			lines = append(lines, ln.row().Name)
		}
		for _, s := range part.sides {
			sides = append(sides, s.name)
		}
		if !slices.Equal(lines, c.lines) || !slices.Equal(sides, c.sides) {
			t.Errorf("%q: lines %q of sides %q", c.wanted, lines, sides)
		}
	}
}

func TestRounds(t *testing.T) {
	lines := []line{
		{"x", cpu, "ours", "base", figure.AtMost(0.5), nil},
		{"y", cpu, "ours", "", nil, figure.AtMost(0.5)},
	}
	for _, c := range []struct {
		name       string
		ours, base side
		want       [2]figure.Row // values only
		failed     bool
	}{
		{"clean", made("ours", &report{CPU: 1}, &report{CPU: 2}), made("base", &report{CPU: 4}, &report{CPU: 8}),
			[2]figure.Row{
				{Ours: []float64{1, 2}, Base: []float64{4, 8}, Lost: new(int64(0))},
				{Ours: []float64{1, 2}, Lost: new(int64(0))},
			}, false},
		{"ours loses", made("ours", &report{CPU: 1}, &report{CPU: 2, Lost: 3}), made("base", &report{CPU: 4}, &report{CPU: 8}),
			[2]figure.Row{
				{Ours: []float64{1, 2}, Base: []float64{4, 8}, Lost: new(int64(3))},
				{Ours: []float64{1, 2}, Lost: new(int64(3))},
			}, false},
		{"the reference loses", made("ours", &report{CPU: 1}, &report{CPU: 2}), made("base", &report{CPU: 4, Gaps: 1}, &report{CPU: 8}),
			[2]figure.Row{
				{Ours: []float64{2}, Base: []float64{8}, Lost: new(int64(0))},
				{Ours: []float64{1, 2}, Lost: new(int64(0))},
			}, true},
		{"ours breaks", made("ours", &report{CPU: 1}, nil), made("base", &report{CPU: 4}, &report{CPU: 8}),
			[2]figure.Row{
				{Ours: []float64{1}, Base: []float64{4}, Lost: new(int64(0))},
				{Ours: []float64{1}, Lost: new(int64(0))},
			}, true},
	} {
		e := experiment{sides: []side{c.ours, c.base}, lines: lines}
		rows, err := e.rounds(t.Context(), &bench{lab: &lab{rounds: 2}})
		if (err != nil) != c.failed {
			t.Errorf("%s: error %v", c.name, err)
		}
		for i := range rows {
			got := figure.Row{Ours: rows[i].Ours, Base: rows[i].Base, Lost: rows[i].Lost}
			if !reflect.DeepEqual(got, c.want[i]) {
				t.Errorf("%s: row %s is %+v", c.name, rows[i].Name, got)
			}
		}
	}
}

// A pattern that matches nothing would put the disk into every figure.
func TestOnlyTheSyncedTopicWaitsForTheDisk(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.yaml")
	if err := os.WriteFile(file, []byte(deliveryConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Sources{File: file, Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	var rules tailrace.Rules
	for _, r := range c.Rules() {
		rules = append(rules, tailrace.Rule{Pattern: r.Pattern, Policy: r.Policy})
	}
	for topic, want := range map[string]tailrace.Durability{
		"bench": tailrace.Memory, "bench-999": tailrace.Memory, "live": tailrace.Memory, syncedTopic: tailrace.Fsync,
	} {
		if got := rules.Policy(topic).Durability; got != want {
			t.Errorf("%s has class %s, want %s", topic, got, want)
		}
	}
}

// A line that names a side that is not there, or names a row twice, would be
// found only after minutes.
func TestExperimentsAreWhole(t *testing.T) {
	for _, g := range groups() {
		rows := map[string]bool{}
		for _, e := range g.experiments {
			sides, used := map[string]bool{}, map[string]bool{}
			for _, s := range e.sides {
				if sides[s.name] {
					t.Errorf("%s: two sides %s in one experiment", g.name, s.name)
				}
				sides[s.name] = true
			}
			for _, ln := range e.lines {
				name := ln.row().Name
				if rows[name] {
					t.Errorf("%s: two rows %q", g.name, name)
				}
				rows[name] = true
				if !sides[ln.ours] || ln.base != "" && !sides[ln.base] {
					t.Errorf("%s: %q compares %q with %q", g.name, name, ln.ours, ln.base)
				}
				if ln.base == "" && ln.ratio != nil {
					t.Errorf("%s: %q has a target for a ratio that it has not", g.name, name)
				}
				used[ln.ours], used[ln.base] = true, true
			}
			for name := range sides {
				if !used[name] {
					t.Errorf("%s: side %s is measured for nothing", g.name, name)
				}
			}
		}
	}
}
