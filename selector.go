package tailrace

import (
	"slices"
	"strings"
)

// Selector is what a subscriber reads: exact topics, patterns, or both. The
// zero Selector is every topic, those of the system too.
//
// A pattern is a name in which a segment "*" stands for any one segment and a
// last segment "**" for one or more. Other stars are literal. A pattern
// matches a name that begins with "$" only if its own first segment does.
type Selector struct {
	Topics   []string
	Patterns []string
}

// ParseSelector sorts parts into exact topics and patterns and checks them.
// The error is an [*InvalidError].
func ParseSelector(parts ...string) (Selector, error) {
	var s Selector
	for _, p := range parts {
		if IsPattern(p) {
			s.Patterns = append(s.Patterns, p)
		} else {
			s.Topics = append(s.Topics, p)
		}
	}
	return s, s.Check()
}

// IsPattern reports whether a segment of s is exactly "*" or "**".
func IsPattern(s string) bool {
	if !strings.Contains(s, "*") {
		return false
	}
	for seg := range strings.SplitSeq(s, "/") {
		if seg == "*" || seg == "**" {
			return true
		}
	}
	return false
}

// Check reports whether all names and patterns of s are valid.
func (s Selector) Check() error {
	for _, t := range s.Topics {
		if err := CheckTopic(t); err != nil {
			return err
		}
	}
	for _, p := range s.Patterns {
		if err := CheckPattern(p); err != nil {
			return err
		}
	}
	return nil
}

// CheckPattern reports whether p is a valid pattern. The error is an
// [*InvalidError].
func CheckPattern(p string) error {
	if p == "" {
		return &InvalidError{Field: "pattern", Reason: "is empty"}
	}
	if err := checkText("pattern", p, MaxTopic); err != nil {
		return err
	}
	if i := strings.Index("/"+p+"/", "/**/"); i >= 0 && i+len("**") < len(p) {
		return &InvalidError{Field: "pattern", Offset: i, Reason: "has ** before its last segment"}
	}
	return nil
}

// IsZero reports whether s selects every topic.
func (s Selector) IsZero() bool { return len(s.Topics) == 0 && len(s.Patterns) == 0 }

// Single returns the topic if s selects exactly one by name.
func (s Selector) Single() (string, bool) {
	if len(s.Topics) == 1 && len(s.Patterns) == 0 {
		return s.Topics[0], true
	}
	return "", false
}

// Match reports whether s selects topic.
func (s Selector) Match(topic string) bool {
	if s.IsZero() || slices.Contains(s.Topics, topic) {
		return true
	}
	for _, p := range s.Patterns {
		if MatchPattern(p, topic) {
			return true
		}
	}
	return false
}

// MatchPattern reports whether the pattern p matches topic. It does not
// allocate.
func MatchPattern(p, topic string) bool {
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(p, "$") {
		return false
	}
	for {
		pseg, prest, pmore := strings.Cut(p, "/")
		if pseg == "**" && !pmore {
			return true
		}
		tseg, trest, tmore := strings.Cut(topic, "/")
		if pseg != "*" && pseg != tseg || pmore != tmore {
			return false
		}
		if !pmore {
			return true
		}
		p, topic = prest, trest
	}
}

// Canonical returns the equal selector whose parts are sorted and without
// doubles, in slices of its own.
func (s Selector) Canonical() Selector {
	return Selector{Topics: sortedSet(s.Topics), Patterns: sortedSet(s.Patterns)}
}

func sortedSet(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	c := slices.Clone(s)
	slices.Sort(c)
	return slices.Compact(c)
}

// Covers reports whether every name that q matches is matched by p. Both are
// valid names or patterns; a name is the pattern that matches itself only.
func Covers(p, q string) bool {
	if strings.HasPrefix(q, "$") && !strings.HasPrefix(p, "$") {
		return false
	}
	for {
		pseg, prest, pmore := strings.Cut(p, "/")
		qseg, qrest, qmore := strings.Cut(q, "/")
		switch {
		case pseg == "**":
			return true // valid patterns have it last; q has at least one segment here
		case qseg == "**", pseg != "*" && pseg != qseg, pmore != qmore:
			return false
		case !pmore:
			return true
		}
		p, q = prest, qrest
	}
}
