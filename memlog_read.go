package tailrace

import (
	"context"
	"slices"
	"sort"
	"time"
)

const (
	// maxResetTopics is how many topics a Reset names.
	maxResetTopics = 100

	// scanMax is how many positions one page of a pattern examines.
	scanMax = 65536

	// scanSlice is how many of them under one hold of the lock: about 50 µs,
	// which is what a pattern's page can delay an append.
	scanSlice = 1024
)

// Read implements [Log].
func (l *MemoryLog) Read(ctx context.Context, q Query) (Page, error) {
	if err := ctx.Err(); err != nil {
		return Page{}, err
	}
	if err := q.Check(); err != nil {
		return Page{}, err
	}
	if q.Latest {
		return l.readLatest(q)
	}
	r, _ := l.pages.Get().(*memRead)
	if r == nil {
		r = new(memRead)
	}
	defer r.free(l)
	r.begin(l, &q)
	exact := len(q.Select.Topics) > 0 && len(q.Select.Patterns) == 0
	if q.Last > 0 && !exact {
		pos, err := l.lastOfPattern(q.Select, min(q.Last, MaxLast))
		if err != nil {
			return Page{}, err
		}
		r.pos, q.Last = pos, 0
	}
	if err := l.view(); err != nil {
		return Page{}, err
	}
	page, ok := l.start(&q, r)
	if !ok {
		l.mu.RUnlock()
		return page, nil
	}
	more := false
	switch {
	case q.Head:
		r.pos = l.pos
	case exact:
		more = r.merge()
	default:
		more = r.scan()
	}
	page.Next, page.More = l.cursor(r.pos), more
	page.Ended = !more && exact && l.allClosed(q.Select.Topics)
	l.mu.RUnlock()

	if len(r.found) > 0 {
		page.Events = make([]Event, len(r.found))
		for i, e := range r.found {
			page.Events[i] = e.Event
		}
	}
	return page, nil
}

// requested is what a Reset says was asked for.
func (q *Query) requested() string {
	if q.LastID != "" {
		return q.LastID
	}
	return q.After.String()
}

// memRead is one page in the making. Its events are copied when the lock is
// given back.
type memRead struct {
	log   *MemoryLog
	sel   Selector
	pos   uint64 // all up to here is examined
	limit int
	bytes int
	found []*memEvent
	runs  memRuns
	known map[*memTopic]bool // of a long selection: whether it has the topic
}

func (r *memRead) begin(l *MemoryLog, q *Query) {
	r.log, r.sel, r.pos, r.limit, r.bytes = l, q.Select, 0, q.Limit, q.MaxBytes
	if r.limit <= 0 {
		r.limit = DefaultReadLimit
	}
	if r.bytes <= 0 {
		r.bytes = DefaultReadBytes
	}
}

// free gives r back for another page, unless it has grown much.
func (r *memRead) free(l *MemoryLog) {
	if cap(r.found) > 4*DefaultReadLimit || cap(r.runs) > DefaultReadLimit || len(r.known) > 4*DefaultReadLimit {
		return
	}
	clear(r.known)
	clear(r.found)
	clear(r.runs[:cap(r.runs)])
	r.sel, r.found, r.runs = Selector{}, r.found[:0], r.runs[:0]
	l.pages.Put(r)
}

// start sets r.pos. If the page cannot begin there it is a Reset, and ok is
// false.
func (l *MemoryLog) start(q *Query, r *memRead) (page Page, ok bool) {
	page.Told = l.stamp
	after := q.After
	reset := func(reason Reason) (Page, bool) {
		page.Next = l.oldest(q.Select)
		page.Reset = &Reset{Reason: reason, Requested: q.requested(), Oldest: page.Next}
		return page, false
	}
	if q.LastID != "" {
		c, err := ParseCursor(q.LastID)
		switch {
		case err == nil && c.Epoch == l.epoch:
			after = c
		default:
			pos := l.ids.lowest(q.Select, q.LastID)
			if pos == 0 && err == nil {
				return reset(EpochGap)
			}
			if pos == 0 {
				return reset(Unknown)
			}
			after = l.cursor(pos)
		}
	}
	switch {
	case after.IsZero():
		// A start without cursor knows all losses that were before it.
		switch {
		case !q.Since.IsZero():
			r.pos = l.before(q.Since)
		case q.Last > 0:
			r.pos = l.lastOfTopics(q.Select.Topics, min(q.Last, MaxLast))
		}
		return page, true
	case after.Epoch != l.epoch || after.Log != 0:
		return reset(EpochGap)
	case after.Pos > l.pos:
		return reset(Ahead)
	}
	r.pos = after.Pos
	if loss := l.loss(q.Select, r.pos, q.Told); loss != nil {
		loss.Requested = q.requested()
		loss.Oldest = l.oldest(q.Select)
		page.Reset, page.Next = loss, after
		if topic, single := q.Select.Single(); single {
			floor, _, _ := l.floorOf(topic)
			page.Next = l.cursor(floor)
		}
		return page, false
	}
	return page, true
}

// loss says what of the selection was removed after start, as far as it was
// not told.
func (l *MemoryLog) loss(s Selector, start, told uint64) *Reset {
	known := max(start, told)
	if l.stamp <= known { // each floor is below its stamp
		return nil
	}
	reset := &Reset{Reason: Deleted}
	more, unnamed := false, false
	lost := func(name string, deleted bool) {
		if !deleted {
			reset.Reason = Trimmed
		}
		if len(reset.Topics) == maxResetTopics {
			more = true
		} else if !slices.Contains(reset.Topics, name) {
			reset.Topics = append(reset.Topics, name)
		}
	}
	if len(s.Topics) > 0 && len(s.Patterns) == 0 {
		for _, name := range s.Topics {
			if floor, stamp, deleted := l.floorOf(name); floor > start && stamp > told {
				lost(name, deleted)
			}
		}
	} else {
		for el := l.raised.Back(); el != nil; el = el.Prev() {
			t := el.Value.(*memTopic)
			if t.stamp <= known || more && reset.Reason == Trimmed {
				break
			}
			if t.floor > start && s.Match(t.name) {
				lost(t.name, t.deleted)
			}
		}
		if l.foldedFloor > start && l.foldedStamp > told {
			reset.Reason, unnamed = Trimmed, true
		}
	}
	if len(reset.Topics) == 0 && !unnamed {
		return nil
	}
	if more || unnamed {
		reset.Topics = nil
	}
	return reset
}

func (l *MemoryLog) floorOf(topic string) (floor, stamp uint64, deleted bool) {
	if t := l.topics[topic]; t != nil {
		return t.floor, t.stamp, t.deleted
	}
	return l.foldedFloor, l.foldedStamp, false
}

// oldest returns a cursor before everything kept of the selection, as near as
// can be had without a search.
func (l *MemoryLog) oldest(s Selector) Cursor {
	pos := l.pos
	if len(s.Topics) > 0 && len(s.Patterns) == 0 {
		for _, name := range s.Topics {
			if t := l.topics[name]; t != nil && len(t.events) > 0 {
				pos = min(pos, t.events[0].Cursor.Pos-1)
			}
		}
	} else if e := l.events.first(); e != nil {
		pos = e.Cursor.Pos - 1
	}
	return l.cursor(pos)
}

func (l *MemoryLog) allClosed(topics []string) bool {
	for _, name := range topics {
		if t := l.topics[name]; t == nil || !t.closed {
			return false
		}
	}
	return true
}

// before returns a position after which the first event is that of the time t
// or later.
func (l *MemoryLog) before(t time.Time) uint64 {
	places := l.events.places
	live := func(i int) int { // at a hole, ask the event behind it
		for i < len(places) && places[i].e == nil {
			i++
		}
		return i
	}
	i := live(sort.Search(len(places), func(i int) bool {
		i = live(i)
		return i == len(places) || !places[i].e.Time.Before(t)
	}))
	if i == len(places) {
		return l.pos
	}
	return places[i].pos - 1
}

// lastOfTopics returns the position before the newest n events of topics.
func (l *MemoryLog) lastOfTopics(topics []string, n int) uint64 {
	var newest []uint64
	for _, name := range topics {
		if t := l.topics[name]; t != nil {
			for _, e := range t.events[max(0, len(t.events)-n):] {
				newest = append(newest, e.Cursor.Pos)
			}
		}
	}
	slices.Sort(newest)
	newest = slices.Compact(newest) // a topic may be named twice
	if len(newest) < n {
		return 0
	}
	return newest[len(newest)-n] - 1
}

// lastOfPattern returns the position before the newest n events of s. It takes
// and gives back the lock.
func (l *MemoryLog) lastOfPattern(s Selector, n int) (uint64, error) {
	if err := l.view(); err != nil {
		return 0, err
	}
	defer l.mu.RUnlock()
	end := l.pos
	for {
		i := l.events.after(end)
		stop := max(0, i-scanSlice)
		for i--; i >= stop; i-- {
			p := l.events.places[i]
			if p.e != nil && s.Match(p.e.Topic) {
				if n--; n == 0 {
					return p.pos - 1, nil
				}
			}
			end = p.pos - 1
		}
		if stop == 0 {
			return 0, nil
		}
		l.mu.RUnlock()
		l.mu.RLock()
	}
}

// take adds e to the page, unless it is full.
func (r *memRead) take(e *memEvent) bool {
	if len(r.found) > 0 && (len(r.found) >= r.limit || r.bytes < len(e.Data)) {
		return false
	}
	r.found = append(r.found, e)
	r.bytes -= len(e.Data)
	return true
}

// match reports whether the selection has t.
func (r *memRead) match(t *memTopic) bool {
	// One look-up costs as much as a few comparisons.
	if len(r.sel.Topics)+len(r.sel.Patterns) < 8 {
		return r.sel.Match(t.name)
	}
	yes, ok := r.known[t]
	if !ok {
		if r.known == nil {
			r.known = map[*memTopic]bool{}
		}
		yes = r.sel.Match(t.name)
		r.known[t] = yes
	}
	return yes
}

// merge reads exact topics, oldest event first.
func (r *memRead) merge() (more bool) {
	runs := r.runs
	for _, name := range r.sel.Topics {
		if t := r.log.topics[name]; t != nil {
			if run := t.after(r.pos); len(run) > 0 {
				runs = append(runs, run)
			}
		}
	}
	r.runs = runs
	for i := len(runs)/2 - 1; i >= 0; i-- {
		runs.down(i)
	}
	for len(runs) > 0 {
		e := runs[0][0]
		if e.Cursor.Pos > r.pos { // else the topic was named twice
			if !r.take(e) {
				return true
			}
			r.pos = e.Cursor.Pos
		}
		if runs[0] = runs[0][1:]; len(runs[0]) == 0 {
			runs[0] = runs[len(runs)-1]
			runs = runs[:len(runs)-1]
		}
		runs.down(0)
	}
	r.pos = r.log.pos
	return false
}

// memRuns is a heap of runs of events that are not empty, by their first.
type memRuns [][]*memEvent

func (h memRuns) down(i int) {
	for {
		least := 2*i + 1
		if least >= len(h) {
			return
		}
		if r := least + 1; r < len(h) && h[r][0].Cursor.Pos < h[least][0].Cursor.Pos {
			least = r
		}
		if h[i][0].Cursor.Pos <= h[least][0].Cursor.Pos {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// scan reads all topics, or patterns, in the order of the log. It lets writers
// in between slices, and ends early if one of them raised a floor: what was
// found so far is complete, and the next page looks at the floors again.
func (r *memRead) scan() (more bool) {
	l := r.log
	stamp := l.stamp
	for examined := 0; ; {
		places := l.events.places[l.events.after(r.pos):]
		for i := 0; ; i++ {
			if i == len(places) {
				r.pos = l.pos
				return false
			}
			if i == scanSlice {
				break
			}
			if e := places[i].e; e != nil && r.match(e.topic) && !r.take(e) {
				return true
			}
			r.pos = places[i].pos
		}
		if examined += scanSlice; examined >= scanMax {
			return true
		}
		l.mu.RUnlock()
		l.pauseAt("read.slice")
		l.mu.RLock()
		if l.stamp != stamp || l.stopped {
			return true
		}
	}
}
