package tailrace

// SetPause installs what the log calls at its named points.
func (l *MemoryLog) SetPause(fn func(point string)) {
	if fn == nil {
		l.pause.Store(nil)
		return
	}
	l.pause.Store(&fn)
}

// Used returns what MaxBytes bounds, and how many topics have a record.
func (l *MemoryLog) Used() (bytes int64, topics int) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.used, len(l.topics)
}
