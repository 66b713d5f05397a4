package tailrace

import (
	"slices"
	"sync"
	"sync/atomic"
)

// memWatchers is the set of a log's watchers. An append looks at a list that
// never changes, so that it takes no lock; each Watch and stop copies it. That
// suits a hub, which watches once for all its subscribers.
type memWatchers struct {
	mu   sync.Mutex // orders changes of list
	list atomic.Pointer[[]*memWatcher]
}

type memWatcher struct {
	sel  Selector
	wake func()
}

func (ws *memWatchers) add(s Selector, wake func()) (stop func()) {
	w := &memWatcher{s.Canonical(), wake}
	ws.change(func(l []*memWatcher) []*memWatcher { return append(l, w) })
	return func() {
		ws.change(func(l []*memWatcher) []*memWatcher {
			return slices.DeleteFunc(l, func(o *memWatcher) bool { return o == w })
		})
	}
}

func (ws *memWatchers) change(f func([]*memWatcher) []*memWatcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var l []*memWatcher
	if p := ws.list.Load(); p != nil {
		l = slices.Clone(*p)
	}
	l = f(l)
	ws.list.Store(&l)
}

// wake calls each watcher at most once whose selection has one of the events
// that were stored.
func (ws *memWatchers) wake(events []Event, receipts []Receipt) {
	p := ws.list.Load()
	if p == nil {
		return
	}
	for _, w := range *p {
		for i := range events {
			if receipts[i].Err == nil && !receipts[i].Duplicate && w.sel.Match(events[i].Topic) {
				w.wake()
				break
			}
		}
	}
}
