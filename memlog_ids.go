package tailrace

// memIDs finds events by their own ids. The same id may be held by several
// topics, seldom by many.
type memIDs map[string]memHolders

type memHolders struct {
	one  *memEvent
	more map[*memTopic]*memEvent
}

func (ids memIDs) find(t *memTopic, id string) *memEvent {
	if id == "" || t == nil {
		return nil
	}
	h := ids[id]
	if h.one != nil && h.one.topic == t {
		return h.one
	}
	return h.more[t]
}

func (ids memIDs) add(e *memEvent) {
	if e.ID == "" {
		return
	}
	h := ids[e.ID]
	switch {
	case h.one == nil:
		h.one = e
	case h.more == nil:
		h.more = map[*memTopic]*memEvent{e.topic: e}
	default:
		h.more[e.topic] = e
	}
	ids[e.ID] = h
}

func (ids memIDs) remove(e *memEvent) {
	if e.ID == "" {
		return
	}
	h := ids[e.ID]
	if h.one == e {
		h.one = nil
	} else {
		delete(h.more, e.topic)
	}
	if h.one == nil && len(h.more) == 0 {
		delete(ids, e.ID)
		return
	}
	ids[e.ID] = h
}

// lowest returns the lowest position of the selection that holds id, 0 if none
// does.
func (ids memIDs) lowest(s Selector, id string) uint64 {
	h := ids[id]
	var pos uint64
	look := func(e *memEvent) {
		if (pos == 0 || e.Cursor.Pos < pos) && s.Match(e.Topic) {
			pos = e.Cursor.Pos
		}
	}
	if h.one != nil {
		look(h.one)
	}
	for _, e := range h.more {
		look(e)
	}
	return pos
}
