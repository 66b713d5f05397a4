package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailrace/tailrace"
)

// hubCollector shows a hub's own counters, read once per scrape, so that the
// hub needs no metrics library.
type hubCollector struct{ hub *tailrace.Hub }

// hubMetrics are the hub's figures without labels.
var hubMetrics = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(s *tailrace.Stats) int64
}{
	{desc("connections", "Open streams."), prometheus.GaugeValue, func(s *tailrace.Stats) int64 { return int64(s.Connections) }},
	{desc("connections_behind", "Open streams that the log serves, and not memory."), prometheus.GaugeValue, func(s *tailrace.Stats) int64 { return s.Behind }},
	{desc("feeds", "Distinct selections of open streams."), prometheus.GaugeValue, func(s *tailrace.Stats) int64 { return int64(s.Feeds) }},
	{desc("ring_bytes", "Encoded events in memory."), prometheus.GaugeValue, func(s *tailrace.Stats) int64 { return s.RingBytes }},
	{desc("connects_total", "Streams opened."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.Connects }},
	{desc("rejects_total", "Streams refused: at capacity or draining."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.Rejects }},
	{desc("resumes_total", "Streams that resumed after an id."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.Resumes }},
	{desc("bytes_published_total", "Bytes of data of stored events."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.PublishedBytes }},
	{desc("events_delivered_total", "Events written to streams."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.Delivered }},
	{desc("sends_total", "Writes to streams; events a write is how well delivery batches."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.Sends }},
	{desc("bytes_sent_total", "Bytes written to streams."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.SentBytes }},
	{desc("replayed_events_total", "Events delivered from the log."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.Replayed }},
	{desc("snapshots_total", "Snapshots sent."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.Snapshots }},
	{desc("heartbeats_total", "Heartbeats sent."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.Heartbeats }},
	{desc("tail_errors_total", "Failed reads of the log's head."), prometheus.CounterValue, func(s *tailrace.Stats) int64 { return s.TailErrors }},
}

var (
	publishedDesc   = desc("events_published_total", "Events by what became of their publish.", "result")
	gapsDesc        = desc("gaps_total", "Gap events sent, by reason.", "reason")
	disconnectsDesc = desc("disconnects_total", "Streams ended, by reason.", "reason")
)

// gapReasons and disconnectReasons are the labels; all are always shown, so
// that a rate over them never begins with nothing.
var (
	gapReasons = []tailrace.Reason{
		tailrace.Trimmed, tailrace.Deleted, tailrace.EpochGap, tailrace.Ahead, tailrace.Unknown, tailrace.Overflow,
	}
	disconnectReasons = []string{"client", "drain", "disconnected", "stalled", "ended", "limit", "epoch", "error"}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tailrace_"+name, help, labels, nil)
}

func (c *hubCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range hubMetrics {
		ch <- m.desc
	}
	ch <- publishedDesc
	ch <- gapsDesc
	ch <- disconnectsDesc
}

func (c *hubCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.hub.Stats()
	for _, m := range hubMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.value(&s)))
	}
	count := func(d *prometheus.Desc, n int64, label string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label)
	}
	count(publishedDesc, s.Published, "stored")
	count(publishedDesc, s.Duplicates, "duplicate")
	count(publishedDesc, s.PublishErrors, "refused")
	for _, r := range gapReasons {
		count(gapsDesc, s.Gaps[r], string(r))
	}
	other := int64(0)
	for _, n := range s.Disconnects {
		other += n
	}
	for _, r := range disconnectReasons {
		count(disconnectsDesc, s.Disconnects[r], r)
		other -= s.Disconnects[r]
	}
	count(disconnectsDesc, other, "other") // reasons that the caller of Disconnect gave
}
