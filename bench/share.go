package main

import (
	"context"
	"fmt"
	"slices"
)

// What one subscriber more costs is seen only in the difference between many and
// few of them: the server grows for other reasons too.
const (
	fewStalled, manyStalled = 1, 1000
	fewReaders, manyReaders = 10, 100
)

// stalledShare is a side whose report has the memory that one more subscriber
// costs that does not read, beside 100 that do.
func stalledShare(name string, s server, flags ...string) side {
	with := func(stalled int, settle string) side {
		more := []string{"-n", fmt.Sprint(100 + stalled), "-stall", fmt.Sprint(stalled), "-settle", settle}
		return load(name, s, "slow", slices.Concat(flags, more)...)
	}
	return side{name, func(ctx context.Context, b *bench) (*report, error) {
		few, err := with(fewStalled, "200ms").run(ctx, b)
		if err != nil {
			return nil, err
		}
		// The server gives back what so many connects left behind within 7 s.
		many, err := with(manyStalled, "7s").run(ctx, b)
		if err != nil {
			return nil, err
		}
		many.share = (many.Extra.StallGrowth - few.Extra.StallGrowth) / (manyStalled - fewStalled)
		many.Failed += few.wrong()
		return many, nil
	}}
}

// readerShare is a side whose report has the memory that one more client costs
// that replays from disk.
func readerShare(name string) side {
	return side{name, func(ctx context.Context, b *bench) (*report, error) {
		few, err := fromDisk(name, fewReaders).run(ctx, b)
		if err != nil {
			return nil, err
		}
		many, err := fromDisk(name, manyReaders).run(ctx, b)
		if err != nil {
			return nil, err
		}
		many.share = (many.RSS*manyReaders - few.RSS*fewReaders) / (manyReaders - fewReaders)
		many.Failed += few.wrong()
		return many, nil
	}}
}
