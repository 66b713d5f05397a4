package logtest

import (
	"fmt"
	"sync"
	"time"

	"github.com/tailrace/tailrace"
)

func watchTests() []test {
	return []test{
		{name: "each commit that matches wakes", check: func(e *env) {
			for _, s := range []tailrace.Selector{{}, topics("a/b"), topics("x", "a/b"), patterns("a/*"), {Topics: []string{"x"}, Patterns: []string{"**"}}} {
				woken := e.watch(s)
				for i := range 3 {
					p := e.read(tailrace.Query{Select: s, Head: true})
					woken.drain()
					e.put("a/b", fmt.Sprint(i))
					if !woken.wait(e) {
						e.Fatalf("%+v: no wake in %v", s, e.wakeLimit)
					}
					// A wake may be early; the event is there when Append has
					// returned.
					e.wantData(tailrace.Query{Select: s, After: p.Next, Told: p.Told}, fmt.Sprint(i))
				}
			}
		}},
		{name: "a batch wakes the watchers of all its topics", check: func(e *env) {
			a, b := e.watch(topics("a")), e.watch(patterns("b/*"))
			e.append(event("c", ""), event("b/1", ""), event("a", ""))
			if !a.wait(e) || !b.wait(e) {
				e.Error("not both are woken")
			}
		}},
		{name: "stop ends it, twice too", check: func(e *env) {
			stop, err := e.log.Watch(tailrace.Selector{}, func() {})
			if err != nil {
				e.Fatal(err)
			}
			other := e.watch(tailrace.Selector{})
			stop()
			stop()
			e.put("a", "1")
			if !other.wait(e) {
				e.Error("another watcher is not woken")
			}
		}},
		{name: "many watchers come and go under load", rules: inMemory(), check: func(e *env) {
			done := make(chan struct{})
			var wg sync.WaitGroup
			for w := range 8 {
				wg.Go(func() {
					s := topics(fmt.Sprint("t", w%4))
					for i := 0; ; i++ {
						select {
						case <-done:
							return
						default:
						}
						stop, err := e.log.Watch(s, func() {})
						if err != nil {
							e.Error(err)
							return
						}
						stop()
					}
				})
			}
			for w := range 4 {
				s := topics(fmt.Sprint("t", w))
				woken := e.watch(s)
				for range 50 {
					woken.drain()
					e.put(s.Topics[0], "")
					if !woken.wait(e) {
						e.Error("a wake is lost")
						break
					}
				}
			}
			close(done)
			wg.Wait()
		}},
	}
}

// wakes are those of one watcher, merged.
type wakes chan struct{}

// watch watches until the test ends.
func (e *env) watch(s tailrace.Selector) wakes {
	e.Helper()
	w, stop, err := watch(e.log, s)
	if err != nil {
		e.Fatalf("Watch(%+v): %v", s, err)
	}
	e.Cleanup(stop)
	return w
}

func watch(l tailrace.Log, s tailrace.Selector) (w wakes, stop func(), err error) {
	w = make(wakes, 1)
	stop, err = l.Watch(s, func() {
		select {
		case w <- struct{}{}:
		default:
		}
	})
	return w, stop, err
}

func (w wakes) drain() {
	select {
	case <-w:
	default:
	}
}

func (w wakes) wait(e *env) bool {
	t := time.NewTimer(e.wakeLimit)
	defer t.Stop()
	select {
	case <-w:
		return true
	case <-t.C:
		return false
	}
}
