package tailrace

// SetPause installs what the log calls at its named points.
func (l *MemoryLog) SetPause(fn func(point string)) {
	if fn == nil {
		l.pause.Store(nil)
		return
	}
	l.pause.Store(&fn)
}
