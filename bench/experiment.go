package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/tailrace/tailrace/bench/figure"
)

// experiment is a few sides that are measured in turn, round by round, and the
// lines of the table that compare them.
type experiment struct {
	sides []side
	lines []line
}

// side is one load on one server, each time a new process.
type side struct {
	name string // by which lines refer to it, and which the table shows
	run  func(context.Context, *bench) (*report, error)
}

// line is one line of the table: a figure of one side, beside the same figure of
// another.
type line struct {
	name         string
	measure      measure
	ours, base   string         // names of sides; no base is none
	ratio, value *figure.Target // for ours / base, and for ours
}

// measure is a figure that a report has.
type measure struct {
	name, unit string
	of         func(*report) float64
}

// row is the line's row of the table without values.
func (ln *line) row() figure.Row {
	return figure.Row{Name: ln.name + ", " + ln.measure.name, Unit: ln.measure.unit, Against: ln.base,
		Ratio: ln.ratio, Value: ln.value, Lost: new(int64(0))}
}

// only returns the part of e that is needed for the lines whose names in the
// group match: these lines and their sides.
func (e experiment) only(group string, wanted *regexp.Regexp) experiment {
	var part experiment
	needed := map[string]bool{}
	for _, ln := range e.lines {
		if wanted.MatchString(rowName(group, ln.row().Name)) {
			part.lines = append(part.lines, ln)
			needed[ln.ours], needed[ln.base] = true, true
		}
	}
	for _, s := range e.sides {
		if needed[s.name] {
			part.sides = append(part.sides, s)
		}
	}
	return part
}

// rounds measures e. It returns its rows even with an error: what could not be
// measured has no values.
func (e *experiment) rounds(ctx context.Context, b *bench) ([]figure.Row, error) {
	rows := make([]figure.Row, len(e.lines))
	for i := range rows {
		rows[i] = e.lines[i].row()
	}
	var lossy []error
	for round := range b.rounds {
		reports := map[string]*report{}
		for _, s := range e.sides {
			r, err := s.run(ctx, b)
			if err != nil {
				return rows, errors.Join(append(lossy, fmt.Errorf("%s: %s: %w", e.lines[0].name, s.name, err))...)
			}
			reports[s.name] = r
		}
		for i := range rows {
			if err := e.lines[i].add(&rows[i], reports); err != nil {
				lossy = append(lossy, fmt.Errorf("%s: round %d: %w", rows[i].Name, round+1, err))
			}
		}
	}
	return rows, errors.Join(lossy...)
}

// add adds a round to the line's row. A reference that has lost events is none,
// and the round counts for nothing.
func (ln *line) add(row *figure.Row, reports map[string]*report) error {
	ours, base := reports[ln.ours], reports[ln.base]
	*row.Lost += ours.wrong()
	if base != nil {
		if n := base.wrong(); n != 0 {
			return fmt.Errorf("the reference %s lost %d events, so there is nothing to compare with", ln.base, n)
		}
		row.Base = append(row.Base, ln.measure.of(base))
	}
	row.Ours = append(row.Ours, ln.measure.of(ours))
	return nil
}
