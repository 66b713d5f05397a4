package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRepeatUntilStopped(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name   string
		takes  time.Duration // one load, until it is cut off
		err    error
		wrong  int64
		failed bool
	}{
		{"three end, the fourth is cut off", 3 * time.Second, nil, 3, false},
		{"none ends", time.Minute, nil, 0, true},
		{"one fails", time.Second, broken, 0, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			stop := repeat(t.Context(), func(ctx context.Context) (*report, error) {
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-time.After(c.takes):
					return &report{Lost: 1}, c.err
				}
			})
			time.Sleep(10 * time.Second)
			if wrong, err := stop(); wrong != c.wrong || (err != nil) != c.failed || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%s: %d wrong, %v", c.name, wrong, err)
			}
		})
	}
}
