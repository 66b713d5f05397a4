package server

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/pebblelog"
)

// TestMetricsShowEveryLabel compares what a hub shows before anything has
// happened with the whole of each fixed set.
func TestMetricsShowEveryLabel(t *testing.T) {
	s := newServer(t, nil, nil)
	registry := prometheus.NewRegistry()
	registry.MustRegister(&hubCollector{hub: s.hub})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	reasons := "draining capacity principal address rate"
	for name, want := range map[string][]string{
		"connections":            cross("engine", "fast portable", "protocol", "HTTP/1.0 HTTP/1.1 HTTP/2.0 HTTP/3.0 other"),
		"connects_total":         cross("result", "admitted refused"),
		"rejects_total":          cross("reason", reasons, "soft", "true false"),
		"disconnects_total":      cross("reason", "client ended stalled error drain max-age epoch expired revoked forbidden disconnected limit other"),
		"resumes_total":          cross("verdict", "resumed gap"),
		"gaps_total":             cross("reason", "trimmed deleted epoch ahead unknown overflow"),
		"events_published_total": cross("result", "stored duplicate refused"),
		"events_delivered_total": cross("engine", "fast portable"),
		"sends_total":            cross("engine", "fast portable"),
		"bytes_sent_total":       cross("engine", "fast portable"),
		"behind_connections":     cross("age", "<1s <10s <60s more"),
		"feeds":                  cross("kind", "topic set pattern"),
		"replay_pages_total":     cross("source", "cache log"),
		"replay_budget_bytes":    cross("state", "used free"),
		"control_total":          cross("kind", "send broadcast", "result", "queued skipped slow"),
		"fast_refused_total":     cross("why", "http2 protocol request wrapper encoding listener descriptors off"),
		"shard_panics_total":     {""},
		"delivery_seconds":       {""},
		"pass_seconds":           {""},
		"replay_wait_seconds":    {""},
	} {
		var got []string
		for _, family := range families {
			if family.GetName() != "tailrace_"+name {
				continue
			}
			for _, m := range family.Metric {
				var pairs []string
				for _, l := range m.Label {
					pairs = append(pairs, l.GetName()+"="+l.GetValue())
				}
				got = append(got, strings.Join(pairs, " "))
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// cross returns every combination of the values of labels, which are in
// alphabetical order.
func cross(labels ...string) []string {
	list := []string{""}
	for i := 0; i < len(labels); i += 2 {
		var next []string
		for _, before := range list {
			for value := range strings.FieldsSeq(labels[i+1]) {
				next = append(next, strings.TrimSpace(before+" "+labels[i]+"="+value))
			}
		}
		list = next
	}
	return list
}

func TestMetricsCountDelivery(t *testing.T) {
	for _, portable := range []bool{false, true} {
		t.Run(fmt.Sprintf("portable=%t", portable), func(t *testing.T) {
			h := start(t, &tailrace.Options{DrainWindow: -1, DisableFastEngine: portable}, nil)
			stream := h.open("/v1/topics/demo")
			before := h.figures()
			h.fill("demo", 3)
			for range 3 {
				stream.waitFor("data: ")
			}
			for h.hub.Stats().Delivered < 3 { // counted after the write, which the reader has seen
				runtime.Gosched()
			}
			engine := "" // the one that delivered
			for info := range h.hub.Connections() {
				engine = info.Engine
			}
			if portable && engine != "portable" {
				t.Errorf("the engine is %s", engine)
			}
			after := h.figures()
			for name, least := range map[string]float64{
				"tailrace_events_delivered_total": 3,
				"tailrace_sends_total":            1,
				"tailrace_bytes_sent_total":       float64(3 * len("data: 1\n\n")),
			} {
				rose := 0.0
				for _, e := range []string{"fast", "portable"} {
					label := fmt.Sprintf(`{engine="%s"}`, e)
					rose += after[name+label] - before[name+label]
				}
				if rose < least {
					t.Errorf("%s rose by %v, want %v at least", name, rose, least)
				}
			}
			if got := after[fmt.Sprintf(`tailrace_connections{engine="%s",protocol="HTTP/1.1"}`, engine)]; got != 1 {
				t.Errorf("%v streams of the %s engine", got, engine)
			}
			if got := after[`tailrace_feeds{kind="topic"}`]; got != 1 {
				t.Errorf("%v feeds of one topic", got)
			}
		})
	}
}

// figures scrapes the server.
func (h *harness) figures() map[string]float64 {
	h.t.Helper()
	m := map[string]float64{}
	for line := range strings.Lines(h.do("GET", "/metrics", "").wantStatus(h.t, 200).body) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			var v float64
			if _, err := fmt.Sscan(value, &v); err != nil {
				h.t.Fatalf("%s: %v", line, err)
			}
			m[name] = v
		}
	}
	return m
}

// TestMetricsAreDocumented compares the figures of a server with a disk with
// the tables of the page about them: each name, its type and its labels.
func TestMetricsAreDocumented(t *testing.T) {
	log, err := pebblelog.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	s := newServer(t, &tailrace.Options{Log: log, DrainWindow: -1}, nil)
	s.metrics.request("/v1/topics/{topic}", "GET", 200, 0) // a vector without values is not shown
	families, err := s.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
	shown := map[string]string{}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "tailrace_") {
			continue
		}
		var labels []string
		for _, l := range family.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		shown[family.GetName()] = strings.ToLower(family.GetType().String()) + " " + strings.Join(labels, ", ")
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(tailrace_\\w+)` \\| (\\w+) \\|([^|]*)\\|").FindAllStringSubmatch(string(page), -1) {
		labels := strings.Split(strings.ReplaceAll(strings.TrimSpace(m[3]), "`", ""), ", ")
		slices.Sort(labels)
		told[m[1]] = m[2] + " " + strings.Join(labels, ", ")
	}
	for name := range shown {
		if told[name] != shown[name] {
			t.Errorf("%s is %q, the page has %q", name, shown[name], told[name])
		}
		delete(told, name)
	}
	for name := range told {
		t.Errorf("the page has %s, which is not shown", name)
	}
}
