package tailrace

import (
	"maps"
	"sync"
	"sync/atomic"
)

// counters are the hub's totals since it was made.
type counters struct {
	published, publishedBytes, duplicates, publishErrors atomic.Int64
	connects, rejects, resumes                           atomic.Int64
	delivered, sends, sentBytes                          atomic.Int64
	replayed, snapshots, heartbeats, tailErrors          atomic.Int64

	mu          sync.Mutex
	gaps        map[Reason]int64
	disconnects map[string]int64
}

func (c *counters) gap(r Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gaps == nil {
		c.gaps = map[Reason]int64{}
	}
	c.gaps[r]++
}

func (c *counters) disconnect(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disconnects == nil {
		c.disconnects = map[string]int64{}
	}
	c.disconnects[reason]++
}

// Stats are the hub's figures: gauges as of now, totals since it was made.
type Stats struct {
	Connections int   // open streams
	Behind      int64 // of these, served by the log and not from memory
	Feeds       int   // distinct selections
	RingBytes   int64 // frames in memory

	Connects, Rejects, Resumes int64
	Published, PublishedBytes  int64
	Duplicates, PublishErrors  int64
	Delivered, Sends           int64 // events; writes. Their ratio is how well delivery batches
	SentBytes, Replayed        int64 // bytes; events that came from the log
	Snapshots, Heartbeats      int64
	TailErrors                 int64 // failed reads of the log's head
	Gaps                       map[Reason]int64
	Disconnects                map[string]int64 // by ConnInfo.Reason
}

// Stats returns the hub's figures.
func (h *Hub) Stats() Stats {
	c := &h.counters
	s := Stats{
		Connections: h.Count(), Behind: h.behind.Load(),
		Connects: c.connects.Load(), Rejects: c.rejects.Load(), Resumes: c.resumes.Load(),
		Published: c.published.Load(), PublishedBytes: c.publishedBytes.Load(),
		Duplicates: c.duplicates.Load(), PublishErrors: c.publishErrors.Load(),
		Delivered: c.delivered.Load(), Sends: c.sends.Load(),
		SentBytes: c.sentBytes.Load(), Replayed: c.replayed.Load(),
		Snapshots: c.snapshots.Load(), Heartbeats: c.heartbeats.Load(),
		TailErrors: c.tailErrors.Load(),
	}
	h.tailMu.Lock()
	s.Feeds, s.RingBytes = len(h.feeds), h.ringUse
	h.tailMu.Unlock()
	c.mu.Lock()
	s.Gaps, s.Disconnects = maps.Clone(c.gaps), maps.Clone(c.disconnects)
	c.mu.Unlock()
	return s
}
