// Package logtest tests that a [tailrace.Log] keeps what the interface
// promises. It is how one writes a log: make it pass, in the short form at each
// change, and now and then in the long one.
//
//	func TestLog(t *testing.T) {
//		logtest.Run(t, logtest.Config{
//			Open: func(t testing.TB, dir string, rules []tailrace.Rule) tailrace.Log {
//				return mylog.Open(dir, rules)
//			},
//			Durable: true,
//		})
//	}
//
// With TAILRACE_LONG=1 in the environment it runs the long form: more rounds,
// more readers, a million topics. Everything random prints its seed;
// TAILRACE_SEED=n repeats it.
//
// What the suite cannot know from outside an engine, a killed process, a
// damaged file, a full disk, is for the engine's own tests.
package logtest
