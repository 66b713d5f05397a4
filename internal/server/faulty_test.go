package server

import (
	"context"
	"sync/atomic"

	"github.com/tailrace/tailrace"
)

// faultyLog is a log whose calls fail when they are told to. Reads fail only
// of what was revoked: the hub's own go on.
type faultyLog struct {
	tailrace.Log
	fault     atomic.Pointer[func() error]
	readFault atomic.Pointer[error]
}

// failRead makes reads of the revocations return err; nil heals them.
func (l *faultyLog) failRead(err error) {
	if err == nil {
		l.readFault.Store(nil)
		return
	}
	l.readFault.Store(&err)
}

func (l *faultyLog) Read(ctx context.Context, q tailrace.Query) (tailrace.Page, error) {
	if err := l.readFault.Load(); err != nil && len(q.Select.Topics) > 0 && q.Select.Topics[0] == revocationsTopic {
		return tailrace.Page{}, *err
	}
	return l.Log.Read(ctx, q)
}

// fail makes calls return what f returns; nil heals the log.
func (l *faultyLog) fail(f func() error) {
	if f == nil {
		l.fault.Store(nil)
		return
	}
	l.fault.Store(&f)
}

func (l *faultyLog) err() error {
	if f := l.fault.Load(); f != nil {
		return (*f)()
	}
	return nil
}

func (l *faultyLog) Append(ctx context.Context, events []tailrace.Event) ([]tailrace.Receipt, error) {
	if err := l.err(); err != nil {
		return nil, err
	}
	return l.Log.Append(ctx, events)
}

func (l *faultyLog) Stat(ctx context.Context, topic string) (tailrace.Info, error) {
	if err := l.err(); err != nil {
		return tailrace.Info{}, err
	}
	return l.Log.Stat(ctx, topic)
}

func (l *faultyLog) List(ctx context.Context, s tailrace.Selector, after string, n int) ([]string, error) {
	if err := l.err(); err != nil {
		return nil, err
	}
	return l.Log.List(ctx, s, after, n)
}

func (l *faultyLog) Delete(ctx context.Context, topic string) error {
	if err := l.err(); err != nil {
		return err
	}
	return l.Log.Delete(ctx, topic)
}

func (l *faultyLog) SetRules(rules []tailrace.Rule) error {
	return l.Log.(tailrace.RuleSetter).SetRules(rules)
}
