package tailrace

import "time"

// Durability says when an append is acknowledged.
type Durability string

const (
	Memory   Durability = "memory"   // in memory; a crash may lose it
	Interval Durability = "interval" // in memory, and on disk within 50 ms
	Fsync    Durability = "fsync"    // on disk
)

// Defaults of a Policy.
const (
	DefaultMaxAge     = 24 * time.Hour
	DefaultMaxBytes   = 256 << 20
	DefaultIdleDelete = 7 * 24 * time.Hour
	DefaultMaxEvent   = 1 << 20
)

// Policy says what a log keeps of a topic and how. Zero fields are defaults;
// a negative MaxAge, MaxBytes or IdleDelete is no limit.
type Policy struct {
	MaxAge     time.Duration // age kept; default 24 h
	MaxCount   int64         // events kept; default 0, no limit
	MaxBytes   int64         // bytes of data kept; default 256 MiB
	Durability Durability    // default Fsync
	KeepLatest bool          // the newest event of each key outlives trimming
	IdleDelete time.Duration // a topic with no events and no appends is forgotten; default 7 d
	MaxEvent   int           // bytes of data of one event; default 1 MiB
	Closable   bool          // Event.Close is allowed
}

// WithDefaults returns p with its zero fields set.
func (p Policy) WithDefaults() Policy {
	if p.MaxAge == 0 {
		p.MaxAge = DefaultMaxAge
	}
	if p.MaxBytes == 0 {
		p.MaxBytes = DefaultMaxBytes
	}
	if p.Durability == "" {
		p.Durability = Fsync
	}
	if p.IdleDelete == 0 {
		p.IdleDelete = DefaultIdleDelete
	}
	if p.MaxEvent == 0 {
		p.MaxEvent = DefaultMaxEvent
	}
	return p
}

// Check reports an unknown durability or a negative count or event size as an
// [*InvalidError].
func (p Policy) Check() error {
	switch p.Durability {
	case "", Memory, Interval, Fsync:
	default:
		return &InvalidError{Field: "durability", Reason: "is not memory, interval or fsync"}
	}
	if p.MaxCount < 0 {
		return &InvalidError{Field: "count", Reason: "is negative"}
	}
	if p.MaxEvent < 0 {
		return &InvalidError{Field: "max_event", Reason: "is negative"}
	}
	return nil
}

// Rule gives the topics that match Pattern (or are named by it) a Policy.
type Rule struct {
	Pattern string
	Policy  Policy
}

// Rules are tried in order; the first match wins.
type Rules []Rule

// Policy returns the policy of topic, with defaults set.
func (rs Rules) Policy(topic string) Policy {
	for i := range rs {
		if MatchPattern(rs[i].Pattern, topic) {
			return rs[i].Policy.WithDefaults()
		}
	}
	return Policy{}.WithDefaults()
}

// Check reports the first invalid pattern or policy.
func (rs Rules) Check() error {
	for i := range rs {
		if err := CheckPattern(rs[i].Pattern); err != nil {
			return err
		}
		if err := rs[i].Policy.Check(); err != nil {
			return err
		}
	}
	return nil
}
