package figure

import (
	"math"
	"strings"
)

// Target is a bound on a median. Nil fields are none.
type Target struct {
	AtLeast *float64 `json:"at_least,omitempty"`
	AtMost  *float64 `json:"at_most,omitempty"`

	// Aim is a bound on the same side that is better than the target. To miss
	// it is no fault.
	Aim *float64 `json:"aim,omitempty"`
}

// AtMost is the target of a median that is bound to be v or less.
func AtMost(v float64) *Target { return &Target{AtMost: &v} }

// AtLeast is the target of a median that is bound to be v or more.
func AtLeast(v float64) *Target { return &Target{AtLeast: &v} }

// Aiming returns t with an aim beyond it.
func (t Target) Aiming(v float64) *Target {
	t.Aim = &v
	return &t
}

// met reports whether m is within the target; what could not be measured is
// not. No target is always met.
func (t *Target) met(m float64) bool {
	return t == nil || !math.IsNaN(m) && (t.AtLeast == nil || m >= *t.AtLeast) && (t.AtMost == nil || m <= *t.AtMost)
}

// reached reports whether m is within the aim.
func (t *Target) reached(m float64) bool {
	if t == nil || t.Aim == nil {
		return true
	}
	if t.AtLeast != nil {
		return m >= *t.Aim
	}
	return m <= *t.Aim
}

// text is the target for people, with its unit, and what of it m misses.
func (t *Target) text(m float64, unit string) string {
	if t == nil {
		return ""
	}
	var b strings.Builder
	sign := "<= "
	switch {
	case t.AtLeast != nil:
		sign = ">= "
		b.WriteString(sign + quantity(*t.AtLeast, unit))
	case t.AtMost != nil:
		b.WriteString(sign + quantity(*t.AtMost, unit))
	}
	if !t.met(m) {
		b.WriteString(" missed")
	}
	if t.Aim != nil {
		b.WriteString(" (aim " + short(*t.Aim))
		if !t.reached(m) {
			b.WriteString(" missed")
		}
		b.WriteByte(')')
	}
	return b.String()
}
