package presence

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tailrace/tailrace"
)

// Log is the part of a [tailrace.Log] that presence is told by.
type Log interface {
	Append(ctx context.Context, events []tailrace.Event) ([]tailrace.Receipt, error)
	Read(ctx context.Context, q tailrace.Query) (tailrace.Page, error)
}

// DefaultSilence is how long another node may say nothing before its streams
// count as ended.
const DefaultSilence = 30 * time.Second

const (
	batchSize   = 256 // events of one append
	leastPause  = 100 * time.Millisecond
	longestWait = 5 * time.Second // between attempts to append
)

// MaxPage is the most members of one [Tracker.List].
const MaxPage = 1000

// Options of a Tracker. Log and Rule have to be set.
type Options struct {
	Log     Log
	Rule    func(topic string) Rule // of a topic; must not block, nor call the tracker
	Node    string                  // this node's name, the same in its next life; "" where there is but one
	Silence time.Duration           // default 30 s
	Logger  *slog.Logger            // default slog.Default()
}

// Tracker follows who is where. It is made by [Open]; all its methods are safe
// for concurrent use, and none but Open and Close waits for anything.
type Tracker struct {
	log    Log
	logger *slog.Logger

	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex // guards table
	table *table
}

// Open reads from the log who was there, and returns a tracker that tells what
// changes. Streams that were open before have to be given to [Tracker.Connect].
func Open(ctx context.Context, o Options) (*Tracker, error) {
	if o.Silence == 0 {
		o.Silence = DefaultSilence
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	t := &Tracker{
		log: o.Log, logger: o.Logger,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		table: newTable(o.Node, o.Silence, o.Rule),
	}
	if err := t.restore(ctx); err != nil {
		return nil, err
	}
	ctx, t.cancel = context.WithCancel(context.Background())
	go t.run(ctx)
	return t, nil
}

// restore reads the state that the log holds.
func (t *Tracker) restore(ctx context.Context) error {
	q := tailrace.Query{Select: tailrace.Selector{Patterns: []string{Prefix + "**"}}, Latest: true}
	for {
		page, err := t.log.Read(ctx, q)
		if err != nil {
			return err
		}
		now := time.Now()
		for i := range page.Events {
			t.table.restore(now, &page.Events[i])
		}
		if page.Mark == "" {
			return nil
		}
		q.Mark, q.After = page.Mark, page.Next
	}
}

// Connect counts a stream that opens. With the id of an open one it gives that
// its present topics.
func (t *Tracker) Connect(s Stream) {
	t.change(func(now time.Time) { t.table.open(now, s) })
}

// Disconnect counts a stream that has ended; an unknown id is no error.
func (t *Tracker) Disconnect(id string) {
	t.change(func(now time.Time) { t.table.close(now, id) })
}

// Reload looks at the rules of all topics again.
func (t *Tracker) Reload() {
	t.change(func(now time.Time) { t.table.reload(now) })
}

// Heard takes what another node says: that it lives, and what has changed.
func (t *Tracker) Heard(node string, changes []Change) {
	t.change(func(now time.Time) { t.table.heard(now, node, changes) })
}

func (t *Tracker) change(f func(now time.Time)) {
	t.mu.Lock()
	now := time.Now()
	t.table.expire(now)
	f(now)
	t.mu.Unlock()
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Close stops telling. Who is there stays listed: the node's next life, or the
// others, will see who comes back.
func (t *Tracker) Close() {
	t.cancel()
	<-t.done
}

// run tells what changes, until ctx ends.
func (t *Tracker) run(ctx context.Context) {
	defer close(t.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-timer.C:
		}
		if t.tell(ctx) {
			pause = 0
		} else {
			pause = min(max(2*pause, leastPause), longestWait)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			timer.Reset(0)
			continue
		}
		t.mu.Lock()
		at := t.table.deadline()
		t.mu.Unlock()
		if at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
	}
}

// tell appends what is to be told, and reports whether the log took it all.
func (t *Tracker) tell(ctx context.Context) bool {
	for {
		t.mu.Lock()
		t.table.expire(time.Now())
		list := t.table.take(time.Now(), batchSize)
		t.mu.Unlock()
		if len(list) == 0 {
			return true
		}
		what := t.append(ctx, list)
		ok := true
		t.mu.Lock()
		now := time.Now()
		for i := range list {
			t.table.done(now, &list[i], what[i])
			ok = ok && what[i] == stored
		}
		t.mu.Unlock()
		if !ok {
			return false
		}
	}
}

// append returns what became of each event.
func (t *Tracker) append(ctx context.Context, list []pending) []outcome {
	events := make([]tailrace.Event, len(list))
	for i := range list {
		events[i] = list[i].event
	}
	what := make([]outcome, len(list))
	receipts, err := t.log.Append(ctx, events)
	if err != nil && ctx.Err() == nil {
		t.logger.Error("presence: the log does not take what is to be told", "error", err, "events", len(events))
	}
	if len(receipts) != len(events) && isFinal(err) && len(list) > 1 {
		for i := range list { // one of them has spoilt the whole call
			what[i] = t.append(ctx, list[i:i+1])[0]
		}
		return what
	}
	for i := range what {
		e := err
		if len(receipts) == len(events) {
			e = receipts[i].Err
		}
		switch {
		case e == nil, isFinal(e):
			what[i] = stored
		case errors.Is(e, tailrace.ErrFull), errors.Is(e, tailrace.ErrStopped):
			what[i] = missing
		}
	}
	return what
}

// isFinal reports whether repeating cannot help.
func isFinal(err error) bool {
	for _, final := range []error{tailrace.ErrInvalid, tailrace.ErrTooLarge, tailrace.ErrReserved, tailrace.ErrRetired, tailrace.ErrClosed} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// List is who is in a topic.
type List struct {
	Mode    Mode
	Count   int
	Members []Member // in the order of principals; nil unless Mode is Members
	After   string   // the principal to go on after; "" is the end
}

// Member is one who is listed.
type Member struct {
	Principal   string
	Payload     json.RawMessage // nil if it has none
	Since       time.Time
	Connections int // 0 within the grace
}

// List returns who is in a topic: up to n members, at most 1,000, after the
// principal after. Mode is Off where nothing is counted.
func (t *Tracker) List(name, after string, n int) List {
	n = min(max(n, 1), MaxPage)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.table.expire(time.Now())
	tp := t.table.topics[name]
	if tp == nil {
		return List{Mode: t.table.rule(name).withDefaults().Mode}
	}
	l := List{Mode: tp.rule.Mode, Count: max(tp.count, tp.least)}
	if l.Mode != Members {
		return l
	}
	var names []string
	for principal, m := range tp.members {
		if principal > after && m.weight > 0 && !isAnonymous(principal) {
			names = append(names, principal)
		}
	}
	slices.Sort(names)
	if len(names) > n {
		names = names[:n]
		l.After = names[n-1]
	}
	l.Members = make([]Member, len(names))
	for i, principal := range names {
		m := tp.members[principal]
		l.Members[i] = Member{principal, m.payload, m.since, m.streams()}
	}
	return l
}
