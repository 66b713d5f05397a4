package figure

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 2, 9}, 3},
	} {
		if got := Median(c.v); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.v, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

func TestMet(t *testing.T) {
	none, some := int64(0), int64(1)
	for _, c := range []struct {
		name string
		row  Row
		want bool
	}{
		{"no target", Row{Ours: []float64{1}}, true},
		{"at the limit", Row{Ours: []float64{2}, Base: []float64{2}, Ratio: AtMost(1)}, true},
		{"ratios round by round", Row{Ours: []float64{1, 10, 30}, Base: []float64{1, 10, 10}, Ratio: AtMost(1)}, true},
		{"above", Row{Ours: []float64{3}, Base: []float64{2}, Ratio: AtMost(1)}, false},
		{"below", Row{Ours: []float64{0.3}, Value: AtLeast(0.4)}, false},
		{"zero wanted", Row{Ours: []float64{0}, Value: AtMost(0)}, true},
		{"zero wanted, one had", Row{Ours: []float64{1}, Value: AtMost(0)}, false},
		{"nothing lost", Row{Ours: []float64{1}, Lost: &none}, true},
		{"fast and lossy", Row{Ours: []float64{1}, Lost: &some, Value: AtMost(2)}, false},
		{"not measured", Row{Value: AtMost(2)}, false},
		{"no target, not measured", Row{}, false},
		{"ratio within, value above", Row{Ours: []float64{3}, Base: []float64{3}, Ratio: AtMost(1), Value: AtMost(2)}, false},
		{"ratio above, value within", Row{Ours: []float64{2}, Base: []float64{1}, Ratio: AtMost(1), Value: AtMost(2)}, false},
		{"aim missed", Row{Ours: []float64{2}, Value: AtMost(2).Aiming(1)}, true},
	} {
		if got := c.row.Met(); got != c.want {
			t.Errorf("%s: met is %v", c.name, got)
		}
	}
}

func TestRowsSurviveTheWire(t *testing.T) {
	lost := int64(3)
	rows := []Row{
		{Name: "a", Unit: "MB", Ours: []float64{1, 2}, Value: AtMost(0)},
		{Name: "b", Ours: []float64{1}, Against: "that", Base: []float64{2}, Value: AtLeast(0.5), Lost: &lost},
	}
	var b bytes.Buffer
	for i := range rows {
		if err := rows[i].Write(&b); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Read(&b)
	if err != nil || !reflect.DeepEqual(got, rows) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := Read(strings.NewReader("FAIL\n")); err == nil {
		t.Error("text passed for rows")
	}
}

func TestPrint(t *testing.T) {
	lost := int64(0)
	var b strings.Builder
	base := []float64{10, 10, 10}
	Print(&b, []Row{
		{Name: "CPU", Unit: "s/M", Ours: []float64{4, 5, 6}, Against: "floor", Base: base, Ratio: AtMost(0.6).Aiming(0.4), Lost: &lost},
		{Name: "p99", Unit: "ms", Ours: []float64{4, 5, 6}, Against: "floor", Base: base, Ratio: AtMost(0.4), Value: AtMost(40)},
		{Name: "p50", Unit: "ms", Ours: []float64{4, 5, 6}, Against: "floor", Base: base},
		{Name: "rate", Unit: "/s", Ours: []float64{1.6e6}, Value: AtLeast(1.4e6).Aiming(1.5e6)},
		{Name: "memory", Unit: "MB", Ours: []float64{123.4}, Value: AtMost(100)},
		{Name: "other", Against: "floor", Ratio: AtMost(1)},
	})
	want := `
lost  figure  ours          reference      ratio  range                 target                        met
0     CPU     5 s/M         floor: 10 s/M  0.50   0.40 to 0.60          <= 0.60 (aim 0.40 missed)     yes
-     p99     5 ms          floor: 10 ms   0.50   0.40 to 0.60; 4 to 6  <= 0.40 missed; <= 40 ms      MISSED
-     p50     5 ms          floor: 10 ms   0.50   0.40 to 0.60          -                             -
-     rate    1.60M /s      -              -      -                     >= 1.40M (aim 1.50M)          yes
-     memory  123 MB        -              -      -                     <= 100 missed                 MISSED
-     other   not measured  -              -      -                     <= 1 missed                   MISSED
`
	if squeeze(b.String()) != squeeze(want) {
		t.Errorf("got\n%s", b.String())
	}
}

// squeeze leaves the words of a table.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
