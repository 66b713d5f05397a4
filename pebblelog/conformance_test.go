package pebblelog

import (
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/logtest"
)

// TestConformance runs the suite on a file system in memory, so that a slow disk costs no time;
// the long form uses the disk.
func TestConformance(t *testing.T) { conformance(t, false) }

// TestConformanceOfStore reads everything from the store, what is in memory too.
func TestConformanceOfStore(t *testing.T) { conformance(t, true) }

func conformance(t *testing.T, tailLess bool) {
	disks := map[string]vfs.FS{} // by directory, so that a restart finds its own
	open := func(t testing.TB, dir string, o *Options) tailrace.Log {
		t.Helper()
		if os.Getenv("TAILRACE_LONG") == "" {
			if disks[dir] == nil {
				disks[dir] = vfs.NewMem()
			}
			o.fs = disks[dir]
		}
		o.sweep, o.tailLess = 10*time.Millisecond, tailLess
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
