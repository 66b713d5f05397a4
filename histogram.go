package tailrace

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram is a distribution of times as of one moment: how many were at or
// below each of a few bounds.
type Histogram struct {
	Bounds []float64 // seconds, ascending; shared by all histograms, not to be changed
	Counts []uint64  // observations at or below the bound of the same index: cumulative
	Count  uint64    // all observations
	Sum    float64   // of all observations, seconds
}

// The bounds of every histogram are 100 µs and its doubles up to 105 s: fine
// enough for a ratio of two, and the bucket of a time is the length of a
// number in bits.
const (
	leastBound = 100 * time.Microsecond
	boundCount = 21
)

// histogramBounds are the bounds in seconds.
var histogramBounds = func() []float64 {
	list := make([]float64, boundCount)
	for i := range list {
		list[i] = float64(leastBound<<i) / 1e9 // Seconds would give 1.6383999999999999
	}
	return list
}()

// histogram counts times. Its zero value is ready; all methods are safe for
// concurrent use and allocate nothing but what snapshot returns.
type histogram struct {
	counts [boundCount + 1]atomic.Uint64 // the last is beyond every bound
	sum    atomic.Int64                  // nanoseconds
}

// observe counts d; a negative one, which two clocks can give, counts as none.
func (h *histogram) observe(d time.Duration) {
	d = max(d, 0)
	h.counts[boundIndex(d)].Add(1)
	h.sum.Add(int64(d))
}

// boundIndex returns the index of the least bound that is not below d.
func boundIndex(d time.Duration) int {
	return min(bits.Len64(uint64(max(d-1, 0)/leastBound)), boundCount)
}

// snapshot returns the distribution as of now. Its counts agree with each
// other; the sum may have a few observations more or less.
func (h *histogram) snapshot() Histogram {
	s := Histogram{Bounds: histogramBounds, Counts: make([]uint64, boundCount), Sum: time.Duration(h.sum.Load()).Seconds()}
	for i := range h.counts {
		s.Count += h.counts[i].Load()
		if i < boundCount {
			s.Counts[i] = s.Count
		}
	}
	return s
}
