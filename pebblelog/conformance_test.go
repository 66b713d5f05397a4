package pebblelog

import (
	"testing"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/logtest"
)

func TestConformance(t *testing.T) {
	open := func(t testing.TB, dir string, o *Options) tailrace.Log {
		t.Helper()
		o.sweep = 10 * time.Millisecond
		return openTest(t, dir, o)
	}
	logtest.Run(t, logtest.Config{
		Durable: true,
		Open: func(t testing.TB, dir string, rules []tailrace.Rule) tailrace.Log {
			o := testOptions()
			o.Rules = rules
			return open(t, dir, o)
		},
		Clock: func(t testing.TB, dir string, rules []tailrace.Rule, now func() time.Time) tailrace.Log {
			o := testOptions()
			o.Rules, o.Now = rules, now
			return open(t, dir, o)
		},
		Pause: func(l tailrace.Log, fn func(string)) {
			if fn == nil {
				l.(*Log).pause.Store(nil)
				return
			}
			l.(*Log).pause.Store(&fn)
		},
	})
}
