package presence

import (
	"encoding/json"
	"time"
)

// Change is what another node tells of a principal in a topic.
type Change struct {
	Topic, Principal string
	Payload          json.RawMessage
	Since            time.Time // in whole microseconds
	Streams          int       // that it has there now
}

// heard takes what another node says of its streams. The joins of those who are
// on that node alone are told by it.
func (t *table) heard(now time.Time, node string, changes []Change) {
	t.peers[node] = now
	for _, c := range changes {
		if c.Streams <= 0 {
			if m := t.find(c.Topic, c.Principal); m != nil {
				t.drop(now, m, node, 0)
			}
			continue
		}
		tp := t.topic(c.Topic)
		if tp == nil {
			continue
		}
		came := tp.members[c.Principal] == nil
		m := t.member(now, tp, c.Principal, checkPayload(c.Payload))
		if came && !c.Since.IsZero() {
			m.since = c.Since
		}
		more := c.Streams - m.others[node]
		if more < 0 {
			t.drop(now, m, node, c.Streams)
			continue
		}
		if m.others == nil {
			m.others = map[string]int{}
		}
		m.others[node] = c.Streams
		m.returned(more)
		if m.own == 0 && !m.sent && tp.rule.Mode == Members && !isAnonymous(m.principal) {
			tp.list(m, true)
		}
		t.settle(m)
	}
}

// drop leaves m with fewer streams on another node.
func (t *table) drop(now time.Time, m *member, node string, streams int) {
	ended := m.others[node] - streams
	if ended <= 0 {
		return
	}
	if m.others[node] = streams; streams == 0 {
		delete(m.others, node)
	}
	t.ended(now, m, ended)
}

// lose counts all streams of another node as ended.
func (t *table) lose(now time.Time, node string) {
	delete(t.peers, node)
	for _, tp := range t.topics {
		for _, m := range tp.members {
			t.drop(now, m, node, 0)
		}
	}
}
