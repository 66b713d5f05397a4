package tailrace

import (
	"context"
	"errors"
	"time"
)

// faultLog is a log that fails on demand.
type faultLog struct {
	Log
	delay   time.Duration       // before each append
	err     error               // of each append
	topics  map[string]error    // of the appends to some topics, in receipts
	fail    func([]Event) error // decides for each append
	readErr error               // of each read of a selection
}

func (l *faultLog) Read(ctx context.Context, q Query) (Page, error) {
	if !q.Select.IsZero() && l.readErr != nil { // the hub's own reads go on
		return Page{}, l.readErr
	}
	return l.Log.Read(ctx, q)
}

var errDisk = errors.New("faultlog: disk gave no answer")

func (l *faultLog) Append(ctx context.Context, events []Event) ([]Receipt, error) {
	if l.delay > 0 {
		select {
		case <-time.After(l.delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if l.err != nil {
		return nil, l.err
	}
	if l.fail != nil {
		if err := l.fail(events); err != nil {
			return nil, err
		}
	}
	if l.topics == nil {
		return l.Log.Append(ctx, events)
	}
	var good []Event
	for _, ev := range events {
		if l.topics[ev.Topic] == nil {
			good = append(good, ev)
		}
	}
	stored, err := l.Log.Append(ctx, good)
	receipts := make([]Receipt, len(events))
	for i, ev := range events {
		if bad := l.topics[ev.Topic]; bad != nil {
			receipts[i] = Receipt{Err: bad, ID: ev.ID}
			if err == nil {
				err = bad
			}
			continue
		}
		receipts[i], stored = stored[0], stored[1:]
	}
	return receipts, err
}
