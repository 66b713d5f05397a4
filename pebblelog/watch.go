package pebblelog

import (
	"sync"

	"github.com/tailrace/tailrace"
)

// watchers are those who want to hear of commits. Exact topics are found by name, so that
// many cost a commit nothing; patterns and the zero Selector are asked one by one.
type watchers struct {
	mu    sync.RWMutex // guards what follows
	exact map[string]map[*watcher]struct{}
	other map[*watcher]struct{}

	wakes []*watcher // the committer's scratch
}

type watcher struct {
	sel  tailrace.Selector
	wake func()
}

// Watch calls wake after commits that s selects, on the committer's goroutine.
func (l *Log) Watch(s tailrace.Selector, wake func()) (stop func(), err error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	done, err := l.use()
	if err != nil {
		return nil, err
	}
	defer done()
	w := &watcher{sel: s.Canonical(), wake: wake}
	l.watch.add(w)
	return func() { l.watch.remove(w) }, nil
}

func (ws *watchers) add(w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.exact == nil {
		ws.exact, ws.other = map[string]map[*watcher]struct{}{}, map[*watcher]struct{}{}
	}
	if w.sel.IsZero() || len(w.sel.Patterns) > 0 {
		ws.other[w] = struct{}{}
	}
	for _, t := range w.sel.Topics {
		if ws.exact[t] == nil {
			ws.exact[t] = map[*watcher]struct{}{}
		}
		ws.exact[t][w] = struct{}{}
	}
}

func (ws *watchers) remove(w *watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.other, w)
	for _, t := range w.sel.Topics {
		if delete(ws.exact[t], w); len(ws.exact[t]) == 0 {
			delete(ws.exact, t)
		}
	}
}

// wake is called by the committer only.
func (ws *watchers) wake(topics []string) {
	ws.mu.RLock()
	for w := range ws.other {
		if w.sel.IsZero() || matchesOne(w.sel, topics) {
			ws.wakes = append(ws.wakes, w)
		}
	}
	if len(ws.exact) > 0 {
		for _, t := range topics {
			for w := range ws.exact[t] {
				ws.wakes = append(ws.wakes, w)
			}
		}
	}
	ws.mu.RUnlock()
	for i, w := range ws.wakes {
		ws.wakes[i] = nil
		w.wake()
	}
	ws.wakes = ws.wakes[:0]
}

func matchesOne(s tailrace.Selector, topics []string) bool {
	for _, t := range topics {
		if s.Match(t) {
			return true
		}
	}
	return false
}
