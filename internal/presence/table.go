package presence

import (
	"container/heap"
	"encoding/json"
	"slices"
	"time"
)

// table is who is where. It has no clock and no lock, and sends nothing: every
// change has the time as an argument, and what is to be told is taken from it.
type table struct {
	rule  func(topic string) Rule
	node  string // this one
	quiet time.Duration

	streams map[string]*stream // by id, of this node
	topics  map[string]*topic
	peers   map[string]time.Time // other nodes: last heard of
	timers  timers
	last    time.Time // the latest since of a member

	unsure       []pending // events of which the log has not said whether it has them
	dirtyMembers []*member // whose events are not what is so
	dirtyTopics  []*topic  // whose count may not be
}

// stream is one of this node. It holds a place in each of its topics.
type stream struct {
	principal string
	payload   json.RawMessage
	topics    []string // that it names, those without presence among them
}

// topic is one whose rule wants presence, or that has events to take back.
type topic struct {
	name    string
	rule    Rule
	members map[string]*member

	count     int // of all who are there
	anonymous int // the part of it that has no name
	listed    int // members that the log lists

	told  int  // the count that the log tells
	least int  // what a former life told, while those it counted may still come back
	sent  bool // an event about it is under way
	timed bool // the count stands until a timer is over
	dirty bool // in dirtyTopics
}

// member is a principal in a topic. One without a name of its own stands for
// all streams that have the same.
type member struct {
	topic     *topic
	principal string
	payload   json.RawMessage
	since     time.Time      // in whole microseconds, different for each join
	own       int            // streams of this node
	others    map[string]int // of other nodes
	ends      []time.Time    // when the grace of each that has ended is over; of a named one the last alone

	joined bool // a join of this since has been made
	weight int  // what it adds to the count
	listed bool // the log has its join and no leave
	sent   bool // an event about it is under way
	dirty  bool // in dirtyMembers
}

func newTable(node string, quiet time.Duration, rule func(string) Rule) *table {
	return &table{
		rule: rule, node: node, quiet: quiet,
		streams: map[string]*stream{}, topics: map[string]*topic{}, peers: map[string]time.Time{},
	}
}

// open adds a stream, or gives one that is open other topics.
func (t *table) open(now time.Time, s Stream) {
	was := t.streams[s.ID]
	is := &stream{s.Principal, checkPayload(s.Payload), distinct(s.Topics)}
	if len(is.topics) == 0 {
		t.close(now, s.ID)
		return
	}
	t.streams[s.ID] = is
	for _, name := range is.topics {
		if was == nil || was.principal != s.Principal || !slices.Contains(was.topics, name) {
			t.enter(now, name, is)
		}
	}
	if was == nil {
		return
	}
	for _, name := range was.topics {
		if was.principal != s.Principal || !slices.Contains(is.topics, name) {
			t.leave(now, name, was.principal)
		}
	}
}

// close takes a stream out.
func (t *table) close(now time.Time, id string) {
	s := t.streams[id]
	if s == nil {
		return
	}
	delete(t.streams, id)
	for _, name := range s.topics {
		t.leave(now, name, s.principal)
	}
}

// enter counts a stream of this node into a topic.
func (t *table) enter(now time.Time, name string, s *stream) {
	tp := t.topic(name)
	if tp == nil {
		return
	}
	m := t.member(now, tp, s.principal, s.payload)
	m.own++
	m.returned(1)
	t.settle(m)
}

// leave counts one stream of this node out of a topic.
func (t *table) leave(now time.Time, name, principal string) {
	m := t.find(name, principal)
	if m == nil || m.own == 0 {
		return
	}
	m.own--
	t.ended(now, m, 1)
}

// find returns a member, or nil.
func (t *table) find(name, principal string) *member {
	tp := t.topics[name]
	if tp == nil {
		return nil
	}
	return tp.members[principal]
}

// topic returns the topic of that name, or nil if presence is off in it.
func (t *table) topic(name string) *topic {
	tp := t.topics[name]
	if tp == nil {
		rule := t.rule(name).withDefaults()
		if rule.Mode == Off {
			return nil
		}
		tp = t.addTopic(name, rule)
	}
	if tp.rule.Mode == Off {
		return nil
	}
	return tp
}

func (t *table) addTopic(name string, rule Rule) *topic {
	tp := &topic{name: name, rule: rule, members: map[string]*member{}}
	t.topics[name] = tp
	return tp
}

// member returns the member of that principal, who comes with payload if it was
// not there.
func (t *table) member(now time.Time, tp *topic, principal string, payload json.RawMessage) *member {
	m := tp.members[principal]
	if m == nil {
		m = &member{topic: tp, principal: principal}
		tp.members[principal] = m
	}
	if m.weight == 0 && !m.listed && !m.sent {
		m.payload = payload
		t.begin(now, m)
	}
	return m
}

// begin gives m a new stay. No two begin at the same time: it is in the ids of
// their events.
func (t *table) begin(now time.Time, m *member) {
	m.since, m.joined = now.Truncate(time.Microsecond), false
	if !m.since.After(t.last) {
		m.since = t.last.Add(time.Microsecond)
	}
	t.last = m.since
}

// returned lets n streams take the places of some that have ended.
func (m *member) returned(n int) {
	if isAnonymous(m.principal) {
		m.ends = m.ends[min(n, len(m.ends)):]
	} else {
		m.ends = nil
	}
}

// ended begins the grace of n streams of m.
func (t *table) ended(now time.Time, m *member, n int) {
	if !isAnonymous(m.principal) {
		if m.streams() > 0 {
			return
		}
		m.ends, n = nil, 1
	}
	end := now.Add(m.topic.rule.Grace)
	for range n {
		m.ends = append(m.ends, end)
	}
	heap.Push(&t.timers, timer{end, m, nil})
	t.expire(now)
}

// streams is how many streams of m are open, on all nodes.
func (m *member) streams() int {
	n := m.own
	for _, k := range m.others {
		n += k
	}
	return n
}

// settle brings the count up to date with m, and notes what is to be told.
func (t *table) settle(m *member) {
	weight := m.streams() + len(m.ends)
	if !isAnonymous(m.principal) {
		weight = min(weight, 1)
	}
	tp := m.topic
	tp.count += weight - m.weight
	if isAnonymous(m.principal) {
		tp.anonymous += weight - m.weight
	}
	m.weight = weight
	if m.wanted() != m.listed && !m.dirty {
		m.dirty = true
		t.dirtyMembers = append(t.dirtyMembers, m)
	}
	t.forget(m)
	t.recount(tp)
}

// wanted reports whether the log should list m.
func (m *member) wanted() bool {
	return m.weight > 0 && m.topic.rule.Mode == Members && !isAnonymous(m.principal)
}

// wanted is the count that the log should tell.
func (tp *topic) wanted() int {
	if tp.rule.Mode != Count {
		return 0
	}
	return tp.count
}

// recount notes that the count of tp may have to be told.
func (t *table) recount(tp *topic) {
	if tp.wanted() != tp.told && !tp.dirty && !tp.timed {
		tp.dirty = true
		t.dirtyTopics = append(t.dirtyTopics, tp)
	}
	t.forgetTopic(tp)
}

// forget drops m if nothing is left of it.
func (t *table) forget(m *member) {
	if m.weight == 0 && !m.listed && !m.sent && !m.dirty {
		delete(m.topic.members, m.principal)
	}
}

// forgetTopic drops tp if nothing is left of it.
func (t *table) forgetTopic(tp *topic) {
	if len(tp.members) == 0 && tp.told == 0 && !tp.sent && !tp.timed && !tp.dirty {
		delete(t.topics, tp.name)
	}
}

// expire ends what is over by now.
func (t *table) expire(now time.Time) {
	for len(t.timers) > 0 && !t.timers[0].at.After(now) {
		timer := heap.Pop(&t.timers).(timer)
		if timer.member == nil {
			timer.topic.timed, timer.topic.least = false, 0
			t.recount(timer.topic)
			continue
		}
		m := timer.member
		n := 0
		for n < len(m.ends) && !m.ends[n].After(now) {
			n++
		}
		m.ends = m.ends[n:]
		t.settle(m)
	}
	for node, heard := range t.peers {
		if now.Sub(heard) >= t.quiet {
			t.lose(now, node)
		}
	}
}

// deadline is when expire has something to do; zero is never.
func (t *table) deadline() time.Time {
	var at time.Time
	if len(t.timers) > 0 {
		at = t.timers[0].at
	}
	for _, heard := range t.peers {
		if end := heard.Add(t.quiet); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	return at
}

// reload looks at all rules again.
func (t *table) reload(now time.Time) {
	counted := map[string]bool{} // topics in which the streams have their places
	for _, tp := range t.topics {
		counted[tp.name] = tp.rule.Mode != Off
		rule := t.rule(tp.name).withDefaults()
		if rule == tp.rule {
			continue
		}
		tp.rule = rule
		for _, m := range tp.members {
			if rule.Mode == Off {
				m.own, m.others, m.ends = 0, nil, nil
			}
			t.settle(m)
		}
		t.recount(tp)
	}
	for _, s := range t.streams {
		for _, name := range s.topics {
			if !counted[name] {
				t.enter(now, name, s)
			}
		}
	}
}

// distinct returns the topics of a selection once each.
func distinct(topics []string) []string {
	for i, name := range topics {
		if slices.Contains(topics[:i], name) {
			list := slices.Clone(topics)
			slices.Sort(list)
			return slices.Compact(list)
		}
	}
	return topics
}

func checkPayload(payload json.RawMessage) json.RawMessage {
	if len(payload) > MaxPayload || !json.Valid(payload) {
		return nil
	}
	return payload
}

// timer is when a grace is over, or a count may be told again.
type timer struct {
	at     time.Time
	member *member // or nil
	topic  *topic
}

// timers are a heap, the first to come in front. One whose member has come back
// is found to be about nothing.
type timers []timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timers) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timers) Push(x any)        { *h = append(*h, x.(timer)) }
func (h *timers) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return last
}
