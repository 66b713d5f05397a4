package pebblelog

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// finder looks up single keys in one view of the store: that of its first look-up. It asks the
// filters of all tables, those of the last level too, so that a key which is not there, like
// that of a new topic or id, is not looked for on the disk.
type finder struct {
	db pebble.Reader
	it *pebble.Iterator
}

// get is the value of key, which is the caller's until the next get; ok is false if there is none.
func (f *finder) get(key []byte) (value []byte, ok bool, err error) {
	if f.it == nil {
		if f.it, err = f.db.NewIter(&pebble.IterOptions{UseL6Filters: true}); err != nil {
			return nil, false, err
		}
	}
	if !f.it.SeekPrefixGE(key) {
		return nil, false, f.it.Error()
	}
	if !bytes.Equal(f.it.Key(), key) {
		return nil, false, nil
	}
	value, err = f.it.ValueAndErr()
	return value, err == nil, err
}

// close ends the view. The finder can be used again, and then has a new one.
func (f *finder) close() error {
	if f.it == nil {
		return nil
	}
	it := f.it
	f.it = nil
	return it.Close()
}

// storeView is a snapshot of the store.
type storeView struct {
	snap *pebble.Snapshot
	find finder
}

// newView must be closed before the log is.
func (l *Log) newView() *storeView {
	snap := l.db.NewSnapshot()
	return &storeView{snap, finder{db: snap}}
}

func (v *storeView) close() error { return errors.Join(v.find.close(), v.snap.Close()) }
