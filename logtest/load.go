package logtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace"
)

// load is what the concurrent groups put on a log.
type load struct {
	publishers int
	calls      int // of each publisher
	readers    int
	seed       uint64
}

func concurrentLoad() load {
	return load{publishers: 16, calls: size(60, 4000), readers: size(24, 64)}
}

// loadRules give one topic the strictest durability, since the others wait for
// what is before them.
func loadRules() []tailrace.Rule {
	return []tailrace.Rule{{Pattern: "t/0"}, {Pattern: "**", Policy: tailrace.Policy{Durability: tailrace.Memory}}}
}

const (
	loadTopics   = 8
	idleTopic    = "idle/a"
	deletedTopic = "t/7" // is deleted; its events have no ids, so that none is freed
)

func concurrentTests() []test {
	return []test{{name: "publishers, readers and trims", rules: loadRules(), check: func(e *env) {
		o := concurrentLoad()
		o.seed = seed(e)
		e.wantRight(o.run(e, e.log))
	}}}
}

func timerTests() []test {
	return []test{{name: "the same without wakes", rules: loadRules(), check: func(e *env) {
		o := concurrentLoad()
		o.seed = seed(e)
		every := 20 * time.Millisecond
		if long() {
			every = time.Second
		}
		e.wantRight(o.run(e, timerLog{e.log, every}))
	}}}
}

// wantRight reports what of a history is wrong.
func (e *env) wantRight(errs []error) {
	e.Helper()
	for i, err := range errs {
		if i == 5 {
			e.Errorf("and %d more", len(errs)-i)
			return
		}
		e.Error(err)
	}
}

// timerLog is a log that never wakes; a timer does.
type timerLog struct {
	tailrace.Log
	every time.Duration
}

func (l timerLog) Watch(_ tailrace.Selector, wake func()) (stop func(), err error) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(l.every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				wake()
			case <-done:
				return
			}
		}
	})
	return sync.OnceFunc(func() { close(done); wg.Wait() }), nil
}

// run puts the load on l and returns what was wrong.
func (o load) run(e *env, l tailrace.Log) []error {
	e.Helper()
	ctx := e.Context()
	h := newHistory(o.readers)
	rs, err := l.Append(ctx, []tailrace.Event{event(idleTopic, "idle")})
	if err != nil {
		e.Fatalf("Append: %v", err)
	}
	h.acknowledged(ack{-1, idleTopic, "idle", rs[0].Cursor.Pos})
	base := rs[0].Cursor

	var publishers, readers sync.WaitGroup
	done := make(chan struct{})
	var progress []*atomic.Uint64
	for i := range o.readers {
		r := reader{load: o, history: h, number: i, random: random(o.seed + 1000 + uint64(i)), progress: new(atomic.Uint64)}
		progress = append(progress, r.progress)
		readers.Go(func() { r.run(ctx, l, base, done) })
	}
	for i := range o.publishers {
		publishers.Go(func() { o.publish(ctx, l, h, i) })
	}
	publishers.Wait()

	// All readers must come to the end by themselves, however slowly.
	for i, p := range progress {
		s := readerSelector(i)
		last, at, since := h.last(s), uint64(0), time.Now()
		for ; p.Load() < last; time.Sleep(time.Millisecond) {
			if now := p.Load(); now > at {
				at, since = now, time.Now()
			}
			if time.Since(since) > e.wakeLimit {
				h.note("reader %d of %+v waits at %d, but %d is there: a wake is lost", i, s, at, last)
				break
			}
		}
	}
	close(done)
	readers.Wait()

	var final []tailrace.Event
	for q := (tailrace.Query{}); ; {
		p, err := l.Read(ctx, q)
		if err != nil || p.Reset != nil {
			h.note("reading the log in the end: reset %+v, error %v", p.Reset, err)
			break
		}
		final = append(final, p.Events...)
		if q.After, q.Told = p.Next, p.Told; !p.More {
			break
		}
	}
	e.Logf("%s", h.size())
	return h.check(final)
}

// publish appends small batches, and repeats a fifth of them as one does
// whose answer was lost. It trims, too.
func (o load) publish(ctx context.Context, l tailrace.Log, h *history, publisher int) {
	r := random(o.seed + uint64(publisher))
	for n := range o.calls {
		var events []tailrace.Event
		for i := range 1 + r.IntN(3) {
			topic := fmt.Sprint("t/", r.IntN(loadTopics))
			if r.IntN(2) == 0 {
				topic = "t/1" // the hot one
			}
			id := fmt.Sprintf("p%d-%d-%d", publisher, n, i)
			ev := event(topic, id)
			if topic != deletedTopic {
				ev.ID = id
			}
			events = append(events, ev)
		}
		rs, err := l.Append(ctx, events)
		if err != nil {
			h.note("publisher %d: %w", publisher, err)
			return
		}
		for repeat := r.IntN(5) == 0; repeat; repeat = r.IntN(2) == 0 {
			var again []tailrace.Event
			var first []tailrace.Receipt
			for i, ev := range events {
				if ev.ID != "" {
					again, first = append(again, ev), append(first, rs[i])
				}
			}
			rs2, err := l.Append(ctx, again)
			if err != nil {
				h.note("publisher %d: repeated: %w", publisher, err)
				return
			}
			for i := range rs2 {
				if !rs2[i].Duplicate || rs2[i].Cursor != first[i].Cursor {
					h.note("publisher %d: %s %s was stored at %v, and when repeated: %+v",
						publisher, again[i].Topic, again[i].ID, first[i].Cursor, rs2[i])
				}
			}
		}
		acks := make([]ack, len(events))
		for i := range events {
			acks[i] = ack{publisher, events[i].Topic, string(events[i].Data), rs[i].Cursor.Pos}
		}
		h.acknowledged(acks...)
		if r.IntN(8) == 0 {
			if err := o.trim(ctx, l, h, r); err != nil {
				h.note("publisher %d: trim: %w", publisher, err)
			}
		}
	}
}

// trim removes the older part of a topic, or now and then all of one.
func (o load) trim(ctx context.Context, l tailrace.Log, h *history, r *rand.Rand) error {
	if r.IntN(20) == 0 {
		i := h.removing(deletedTopic, ^uint64(0))
		if err := l.Delete(ctx, deletedTopic); err != nil {
			return err
		}
		p, err := l.Read(ctx, tailrace.Query{Head: true})
		h.removedUpTo(i, p.Next.Pos)
		return err
	}
	upTo := h.settled(o.publishers + 1)
	if upTo == 0 {
		return nil
	}
	p, err := l.Read(ctx, tailrace.Query{Head: true})
	if err != nil {
		return err
	}
	topic := fmt.Sprint("t/", r.IntN(loadTopics))
	h.removing(topic, upTo)
	return l.Trim(ctx, topic, tailrace.Cursor{Log: p.Next.Log, Epoch: p.Next.Epoch, Pos: upTo})
}

// reader reads to the end, waits to be woken, and reads on. At random it
// leaves, and resumes from what a client would have: a cursor, or an id.
type reader struct {
	load
	*history
	number   int
	random   *rand.Rand
	progress *atomic.Uint64
}

func readerSelector(number int) tailrace.Selector {
	return []tailrace.Selector{
		topics("t/1"),
		{},
		patterns("t/*"),
		topics(idleTopic),
		topics("t/0", "t/2", "t/7", idleTopic),
		topics("t/3"),
		{Topics: []string{"t/4"}, Patterns: []string{"idle/*"}},
		topics("t/7"),
	}[number%8]
}

func (r *reader) run(ctx context.Context, l tailrace.Log, base tailrace.Cursor, done <-chan struct{}) {
	sel := readerSelector(r.number)
	woken, stop, err := watch(l, sel)
	if err != nil {
		r.note("reader %d: Watch: %w", r.number, err)
		return
	}
	defer stop()
	slow := r.number%4 == 1
	_, single := sel.Single()
	last := tailrace.Event{}
	q := tailrace.Query{Select: sel, After: base}
	at := base.Pos
	finishing := false
	for {
		q.Limit = 1 + r.random.IntN(40)
		p, err := l.Read(ctx, q)
		if err != nil {
			r.note("reader %d: Read(%+v): %w", r.number, q, err)
			return
		}
		if n := len(p.Events); n > 0 {
			last = p.Events[n-1]
		}
		r.read(r.number, reading{sel: sel, at: at, next: p.Next.Pos, events: p.Events, reset: p.Reset})
		q = tailrace.Query{Select: sel, After: p.Next, Told: p.Told}
		at = p.Next.Pos
		r.progress.Store(at)
		if r.random.IntN(20) == 0 { // leave and resume
			q.Told = 0
			switch r.random.IntN(3) {
			case 0:
				q.LastID, q.After = q.After.String(), tailrace.Cursor{}
			case 1:
				if single && last.ID != "" && p.Reset == nil {
					q.LastID, q.After = last.ID, tailrace.Cursor{}
					at = last.Cursor.Pos
				}
			}
		}
		if slow {
			time.Sleep(time.Duration(r.random.IntN(2000)) * time.Microsecond)
		}
		if p.More || p.Reset != nil {
			continue
		}
		if finishing {
			return
		}
		select {
		case <-woken:
		case <-done:
			finishing = true
		}
	}
}
