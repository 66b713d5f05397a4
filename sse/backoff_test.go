package sse

import (
	"math"
	"net/http"
	"testing"
	"time"
)

func TestBackoffBounds(t *testing.T) {
	const none = time.Duration(-1)
	ms := time.Millisecond
	b := Backoff{Min: time.Second, Max: 30 * time.Second}
	tests := []struct {
		name           string
		b              Backoff
		n              int
		retry, after   time.Duration
		floor, ceiling time.Duration
	}{
		{"first", b, 0, none, 0, 0, time.Second},
		{"doubles", b, 1, none, 0, 0, 2 * time.Second},
		{"doubles again", b, 4, none, 0, 0, 16 * time.Second},
		{"up to the limit", b, 5, none, 0, 0, 30 * time.Second},
		{"and no further", b, math.MaxInt, none, 0, 0, 30 * time.Second},
		{"minimum over maximum", Backoff{Min: time.Minute, Max: time.Second}, 0, none, 0, 0, time.Second},
		{"a huge limit", Backoff{Min: time.Second, Max: math.MaxInt64}, 100, none, 0, 0, math.MaxInt64},
		{"retry 0, first", b, 0, 0, 0, 0, 0},
		{"retry 0, then", b, 1, 0, 0, 0, 2 * time.Second},
		{"retry, first", b, 0, 3 * time.Second, 0, 3 * time.Second, 3750 * ms},
		{"retry, then", b, 1, 3 * time.Second, 0, 3 * time.Second, 6 * time.Second},
		{"retry under the minimum", b, 2, 100 * ms, 0, 100 * ms, 4 * time.Second},
		{"retry over the maximum", b, 3, 40 * time.Second, 0, 40 * time.Second, 50 * time.Second},
		{"Retry-After", b, 0, none, 10 * time.Second, 10 * time.Second, 12500 * ms},
		{"Retry-After under the ceiling", b, 3, none, 2 * time.Second, 2 * time.Second, 8 * time.Second},
		{"Retry-After over retry", b, 0, time.Second, 2 * time.Second, 2 * time.Second, 2500 * ms},
		{"retry over Retry-After", b, 0, 4 * time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second},
		{"an hour at most", b, 0, 48 * time.Hour, 0, time.Hour, 75 * time.Minute},
		{"an hour at most, Retry-After", b, 0, none, 48 * time.Hour, time.Hour, 75 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			floor, ceiling := tt.b.bounds(tt.n, tt.retry, tt.retry != none, tt.after)
			if floor != tt.floor || ceiling != tt.ceiling {
				t.Fatalf("got %v to %v, want %v to %v", floor, ceiling, tt.floor, tt.ceiling)
			}
			for range 1000 {
				if d := between(floor, ceiling); d < floor || d > ceiling {
					t.Fatalf("delay %v is not from %v to %v", d, floor, ceiling)
				}
			}
		})
	}
}

func TestBetweenSpreads(t *testing.T) {
	var low, high int
	for range 1000 {
		switch d := between(time.Second, 2*time.Second); {
		case d < 1250*time.Millisecond:
			low++
		case d > 1750*time.Millisecond:
			high++
		}
	}
	if low < 100 || high < 100 { // of about 250; less is one in 10^30
		t.Errorf("%d in the lowest quarter and %d in the highest, of 1000", low, high)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		field string
		want  time.Duration
	}{
		{"", 0},
		{"7", 7 * time.Second},
		{" 7 ", 7 * time.Second},
		{"0", 0},
		{"-7", 0},
		{"+7", 0},
		{"1.5", 0},
		{"soon", 0},
		{"99999999999", (1<<31 - 1) * time.Second},
		{"Fri, 02 Jan 2026 03:05:05 GMT", time.Minute},
		{"Friday, 02-Jan-26 03:05:05 GMT", time.Minute},
		{"Fri Jan  2 03:05:05 2026", time.Minute},
		{"Fri, 02 Jan 2026 03:04:04 GMT", 0},
	}
	for _, tt := range tests {
		if got := retryAfter(http.Header{"Retry-After": {tt.field}}, now); got != tt.want {
			t.Errorf("%q: %v, want %v", tt.field, got, tt.want)
		}
	}
}

func TestBackoffDefaults(t *testing.T) {
	if got, want := (Backoff{}).withDefaults(), (Backoff{time.Second, 30 * time.Second, time.Minute}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
