package tailrace_test

import (
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/logtest"
)

func TestMemoryLog(t *testing.T) {
	logtest.Run(t, logtest.Config{
		Open: func(t testing.TB, _ string, rules []tailrace.Rule) tailrace.Log {
			return tailrace.NewMemoryLog(&tailrace.MemoryOptions{Rules: rules})
		},
		Clock: func(t testing.TB, _ string, rules []tailrace.Rule, now func() time.Time) tailrace.Log {
			return tailrace.NewMemoryLog(&tailrace.MemoryOptions{Rules: rules, Now: now})
		},
		Pause: func(l tailrace.Log, fn func(string)) { l.(*tailrace.MemoryLog).SetPause(fn) },
	})
}
