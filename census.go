package tailrace

import "time"

// Census is what a look at each open stream and each feed finds. Maps have all
// members of their set.
type Census struct {
	// Streams are the open ones, by ConnInfo.Engine and Protocol: HTTP/1.0,
	// HTTP/1.1, HTTP/2.0, HTTP/3.0, other.
	Streams map[string]map[string]int

	// Behind are the streams that the log serves and not memory, by how long
	// that is so: <1s, <10s, <60s, more.
	Behind map[string]int

	// Lag is how many events all streams together have yet to get. For those
	// behind it is an upper bound: positions of the log.
	Lag int64

	// Feeds are the distinct selections, by kind: topic is one exact topic,
	// set several, pattern has a pattern.
	Feeds map[string]int
}

// Census counts the open streams and the feeds. Its time grows with them, about
// 0.4 µs a stream: it is for a scrape, not for each request.
func (h *Hub) Census() Census {
	c := Census{
		Streams: map[string]map[string]int{},
		Behind:  map[string]int{"<1s": 0, "<10s": 0, "<60s": 0, "more": 0},
	}
	for e := range engineKinds {
		c.Streams[e.String()] = map[string]int{"HTTP/1.0": 0, "HTTP/1.1": 0, "HTTP/2.0": 0, "HTTP/3.0": 0, "other": 0}
	}
	for info := range h.Connections() {
		c.add(&info)
	}
	c.Feeds = h.feedKinds()
	return c
}

func (c *Census) add(info *ConnInfo) {
	protocols := c.Streams[info.Engine]
	if _, ok := protocols[info.Protocol]; ok {
		protocols[info.Protocol]++
	} else {
		protocols["other"]++
	}
	if info.Behind > 0 {
		c.Behind[behindAge(info.Behind)]++
	}
	c.Lag += info.LagEvents
}

// behindAge names how long a stream has been behind.
func behindAge(d time.Duration) string {
	switch {
	case d < time.Second:
		return "<1s"
	case d < 10*time.Second:
		return "<10s"
	case d < time.Minute:
		return "<60s"
	}
	return "more"
}

// feedKinds counts the feeds by kind.
func (h *Hub) feedKinds() map[string]int {
	var topic, set, pattern int
	h.tailMu.Lock()
	for _, f := range h.feeds {
		switch {
		case f.sel.IsZero() || len(f.sel.Patterns) > 0:
			pattern++
		case len(f.sel.Topics) > 1:
			set++
		default:
			topic++
		}
	}
	h.tailMu.Unlock()
	return map[string]int{"topic": topic, "set": set, "pattern": pattern}
}
