package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
)

// live is a side: 50 events/s to 1,000 subscribers of a server that has a history
// besides. With replays, 100 clients ask for all of that history, over and over,
// from before the first live event to after the last: as fast as the machine
// can, on which live events then wait for a processor whatever the server does.
// What the floor makes of that is the yardstick.
func live(name string, s server, replays bool) side {
	return side{name, func(ctx context.Context, b *bench) (*report, error) {
		dir, err := os.MkdirTemp(b.dir, "log-")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		program, args, adapter := b.tailrace, func(addr string) []string { return b.args(s, addr, dir) }, "tailrace"
		if s.baseline != "" {
			program, args, adapter = b.tool, func(addr string) []string { return []string{"baseline", s.baseline, "-addr", addr} }, "plain"
		}
		server, err := b.start(ctx, program, args)
		if err != nil {
			return nil, err
		}
		defer server.stop()
		tool := func(ctx context.Context, scenario string, flags ...string) (*report, error) {
			return b.load(ctx, append([]string{scenario, "-adapter", adapter,
				"-addr", server.addr, "-pid", fmt.Sprint(server.cmd.Process.Pid)}, flags...)...)
		}
		stored, err := tool(ctx, "replay", "-topic", "past", "-history", "10000", "-n", "1")
		if err != nil {
			return nil, err
		}
		stop := func() (int64, error) { return 0, nil }
		if replays {
			stop = repeat(ctx, func(ctx context.Context) (*report, error) {
				return tool(ctx, "replay", "-topic", "past", "-history", "10000", "-n", "100", "-settle", "0s",
					"-stored", "-var", "last_id="+stored.Extra.LastID)
			})
		}
		r, err := tool(ctx, "fanout", "-topic", "live", "-rate", "50", "-d", "4s")
		wrong, failed := stop()
		if err := errors.Join(err, failed); err != nil {
			return nil, err
		}
		r.Failed += wrong
		return r, nil
	}}
}

// repeat runs a load again and again until stop is called, which cuts the last
// one off and returns what was wrong in the others. One must have ended.
func repeat(ctx context.Context, load func(context.Context) (*report, error)) (stop func() (wrong int64, err error)) {
	ctx, cancel := context.WithCancel(ctx)
	var wrong, ended int64
	var failed error
	var loop sync.WaitGroup
	loop.Go(func() {
		for failed == nil {
			r, err := load(ctx)
			if ctx.Err() != nil {
				return
			}
			if failed = err; err == nil {
				wrong += r.wrong()
				ended++
			}
		}
	})
	return func() (int64, error) {
		cancel()
		loop.Wait()
		if failed == nil && ended == 0 {
			failed = errors.New("no replay ended in this time")
		}
		return wrong, failed
	}
}
