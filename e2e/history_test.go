package e2e

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tailrace/tailrace"
)

// history is what publishers and readers recorded in a run. Each event's data
// is a text of its own, so that it can be told from every other.
type history struct {
	calls    []call
	readings []*reading
	final    []record       // the log at the end, in order
	keeps    map[string]int // topics with retention: no event goes before that many newer ones of its topic
}

// call is one publish, of one publisher and to one topic. With ids it was
// repeated until it was acknowledged.
type call struct {
	publisher int
	n         int // the publisher's n-th
	topic     string
	events    []sent
	acked     bool
}

// sent is one event of a call.
type sent struct {
	id, data string
	cursor   tailrace.Cursor // of its receipt; zero without, also where an answer names the last one only
}

// record is an event as a reader of the log sees it.
type record struct {
	topic, id, data string
	cursor          tailrace.Cursor
}

// reading is what one reader saw, over all its connections.
type reading struct {
	name   string
	sel    tailrace.Selector
	bare   bool // without envelopes: ids are the wire's, cursors are not shown
	seen   []sighting
	resume int // connections that resumed
}

// sighting is an event, or a gap.
type sighting struct {
	record
	wireID string
	gap    *tailrace.Gap // the cursor is that of its id
}

// faults compares what was promised with what was recorded, and returns every
// broken promise, one line each:
//
//   - what was acknowledged is stored once, under the cursor of its receipt,
//     and kept unless retention may have removed it;
//   - what was not acknowledged is stored at most once, what has an id also;
//   - the order of a publisher's acknowledgements is the order of the log, and a
//     call's events stand together, all of them or none;
//   - each reader saw every event of its selection in the order of the log,
//     once, up to the end, or was told by a gap event what it missed;
//   - a gap event tells of a loss, and none reaches a selection without
//     retention;
//   - nobody saw what the log did not keep.
func (h *history) faults() []string {
	c := &checker{history: h, byData: map[string]*record{}, byPos: map[uint64]*record{}, unknown: map[string]bool{}}
	c.gather()
	c.checkFinal()
	c.checkCalls()
	for _, r := range h.readings {
		c.checkReading(r)
	}
	return c.found
}

// checker holds the whole log as far as anybody has seen it. Without retention
// that is the log at the end.
type checker struct {
	*history
	log    []*record // in order of position
	byData map[string]*record
	byPos  map[uint64]*record
	// Topics to which somebody may have stored an event that nobody saw before
	// it was removed.
	unknown map[string]bool
	found   []string
}

func (c *checker) fault(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// gather unites everything that names a cursor and finds what disagrees.
func (c *checker) gather() {
	for i := range c.final {
		c.add(c.final[i], "the log")
	}
	for _, call := range c.calls {
		for _, e := range call.events {
			if call.acked && !e.cursor.IsZero() {
				c.add(record{call.topic, e.id, e.data, e.cursor}, "an answer to "+call.String())
			}
		}
	}
	for _, r := range c.readings {
		for _, s := range r.seen {
			if s.gap == nil && !r.bare {
				c.add(s.record, "reader "+r.name)
			}
		}
	}
	slices.SortFunc(c.log, func(a, b *record) int { return cmp.Compare(a.cursor.Pos, b.cursor.Pos) })

	kept := map[string]bool{}
	for _, e := range c.final {
		kept[e.data] = true
	}
	last := map[string]*record{} // by data
	for _, e := range c.log {
		if first := last[e.data]; first != nil && !(e.id != "" && c.mayRepeat(first, e)) {
			c.fault("stored twice: %v and %v", first, e)
		}
		last[e.data] = e
		c.byData[e.data] = e
		if _, trims := c.keeps[e.topic]; !kept[e.data] && !trims {
			c.fault("lost: %v is not in the log at the end", e)
		}
	}
}

func (c *checker) add(e record, source string) {
	known := c.byPos[e.cursor.Pos]
	switch {
	case known == nil:
		c.byPos[e.cursor.Pos] = &e
		c.log = append(c.log, &e)
	case *known != e:
		c.fault("%s has %v, where another has %v", source, &e, known)
	}
}

// mayRepeat says whether retention may have freed the id of first before again
// was stored.
func (c *checker) mayRepeat(first, again *record) bool {
	keep, trims := c.keeps[first.topic]
	if !trims {
		return false
	}
	between := 0
	for _, e := range c.log {
		if e.topic == first.topic && e.cursor.Pos > first.cursor.Pos && e.cursor.Pos < again.cursor.Pos {
			between++
		}
	}
	return between >= keep
}

// checkFinal checks that the log at the end is in order, has nothing that nobody
// sent, and of a topic with retention the newest events.
func (c *checker) checkFinal() {
	sentBy := map[string]bool{}
	for _, call := range c.calls {
		for _, e := range call.events {
			sentBy[call.topic+"\x00"+e.data] = true
		}
	}
	oldest := map[string]uint64{}
	kept := map[uint64]bool{}
	previous := uint64(0)
	for i := range c.final {
		e := &c.final[i]
		if e.cursor.Pos <= previous {
			c.fault("the log has %v after position %d", e, previous)
		}
		previous = e.cursor.Pos
		kept[e.cursor.Pos] = true
		if _, ok := oldest[e.topic]; !ok {
			oldest[e.topic] = e.cursor.Pos
		}
		if !sentBy[e.topic+"\x00"+e.data] {
			c.fault("the log has %v, which nobody sent", e)
		}
	}
	for _, e := range c.log {
		if _, trims := c.keeps[e.topic]; trims && !kept[e.cursor.Pos] && e.cursor.Pos > oldest[e.topic] {
			c.fault("lost: %v, though older events of its topic are kept", e)
		}
	}
}

// checkCalls checks what publishers were told.
func (c *checker) checkCalls() {
	topics := map[string][]*record{}
	index := map[*record]int{} // within its topic
	for _, e := range c.log {
		index[e] = len(topics[e.topic])
		topics[e.topic] = append(topics[e.topic], e)
	}
	type line struct {
		publisher int
		topic     string
	}
	last := map[line]tailrace.Cursor{}
	for _, call := range c.calls {
		_, trims := c.keeps[call.topic]
		stored := 0
		for i, e := range call.events {
			known := c.byData[e.data]
			if known != nil {
				stored++
			}
			if !call.acked {
				continue
			}
			if known == nil && !trims {
				c.fault("lost: %q of %v was acknowledged", e.data, &call)
			}
			if e.cursor.IsZero() {
				continue
			}
			at := line{call.publisher, call.topic}
			if e.cursor.Pos <= last[at].Pos {
				c.fault("%v: event %d was acknowledged at %v, after %v", &call, i, e.cursor, last[at])
			}
			last[at] = e.cursor
		}
		if stored < len(call.events) {
			c.unknown[call.topic] = true
		}
		if trims || stored == 0 {
			continue
		}
		if stored < len(call.events) {
			c.fault("%v: %d of %d events are stored", &call, stored, len(call.events))
			continue
		}
		first := index[c.byData[call.events[0].data]]
		for i, e := range call.events {
			if index[c.byData[e.data]] != first+i {
				c.fault("%v: event %d does not stand where it should, next to the others", &call, i)
			}
		}
	}
}

// checkReading checks what one reader saw.
func (c *checker) checkReading(r *reading) {
	w := walk{checker: c, reading: r, excused: map[string]uint64{}, gapped: map[string]bool{}}
	for _, e := range c.log {
		if r.sel.Match(e.topic) {
			w.expected = append(w.expected, e)
		}
	}
	for topic := range c.keeps {
		if r.sel.Match(topic) {
			// A reader without an id begins with the oldest event that there is
			// of each topic, and retention goes on meanwhile.
			w.excused[topic] = math.MaxUint64
			w.trims = append(w.trims, topic)
		}
	}
	for _, s := range r.seen {
		if s.gap != nil {
			w.gap(&s)
		} else {
			w.event(&s)
		}
	}
	if missed := w.rest(); len(missed) > 0 {
		c.fault("reader %s ended at position %d and missed the last %d events, the first of them %v", r.name, w.pos, len(missed), missed[0])
	}
}

// walk goes along one reading.
type walk struct {
	*checker
	*reading
	expected []*record // what the reader should see
	trims    []string  // the topics among them of which events may be removed
	pos      uint64    // of the last event seen

	// Up to which position the topic's next event may skip others of its topic,
	// because the reader began there or was told of a gap; and whether a gap
	// still has to be one.
	excused map[string]uint64
	gapped  map[string]bool
}

// rest returns what is expected after the present position.
func (w *walk) rest() []*record {
	i, _ := slices.BinarySearchFunc(w.expected, w.pos+1, func(e *record, pos uint64) int { return cmp.Compare(e.cursor.Pos, pos) })
	return w.expected[i:]
}

// gap takes account of a gap event. On one topic its id is where the loss
// ends; on several it is where the stream stands, and each topic that lost
// something goes on from its own oldest event.
func (w *walk) gap(s *sighting) {
	_, single := w.sel.Single()
	topics, upTo := s.gap.Topics, uint64(math.MaxUint64)
	if len(topics) == 0 {
		topics = w.trims
	}
	if single {
		upTo = s.cursor.Pos
	}
	switch {
	case len(w.trims) == 0:
		w.fault("reader %s: gap %s after position %d, though nothing may be removed", w.name, s.gap.Reason, w.pos)
		return
	case s.gap.Reason == tailrace.Unknown && single:
		// The event with the own id that the reader had is gone. Nothing after
		// it need be.
	case s.gap.Reason != tailrace.Trimmed:
		w.fault("reader %s: gap %s after position %d, though events go by retention only", w.name, s.gap.Reason, w.pos)
	case s.cursor.Pos < w.pos || single && s.cursor.Pos == w.pos:
		w.fault("reader %s: the gap after position %d goes on at %d", w.name, w.pos, s.cursor.Pos)
	default:
		for _, topic := range topics {
			w.gapped[topic] = len(s.gap.Topics) > 0 // else it may be another that lost something
		}
	}
	for _, topic := range topics {
		if !slices.Contains(w.trims, topic) {
			w.fault("reader %s: a gap after position %d names %s, of which nothing may be removed", w.name, w.pos, topic)
			continue
		}
		w.excused[topic] = upTo
	}
}

// event takes account of an event.
func (w *walk) event(s *sighting) {
	e := w.byData[s.data]
	if !w.bare {
		e = w.byPos[s.cursor.Pos]
	}
	switch {
	case e == nil || e.data != s.data:
		w.fault("reader %s saw %q, which is not in the log", w.name, s.data)
		return
	case !w.sel.Match(e.topic):
		w.fault("reader %s saw %v, for which it did not ask", w.name, e)
		return
	case e.cursor.Pos <= w.pos:
		w.fault("reader %s saw %v after position %d: twice, or in the wrong order", w.name, e, w.pos)
		return
	}
	if want := w.wireID(e); s.wireID != want {
		w.fault("reader %s: %v has the id %q on the wire, want %q", w.name, e, s.wireID, want)
	}
	silent := 0
	for _, m := range w.rest() {
		if m == e {
			break
		}
		if m.cursor.Pos <= w.excused[m.topic] {
			delete(w.gapped, m.topic) // the gap has told the truth
		} else if silent++; silent == 1 {
			w.fault("reader %s: silent loss of %v after position %d; the next seen is %v", w.name, m, w.pos, e)
		}
	}
	if w.gapped[e.topic] && !w.unknown[e.topic] {
		w.fault("reader %s: a gap told of a loss in %s, but nothing was missing before %v", w.name, e.topic, e)
	}
	delete(w.excused, e.topic)
	delete(w.gapped, e.topic)
	w.pos = e.cursor.Pos
}

// wireID is what an event's id must be on r's streams.
func (r *reading) wireID(e *record) string {
	if _, one := r.sel.Single(); one && e.id != "" {
		return e.id
	}
	return e.cursor.String()
}

func (e *record) String() string {
	return fmt.Sprintf("%q of %s at position %d", e.data, e.topic, e.cursor.Pos)
}

func (c *call) String() string {
	return fmt.Sprintf("call %d of publisher %d to %s", c.n, c.publisher, c.topic)
}

// gaps counts the gap events that readers got.
func (h *history) gaps() int {
	n := 0
	for _, r := range h.readings {
		for _, s := range r.seen {
			if s.gap != nil {
				n++
			}
		}
	}
	return n
}

// summary says how much the run has tested.
func (h *history) summary() string {
	var acked, unknown, resumed, seen int
	for _, c := range h.calls {
		if c.acked {
			acked += len(c.events)
		} else {
			unknown += len(c.events)
		}
	}
	for _, r := range h.readings {
		resumed += r.resume
		seen += len(r.seen)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d events acknowledged, %d with unknown outcome, %d in the log at the end, %d sightings by %d readers over %d resumed connections, %d gaps",
		acked, unknown, len(h.final), seen, len(h.readings), resumed, h.gaps())
	return b.String()
}
