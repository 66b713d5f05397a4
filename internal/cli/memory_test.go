package cli

import (
	"errors"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"
)

func TestMemoryLimitIsThatOfTheContainer(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	for _, tt := range []struct {
		limit uint64
		err   error
		want  int64
	}{
		{1 << 30, nil, 966_367_620},
		{0, errors.New("no cgroup"), 12345},
		{math.MaxUint64, nil, 1 << 62 / 100 * 90},
	} {
		debug.SetMemoryLimit(12345)
		limitMemory(func() (uint64, error) { return tt.limit, tt.err })
		if got := debug.SetMemoryLimit(-1); got != tt.want {
			t.Errorf("a container of %d bytes, %v: the limit is %d, want %d", tt.limit, tt.err, got, tt.want)
		}
	}
}

func TestGCPercentFollowsTheHeap(t *testing.T) {
	const mib = 1 << 20
	for live, want := range map[uint64]int{0: 400, 1: 400, 6 * mib: 400, 12 * mib: 200, 24 * mib: 100, 25 * mib: 100, math.MaxUint64: 100} {
		if got := gcPercent(live); got != want {
			t.Errorf("at %d bytes %d %%, want %d", live, got, want)
		}
	}
	if runtime.GC(); liveHeap() == 0 {
		t.Error("the runtime does not say how large the heap is")
	}
}

func TestMemoryIsReleasedAfterAStorm(t *testing.T) {
	var connects int64
	var releases []int
	second := 0
	k := &memoryKeeper{
		live:     func() uint64 { return 1 },
		connects: func() int64 { return connects },
		tune:     func(int) {},
		release:  func() { releases = append(releases, second) },
	}
	opened := map[int]int64{
		1:   1000,  // not more than a thousand
		20:  1,     // now it is, and is quiet for 3 s only
		23:  1,     // released at 28
		30:  5000,  // a minute is not over before 88
		100: 1000,  // too few
		150: 1,     // released at 155
		190: 10000, // for 30 s somebody comes each second: released at 224
	}
	for i := range 30 {
		opened[190+i] += 1
	}
	for began := time.Unix(0, 0); second < 300; second++ {
		connects += opened[second]
		k.look(began.Add(time.Duration(second) * time.Second))
	}
	if want := []int{28, 88, 155, 224}; !slices.Equal(releases, want) {
		t.Errorf("released at %v s, want %v", releases, want)
	}
}

func TestCollectorIsTunedWhenTheHeapChanges(t *testing.T) {
	var live uint64
	var tuned []int
	k := &memoryKeeper{
		live:     func() uint64 { return live },
		connects: func() int64 { return 0 },
		tune:     func(percent int) { tuned = append(tuned, percent) },
		release:  func() { t.Error("released for nothing") },
	}
	for _, live = range []uint64{1 << 20, 2 << 20, 12 << 20, 12 << 20, 1 << 30, 1} {
		k.look(time.Now())
	}
	if want := []int{400, 200, 100, 400}; !slices.Equal(tuned, want) {
		t.Errorf("tuned to %v, want %v", tuned, want)
	}
}
