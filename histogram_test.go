package tailrace

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestHistogramCountsAtOrBelowEachBound(t *testing.T) {
	var h histogram
	for _, c := range []struct {
		took  time.Duration
		bound float64 // seconds, the least at or above; infinite beyond all
	}{
		{-time.Second, 0.0001},
		{0, 0.0001},
		{1, 0.0001},
		{100 * time.Microsecond, 0.0001},
		{100*time.Microsecond + 1, 0.0002},
		{200 * time.Microsecond, 0.0002},
		{200*time.Microsecond + 1, 0.0004},
		{time.Second, 1.6384},
		{leastBound << (boundCount - 1), 104.8576},
		{leastBound<<(boundCount-1) + 1, math.Inf(1)},
		{math.MaxInt64, math.Inf(1)},
	} {
		before := h.snapshot()
		h.observe(c.took)
		after := h.snapshot()
		if after.Count != before.Count+1 {
			t.Errorf("%v: %d observations after %d", c.took, after.Count, before.Count)
		}
		for i, bound := range after.Bounds {
			want := before.Counts[i]
			if bound >= c.bound {
				want++
			}
			if after.Counts[i] != want {
				t.Errorf("%v: %d at or below %g, want %d", c.took, after.Counts[i], bound, want)
			}
		}
	}
}

func TestHistogramSumsSeconds(t *testing.T) {
	var h histogram
	for _, d := range []time.Duration{-time.Hour, time.Second, 1500 * time.Millisecond} {
		h.observe(d)
	}
	if s := h.snapshot(); s.Sum != 2.5 {
		t.Errorf("%g seconds", s.Sum)
	}
}

func TestHistogramBoundsAscend(t *testing.T) {
	s := new(histogram).snapshot()
	if !slices.IsSorted(s.Bounds) || s.Bounds[0] != 0.0001 || s.Bounds[len(s.Bounds)-1] < 100 || len(s.Counts) != len(s.Bounds) {
		t.Errorf("bounds %v, %d counts", s.Bounds, len(s.Counts))
	}
}

func TestHistogramLosesNothing(t *testing.T) {
	const workers, each = 8, 1000
	var h histogram
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range each {
				h.observe(time.Duration(i) * time.Millisecond)
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			if s := h.snapshot(); !slices.IsSorted(s.Counts) || s.Counts[len(s.Counts)-1] > s.Count {
				t.Errorf("counts do not agree: %v of %d", s.Counts, s.Count)
			}
		}
	})
	wg.Wait()
	s := h.snapshot()
	if want := workers * (each - 1) * each / 2 / 1e3; s.Count != workers*each || math.Abs(s.Sum-want) > 1e-6 {
		t.Errorf("%d observations of %g s, want %d of %g s", s.Count, s.Sum, workers*each, want)
	}
}
