package pebblelog

import (
	"context"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tailrace/tailrace"
)

const (
	// scanMax is how many positions one page examines at most.
	scanMax = 65536

	// mergeMax is how many exact topics are read by merging their own runs; more are picked
	// out of the sequence.
	mergeMax = 64

	// namedMax is how many topics a Reset names.
	namedMax = 100
)

// read is one Read in the making. Floors and events come from one snapshot of the store, which
// may be ahead of what is visible: events stop at view.head, and a floor that is not visible yet
// is told like any other, since what it removed is not there any more.
type read struct {
	*storeView // nil while the tail serves

	l      *Log
	ctx    context.Context
	q      *tailrace.Query
	match  matcher
	exact  bool
	epochs epochs
	view   view
	rows   []row // from the store, of an exact selection; t is 0 where there is none

	pos    uint64 // all up to here is examined
	limit  int
	bytes  int
	events []tailrace.Event
	dec    decoder
	mark   []byte // last key looked at for Latest
}

// Read returns a page of the selection.
func (l *Log) Read(ctx context.Context, q tailrace.Query) (tailrace.Page, error) {
	if err := ctx.Err(); err != nil {
		return tailrace.Page{}, err
	}
	if err := checkQuery(&q); err != nil {
		return tailrace.Page{}, err
	}
	done, err := l.use()
	if err != nil {
		return tailrace.Page{}, err
	}
	defer done()
	r := read{l: l, ctx: ctx, q: &q, limit: q.Limit, bytes: q.MaxBytes}
	if r.limit <= 0 {
		r.limit = tailrace.DefaultReadLimit
	}
	if r.bytes <= 0 {
		r.bytes = tailrace.DefaultReadBytes
	}
	r.exact = len(q.Select.Topics) > 0 && len(q.Select.Patterns) == 0
	r.match = newMatcher(q.Select)
	if page, ok, err := r.fromTail(); ok || err != nil {
		return page, err
	}
	return r.fromStore()
}

// checkQuery reports what no log can answer.
func checkQuery(q *tailrace.Query) error {
	starts := 0
	for _, set := range [...]bool{q.LastID != "", !q.After.IsZero(), q.Head, !q.Since.IsZero(), q.Last != 0} {
		if set {
			starts++
		}
	}
	switch {
	case starts > 1:
		return &tailrace.InvalidError{Field: "query", Reason: "has more than one start"}
	case q.Last < 0:
		return &tailrace.InvalidError{Field: "query", Reason: "has a negative last"}
	}
	return q.Select.Check()
}

// fromTail answers from memory if everything after the start is there.
func (r *read) fromTail() (page tailrace.Page, ok bool, err error) {
	l, q := r.l, r.q
	if q.Head {
		r.view = l.tail.visible()
		return tailrace.Page{Next: l.epochs.Load().next(r.view.head), Told: r.view.stamp}, true, nil
	}
	after := q.After
	if q.LastID != "" {
		if after, err = tailrace.ParseCursor(q.LastID); err != nil {
			return page, false, nil
		}
	}
	if after.IsZero() || q.Latest || l.opts.tailLess {
		return page, false, nil
	}
	var buf [8]chunk
	var raises []raised
	var chunks []chunk
	most := r.limit + 1
	if !r.match.all {
		most = scanMax
	}
	r.view, chunks, raises, ok = l.tail.read(after.Pos, most, buf[:0])
	r.epochs = *l.epochs.Load()
	if !ok {
		return page, false, nil
	}
	pos, _, reason := r.epochs.resume(after, q.Select, r.view.head)
	if reason != "" || pos != after.Pos {
		return page, false, nil
	}
	r.pos = pos
	var hidden map[string]uint64 // removed and known to be, but still in memory
	for _, x := range raises {
		if x.floor > pos && r.match.match(x.topic) {
			if x.stamp > q.Told {
				return page, false, nil
			}
			if hidden == nil {
				hidden = map[string]uint64{}
			}
			hidden[x.topic] = max(hidden[x.topic], x.floor)
		}
	}
	l.at("read.floors")
	more := r.takeChunks(chunks, hidden)
	page = tailrace.Page{Events: r.events, Next: r.epochs.next(r.pos), Told: r.view.stamp, More: more}
	if r.exact && !more {
		f := finder{db: l.db}
		page.Ended, err = r.ended(&f)
		err = errors.Join(err, f.close())
	}
	return page, true, err
}

// takeChunks takes events from memory.
func (r *read) takeChunks(chunks []chunk, hidden map[string]uint64) (more bool) {
	for _, c := range chunks {
		events := c.events
		if c.first <= r.pos {
			events = events[r.pos+1-c.first:]
		}
		if r.match.all && hidden == nil && len(r.events) == 0 && len(chunks) == 1 && len(events) <= r.limit {
			// The usual case of a reader that keeps up: the batch as it is.
			n := 0
			for _, e := range events {
				n += len(e.Data)
			}
			if n <= r.bytes {
				r.events = events[:len(events):len(events)]
				r.pos = r.view.head
				return false
			}
		}
		for i := range events {
			e := &events[i]
			if r.match.match(e.Topic) && (hidden == nil || e.Cursor.Pos > hidden[e.Topic]) {
				if r.isFull(len(e.Data)) {
					return true
				}
				r.take(*e)
			}
			r.pos = e.Cursor.Pos
		}
	}
	if n := len(chunks); n > 0 && chunks[n-1].more {
		return true
	}
	r.pos = r.view.head
	return false
}

// isFull reports whether an event with n bytes of data has no place in the page.
func (r *read) isFull(n int) bool {
	return len(r.events) > 0 && (len(r.events) >= r.limit || r.bytes < n)
}

func (r *read) take(e tailrace.Event) {
	r.events = append(r.events, e)
	r.bytes -= len(e.Data)
}

// fromStore answers from a snapshot.
func (r *read) fromStore() (page tailrace.Page, err error) {
	l, q := r.l, r.q
	r.view = l.tail.visible()
	r.storeView = l.newView()
	defer r.close()
	r.epochs = *l.epochs.Load()
	if r.exact {
		r.rows = make([]row, len(q.Select.Topics))
		for i, name := range q.Select.Topics {
			if r.rows[i], _, err = readRow(&r.find, name); err != nil {
				return page, err
			}
		}
	}
	if q.Latest {
		return r.latest()
	}
	page.Told = r.view.stamp
	if reset, err := r.start(&page); reset || err != nil {
		return page, err
	}
	l.at("read.floors")
	var more bool
	if r.exact && len(r.rows) <= mergeMax {
		more, err = r.merge()
	} else {
		more, err = r.walk()
	}
	if err != nil {
		return tailrace.Page{}, err
	}
	page.Events, page.Next, page.More = r.events, r.epochs.next(r.pos), more
	if r.exact && !more {
		page.Ended, err = r.ended(&r.find)
	}
	return page, err
}

// start sets r.pos, or makes the page a Reset.
func (r *read) start(page *tailrace.Page) (reset bool, err error) {
	q := r.q
	after, requested := q.After, ""
	fail := func(reason tailrace.Reason, next uint64, known bool) (bool, error) {
		oldest, err := r.oldest()
		if err != nil {
			return true, err
		}
		if !known {
			next = oldest
		}
		page.Next = r.epochs.next(next)
		page.Reset = &tailrace.Reset{Reason: reason, Requested: requested, Oldest: r.epochs.next(oldest)}
		return true, nil
	}
	switch {
	case q.LastID != "":
		requested = q.LastID
		c, err := tailrace.ParseCursor(q.LastID)
		isCursor := err == nil
		if isCursor && r.epochs.find(c.Epoch) != nil {
			after = c
			break
		}
		pos, err := r.findID(q.LastID)
		if err != nil {
			return true, err
		}
		if pos == 0 && isCursor {
			return fail(tailrace.EpochGap, 0, false)
		}
		if pos == 0 {
			return fail(tailrace.Unknown, 0, false)
		}
		after = r.epochs.next(pos)
	case !after.IsZero():
		requested = after.String()
	}
	if after.IsZero() {
		// A start without cursor knows all losses that were before it.
		switch {
		case !q.Since.IsZero():
			r.pos, err = r.before(q.Since)
		case q.Last > 0:
			r.pos, err = r.lastEvents(min(q.Last, tailrace.MaxLast))
		}
		return false, err
	}
	pos, known, reason := r.epochs.resume(after, q.Select, r.view.head)
	if reason != "" {
		return fail(reason, pos, known)
	}
	r.pos = pos
	loss, err := r.loss()
	if err != nil || loss == nil {
		return false, err
	}
	if _, err := fail(loss.reason, pos, true); err != nil {
		return true, err
	}
	if !loss.unnamed {
		page.Reset.Topics = loss.topics
	}
	page.Told = max(page.Told, loss.stamp)
	if _, single := q.Select.Single(); single {
		page.Next = r.epochs.next(max(pos, r.rows[0].floor))
	}
	return true, nil
}

// loss is what of a selection was removed after a start.
type loss struct {
	reason  tailrace.Reason
	topics  []string
	unnamed bool // more than topics
	stamp   uint64
}

func (s *loss) add(name string, stamp uint64, deleted bool) {
	if !deleted {
		s.reason = tailrace.Trimmed
	}
	s.stamp = max(s.stamp, stamp)
	if len(s.topics) == namedMax {
		s.unnamed = true
		return
	}
	for _, t := range s.topics {
		if t == name {
			return
		}
	}
	s.topics = append(s.topics, name)
}

// loss says what of the selection was removed after r.pos, as far as it was not told; nil is
// nothing. Every stamp is above its floor, so that one comparison is the usual case.
func (r *read) loss() (*loss, error) {
	known := max(r.pos, r.q.Told)
	if r.l.raised.Load() <= known {
		return nil, nil
	}
	folded, err := readFolded(&r.find)
	if err != nil {
		return nil, err
	}
	isFolded := folded.pos > r.pos && folded.stamp > r.q.Told
	s := &loss{reason: tailrace.Deleted}
	if r.exact {
		for i, w := range r.rows {
			switch {
			case w.t != 0 && w.floor > r.pos && w.stamp > r.q.Told:
				s.add(r.q.Select.Topics[i], w.stamp, w.deleted)
			case isFolded && (w.t == 0 || w.created > r.pos):
				// An earlier life of the name may be among the forgotten.
				s.add(r.q.Select.Topics[i], folded.stamp, false)
			}
		}
	} else {
		if isFolded {
			s.reason, s.unnamed, s.stamp = tailrace.Trimmed, true, folded.stamp
		}
		if err := r.lossOfPattern(s, known); err != nil {
			return nil, err
		}
	}
	if len(s.topics) == 0 && !s.unnamed {
		return nil, nil
	}
	return s, nil
}

func (r *read) lossOfPattern(s *loss, known uint64) error {
	it, err := r.snap.NewIter(&pebble.IterOptions{
		LowerBound: floorKey(nil, known+1, 0), UpperBound: []byte{kindFloor + 1},
	})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		pos, deleted, name, err := parseFloor(v)
		if err != nil {
			return err
		}
		if pos > r.pos && (r.match.all || r.match.match(string(name))) {
			s.add(string(name), keyNumber(it.Key(), 0), deleted)
		}
	}
	return it.Error()
}

// ended reports whether all topics of an exact selection are closed and read to the end.
func (r *read) ended(f *finder) (bool, error) {
	for i, name := range r.q.Select.Topics {
		var w row
		if r.rows != nil {
			w = r.rows[i]
		} else {
			var err error
			if w, _, err = readRow(f, name); err != nil {
				return false, err
			}
		}
		if !w.is(rowClosed) || w.is(rowGone) || w.head > r.pos {
			return false, nil
		}
	}
	return true, nil
}

// oldest is a position before everything that is kept of the selection.
func (r *read) oldest() (uint64, error) {
	pos := r.view.head
	if r.exact {
		for i := range r.rows {
			w := &r.rows[i]
			if w.t == 0 || w.count == 0 {
				continue
			}
			it, err := r.run(w, 0)
			if err != nil {
				return 0, err
			}
			if it.First() {
				pos = min(pos, keyNumber(it.Key(), 1)-1)
			}
			if err := it.Close(); err != nil {
				return 0, err
			}
		}
		return pos, nil
	}
	it, err := r.batches()
	if err != nil {
		return 0, err
	}
	defer it.Close()
	if it.First() {
		pos = min(pos, keyNumber(it.Key(), 0)-1)
	}
	return pos, it.Error()
}

// before is a position after which the first event is that of the time t or later. It searches
// the batches by halves.
func (r *read) before(t time.Time) (uint64, error) {
	it, err := r.batches()
	if err != nil {
		return 0, err
	}
	defer it.Close()
	want := t.UnixNano()
	var key [9]byte
	lo, hi := uint64(0), r.view.head+1
	for lo < hi {
		mid := lo + (hi-lo)/2
		if !it.SeekGE(batchKey(key[:0], mid)) {
			if err := it.Error(); err != nil {
				return 0, err
			}
			hi = mid
			continue
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return 0, err
		}
		b, err := parseBatch(it.Key(), v)
		if err != nil {
			return 0, err
		}
		if b.time >= want {
			hi = mid
		} else {
			lo = b.first + 1
		}
	}
	if !it.SeekGE(batchKey(key[:0], lo)) {
		return r.view.head, it.Error()
	}
	return min(r.view.head, keyNumber(it.Key(), 0)-1), it.Error()
}

// findID is the lowest position of the selection that holds the own id, or 0.
func (r *read) findID(id string) (lowest uint64, err error) {
	if len(id) > tailrace.MaxID {
		return 0, nil
	}
	take := func(p uint64) {
		if p != 0 && p <= r.view.head && (lowest == 0 || p < lowest) {
			lowest = p
		}
	}
	if r.exact {
		for i := range r.rows {
			if w := &r.rows[i]; w.is(rowIDs) && !w.is(rowGone) {
				p, err := lookupID(&r.find, w, id)
				if err != nil {
					return 0, err
				}
				take(p)
			}
		}
		return lowest, nil
	}
	prefix := idPrefix(nil, id)
	end := append(prefix[:len(prefix)-1:len(prefix)-1], 1)
	it, err := r.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: end})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return 0, err
		}
		d := reader{b: v}
		t, p := keyNumber(it.Key()[len(prefix)-1:], 0), d.uvarint()
		if d.err != nil {
			return 0, d.err
		}
		name, kept, err := r.holder(t, p, string(d.b))
		if err != nil {
			return 0, err
		}
		if kept && r.match.match(name) {
			take(p)
		}
	}
	return lowest, it.Error()
}

// holder is the name of the topic t, whose event p with the given key may be kept.
func (r *read) holder(t, p uint64, key string) (name string, kept bool, err error) {
	v, ok, err := r.find.get(eventKey(nil, t, p))
	if err == nil && !ok && key != "" {
		var q uint64
		if v, ok, err = r.find.get(stateKey(nil, t, key)); ok {
			q, v, err = parseState(v)
			ok = q == p && len(v) > 0
		}
	}
	if !ok || err != nil {
		return "", false, err
	}
	rec, err := parseRecord(v)
	return string(rec.topic), err == nil, err
}
