package filter

import "container/list"

// lru keeps the values used last, up to a number of them. It is not safe for
// concurrent use.
type lru[K comparable, V any] struct {
	most  int
	index map[K]*list.Element
	order *list.List // of *entry, the one used last in front
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newLRU[K comparable, V any](most int) *lru[K, V] {
	return &lru[K, V]{most: most, index: map[K]*list.Element{}, order: list.New()}
}

func (l *lru[K, V]) get(key K) (value V, ok bool) {
	e := l.index[key]
	if e == nil {
		return value, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*entry[K, V]).value, true
}

// put adds a value, or replaces the one of that key.
func (l *lru[K, V]) put(key K, value V) {
	if e := l.index[key]; e != nil {
		e.Value.(*entry[K, V]).value = value
		l.order.MoveToFront(e)
		return
	}
	l.index[key] = l.order.PushFront(&entry[K, V]{key, value})
	if l.order.Len() > l.most {
		last := l.order.Back()
		l.order.Remove(last)
		delete(l.index, last.Value.(*entry[K, V]).key)
	}
}
