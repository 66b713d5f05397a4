package tailrace

// SetRingFrames makes the rings of feeds that small. Called before the first
// stream.
func (h *Hub) SetRingFrames(n int) { h.ringFrames = n }

// Hint wakes the tail as the log does.
func (h *Hub) Hint() { h.hint() }

// StreamForms are the forms of a frame that are kept with it.
const StreamForms = int(sharedForms)

// Visible is the position up to which the hub has taken the log.
func (h *Hub) Visible() uint64 { return h.visible.Load() }
