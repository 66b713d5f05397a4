package tailrace

import (
	"context"
	"iter"
)

// named returns by name, from the name from on, the topics that s can have: its
// exact ones, else all.
func (l *MemoryLog) named(s Selector, from string) iter.Seq[*memTopic] {
	if len(s.Topics) == 0 || len(s.Patterns) > 0 {
		return l.names.from(from)
	}
	return func(yield func(*memTopic) bool) {
		for _, name := range s.Canonical().Topics {
			if t := l.topics[name]; t != nil && name >= from && !yield(t) {
				return
			}
		}
	}
}

// List implements [Log].
func (l *MemoryLog) List(ctx context.Context, s Selector, after string, n int) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	var names []string
	for more, from := true, after; more; {
		if err := l.view(); err != nil {
			return nil, err
		}
		more = false
		examined := 0
		for t := range l.named(s, from) {
			if len(names) >= n {
				break
			}
			if examined++; examined > scanSlice {
				more, from = true, t.name
				break
			}
			if t.name > after && !t.gone && s.Match(t.name) {
				names = append(names, t.name)
			}
		}
		l.mu.RUnlock()
	}
	return names, nil
}

// Stat implements [Log].
func (l *MemoryLog) Stat(ctx context.Context, topic string) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	if topic != "" {
		if err := CheckTopic(topic); err != nil {
			return Info{}, err
		}
	}
	if err := l.view(); err != nil {
		return Info{}, err
	}
	defer l.mu.RUnlock()
	if topic == "" {
		return Info{
			Exists: true,
			Head:   l.cursor(l.pos),
			Floor:  l.cursor(l.floor),
			Count:  int64(l.events.live),
			Bytes:  l.bytes,
			Topics: int64(l.live),
		}, nil
	}
	t := l.topics[topic]
	if t == nil || t.gone {
		return Info{Policy: *l.policy(t, topic)}, nil
	}
	info := Info{
		Exists: true,
		Closed: t.closed,
		Head:   l.cursor(t.head),
		Count:  int64(len(t.events)),
		Bytes:  t.bytes,
		Policy: *t.policy,
	}
	if t.floor > 0 {
		info.Floor = l.cursor(t.floor)
	}
	return info, nil
}
