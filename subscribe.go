package tailrace

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// Subscribe yields the events of s after the cursor after, in order, each
// once, and then those to come, until ctx ends, the hub stops or the loop
// breaks. The zero Cursor starts at the oldest event kept; [Hub.Head] gives
// one that starts now.
//
// Where history is not complete it yields an event of [TypeGap], whose data is
// a JSON [Gap] and whose Cursor is where it goes on: never silence. When all
// topics of s are exact and closed, it ends after the last event. An error
// comes last, with a zero Event.
func (h *Hub) Subscribe(ctx context.Context, s Selector, after Cursor) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := s.Check(); err != nil {
			yield(Event{}, err)
			return
		}
		news := make(chan struct{}, 1)
		stop, err := h.log.Watch(s, func() {
			select {
			case news <- struct{}{}:
			default:
			}
		})
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer stop()
		poll := time.NewTicker(tailPoll)
		defer poll.Stop()
		q := Query{Select: s, After: after}
		for {
			page, err := h.log.Read(ctx, q)
			if err != nil {
				yield(Event{}, err)
				return
			}
			if page.Reset != nil {
				h.counters.gap(page.Reset.Reason)
				if !yield(gapEvent(&page), nil) {
					return
				}
			}
			for i := range page.Events {
				if ev := &page.Events[i]; !(ev.Close && ev.Type == TypeEnd) && !yield(*ev, nil) {
					return
				}
			}
			if page.Ended {
				return
			}
			q.After, q.Told = page.Next, page.Told
			if page.More || page.Reset != nil {
				continue
			}
			q.Told = 0
			select {
			case <-news:
			case <-poll.C:
			case <-ctx.Done():
				yield(Event{}, ctx.Err())
				return
			case <-h.ctx.Done():
				yield(Event{}, ErrStopped)
				return
			}
		}
	}
}

// Head returns the cursor of the log's end: what is published from now on is
// after it.
func (h *Hub) Head(ctx context.Context) (Cursor, error) {
	page, err := h.log.Read(ctx, Query{Head: true})
	return page.Next, err
}

func gapEvent(page *Page) Event {
	data, _ := json.Marshal(NewGap(page.Reset)) // strings only: it cannot fail
	return Event{Type: TypeGap, Data: data, Cursor: page.Next}
}
