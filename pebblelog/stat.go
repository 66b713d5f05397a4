package pebblelog

import (
	"context"
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tailrace/tailrace"
)

// Stat describes a topic, or the whole log if topic is "".
func (l *Log) Stat(ctx context.Context, topic string) (tailrace.Info, error) {
	if err := ctx.Err(); err != nil {
		return tailrace.Info{}, err
	}
	done, err := l.use()
	if err != nil {
		return tailrace.Info{}, err
	}
	defer done()
	v, es := l.tail.visible(), l.epochs.Load()
	if topic == "" {
		return l.statLog(v, es)
	}
	if err := tailrace.CheckTopic(topic); err != nil {
		return tailrace.Info{}, err
	}
	info := tailrace.Info{Policy: l.rules.Load().list.Policy(topic)}
	sv := l.newView()
	defer sv.close()
	w, ok, err := readRow(&sv.find, topic)
	if err != nil || !ok || w.is(rowGone) || w.created > v.head {
		return info, err
	}
	r := read{l: l, view: v, storeView: sv}
	if w.head > v.head {
		if err := r.hide(&w); err != nil {
			return info, err
		}
	}
	info.Exists, info.Closed = true, w.is(rowClosed)
	info.Head, info.Count, info.Bytes = es.cursor(w.head), w.count, w.bytes
	if w.floor > 0 {
		info.Floor = es.cursor(w.floor)
	}
	return info, nil
}

// statLog describes the whole log.
func (l *Log) statLog(v view, es *epochs) (tailrace.Info, error) {
	r := read{l: l, view: v, storeView: l.newView()}
	defer r.close()
	k, b, err := lastOfKind(r.snap, kindBatch)
	if err != nil {
		return tailrace.Info{}, err
	}
	if k != nil {
		// What a removal takes is not there any more, also before the removal is visible.
		last, err := parseBatch(k, b)
		if err != nil {
			return tailrace.Info{}, err
		}
		if last.first > v.head && len(last.topics) == 0 {
			v.totals = last.totals
		}
	}
	info := tailrace.Info{Exists: true, Head: es.next(v.head), Count: v.totals.count, Bytes: v.totals.bytes, Topics: v.totals.topics}
	if v.totals.count > 0 {
		oldest, err := r.oldest()
		if err != nil {
			return tailrace.Info{}, err
		}
		info.Floor = es.next(oldest)
	}
	return info, nil
}

// hide takes what is not visible yet out of w.
func (r *read) hide(w *row) error {
	it, err := r.snap.NewIter(&pebble.IterOptions{
		LowerBound: eventKey(nil, w.t, w.floor+1), UpperBound: eventKey(nil, w.t, maxPos),
	})
	if err != nil {
		return err
	}
	defer it.Close()
	w.flags &^= rowClosed
	w.head = w.floor
	for it.Last(); it.Valid(); it.Prev() {
		p := keyNumber(it.Key(), 1)
		if p <= r.view.head {
			w.head = p
			break
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		rec, err := parseRecord(v)
		if err != nil {
			return err
		}
		w.count--
		w.bytes -= int64(len(rec.data))
	}
	return it.Error()
}

// List returns up to n names of the selection after the name after.
func (l *Log) List(ctx context.Context, s tailrace.Selector, after string, n int) (names []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	done, err := l.use()
	if err != nil {
		return nil, err
	}
	defer done()
	v, m := l.tail.visible(), newMatcher(s)
	lower, upper := topicKey(nil, after+"\x00"), []byte{kindTopic + 1}
	if p := commonPrefix(s); p != "" {
		if first := topicKey(nil, p); string(first) > string(lower) {
			lower = first
		}
		upper = append(topicKey(nil, p), 0xff) // no UTF-8 text has this byte
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid() && len(names) < n; it.Next() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := string(it.Key()[1:])
		if !m.match(name) {
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		r, err := parseRow(value)
		if err != nil {
			return nil, err
		}
		if !r.is(rowGone) && r.created <= v.head {
			names = append(names, name)
		}
	}
	return names, it.Error()
}

// commonPrefix is a text with which every name that s selects begins.
func commonPrefix(s tailrace.Selector) string {
	if s.IsZero() {
		return ""
	}
	prefix, first := "", true
	add := func(p string) {
		if first {
			prefix, first = p, false
		}
		i := 0
		for i < len(p) && i < len(prefix) && p[i] == prefix[i] {
			i++
		}
		prefix = prefix[:i]
	}
	for _, t := range s.Topics {
		add(t)
	}
	for _, p := range s.Patterns {
		i := strings.Index("/"+p+"/", "/*/")
		if j := strings.Index("/"+p+"/", "/**/"); i < 0 || j >= 0 && j < i {
			i = j
		}
		if i < 0 {
			i = len(p)
		}
		add(p[:i])
	}
	return prefix
}
