package tailrace

import "time"

// throttle is a token bucket: it lets rate pass a second on average, and burst
// at once after a rest. A negative one of the two is no limit. It is not safe
// for concurrent use.
type throttle struct {
	rate, burst float64
	tokens      float64 // as of at
	at          time.Time
}

// newThrottle returns a rested one.
func newThrottle(rate, burst int) throttle {
	return throttle{rate: float64(rate), burst: float64(burst), tokens: float64(burst), at: time.Now()}
}

// pass lets one pass, or not.
func (t *throttle) pass() bool {
	if t.rate < 0 || t.burst < 0 {
		return true
	}
	now := time.Now()
	t.tokens = min(t.burst, t.tokens+now.Sub(t.at).Seconds()*t.rate)
	t.at = now
	if t.tokens < 1 {
		return false
	}
	t.tokens--
	return true
}
