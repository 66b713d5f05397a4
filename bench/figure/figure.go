// Package figure is the form in which the benchmarks report: a [Row] for each
// thing measured, and the table that people read.
package figure

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// Row is one measured figure: ours, and that of a reference measured in the
// same run, round by round, so that a disturbance that outlasts a round hits
// both sides of a ratio. Programs that measure write rows as JSON lines to
// their standard output.
type Row struct {
	Name    string    `json:"name"`              // what is measured
	Unit    string    `json:"unit"`              // of Ours and Base, such as "events/s"
	Ours    []float64 `json:"ours"`              // one value for each round
	Against string    `json:"against,omitempty"` // what the reference is; "" if there is none
	Base    []float64 `json:"base,omitempty"`    // the reference's values, as many as Ours

	Ratio *Target `json:"ratio,omitempty"` // for the median of Ours / Base; nil is none
	Value *Target `json:"value,omitempty"` // for the median of Ours; nil is none

	// Lost counts events that did not arrive exactly once and in order, over
	// all rounds; nil where nothing is delivered. One makes the row worthless.
	Lost *int64 `json:"lost,omitempty"`
}

// Write writes r as one JSON line.
func (r *Row) Write(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// Read reads rows until the end of r.
func Read(r io.Reader) ([]Row, error) {
	var rows []Row
	for d := json.NewDecoder(r); ; {
		var row Row
		if err := d.Decode(&row); err == io.EOF {
			return rows, nil
		} else if err != nil {
			return rows, fmt.Errorf("figure: %w", err)
		}
		rows = append(rows, row)
	}
}

// Ratios returns Ours / Base of each round, or Ours where there is no reference.
func (r *Row) Ratios() []float64 {
	if len(r.Base) == 0 {
		return r.Ours
	}
	ratios := make([]float64, min(len(r.Ours), len(r.Base)))
	for i := range ratios {
		ratios[i] = r.Ours[i] / r.Base[i]
	}
	return ratios
}

// Met reports whether nothing was lost and the medians are within the targets.
func (r *Row) Met() bool {
	value := Median(r.Ours)
	return (r.Lost == nil || *r.Lost == 0) && !math.IsNaN(value) && r.Value.met(value) && r.Ratio.met(Median(r.Ratios()))
}

// Median returns the median of v, NaN if v is empty.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Print writes rows as a table: loss first, then medians, the range over the
// rounds, and the targets with a mark at each that is missed.
func Print(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "lost\tfigure\tours\treference\tratio\trange\ttarget\tmet")
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			r.lost(), r.Name, quantity(Median(r.Ours), r.Unit), r.reference(), r.ratio(), r.spread(), r.target(), r.met())
	}
	return t.Flush()
}

func (r *Row) lost() string {
	if r.Lost == nil {
		return "-"
	}
	return fmt.Sprint(*r.Lost)
}

func (r *Row) reference() string {
	if len(r.Base) == 0 {
		return "-"
	}
	return r.Against + ": " + quantity(Median(r.Base), r.Unit)
}

func (r *Row) ratio() string {
	if len(r.Base) == 0 {
		return "-"
	}
	return short(Median(r.Ratios()))
}

// spread is the range of what is bound: of the ratio, of ours, or of both.
func (r *Row) spread() string {
	if len(r.Base) == 0 {
		return spread(r.Ours)
	}
	if r.Value == nil || len(r.Ours) < 2 {
		return spread(r.Ratios())
	}
	return spread(r.Ratios()) + "; " + spread(r.Ours)
}

func (r *Row) target() string {
	unit := "" // told only where there are two targets to tell apart
	if len(r.Base) > 0 {
		unit = r.Unit
	}
	ratio, value := r.Ratio.text(Median(r.Ratios()), ""), r.Value.text(Median(r.Ours), unit)
	switch {
	case ratio == "" && value == "":
		return "-"
	case ratio == "":
		return value
	case value == "":
		return ratio
	}
	return ratio + "; " + value
}

func (r *Row) met() string {
	switch {
	case !r.Met():
		return "MISSED"
	case r.Ratio == nil && r.Value == nil:
		return "-"
	}
	return "yes"
}

func spread(v []float64) string {
	if len(v) < 2 {
		return "-"
	}
	return short(slices.Min(v)) + " to " + short(slices.Max(v))
}

func quantity(v float64, unit string) string {
	if math.IsNaN(v) {
		return "not measured"
	}
	if unit == "" {
		return short(v)
	}
	return short(v) + " " + unit
}

// short formats v with the three digits that matter.
func short(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case a >= 1e4:
		return fmt.Sprintf("%.0fk", v/1e3)
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
