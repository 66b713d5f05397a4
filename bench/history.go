package main

import (
	"context"
	"fmt"
	"path/filepath"
)

// diskHistory is how many events fromDisk replays.
const diskHistory = 50_000

// fromDisk is a side: clients ask our server, which was started on that log just
// before, for a long history, all at once.
func fromDisk(name string, clients int) side {
	return side{name, func(ctx context.Context, b *bench) (*report, error) {
		if err := b.storeHistory(ctx); err != nil {
			return nil, err
		}
		return b.replayHistory(ctx, "-n", fmt.Sprint(clients), "-stored", "-var", "last_id="+b.first)
	}}
}

// storeHistory makes the log that fromDisk reads, once for all rounds: event
// after event, each synced.
func (b *bench) storeHistory(ctx context.Context) error {
	if b.first != "" {
		return nil
	}
	b.history = filepath.Join(b.dir, "history")
	r, err := b.replayHistory(ctx, "-n", "1")
	if err != nil {
		return fmt.Errorf("storing the history: %w", err)
	}
	b.first = r.Extra.LastID
	return nil
}

func (b *bench) replayHistory(ctx context.Context, flags ...string) (*report, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return b.loadOurs(ctx, fast, addr, b.history, "replay",
		append([]string{"-topic", syncedTopic, "-history", fmt.Sprint(diskHistory)}, flags...)...)
}
