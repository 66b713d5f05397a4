package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailrace/tailrace"
)

// deliveryMetrics are the figures of how events reach their streams.
var deliveryMetrics = []hubMetric{
	counter("events_delivered_total", "Events written to streams.",
		perEngine(func(s tailrace.EngineStats) int64 { return s.Events }), "engine"),
	counter("sends_total", "Writes to streams; events delivered a send is how well delivery batches.",
		perEngine(func(s tailrace.EngineStats) int64 { return s.Sends }), "engine"),
	counter("bytes_sent_total", "Bytes written to streams.",
		perEngine(func(s tailrace.EngineStats) int64 { return s.Bytes }), "engine"),
	counter("rest_seconds_total", "Time that all shards together rested between passes; one that never rests is at its limit.",
		func(f *figures, emit emitter) { emit(f.Rest.Seconds()) }),
	gauge("full_connections", "Open streams whose socket takes no bytes now.",
		plain(func(f *figures) int64 { return f.FullConnections })),
	gauge("behind_connections", "Open streams that the log serves and not memory, by how long.",
		byLabel(func(f *figures) map[string]int { return f.census.Behind }), "age"),
	gauge("lag_events", "Events that all streams together have yet to get; for those behind an upper bound.",
		plain(func(f *figures) int64 { return f.census.Lag })),
	gauge("tail_lag_seconds", "Time from commit to visible of the newest event.",
		func(f *figures, emit emitter) { emit(f.TailLag.Seconds()) }),
	counter("tail_errors_total", "Failed reads of the log's head.",
		plain(func(f *figures) int64 { return f.TailErrors })),
	gauge("ring_bytes", "Encoded events in memory.",
		plain(func(f *figures) int64 { return f.RingBytes })),
	gauge("feeds", "Distinct selections: of one topic, of several, with a pattern.",
		byLabel(func(f *figures) map[string]int { return f.census.Feeds }), "kind"),
	counter("ring_misses_total", "Live streams that fell out of memory, so that the log serves them.",
		plain(func(f *figures) int64 { return f.RingMisses })),
	counter("replayed_events_total", "Events delivered from the log.",
		plain(func(f *figures) int64 { return f.Replayed })),
	counter("replay_pages_total", "Pages for streams that are behind, by where they came from.",
		byLabel(func(f *figures) map[string]int64 { return f.ReplayPages }), "source"),
	gauge("replay_budget_bytes", "Memory for pages of streams that are behind.", func(f *figures, emit emitter) {
		emit(float64(f.ReplayUsed), "used")
		emit(float64(f.ReplayFree), "free")
	}, "state"),
	counter("snapshots_total", "Snapshots sent.",
		plain(func(f *figures) int64 { return f.Snapshots })),
	counter("heartbeats_total", "Heartbeats sent.",
		plain(func(f *figures) int64 { return f.Heartbeats })),
	counter("control_total", "Events that a send or broadcast brought to a stream: queued; skipped or slow, because too many wait there.", func(f *figures, emit emitter) {
		for kind, s := range map[string]tailrace.ControlStats{"send": f.Send, "broadcast": f.Broadcast} {
			emit(float64(s.Queued), kind, "queued")
			emit(float64(s.Skipped), kind, "skipped")
			emit(float64(s.Slow), kind, "slow")
		}
	}, "kind", "result"),
	counter("fast_refused_total", "Streams that the portable engine serves, by why the fast one does not.",
		byLabel(func(f *figures) map[string]int64 { return f.FastRefused }), "why"),
	counter("shard_panics_total", "Panics of a stream in the fast engine, each of which ended that stream alone; must be 0.",
		plain(func(f *figures) int64 { return f.Panics })),
}

// deliveryTimes are its distributions.
var deliveryTimes = []struct {
	desc *prometheus.Desc
	show func(f *figures) tailrace.Histogram
}{
	{desc("delivery_seconds", "Time from an event's commit to when a socket took it; one stream of each pass."),
		func(f *figures) tailrace.Histogram { return f.Delivery }},
	{desc("pass_seconds", "Length of the passes of shards that wrote something."),
		func(f *figures) tailrace.Histogram { return f.Pass }},
	{desc("replay_wait_seconds", "Time that a stream which is behind waited for its page."),
		func(f *figures) tailrace.Histogram { return f.ReplayWait }},
}

func constHistogram(d *prometheus.Desc, h tailrace.Histogram) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Bounds))
	for i, bound := range h.Bounds {
		buckets[bound] = h.Counts[i]
	}
	return prometheus.MustNewConstHistogram(d, h.Count, h.Sum, buckets)
}
