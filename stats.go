package tailrace

import (
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// counters are the hub's totals since it was made, and a few gauges that only
// their owners know. The zero value is ready; everything is safe for concurrent
// use. What delivery counts event by event it adds up by itself first and hands
// over once a pass, with deliver.
type counters struct {
	published, publishedBytes, duplicates, publishErrors atomic.Int64
	connects                                             atomic.Int64
	replayed, snapshots, heartbeats, tailErrors          atomic.Int64

	deliveries [engineKinds][stripes]deliveryCell
	delivery   histogram    // commit to taken by the socket; one stream a pass
	pass       histogram    // of a shard that wrote something
	rest       span         // of all shards together
	tailLag    span         // commit to visible, of the newest event seen last; 0 at the head
	full       atomic.Int64 // sockets that take no bytes now
	panics     atomic.Int64 // of a shard's or a worker's step

	replayWait  histogram // of a stream for its page
	replayPages [replaySources]atomic.Int64
	ringMisses  atomic.Int64 // live streams that fell out of their ring

	controls   [controlKinds]controlTally
	refusals   [fastRefusals]atomic.Int64     // of the fast engine
	turnedAway [2][rejectReasons]atomic.Int64 // with a status; softly
	resumed    [2]atomic.Int64                // whole; with a gap

	mu          sync.Mutex
	gaps        map[Reason]int64
	disconnects map[string]int64
}

// engineKind is one of the engines that write to streams.
type engineKind uint8

const (
	engineFast engineKind = iota
	enginePortable
	engineKinds
)

// String is the engine's name in [ConnInfo].
func (e engineKind) String() string { return [...]string{"fast", "portable"}[e] }

// delivered is what one pass of an engine, or one write, has brought out.
type delivered struct{ sends, events, bytes int64 }

// stripes is over how many cells deliver spreads its sums, so that cores that
// hand over at once seldom meet in one.
const stripes = 16

// deliveryCell has two cache lines to itself: processors fetch them in pairs.
type deliveryCell struct {
	sends, events, bytes atomic.Int64
	_                    [128 - 3*8]byte
}

// deliver adds d, once a pass in the fast engine.
func (c *counters) deliver(e engineKind, d delivered) {
	cell := &c.deliveries[e][rand.Uint32()%stripes]
	cell.sends.Add(d.sends)
	cell.events.Add(d.events)
	cell.bytes.Add(d.bytes)
}

// engine sums the cells of e.
func (c *counters) engine(e engineKind) EngineStats {
	var s EngineStats
	for i := range c.deliveries[e] {
		cell := &c.deliveries[e][i]
		s.Sends += cell.sends.Load()
		s.Events += cell.events.Load()
		s.Bytes += cell.bytes.Load()
	}
	return s
}

// span is a time that grows, or one as of now.
type span struct{ ns atomic.Int64 }

func (s *span) add(d time.Duration) { s.ns.Add(int64(d)) }
func (s *span) set(d time.Duration) { s.ns.Store(int64(max(d, 0))) }
func (s *span) load() time.Duration { return time.Duration(s.ns.Load()) }

// replaySource is where a page for a stream that is behind came from.
type replaySource uint8

const (
	replayCache replaySource = iota
	replayLog
	replaySources
)

var replaySourceNames = [replaySources]string{"cache", "log"}

func (c *counters) replayPage(from replaySource) { c.replayPages[from].Add(1) }

// controlKind is who asked for a control event.
type controlKind uint8

const (
	controlSend controlKind = iota
	controlBroadcast
	controlKinds
)

// controlResult is what became of it.
type controlResult uint8

const (
	controlQueued  controlResult = iota
	controlSkipped               // a broadcast went by a stream where too many wait
	controlSlow                  // a send was refused for the same cause
	controlResults
)

type controlTally [controlResults]atomic.Int64

func (t *controlTally) load() ControlStats {
	return ControlStats{Queued: t[controlQueued].Load(), Skipped: t[controlSkipped].Load(), Slow: t[controlSlow].Load()}
}

// control counts one control event for one stream.
func (c *counters) control(k controlKind, r controlResult) { c.controls[k][r].Add(1) }

// fastRefusal is why the fast engine did not take a stream.
type fastRefusal uint8

const (
	fastHTTP2       fastRefusal = iota // HTTP/2 or 3
	fastProtocol                       // HTTP/1.0
	fastRequest                        // a body, Expect or Upgrade, or no real server
	fastWrapper                        // a writer that hides net/http's
	fastEncoding                       // something encodes or measures the answer
	fastListener                       // a kind of connection that it cannot drive
	fastDescriptors                    // none left
	fastOff                            // not there, or switched off
	fastRefusals
)

var fastRefusalNames = [fastRefusals]string{
	"http2", "protocol", "request", "wrapper", "encoding", "listener", "descriptors", "off",
}

func (c *counters) fastRefused(why fastRefusal) { c.refusals[why].Add(1) }

// rejectReason is why a stream was refused that might have been served at
// another time.
type rejectReason uint8

const (
	rejectDraining  rejectReason = iota
	rejectCapacity               // of the node
	rejectPrincipal              // has too many streams
	rejectAddress                // has too many streams
	rejectRate                   // too many new streams a second
	rejectReasons
)

var rejectReasonNames = [rejectReasons]string{"draining", "capacity", "principal", "address", "rate"}

// reject counts a refused stream; soft is one that got an empty stream in place
// of a status.
func (c *counters) reject(why rejectReason, soft bool) {
	i := 0
	if soft {
		i = 1
	}
	c.turnedAway[i][why].Add(1)
}

// resume counts a stream that came back after an id, whose history was whole or
// had a gap.
func (c *counters) resume(gap bool) {
	i := 0
	if gap {
		i = 1
	}
	c.resumed[i].Add(1)
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

// Stats are the hub's figures: gauges as of now, totals since it was made. They
// cost the same however many streams are open; [Hub.Census] has what only a
// look at each of them can say. Maps over a fixed set have all of its members.
type Stats struct {
	Connections     int   // open streams
	FullConnections int64 // of these, sockets of the fast engine that take no bytes now
	Behind          int64 // of these, served by the log and not from memory
	Feeds           int   // distinct selections
	RingBytes       int64 // frames in memory

	Connects    int64            // streams admitted
	Rejects     int64            // streams refused
	Rejected    map[string]int64 // of these, with a status: by draining, capacity, principal, address, rate
	SoftRejects map[string]int64 // of these, with an empty stream, by the same
	Resumes     int64            // streams that came back after an id
	ResumeGaps  int64            // of these, whose history was not complete
	Disconnects map[string]int64 // streams ended, by ConnInfo.Reason; those that occurred
	Gaps        map[Reason]int64 // gap events; those that occurred

	Published, PublishedBytes int64 // events stored; bytes of their data
	Duplicates, PublishErrors int64 // events stored before; refused

	// What was written to streams. Events over sends is how well delivery
	// batches.
	Fast, Portable EngineStats
	Delivered      int64 // events, of both engines
	Sends          int64 // writes
	SentBytes      int64

	// Delivery is the time from an event's commit to when a socket took it. It
	// is a sample: one stream of each pass.
	Delivery Histogram
	Pass     Histogram     // passes of the fast engine's shards that wrote something
	Rest     time.Duration // of all shards together: one that never rests is at its limit
	TailLag  time.Duration // commit to visible, of the newest event; 0 when there was none to read

	Replayed    int64            // events that came from the log
	ReplayPages map[string]int64 // pages for streams that are behind, by source: cache, log
	ReplayWait  Histogram        // of a stream for its page
	ReplayUsed  int64            // bytes that such pages hold
	ReplayFree  int64            // bytes left of Options.ReplayBytes
	RingMisses  int64            // live streams that fell out of their ring

	Snapshots, Heartbeats int64            // sent
	Send, Broadcast       ControlStats     // Hub.Send, Hub.Broadcast
	FastRefused           map[string]int64 // streams that the fast engine did not take: http2, protocol, request, wrapper, encoding, listener, descriptors, off
	Panics                int64            // each ended one stream and no other; must be 0
	TailErrors            int64            // failed reads of the log's head
}

// EngineStats are the totals of one engine.
type EngineStats struct{ Sends, Events, Bytes int64 }

// ControlStats are control events, one for each stream that they were for.
type ControlStats struct {
	Queued  int64
	Skipped int64 // by a broadcast: too many wait there
	Slow    int64 // refused to a send: too many wait there
}

// Stats returns the hub's figures.
func (h *Hub) Stats() Stats {
	c := &h.counters
	s := Stats{
		Connections: h.Count(), FullConnections: c.full.Load(), Behind: h.behind.Load(),
		Connects:    c.connects.Load(),
		Rejected:    byName(rejectReasonNames[:], c.turnedAway[0][:]),
		SoftRejects: byName(rejectReasonNames[:], c.turnedAway[1][:]),
		ResumeGaps:  c.resumed[1].Load(),
		Published:   c.published.Load(), PublishedBytes: c.publishedBytes.Load(),
		Duplicates: c.duplicates.Load(), PublishErrors: c.publishErrors.Load(),
		Fast: c.engine(engineFast), Portable: c.engine(enginePortable),
		Delivery: c.delivery.snapshot(), Pass: c.pass.snapshot(),
		Rest: c.rest.load(), TailLag: c.tailLag.load(),
		Replayed:    c.replayed.Load(),
		ReplayPages: byName(replaySourceNames[:], c.replayPages[:]),
		ReplayWait:  c.replayWait.snapshot(), ReplayUsed: h.pages.size(),
		RingMisses: c.ringMisses.Load(),
		Snapshots:  c.snapshots.Load(), Heartbeats: c.heartbeats.Load(),
		Send: c.controls[controlSend].load(), Broadcast: c.controls[controlBroadcast].load(),
		FastRefused: byName(fastRefusalNames[:], c.refusals[:]),
		Panics:      c.panics.Load(),
		TailErrors:  c.tailErrors.Load(),
	}
	s.Sends = s.Fast.Sends + s.Portable.Sends
	s.Delivered = s.Fast.Events + s.Portable.Events
	s.SentBytes = s.Fast.Bytes + s.Portable.Bytes
	s.Resumes = c.resumed[0].Load() + s.ResumeGaps
	s.ReplayFree = max(0, h.opts.ReplayBytes-s.ReplayUsed)
	for _, list := range []map[string]int64{s.Rejected, s.SoftRejects} {
		for _, n := range list {
			s.Rejects += n
		}
	}
	h.tailMu.Lock()
	s.Feeds, s.RingBytes = len(h.feeds), h.ringUse
	h.tailMu.Unlock()
	c.mu.Lock()
	s.Gaps, s.Disconnects = maps.Clone(c.gaps), maps.Clone(c.disconnects)
	c.mu.Unlock()
	return s
}

// byName gives the totals of a fixed set their names.
func byName(names []string, totals []atomic.Int64) map[string]int64 {
	m := make(map[string]int64, len(names))
	for i, name := range names {
		m[name] = totals[i].Load()
	}
	return m
}
