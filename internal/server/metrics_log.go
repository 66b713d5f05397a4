package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/pebblelog"
)

// metricLog is a log that keeps figures: that of one node's disk.
type metricLog interface {
	tailrace.Log
	Metrics() pebblelog.Metrics
}

var _ metricLog = (*pebblelog.Log)(nil)

// logCollector shows the log's own counters, read once per scrape.
type logCollector struct{ log metricLog }

// logMetrics are the log's figures that are single numbers.
var logMetrics = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(m *pebblelog.Metrics) float64
}{
	{desc("log_commits_total", "Batches written, of events or not."), prometheus.CounterValue, func(m *pebblelog.Metrics) float64 { return float64(m.Commits) }},
	{desc("log_batches_total", "Batches of events written; events a batch is how well commits group."), prometheus.CounterValue, func(m *pebblelog.Metrics) float64 { return float64(m.Batches) }},
	{desc("log_events_total", "Events written."), prometheus.CounterValue, func(m *pebblelog.Metrics) float64 { return float64(m.Events) }},
	{desc("log_data_bytes_total", "Bytes of data written."), prometheus.CounterValue, func(m *pebblelog.Metrics) float64 { return float64(m.Bytes) }},
	{desc("log_raises_total", "Floors raised by retention, trimming and deleting."), prometheus.CounterValue, func(m *pebblelog.Metrics) float64 { return float64(m.Raises) }},
	{desc("log_sweeps_total", "Sweeps of retention."), prometheus.CounterValue, func(m *pebblelog.Metrics) float64 { return float64(m.Sweeps) }},
	{desc("log_sweep_seconds_total", "Time of all sweeps."), prometheus.CounterValue, func(m *pebblelog.Metrics) float64 { return m.Sweep.Seconds() }},
	{desc("log_stalls_total", "Times the store held writes up."), prometheus.CounterValue, func(m *pebblelog.Metrics) float64 { return float64(m.Stalls) }},
	{desc("log_disk_bytes", "Bytes on disk."), prometheus.GaugeValue, func(m *pebblelog.Metrics) float64 { return float64(m.DiskBytes) }},
	{desc("log_disk_free_bytes", "Free bytes of the file system."), prometheus.GaugeValue, func(m *pebblelog.Metrics) float64 { return float64(m.FreeBytes) }},
	{desc("log_full", "1 while publishing is refused for want of space."), prometheus.GaugeValue, func(m *pebblelog.Metrics) float64 { return oneIf(m.Full) }},
	{desc("log_stopped", "1 once the log has stopped by itself."), prometheus.GaugeValue, func(m *pebblelog.Metrics) float64 { return oneIf(m.Stopped) }},
	{desc("log_damaged", "1 if damage was found when the log was opened."), prometheus.GaugeValue, func(m *pebblelog.Metrics) float64 { return oneIf(m.Damaged) }},
}

var logSyncDesc = desc("log_sync_seconds", "Time until a batch was on disk.")

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (c *logCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range logMetrics {
		ch <- m.desc
	}
	ch <- logSyncDesc
}

func (c *logCollector) Collect(ch chan<- prometheus.Metric) {
	m := c.log.Metrics()
	for _, row := range logMetrics {
		ch <- prometheus.MustNewConstMetric(row.desc, row.kind, row.value(&m))
	}
	buckets, below := map[float64]uint64{}, uint64(0)
	for i, bound := range m.SyncTime.Bounds {
		below += m.SyncTime.Counts[i]
		buckets[bound] = below
	}
	// Counted from the buckets, so that sum and buckets of a scrape agree.
	total := below + m.SyncTime.Counts[len(m.SyncTime.Bounds)]
	ch <- prometheus.MustNewConstHistogram(logSyncDesc, total, m.SyncTime.Sum, buckets)
}
