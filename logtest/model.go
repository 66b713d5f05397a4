package logtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace"
)

// The model test plays random operations on a log and on a model of it that is
// small enough to be seen to be right, and compares every answer. A sequence
// that fails is made shorter before it is shown.

func modelTests() []test {
	return []test{{name: "random operations", rules: modelRules(), check: func(e *env) {
		seed := seed(e)
		steps := size(400, 20_000)
		if err := newModel(e).play(randomSteps(random(seed), steps)); err != nil {
			e.shrink(randomSteps(random(seed), steps), err)
		}
		// Many short histories see more beginnings.
		for i := range uint64(size(10, 200)) {
			e.again()
			if err := newModel(e).play(randomSteps(random(seed+i+1), 60)); err != nil {
				e.shrink(randomSteps(random(seed+i+1), 60), err)
			}
		}
	}}}
}

func modelRules() []tailrace.Rule {
	return []tailrace.Rule{
		{Pattern: "a/keep", Policy: tailrace.Policy{KeepLatest: true, Durability: tailrace.Memory}},
		{Pattern: "b/close", Policy: tailrace.Policy{Closable: true, Durability: tailrace.Memory}},
		{Pattern: "**", Policy: tailrace.Policy{Durability: tailrace.Memory}},
	}
}

// again gives the test an empty log.
func (e *env) again() {
	e.Helper()
	if err := e.log.Close(); err != nil {
		e.Fatalf("Close: %v", err)
	}
	e.dir = e.TempDir()
	e.open()
}

// shrink looks for a shorter sequence that fails, and fails with it.
func (e *env) shrink(steps []step, err error) {
	e.Helper()
	fails := func(s []step) error {
		e.again()
		return newModel(e).play(s)
	}
	deadline := time.Now().Add(5 * time.Second)
	for part := (len(steps) + 1) / 2; part > 0 && time.Now().Before(deadline); {
		shorter := false
		for i := 0; i < len(steps) && time.Now().Before(deadline); {
			less := slices.Delete(slices.Clone(steps), i, min(i+part, len(steps)))
			if e2 := fails(less); e2 != nil {
				steps, err, shorter = less, e2, true
			} else {
				i += part
			}
		}
		if !shorter {
			part /= 2
		}
	}
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "\n\t%+v", s)
	}
	e.Fatalf("%v\n%d steps that fail:%s", err, len(steps), b.String())
}

var (
	modelTopics    = []string{"a/1", "a/keep", "b/1", "b/close"}
	modelSelectors = []tailrace.Selector{
		topics("a/1"), topics("a/keep"), topics("b/close"),
		topics("a/1", "b/1"), topics("b/1", "b/close", "none"),
		patterns("a/*"), patterns("*/1"), {Topics: []string{"b/1"}, Patterns: []string{"a/*"}}, {},
	}
)

// step is one operation. Its numbers are taken modulo what there is to choose
// from, so that any part of a sequence is a sequence.
type step struct {
	Op         string
	N          []int // of append: per event a topic, an id, a key and a kind
	Topic, Any int
	Reader     int
	Limit      int
}

func randomSteps(r *rand.Rand, n int) []step {
	var steps []step
	for range n {
		s := step{Topic: r.IntN(8), Any: r.IntN(1 << 20), Reader: r.IntN(12), Limit: r.IntN(6)}
		switch p := r.IntN(100); {
		case p < 40:
			s.Op = "append"
			for range 4 * (1 + r.IntN(4)) {
				s.N = append(s.N, r.IntN(1<<20))
			}
		case p < 70:
			s.Op = "read"
		case p < 78:
			s.Op = "resume"
		case p < 83:
			s.Op = "begin"
		case p < 90:
			s.Op = "trim"
		case p < 92:
			s.Op = "delete"
		case p < 97:
			s.Op = "latest"
		case p < 98:
			s.Op = "restart"
		default:
			s.Op = "stat"
		}
		steps = append(steps, s)
	}
	return steps
}

// model is what a log should be.
type model struct {
	e       *env
	ctx     context.Context
	events  []tailrace.Event // all that were ever stored, in order
	topics  map[string]*modelTopic
	raises  int
	readers [12]modelReader
}

type modelTopic struct {
	floor   uint64 // events up to here are removed
	raise   int    // number of the last raise of floor
	deleted bool   // by Delete
	birth   uint64 // events up to here are of an earlier life
	closed  bool
	exists  bool
	last    tailrace.Cursor // of this life
}

type modelReader struct {
	sel   tailrace.Selector
	query tailrace.Query
	known int // raises that it was told of; -1: it has no cursor yet
}

func newModel(e *env) *model {
	m := &model{e: e, ctx: e.Context(), topics: map[string]*modelTopic{}}
	for _, t := range modelTopics {
		m.topics[t] = &modelTopic{}
	}
	for i := range m.readers {
		m.begin(i, i)
	}
	return m
}

func (m *model) begin(reader, sel int) {
	s := modelSelectors[sel%len(modelSelectors)]
	m.readers[reader] = modelReader{sel: s, query: tailrace.Query{Select: s}, known: -1}
}

// play returns how the log and the model differ.
func (m *model) play(steps []step) error {
	for i, s := range steps {
		var err error
		topic := modelTopics[s.Topic%len(modelTopics)]
		r := &m.readers[s.Reader]
		switch s.Op {
		case "append":
			err = m.append(s)
		case "read":
			err = m.read(r, s.Limit)
		case "resume": // with the cursor alone
			if !r.query.After.IsZero() {
				r.query.Told, r.known = 0, 0
				if s.Any%2 == 0 {
					r.query.LastID, r.query.After = r.query.After.String(), tailrace.Cursor{}
				}
				err = m.read(r, s.Limit)
			}
		case "begin":
			m.begin(s.Reader, s.Any)
		case "trim":
			err = m.trim(topic, s.Any)
		case "delete":
			err = m.delete(topic)
		case "latest":
			err = m.latest(modelSelectors[s.Any%len(modelSelectors)], s.Limit)
		case "stat":
			err = m.stat(topic)
		case "restart":
			if m.e.config.Durable {
				m.e.restart()
			}
		}
		if err != nil {
			return fmt.Errorf("step %d, %s: %w", i, s.Op, err)
		}
	}
	for i := range m.readers { // and all must come to the end
		for range len(m.events) + len(steps) + 10 {
			more, err := m.readMore(&m.readers[i], 5)
			if err != nil {
				return fmt.Errorf("at the end, reader %d: %w", i, err)
			}
			if !more {
				break
			}
		}
	}
	return nil
}

func (m *model) kept(ev *tailrace.Event) bool {
	return ev.Cursor.Pos > m.topics[ev.Topic].floor
}

// newest says whether ev is the newest event of its key, and is one that
// KeepLatest keeps.
func (m *model) newest(ev *tailrace.Event) bool {
	if ev.Key == "" || ev.Remove || ev.Cursor.Pos <= m.topics[ev.Topic].birth {
		return false
	}
	for i := range m.events {
		if o := &m.events[i]; o.Topic == ev.Topic && o.Key == ev.Key && o.Cursor.Pos > ev.Cursor.Pos {
			return false
		}
	}
	return m.kept(ev) || ev.Topic == "a/keep"
}

func (m *model) byID(topic, id string) *tailrace.Event {
	for i := range m.events {
		ev := &m.events[i]
		if id != "" && ev.Topic == topic && ev.ID == id && (m.kept(ev) || m.newest(ev)) {
			return ev
		}
	}
	return nil
}

func (m *model) append(s step) error {
	var events []tailrace.Event
	closing := false
	for i := 0; i+3 < len(s.N); i += 4 {
		ev := event(modelTopics[s.N[i]%len(modelTopics)], fmt.Sprint(len(m.events), ".", i/4))
		if id := s.N[i+1] % 12; id < 6 {
			ev.ID = fmt.Sprint("id", id)
		}
		if key := s.N[i+2] % 6; key < 3 {
			ev.Key = fmt.Sprint("key", key)
			ev.Remove = s.N[i+3]%4 == 0
		}
		ev.Close = ev.Topic == "b/close" && s.N[i+3]%16 == 15
		closing = closing || ev.Close
		events = append(events, ev)
	}
	if s.Any%4 == 0 && !closing { // both at once leave open which error it is
		t := m.topics[events[0].Topic]
		head := t.last
		if s.Any%8 == 0 {
			head = tailrace.Cursor{Epoch: 1, Pos: 1}
		}
		if t.last.Pos > t.floor || t.last.IsZero() { // whether KeepLatest kept it is not asked here
			events[0].IfHead = &head
		}
	}
	// What must become of them.
	refused := map[string]error{}
	closes := map[string]bool{}
	seen := map[string]bool{}
	for i := range events {
		ev := &events[i]
		t := m.topics[ev.Topic]
		name := ev.Topic + " " + ev.ID
		if ev.ID != "" && (m.byID(ev.Topic, ev.ID) != nil || seen[name]) {
			continue
		}
		seen[name] = true
		if t.closed || closes[ev.Topic] {
			refused[ev.Topic] = tailrace.ErrClosed
		} else if ev.IfHead != nil && *ev.IfHead != t.last && refused[ev.Topic] == nil {
			refused[ev.Topic] = tailrace.ErrHead
		}
		closes[ev.Topic] = closes[ev.Topic] || ev.Close
	}
	rs, err := m.e.log.Append(m.ctx, events)
	if len(rs) != len(events) {
		return fmt.Errorf("%d receipts, error %v", len(rs), err)
	}
	failed := false
	for i := range events {
		ev, r := &events[i], rs[i]
		t := m.topics[ev.Topic]
		if first := m.byID(ev.Topic, ev.ID); first != nil {
			if !r.Duplicate || r.Cursor != first.Cursor {
				return fmt.Errorf("receipt %+v of %s, want a duplicate of %v", r, name(ev), first.Cursor)
			}
			continue
		}
		if want := refused[ev.Topic]; want != nil || r.Err != nil {
			if !errors.Is(r.Err, want) || want == nil {
				return fmt.Errorf("receipt %+v of %s, want %v", r, name(ev), want)
			}
			failed = true
			continue
		}
		if r.Duplicate || len(m.events) > 0 && r.Cursor.Pos <= m.events[len(m.events)-1].Cursor.Pos {
			return fmt.Errorf("receipt %+v of %s", r, name(ev))
		}
		stored := *ev
		stored.Cursor, stored.Time, stored.IfHead = r.Cursor, r.Time, nil
		m.events = append(m.events, stored)
		t.last, t.exists, t.closed = r.Cursor, true, ev.Close
	}
	if failed != (err != nil) {
		return fmt.Errorf("error %v, receipts %+v", err, rs)
	}
	return nil
}

func name(ev *tailrace.Event) string {
	return fmt.Sprintf("%s %q id %q key %q", ev.Topic, ev.Data, ev.ID, ev.Key)
}

func (m *model) trim(topic string, at int) error {
	if len(m.events) == 0 {
		return nil
	}
	upTo := m.events[at%len(m.events)].Cursor
	if err := m.e.log.Trim(m.ctx, topic, upTo); err != nil {
		return err
	}
	m.raise(topic, upTo.Pos)
	return nil
}

// raise removes the events of topic up to pos and reports whether there were
// any.
func (m *model) raise(topic string, pos uint64) bool {
	t := m.topics[topic]
	floor := t.floor
	for i := range m.events {
		if ev := &m.events[i]; ev.Topic == topic && ev.Cursor.Pos > floor && ev.Cursor.Pos <= pos {
			floor = ev.Cursor.Pos
		}
	}
	if floor == t.floor {
		return false
	}
	m.raises++
	t.floor, t.raise, t.deleted = floor, m.raises, false
	return true
}

func (m *model) delete(topic string) error {
	// Of a topic that is there and has no events it is not said whether who
	// missed the trimmed ones is told of the deletion too.
	if !m.raise(topic, math.MaxUint64) {
		return nil
	}
	t := m.topics[topic]
	*t = modelTopic{floor: t.floor, raise: t.raise, deleted: true, birth: t.floor}
	return m.e.log.Delete(m.ctx, topic)
}

func (m *model) read(r *modelReader, limit int) error {
	_, err := m.readMore(r, limit)
	return err
}

func (m *model) readMore(r *modelReader, limit int) (more bool, err error) {
	q := r.query
	q.Limit = limit
	p, err := m.e.log.Read(m.ctx, q)
	if err != nil {
		return false, err
	}
	start := q.After
	if q.LastID != "" {
		if start, err = tailrace.ParseCursor(q.LastID); err != nil {
			return false, err
		}
	}
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%+v after %v, told %d: page %v next %v more %v reset %+v: %s",
			q.Select, start, q.Told, datas(p.Events), p.Next, p.More, p.Reset, fmt.Sprintf(format, args...))
	}
	var lost []string
	reason := tailrace.Deleted
	if r.known >= 0 {
		for _, topic := range modelTopics {
			if t := m.topics[topic]; r.sel.Match(topic) && t.floor > start.Pos && t.raise > r.known {
				lost = append(lost, topic)
				if !t.deleted {
					reason = tailrace.Trimmed
				}
			}
		}
	}
	r.query = tailrace.Query{Select: r.sel, After: p.Next, Told: p.Told}
	r.known = m.raises
	if len(lost) > 0 || p.Reset != nil {
		switch single, one := r.sel.Single(); {
		case len(lost) == 0:
			return false, wrong("a reset without a loss")
		case p.Reset == nil:
			return false, wrong("no reset, though %q lost events", lost)
		case len(p.Events) > 0:
			return false, wrong("events in a reset")
		case p.Reset.Reason != reason && len(lost) == 1:
			return false, wrong("want the reason %s", reason)
		case p.Reset.Topics != nil && !sameSet(p.Reset.Topics, lost):
			return false, wrong("want the topics %q", lost)
		case one && p.Next.Pos != m.topics[single].floor:
			return false, wrong("Next, want the floor %d", m.topics[single].floor)
		case !one && p.Next != start:
			return false, wrong("Next, want the start")
		}
		return true, nil
	}
	var want []tailrace.Event
	ended := len(r.sel.Patterns) == 0 && len(r.sel.Topics) > 0
	for _, t := range r.sel.Topics {
		ended = ended && m.topics[t] != nil && m.topics[t].closed
	}
	for i := range m.events {
		if ev := &m.events[i]; ev.Cursor.Pos > start.Pos && r.sel.Match(ev.Topic) && m.kept(ev) {
			want = append(want, *ev)
		}
	}
	n := len(p.Events)
	switch {
	case n > len(want) || !p.More && n < len(want):
		return false, wrong("%d events, want %v", n, datas(want))
	case limit > 0 && n > limit:
		return false, wrong("more than %d events", limit)
	case p.Next.Pos < start.Pos, n > 0 && p.Next.Pos < p.Events[n-1].Cursor.Pos, n < len(want) && p.Next.Pos >= want[n].Cursor.Pos:
		return false, wrong("Next, want it between the page and what follows")
	case p.Ended && (!ended || n < len(want)), ended && !p.More && n == 0 && !p.Ended:
		return false, wrong("Ended %v", p.Ended)
	}
	for i, ev := range p.Events {
		if w := want[i]; ev.Cursor != w.Cursor || name(&ev) != name(&w) || ev.Remove != w.Remove || ev.Close != w.Close {
			return false, wrong("event %d is %s, want %s", i, name(&ev), name(&w))
		}
	}
	return p.More, nil
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func (m *model) latest(s tailrace.Selector, limit int) error {
	want := map[string]string{}
	for i := range m.events {
		if ev := &m.events[i]; s.Match(ev.Topic) && m.newest(ev) {
			want[ev.Topic+" "+ev.Key] = string(ev.Data)
		}
	}
	got := map[string]string{}
	q := tailrace.Query{Select: s, Latest: true, Limit: limit}
	for range len(m.events) + 2 {
		p, err := m.e.log.Read(m.ctx, q)
		if err != nil || p.Reset != nil {
			return fmt.Errorf("%+v: reset %+v, error %v", q, p.Reset, err)
		}
		for _, ev := range p.Events {
			if _, twice := got[ev.Topic+" "+ev.Key]; twice {
				return fmt.Errorf("%+v: %s twice", q, name(&ev))
			}
		}
		keep(got, p.Events)
		q.After, q.Mark, q.Told = p.Next, p.Mark, p.Told
		if p.Mark == "" {
			break
		}
	}
	if q.Mark != "" || fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("%+v: %v, want %v", q, got, want)
	}
	return nil
}

func (m *model) stat(topic string) error {
	i, err := m.e.log.Stat(m.ctx, topic)
	if err != nil {
		return err
	}
	t := m.topics[topic]
	var count int64
	for i := range m.events {
		if ev := &m.events[i]; ev.Topic == topic && m.kept(ev) {
			count++
		}
	}
	if i.Exists != t.exists || i.Closed != t.closed || t.exists && (i.Head != t.last || i.Count != count) {
		return fmt.Errorf("%+v, want exists %v, closed %v, head %v, count %d", i, t.exists, t.closed, t.last, count)
	}
	return nil
}
