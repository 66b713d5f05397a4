package main

import (
	"bytes"
	"context"
	"strconv"

	"github.com/tailrace/tailrace/bench/figure"
)

// measureLog runs the program log, which measures package pebblelog against the
// disk.
func measureLog(ctx context.Context, l *lab) ([]figure.Row, error) {
	program, err := l.build(ctx, ".", "./bench/log", "measure-log")
	if err != nil {
		return nil, err
	}
	out, err := l.output(ctx, program, "-rounds", strconv.Itoa(l.rounds), "-dir", l.dir)
	if err != nil {
		return nil, err
	}
	return figure.Read(bytes.NewReader(out))
}
