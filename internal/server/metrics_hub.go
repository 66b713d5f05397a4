package server

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailrace/tailrace"
)

// hubCollector shows a hub's own counters, read once per scrape, so that the
// hub needs no metrics library.
type hubCollector struct{ hub *tailrace.Hub }

// figures are what one scrape reads.
type figures struct {
	tailrace.Stats
	census tailrace.Census
}

// hubMetric is one name: show gives each of its values with its labels.
type hubMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	show func(f *figures, emit emitter)
}

type emitter func(value float64, labels ...string)

func gauge(name, help string, show func(f *figures, emit emitter), labels ...string) hubMetric {
	return hubMetric{desc(name, help, labels...), prometheus.GaugeValue, show}
}

func counter(name, help string, show func(f *figures, emit emitter), labels ...string) hubMetric {
	return hubMetric{desc(name, help, labels...), prometheus.CounterValue, show}
}

// plain shows a figure without labels.
func plain(value func(f *figures) int64) func(*figures, emitter) {
	return func(f *figures, emit emitter) { emit(float64(value(f))) }
}

// perEngine shows a total of each engine.
func perEngine(value func(s tailrace.EngineStats) int64) func(*figures, emitter) {
	return func(f *figures, emit emitter) {
		emit(float64(value(f.Fast)), "fast")
		emit(float64(value(f.Portable)), "portable")
	}
}

// byLabel shows the figures of a fixed set.
func byLabel[N int | int64](list func(f *figures) map[string]N) func(*figures, emitter) {
	return func(f *figures, emit emitter) {
		for label, n := range list(f) {
			emit(float64(n), label)
		}
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tailrace_"+name, help, labels, nil)
}

// hubMetrics are the hub's figures but for those of metrics_delivery.go.
var hubMetrics = []hubMetric{
	gauge("connections", "Open streams.", func(f *figures, emit emitter) {
		for engine, protocols := range f.census.Streams {
			for protocol, n := range protocols {
				emit(float64(n), engine, protocol)
			}
		}
	}, "engine", "protocol"),
	counter("connects_total", "Streams asked for, admitted or refused.", func(f *figures, emit emitter) {
		emit(float64(f.Connects), "admitted")
		emit(float64(f.Rejects), "refused")
	}, "result"),
	counter("rejects_total", "Streams refused, by reason; soft is with an empty stream in place of a status.", func(f *figures, emit emitter) {
		for soft, list := range map[bool]map[string]int64{false: f.Rejected, true: f.SoftRejects} {
			for reason, n := range list {
				emit(float64(n), reason, strconv.FormatBool(soft))
			}
		}
	}, "reason", "soft"),
	counter("disconnects_total", "Streams ended, by reason.", disconnects, "reason"),
	counter("resumes_total", "Streams that came back after an id, by whether their history was whole.", func(f *figures, emit emitter) {
		emit(float64(f.Resumes-f.ResumeGaps), "resumed")
		emit(float64(f.ResumeGaps), "gap")
	}, "verdict"),
	counter("gaps_total", "Gap events sent, by reason.", func(f *figures, emit emitter) {
		for _, r := range gapReasons {
			emit(float64(f.Gaps[r]), string(r))
		}
	}, "reason"),
	counter("events_published_total", "Events by what became of their publish.", func(f *figures, emit emitter) {
		emit(float64(f.Published), "stored")
		emit(float64(f.Duplicates), "duplicate")
		emit(float64(f.PublishErrors), "refused")
	}, "result"),
	counter("bytes_published_total", "Bytes of data of stored events.", plain(func(f *figures) int64 { return f.PublishedBytes })),
}

// gapReasons and disconnectReasons are the labels; all are always shown, so
// that a rate over them never begins with nothing.
var (
	gapReasons = []tailrace.Reason{
		tailrace.Trimmed, tailrace.Deleted, tailrace.EpochGap, tailrace.Ahead, tailrace.Unknown, tailrace.Overflow,
	}
	disconnectReasons = []string{
		"client", "ended", "stalled", "error",
		"drain", "max-age", "epoch", "expired", "revoked", "forbidden", "disconnected", "limit",
	}
)

// disconnects shows the ends of streams; a reason that is not of the set is
// other.
func disconnects(f *figures, emit emitter) {
	other := int64(0)
	for _, n := range f.Disconnects {
		other += n
	}
	for _, r := range disconnectReasons {
		emit(float64(f.Disconnects[r]), r)
		other -= f.Disconnects[r]
	}
	emit(float64(other), "other")
}

func (c *hubCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, list := range [][]hubMetric{hubMetrics, deliveryMetrics} {
		for _, m := range list {
			ch <- m.desc
		}
	}
	for _, m := range deliveryTimes {
		ch <- m.desc
	}
}

func (c *hubCollector) Collect(ch chan<- prometheus.Metric) {
	f := &figures{c.hub.Stats(), c.hub.Census()}
	for _, list := range [][]hubMetric{hubMetrics, deliveryMetrics} {
		for _, m := range list {
			m.show(f, func(value float64, labels ...string) {
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, value, labels...)
			})
		}
	}
	for _, m := range deliveryTimes {
		ch <- constHistogram(m.desc, m.show(f))
	}
}
