package tailrace_test

import (
	"net/http"
	"runtime"
	"sync"
	"testing"

	"github.com/tailrace/tailrace"
)

// slowFilter lets everything through, once its gate is open.
type slowFilter struct {
	gate    <-chan struct{}
	entered chan<- struct{}
}

func (f *slowFilter) Match(*tailrace.Event) bool {
	select {
	case <-f.gate:
	default:
		f.entered <- struct{}{}
		<-f.gate
	}
	return true
}

func (f *slowFilter) Err() error { return nil }

// Filters that take for ever, more of them than there are workers, delay their
// own streams and nobody else: not live streams, not those that read history.
func TestSlowFiltersDelayOnlyTheirStreams(t *testing.T) {
	bothEngines(t, testSlowFiltersDelayOnlyTheirStreams)
}

func testSlowFiltersDelayOnlyTheirStreams(t *testing.T) {
	const live, history = 50, 1500
	gate, entered := make(chan struct{}), make(chan struct{}, 1<<16)
	release := sync.OnceFunc(func() { close(gate) })
	s := newSite(t, nil, 0, func(h *tailrace.Hub) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			sub, err := tailrace.ParseSubscription(r, 128)
			if err != nil {
				t.Error(err)
				return
			}
			if r.Header.Get("X-Filter") != "" {
				sub.Filter = &slowFilter{gate, entered} // each has its own
			}
			h.Serve(w, r, sub)
		})
	})
	t.Cleanup(release)
	var past []tailrace.Event
	var old []string
	for i := range history {
		old = append(old, text(i, 100))
		past = append(past, tailrace.Event{Topic: "old", Data: []byte(old[i])})
	}
	publishAll(t, s.Hub, past)

	var slow []*client
	for range 4 * 2 * runtime.GOMAXPROCS(0) {
		slow = append(slow, s.mustOpen(t, "topic=a", "X-Filter: 1"))
	}
	same, other := s.mustOpen(t, "topic=a"), s.mustOpen(t, "topic=b")
	var want []string
	for i := range live {
		want = append(want, text(i, 100))
		publish(t, s.Hub, tailrace.Event{Topic: "a", Data: []byte(want[i])})
		same.expect(t, want[i])
		if i == 0 {
			<-entered
		}
		publish(t, s.Hub, tailrace.Event{Topic: "b", Data: []byte(want[i])})
		other.expect(t, want[i])
	}
	for range 3 {
		s.mustOpen(t, "topic=old&from=start").expect(t, old...)
	}
	release()
	for _, c := range slow {
		c.expect(t, want...)
	}
}
