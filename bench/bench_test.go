package main

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"testing"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		only string
		want []string
	}{
		{"", []string{"sse", "log", "replay", "topics", "fanout"}},
		{"fanout", []string{"fanout"}},
		{"fanout,sse", []string{"sse", "fanout"}},
		{"disk", nil},
	} {
		chosen, err := choose(c.only)
		var got []string
		for _, g := range chosen {
			got = append(got, g.name)
		}
		if c.want == nil && err == nil || c.want != nil && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%q: %v, %v", c.only, got, err)
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
	for _, r := range []loadReport{{Lost: 1}, {Lost: -1}, {Gaps: 1}, {Backs: 1}, {Failed: 1}, {Closed: 1}} {
		if r.wrong() != 1 {
			t.Errorf("%+v counts %d", r, r.wrong())
		}
	}
	if n := (&loadReport{CPU: 4, Rate: 1000}).wrong(); n != 0 {
		t.Errorf("a clean run counts %d", n)
	}
}
