package pebblelog

import (
	"encoding/base64"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tailrace/tailrace"
)

// latest answers with the newest event of each key as of a cut. A key that changed after the
// cut is left out: its newer event follows for who reads on from there. A mark is the last key
// of the store that was looked at.
func (r *read) latest() (page tailrace.Page, err error) {
	q := r.q
	cut := r.view.head
	page.Told = r.view.stamp
	var after []byte
	if q.Mark != "" {
		after, err = base64.RawURLEncoding.DecodeString(q.Mark)
		if err != nil || len(after) < 9 || after[0] != kindKey {
			return page, &tailrace.InvalidError{Field: "mark", Reason: "is none of this log"}
		}
		pos, _, reason := r.epochs.resume(q.After, q.Select, r.view.head)
		if reason != "" {
			oldest, err := r.oldest()
			page.Next = r.epochs.next(oldest)
			page.Reset = &tailrace.Reset{Reason: reason, Requested: q.After.String(), Oldest: page.Next}
			return page, err
		}
		cut = pos
		page.Told = min(page.Told, cut) // later losses must be told to who reads on from the cut
	}
	r.mark = slices.Clone(after)
	page.Next = r.epochs.next(cut)
	r.l.at("latest.page")
	if r.exact {
		rows := slices.Clone(r.rows)
		slices.SortFunc(rows, func(a, b row) int { return int(int64(a.t - b.t)) })
		for i, w := range rows {
			if w.t == 0 || w.is(rowGone) || !w.is(rowKeys) || i > 0 && rows[i-1].t == w.t {
				continue
			}
			if page.Mark, err = r.latestIn(stateKey(nil, w.t, ""), stateKey(nil, w.t+1, ""), after, cut); page.Mark != "" || err != nil {
				break
			}
		}
	} else {
		page.Mark, err = r.latestIn([]byte{kindKey}, []byte{kindKey + 1}, after, cut)
	}
	page.Events = r.events
	return page, err
}

// latestIn takes the keys in a range of the store, those behind after. It returns a mark when
// the page is full.
func (r *read) latestIn(lower, upper, after []byte, cut uint64) (mark string, err error) {
	if after != nil && string(after) >= string(lower) {
		if lower = append(slices.Clone(after), 0); string(lower) >= string(upper) {
			return "", nil
		}
	}
	it, err := r.snap.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var t uint64 // the topic that keep is of
	var keep topicView
	examined := 0
	for it.First(); it.Valid(); {
		v, err := it.ValueAndErr()
		if err != nil {
			return "", err
		}
		p, rec, err := parseState(v)
		if err != nil {
			return "", err
		}
		if examined++; examined > scanMax && r.mark != nil {
			return base64.RawURLEncoding.EncodeToString(r.mark), nil
		}
		if n := keyNumber(it.Key(), 0); n != t {
			t = n
			if keep, err = r.topicOf(t, p, rec); err != nil {
				return "", err
			}
		}
		if keep.name == "" {
			// Which topic it is cannot be told by an event that is gone; the next key may.
			t = 0
			it.Next()
			continue
		}
		if !keep.selected {
			it.SeekGE(stateKey(nil, t+1, ""))
			continue
		}
		if p <= cut && (p > keep.floor || keep.whole && len(rec) > 0) {
			full, err := r.takeState(t, p, rec)
			if err != nil {
				return "", err
			}
			if full {
				return base64.RawURLEncoding.EncodeToString(r.mark), nil
			}
		}
		r.mark = append(r.mark[:0], it.Key()...)
		it.Next()
	}
	return "", it.Error()
}

// topicView is what latestIn needs to know of a topic.
type topicView struct {
	name     string // "" if it is not known
	selected bool
	floor    uint64
	whole    bool // KeepLatest: what is stored with a key counts below the floor too
}

func (r *read) topicOf(t, p uint64, rec []byte) (v topicView, err error) {
	name, ok := r.l.names.get(t)
	if !ok {
		if len(rec) == 0 {
			var there bool
			if rec, there, err = r.find.get(eventKey(nil, t, p)); err != nil || !there {
				return v, err
			}
		}
		e, err := parseRecord(rec)
		if err != nil {
			return v, err
		}
		name = string(e.topic)
		r.l.names.put(t, name)
	}
	v.name, v.selected = name, r.match.match(name)
	if v.selected {
		row, ok, err := readRow(&r.find, name)
		if err != nil {
			return v, err
		}
		v.selected = ok && row.t == t && !row.is(rowGone)
		v.floor = row.floor
		v.whole = r.l.rules.Load().list.Policy(name).KeepLatest
	}
	return v, nil
}

// takeState adds the newest event of a key, which is in rec or under its own key.
func (r *read) takeState(t, p uint64, rec []byte) (full bool, err error) {
	if len(rec) == 0 {
		var there bool
		if rec, there, err = r.find.get(eventKey(nil, t, p)); err != nil || !there {
			return false, err
		}
	}
	e, err := parseRecord(rec)
	if err != nil {
		return false, err
	}
	return !r.takeRecord(&e, p), nil
}
