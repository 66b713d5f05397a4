package auth

import (
	"fmt"

	"github.com/tailrace/tailrace/internal/problem"
)

// Step is one check of a decision.
type Step struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// trail records the checks of a decision, in the order in which they are made.
// A nil trail records nothing: that is how real requests are decided.
type trail struct{ steps []Step }

func (t *trail) yes(check, format string, args ...any) {
	if t != nil {
		t.steps = append(t.steps, Step{check, true, fmt.Sprintf(format, args...)})
	}
}

// no records the check that failed and returns the refusal.
func (t *trail) no(check string, p *problem.Problem) *problem.Problem {
	if t != nil {
		t.steps = append(t.steps, Step{check, false, p.Detail})
	}
	return p
}
