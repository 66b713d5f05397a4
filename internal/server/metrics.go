package server

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the figures at /metrics. Labels come from fixed sets: never a
// topic, a principal or an address.
type metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tailrace_http_requests_total", Help: "Requests answered, by route, method and status.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tailrace_http_request_seconds", Help: "Time until the head of the answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"route"}),
	}
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tailrace_build_info", Help: "Always 1; its label is the version.", ConstLabels: prometheus.Labels{"version": s.opts.Version},
	}, func() float64 { return 1 })
	m.registry.MustRegister(m.requests, m.seconds, info, &hubCollector{hub: s.hub},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if log, ok := s.hub.Log().(metricLog); ok {
		m.registry.MustRegister(&logCollector{log})
	}
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m
}

// request counts an answer whose head has left.
func (m *metrics) request(route, method string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, methodLabel(method), strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// methodLabel keeps methods that clients make up out of the labels.
func methodLabel(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY":
		return method
	}
	return "other"
}

func (s *Server) serveMetrics(w http.ResponseWriter, c *call) error {
	s.metrics.handler.ServeHTTP(w, c.Request)
	return nil
}
