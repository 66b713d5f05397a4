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
		{"at the limit", Row{Ours: []float64{2}, Base: []float64{2}, AtMost: new(1.0)}, true},
		{"ratios round by round", Row{Ours: []float64{1, 10, 30}, Base: []float64{1, 10, 10}, AtMost: new(1.0)}, true},
		{"above", Row{Ours: []float64{3}, Base: []float64{2}, AtMost: new(1.0)}, false},
		{"below", Row{Ours: []float64{0.3}, AtLeast: new(0.4)}, false},
		{"zero wanted", Row{Ours: []float64{0}, AtMost: new(0.0)}, true},
		{"zero wanted, one had", Row{Ours: []float64{1}, AtMost: new(0.0)}, false},
		{"nothing lost", Row{Ours: []float64{1}, Lost: &none}, true},
		{"fast and lossy", Row{Ours: []float64{1}, Lost: &some, AtMost: new(2.0)}, false},
		{"not measured", Row{AtMost: new(2.0)}, false},
	} {
		if got := c.row.Met(); got != c.want {
			t.Errorf("%s: met is %v", c.name, got)
		}
	}
}

func TestRowsSurviveTheWire(t *testing.T) {
	lost := int64(3)
	rows := []Row{
		{Name: "a", Unit: "MB", Ours: []float64{1, 2}, AtMost: new(0.0)},
		{Name: "b", Ours: []float64{1}, Against: "that", Base: []float64{2}, AtLeast: new(0.5), Lost: &lost},
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
	Print(&b, []Row{
		{Name: "deliveries", Unit: "s/M", Ours: []float64{4, 5, 6}, Against: "floor", Base: []float64{10, 10, 10}, AtMost: new(0.6), Lost: &lost},
		{Name: "memory", Unit: "MB", Ours: []float64{123.4}, AtMost: new(100.0)},
	})
	want := `
lost  figure      ours     reference      ratio  range         target  met
0     deliveries  5 s/M    floor: 10 s/M  0.50   0.40 to 0.60  <= 0.60  yes
-     memory      123 MB   -              -      -             <= 100   MISSED
`
	if squeeze(b.String()) != squeeze(want) {
		t.Errorf("got\n%s", b.String())
	}
}

// squeeze leaves the words of a table.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }
