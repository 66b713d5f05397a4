package doctor

import (
	"slices"
)

// Level says how bad a finding is.
type Level string

// The levels of findings.
const (
	OK     Level = "ok"
	Fault  Level = "fault"  // events come late, not at all, or not again
	Advice Level = "advice" // it works, and would work better otherwise
	Unseen Level = "unseen" // could not be looked at, and why
)

// Finding is what one check has found.
type Finding struct {
	Check string `json:"check"` // one of those of checks
	Level Level  `json:"level"`
	// What is right or wrong, How it is known, and what to Change, in one line
	// each. The last two are empty where there is nothing to say.
	What   string `json:"what"`
	How    string `json:"how,omitempty"`
	Change string `json:"change,omitempty"`
	// Config has the lines to write, by proxy: for the one in front if it tells
	// its name, else for those that we know.
	Config []Config `json:"config,omitempty"`
}

// Config is a line of a proxy's configuration.
type Config struct {
	Proxy string `json:"proxy"` // nginx, haproxy, caddy
	Line  string `json:"line"`
}

// The checks, in the order in which they are told.
const (
	checkReach       = "reach"
	checkTLS         = "tls"
	checkHTTP        = "http"
	checkUpstream    = "upstream"
	checkClock       = "clock"
	checkStream      = "stream"
	checkHeaders     = "headers"
	checkBuffering   = "buffering"
	checkCompression = "compression"
	checkHeartbeat   = "heartbeat"
	checkIdle        = "idle"
	checkResume      = "resume"
	checkCORS        = "cors"
	checkStreams     = "streams"
)

var checks = []string{
	checkReach, checkTLS, checkHTTP, checkUpstream, checkClock, checkStream, checkHeaders, checkBuffering,
	checkCompression, checkHeartbeat, checkIdle, checkResume, checkCORS, checkStreams,
}

// Report is what an examination has found.
type Report struct {
	URL      string    `json:"url"`
	Proxy    string    `json:"proxy,omitempty"`    // as it calls itself, such as nginx/1.22.1
	Protocol string    `json:"protocol,omitempty"` // such as HTTP/2.0
	Topic    string    `json:"topic,omitempty"`
	Findings []Finding `json:"findings"`
}

// Count returns how many findings have a level.
func (r *Report) Count(level Level) int {
	n := 0
	for _, f := range r.Findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return slices.Index(checks, a.Check) - slices.Index(checks, b.Check)
	})
}
