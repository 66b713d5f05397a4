package tailrace

import (
	"strconv"
	"strings"
)

// readLatest reads a page of a snapshot: topics by name, and their keys by
// position. A mark is the last position and topic of the page.
func (l *MemoryLog) readLatest(q Query) (Page, error) {
	limit, bytes := q.Limit, q.MaxBytes
	if limit <= 0 {
		limit = DefaultReadLimit
	}
	if bytes <= 0 {
		bytes = DefaultReadBytes
	}
	var fromPos uint64
	var fromTopic string
	if q.Mark != "" {
		p, topic, ok := strings.Cut(q.Mark, " ")
		var err error
		if fromPos, err = strconv.ParseUint(p, 36, 64); !ok || err != nil {
			return Page{}, &InvalidError{Field: "mark", Reason: "is none of this log"}
		}
		fromTopic = topic
	}
	if err := l.view(); err != nil {
		return Page{}, err
	}
	defer l.mu.RUnlock()
	cut := l.cursor(l.pos)
	if q.Mark != "" {
		cut = q.After
		if cut.Epoch != l.epoch || cut.Log != 0 || cut.Pos > l.pos {
			next := l.oldest(q.Select)
			return Page{Next: next, Told: l.stamp, Reset: &Reset{Reason: EpochGap, Requested: cut.String(), Oldest: next}}, nil
		}
	}
	// Losses after the cut must be told to who reads on from it.
	page := Page{Next: cut, Told: min(l.stamp, cut.Pos)}
	examined := 0
	for t := range l.named(q.Select, fromTopic) {
		if examined++; examined > scanSlice {
			page.Mark = mark(0, t.name)
			return page, nil
		}
		if t.gone || t.state == nil || !q.Select.Match(t.name) {
			continue
		}
		after := uint64(0)
		if t.name == fromTopic {
			after = fromPos
		}
		for _, p := range t.state.order.places[t.state.order.after(after):] {
			if p.pos > cut.Pos {
				break
			}
			if p.e == nil {
				continue
			}
			if n := len(page.Events); n > 0 && (n >= limit || bytes < len(p.e.Data)) {
				page.Mark = mark(after, t.name)
				return page, nil
			}
			page.Events = append(page.Events, p.e.Event)
			bytes -= len(p.e.Data)
			after = p.pos
		}
	}
	return page, nil
}

func mark(pos uint64, topic string) string { return strconv.FormatUint(pos, 36) + " " + topic }
