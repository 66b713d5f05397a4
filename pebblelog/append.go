package pebblelog

import (
	"context"
	"errors"

	"github.com/tailrace/tailrace"
)

// Append stores events as [tailrace.Log] says. Calls that come while a sync runs share the next.
func (l *Log) Append(ctx context.Context, events []tailrace.Event) ([]tailrace.Receipt, error) {
	if len(events) == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.stopped.Load() != nil {
		return nil, l.errStopped()
	}
	if l.disk.full.Load() {
		return nil, tailrace.ErrFull
	}
	bytes, err := l.check(events)
	if err != nil {
		return nil, err
	}
	c := callPool.Get().(*call)
	c.events, c.bytes, c.receipts = events, bytes, make([]tailrace.Receipt, len(events))
	receipts, err := l.wait(ctx, c)
	if err != nil {
		return receipts, err
	}
	for i := range receipts {
		if receipts[i].Err != nil {
			return receipts, receipts[i].Err
		}
	}
	return receipts, nil
}

// check refuses a call with an invalid event.
func (l *Log) check(events []tailrace.Event) (bytes int, err error) {
	rs := l.rules.Load()
	var policy tailrace.Policy
	for i := range events {
		e := &events[i]
		if i == 0 || e.Topic != events[i-1].Topic {
			policy = rs.list.Policy(e.Topic)
		}
		if err := e.Check(&policy); err != nil {
			return 0, err
		}
		if i > 0 && e.IfHead != nil {
			return 0, &tailrace.InvalidError{Field: "if_head", Reason: "is not on the first event of the call"}
		}
		bytes += len(e.Data)
	}
	return bytes, nil
}

// command runs do on the committer's goroutine, in its turn.
func (l *Log) command(ctx context.Context, do func(*committer) error) error {
	if l.stopped.Load() != nil {
		return l.errStopped()
	}
	c := callPool.Get().(*call)
	c.do = do
	_, err := l.wait(ctx, c)
	return err
}

// wait queues c and waits for the committer, or until ctx ends.
func (l *Log) wait(ctx context.Context, c *call) ([]tailrace.Receipt, error) {
	c.state.Store(callWaits)
	c.err = nil
	if !l.queue.put(c) {
		return nil, l.errStopped()
	}
	ended := ctx.Done()
	if ended == nil {
		<-c.done
		return c.answer()
	}
	select {
	case <-c.done:
	case <-ended:
		if l.queue.leave(c) {
			return nil, ctx.Err() // not stored
		}
		select {
		case <-c.done:
		default:
			return nil, errors.Join(ctx.Err(), errOutcome)
		}
	}
	return c.answer()
}

// answer takes what the committer has said out of c, and gives c back.
func (c *call) answer() ([]tailrace.Receipt, error) {
	receipts, err := c.receipts, c.err
	c.events, c.receipts, c.do = nil, nil, nil
	callPool.Put(c)
	if err != nil {
		return nil, err
	}
	return receipts, nil
}

// errOutcome is the error of an append whose fate is not known.
var errOutcome = errors.New("pebblelog: it is not known whether the events are stored")
