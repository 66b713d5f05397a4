package presence

import (
	"container/heap"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace"
)

// Prefix and a topic's name make the topic that tells of its presence. A topic
// whose name is too long for that has none, only [Tracker.List].
const Prefix = "$presence/"

// Types of the events there.
const (
	typeJoin  = "join"
	typeLeave = "leave"
	typeCount = "count"
)

// countEvery is how often a count is told at most.
const countEvery = time.Second

// note is the data of an event.
type note struct {
	Topic     string          `json:"topic"`
	Principal string          `json:"principal,omitempty"`
	Payload   json.RawMessage `json:"payload,omitempty"`
	Since     string          `json:"since,omitempty"`
	Count     int             `json:"count"`
	Node      string          `json:"node,omitempty"` // that has told it, where there are several
}

// pending is an event that is to be told.
type pending struct {
	event  tailrace.Event
	member *member // or nil: a count
	topic  *topic
	listed bool // what member is then
	count  int  // what topic tells then
}

// take returns up to n events that make the log say what is so. Each is to be
// given to done. Of a member, and of a topic's count, one is under way at a
// time.
func (t *table) take(now time.Time, n int) []pending {
	more := map[*topic]int{} // members that the log will list besides
	for i := range t.unsure {
		if p := &t.unsure[i]; p.member != nil {
			more[p.topic] += change(p.listed)
		}
	}
	list := t.unsure[:min(n, len(t.unsure))]
	list, t.unsure = list[:len(list):len(list)], t.unsure[len(list):]
	for len(t.dirtyMembers) > 0 && len(list) < n {
		m := t.dirtyMembers[0]
		t.dirtyMembers[0] = nil
		t.dirtyMembers = t.dirtyMembers[1:]
		m.dirty = false
		if m.sent || m.wanted() == m.listed || len(m.topic.name) > tailrace.MaxTopic-len(Prefix) {
			t.forget(m)
			t.forgetTopic(m.topic)
			continue
		}
		m.sent = true
		more[m.topic] += change(m.wanted())
		count := m.topic.listed + more[m.topic] + m.topic.anonymous
		list = append(list, pending{t.memberEvent(now, m, count), m, m.topic, m.wanted(), 0})
	}
	for len(t.dirtyTopics) > 0 && len(list) < n {
		tp := t.dirtyTopics[0]
		t.dirtyTopics[0] = nil
		t.dirtyTopics = t.dirtyTopics[1:]
		tp.dirty = false
		if tp.sent || tp.timed || tp.wanted() == tp.told || len(tp.name) > tailrace.MaxTopic-len(Prefix) {
			t.forgetTopic(tp)
			continue
		}
		tp.sent = true
		list = append(list, pending{t.countEvent(now, tp), nil, tp, false, tp.wanted()})
	}
	return list
}

// outcome is what became of an event that was to be told.
type outcome int

const (
	unknown outcome = iota // it has to be told again, as it is
	stored                 // the log has it, or never will
	missing                // the log does not have it
)

// done takes note of what became of p.
func (t *table) done(now time.Time, p *pending, what outcome) {
	if what == unknown {
		t.unsure = append(t.unsure, *p)
		return
	}
	if m := p.member; m != nil {
		m.sent = false
		if what == stored {
			p.topic.list(m, p.listed)
		}
		t.settle(m)
		return
	}
	p.topic.sent = false
	if what == stored {
		p.topic.told = p.count
		t.holdCount(p.topic, now.Add(countEvery))
	}
	t.recount(p.topic)
}

// list notes whether the log lists m.
func (tp *topic) list(m *member, listed bool) {
	if m.listed == listed {
		return
	}
	m.listed = listed
	tp.listed += change(listed)
}

// change is what a member that is listed, or is no more, adds to their number.
func change(listed bool) int {
	if listed {
		return 1
	}
	return -1
}

// holdCount lets the count that is told stand until then.
func (t *table) holdCount(tp *topic, until time.Time) {
	tp.timed = true
	heap.Push(&t.timers, timer{until, nil, tp})
}

func (t *table) memberEvent(now time.Time, m *member, count int) tailrace.Event {
	if m.wanted() && m.joined { // the rule has changed and changed back
		t.begin(now, m)
	}
	key := keyOf(m.principal)
	id := "." + key + "." + timeID(m.since)
	ev := tailrace.Event{Topic: Prefix + m.topic.name, Key: key, Type: typeJoin, ID: "j" + id}
	if m.wanted() {
		m.joined = true
	} else {
		ev.Type, ev.ID, ev.Remove = typeLeave, "l"+id, true
	}
	ev.Data = dataOf(note{
		Topic: m.topic.name, Principal: m.principal, Payload: m.payload, Since: timeText(m.since), Count: count, Node: t.node,
	})
	return ev
}

func (t *table) countEvent(now time.Time, tp *topic) tailrace.Event {
	n := tp.wanted()
	return tailrace.Event{
		Topic: Prefix + tp.name, Type: typeCount, Key: typeCount, Remove: n == 0,
		ID:   "c." + t.node + "." + timeID(now), // counts of a topic are a second apart
		Data: dataOf(note{Topic: tp.name, Count: n, Node: t.node}),
	}
}

// timeID is a time in an id.
func timeID(t time.Time) string { return strconv.FormatInt(t.UnixMicro(), 36) }

// keyOf is the state key of a principal: the same on every node, and short
// however long its name is.
func keyOf(principal string) string {
	sum := sha256.Sum256([]byte(principal))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// timeText is the form of times in all JSON of the server.
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

func dataOf(n note) []byte {
	data, err := json.Marshal(n)
	if err != nil { // only a payload could do this, and it was checked
		n.Payload = nil
		data, _ = json.Marshal(n)
	}
	return data
}

// restore takes an event of the log's state: who was there when this node, or
// another, told of it last. Members of this node have one grace to come back;
// those of others are there until they are silent for too long.
func (t *table) restore(now time.Time, ev *tailrace.Event) {
	name, ok := strings.CutPrefix(ev.Topic, Prefix)
	var n note
	if !ok || ev.Remove || json.Unmarshal(ev.Data, &n) != nil {
		return
	}
	tp := t.topics[name]
	if tp == nil {
		tp = t.addTopic(name, t.rule(name).withDefaults())
	}
	switch ev.Type {
	case typeCount:
		tp.told, tp.least = n.Count, n.Count
		t.holdCount(tp, now.Add(tp.rule.Grace))
	case typeJoin:
		m := &member{topic: tp, principal: n.Principal, payload: checkPayload(n.Payload), since: sinceOf(ev), joined: true}
		tp.members[m.principal] = m
		tp.list(m, true)
		switch {
		case tp.rule.Mode == Off: // it leaves at once
		case n.Node == t.node:
			t.ended(now, m, 1)
		default:
			m.others = map[string]int{n.Node: 1}
			t.peers[n.Node] = now
		}
		t.settle(m)
	}
	t.forgetTopic(tp)
}

// sinceOf reads when a stay began from the id of its join.
func sinceOf(ev *tailrace.Event) time.Time {
	if i := strings.LastIndexByte(ev.ID, '.'); i >= 0 {
		if micros, err := strconv.ParseInt(ev.ID[i+1:], 36, 64); err == nil {
			return time.UnixMicro(micros)
		}
	}
	return ev.Time
}
