package auth

import (
	"container/heap"
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// Why a watched principal may not go on, as a stream tells its client.
const (
	Expired      = "expired"
	Revoked      = "revoked"
	Forbidden    = "forbidden"
	Disconnected = "disconnected" // another stream took its ticket
)

// Use is what an open stream or upload does.
type Use struct {
	Do     Action
	Topics []string
}

// Watch has ended called once, as soon as p may not go on with its use: within
// a second of its end, and before Revoke or Reload return that end it. It is
// called on a goroutine of the authenticator, or on that of Revoke or Reload,
// under no lock; others wait for it, so it must not block. It is not called by
// Watch itself.
//
// The caller stops watching when the use ends. Where its rights or its
// principal change, it watches anew and then stops the old.
func (a *Authenticator) Watch(p *Principal, use Use, ended func(reason string)) (stop func()) {
	return a.watched.add(&watch{p: p, use: use, ended: ended})
}

// Watched is the number of principals that are watched.
func (a *Authenticator) Watched() int {
	a.watched.mu.Lock()
	defer a.watched.mu.Unlock()
	return len(a.watched.all)
}

// watch is a principal that is watched.
type watch struct {
	p     *Principal
	use   Use
	ended func(string)

	end    time.Time    // of its credential; zero is never
	hook   *hookOpinion // the latest
	reason string       // it has ended, and is to be told so
	due    time.Time    // when to look at it; zero is never
	at     int          // in the heap; -1 is not there
}

// watched is all that is watched, and the timer of the next that is due.
type watched struct {
	a *Authenticator

	mu      sync.Mutex
	all     map[*watch]struct{}
	queue   watchQueue
	tickets map[string]*watch // the stream of each ticket that reopens
	timer   *time.Timer
	closed  bool
}

func (w *watched) init(a *Authenticator) {
	w.a = a
	w.all, w.tickets = map[*watch]struct{}{}, map[string]*watch{}
	w.timer = time.AfterFunc(time.Hour, func() { a.workers.do(w.fire) })
	w.timer.Stop()
}

func (w *watched) add(e *watch) (stop func()) {
	e.at, e.end, e.hook = -1, e.p.Expires, e.p.hook
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return func() {}
	}
	w.all[e] = struct{}{}
	if e.p.reopens {
		if old := w.tickets[e.p.ticketID]; old != nil {
			w.over(old, Disconnected)
		}
		w.tickets[e.p.ticketID] = e
	}
	w.mu.Unlock()
	// Only now, so that a revocation or reload that has just been made is seen
	// here or sees e.
	end, reason := w.a.rules.Load().endOf(e.p), w.a.judge(e)
	w.mu.Lock()
	defer w.mu.Unlock()
	if reason != "" {
		w.over(e, reason)
	} else if _, there := w.all[e]; there {
		e.end = end
		w.schedule(e)
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.drop(e)
	}
}

// over has e told soon, from another goroutine. w.mu is held.
func (w *watched) over(e *watch, reason string) {
	if _, there := w.all[e]; there && e.reason == "" {
		e.reason = reason
		w.schedule(e)
	}
}

// schedule puts e where its next moment says. w.mu is held.
func (w *watched) schedule(e *watch) {
	e.due = e.end
	if e.hook != nil {
		e.due = earliest(e.due, e.hook.until)
	}
	if e.reason != "" {
		e.due = time.Now()
	}
	switch {
	case e.due.IsZero():
		if e.at >= 0 {
			heap.Remove(&w.queue, e.at)
		}
	case e.at < 0:
		heap.Push(&w.queue, e)
	default:
		heap.Fix(&w.queue, e.at)
	}
	w.set()
}

// set sets the timer to the first that is due. w.mu is held.
func (w *watched) set() {
	if len(w.queue) > 0 && !w.closed {
		w.timer.Reset(max(time.Until(w.queue[0].due), 0))
	}
}

// drop forgets e and reports whether it was there. w.mu is held.
func (w *watched) drop(e *watch) bool {
	if _, there := w.all[e]; !there {
		return false
	}
	delete(w.all, e)
	if w.tickets[e.p.ticketID] == e {
		delete(w.tickets, e.p.ticketID)
	}
	if e.at >= 0 {
		heap.Remove(&w.queue, e.at)
	}
	return true
}

// fire looks at all that are due.
func (w *watched) fire(context.Context) {
	now := time.Now()
	var over, ask []*watch
	w.mu.Lock()
	for len(w.queue) > 0 && !w.queue[0].due.After(now) {
		e := w.queue[0]
		switch {
		case e.reason != "":
		case !e.end.IsZero() && !now.Before(e.end):
			e.reason = Expired
		default: // what the hook said does not hold any more
			heap.Pop(&w.queue)
			ask = append(ask, e)
			continue
		}
		w.drop(e)
		over = append(over, e)
	}
	w.set()
	w.mu.Unlock()
	for _, e := range ask {
		w.a.workers.do(func(ctx context.Context) { w.ask(ctx, e) })
	}
	for _, e := range over {
		e.ended(e.reason)
	}
}

// ask asks the hook again about an open stream.
func (w *watched) ask(ctx context.Context, e *watch) {
	hook := w.a.rules.Load().hook
	var next *hookOpinion
	reason := ""
	switch {
	case hook == nil && e.hook.alone:
		reason = Revoked
	case hook != nil:
		answer, until, err := hook.ask(ctx, e.hook.question)
		if err != nil || !answer.sameRights(&e.hook.answer) {
			reason = Revoked // whatever it may do now, it may on a new stream
		} else {
			opinion := *e.hook
			opinion.answer, opinion.until = answer, until
			next = &opinion
		}
	}
	w.mu.Lock()
	if _, there := w.all[e]; !there {
		w.mu.Unlock()
		return
	}
	e.hook = next
	if reason == "" {
		w.schedule(e)
		w.mu.Unlock()
		return
	}
	w.drop(e)
	w.mu.Unlock()
	e.ended(reason)
}

// revoke tells those that a revocation concerns.
func (w *watched) revoke(r Revocation) {
	var over []*watch
	w.mu.Lock()
	for e := range w.all {
		if r.concerns(&e.p.id) {
			w.drop(e)
			over = append(over, e)
		}
	}
	w.mu.Unlock()
	for _, e := range over {
		e.ended(Revoked)
	}
}

// judge looks at all again, and tells those that may not go on.
func (w *watched) judge() {
	w.mu.Lock()
	all := slices.Collect(maps.Keys(w.all))
	w.mu.Unlock()
	for _, e := range all {
		reason := w.a.judge(e)
		end := w.a.rules.Load().endOf(e.p)
		w.mu.Lock()
		_, there := w.all[e]
		switch {
		case !there:
		case reason != "":
			w.drop(e)
		case !end.Equal(e.end):
			e.end = end
			w.schedule(e)
		}
		w.mu.Unlock()
		if there && reason != "" {
			e.ended(reason)
		}
	}
}

// judge returns why e may not go on by the rules and revocations of now, "" if
// it may.
func (a *Authenticator) judge(e *watch) (reason string) {
	rs := a.rules.Load()
	switch end := rs.endOf(e.p); {
	case !end.IsZero() && !time.Now().Before(end):
		return Expired
	case a.revoked.has(&e.p.id), rs.holds(e.p) != "", e.p.hook != nil && e.p.hook.alone && rs.hook == nil:
		return Revoked
	case e.use.Do != Open && len(a.missing(rs.grantsOf(e.p), e.use.Do, e.use.Topics)) > 0:
		return Forbidden
	}
	return ""
}

func (w *watched) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.timer.Stop()
	w.all, w.queue, w.tickets = map[*watch]struct{}{}, nil, map[string]*watch{}
}

// watchQueue is a heap by what is due first.
type watchQueue []*watch

func (q watchQueue) Len() int           { return len(q) }
func (q watchQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q watchQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

func (q *watchQueue) Push(x any) {
	e := x.(*watch)
	e.at = len(*q)
	*q = append(*q, e)
}

func (q *watchQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.at = -1
	return e
}
