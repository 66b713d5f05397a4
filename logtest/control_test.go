package logtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// TestFaultsAreSeen is the control run: a log with one fault must fail the
// tests that look for it, or they prove nothing.
func TestFaultsAreSeen(t *testing.T) {
	for _, c := range []struct {
		fault string
		wrap  func(*faulty)
		seen  []string // tests that must fail
	}{
		{"swallows resets", func(f *faulty) {
			f.page = func(f *faulty, q tailrace.Query, p tailrace.Page) tailrace.Page {
				if p.Reset == nil || p.Reset.Reason != tailrace.Trimmed && p.Reset.Reason != tailrace.Deleted {
					return p
				}
				return f.read(tailrace.Query{Select: q.Select, After: p.Next, Told: p.Told, Limit: q.Limit})
			}
		}, []string{
			"S5 reset/a trim after the start is told", "S5 reset/a loss is told once, a later one again",
			"S10 delete/everything goes, with the reason deleted", "S3 completeness/a pattern counts the topics that are gone",
			"model/random operations", "concurrent/publishers, readers and trims", "timer/the same without wakes",
			"schedules/read.slice, trim",
		}},
		{"reads events from a later view than the floors", func(f *faulty) {
			f.before = func(f *faulty, q tailrace.Query) (tailrace.Page, bool) {
				if p := f.read(q); p.Reset != nil || q.Latest || q.After.IsZero() {
					return p, true
				}
				f.pauseAt("read.floors")
				q.Told = ^uint64(0)
				return f.read(q), true
			}
		}, []string{"schedules/read.floors, trim", "schedules/read.floors, delete"}},
		{"tells a loss again and again", func(f *faulty) {
			f.before = func(f *faulty, q tailrace.Query) (tailrace.Page, bool) {
				q.Told = 0
				return f.read(q), true
			}
		}, []string{"S5 reset/of several topics next skips nothing that is kept", "model/random operations"}},
		{"tells a loss once to all readers", func(f *faulty) {
			var told atomic.Uint64
			f.before = func(f *faulty, q tailrace.Query) (tailrace.Page, bool) {
				q.Told = max(q.Told, told.Load())
				p := f.read(q)
				if p.Reset != nil {
					told.Store(p.Told)
				}
				return p, true
			}
		}, []string{"S5 reset/a trim after the start is told", "model/random operations", "concurrent/publishers, readers and trims"}},
		{"skips an event of a page", func(f *faulty) {
			f.page = func(f *faulty, q tailrace.Query, p tailrace.Page) tailrace.Page {
				if n := len(p.Events); n > 2 {
					p.Events = slices.Delete(slices.Clone(p.Events), n/2, n/2+1)
				}
				return p
			}
		}, []string{
			"S3 completeness/pages of any size join without gap or overlap", "model/random operations",
			"concurrent/publishers, readers and trims", "scale/many topics",
		}},
		{"swaps two events", func(f *faulty) {
			f.page = func(f *faulty, q tailrace.Query, p tailrace.Page) tailrace.Page {
				if n := len(p.Events); n > 2 {
					p.Events = slices.Clone(p.Events)
					p.Events[1], p.Events[2] = p.Events[2], p.Events[1]
				}
				return p
			}
		}, []string{"S1 order/positions grow in order of commit over all topics", "model/random operations", "concurrent/publishers, readers and trims"}},
		{"gives an event on two pages", func(f *faulty) {
			f.page = func(f *faulty, q tailrace.Query, p tailrace.Page) tailrace.Page {
				if n := len(p.Events); n > 1 && p.More {
					p.Next = p.Events[n-2].Cursor
				}
				return p
			}
		}, []string{"S3 completeness/pages of any size join without gap or overlap", "model/random operations", "concurrent/publishers, readers and trims"}},
		{"moves next to the head too early", func(f *faulty) {
			f.page = func(f *faulty, q tailrace.Query, p tailrace.Page) tailrace.Page {
				if p.Reset == nil && !q.Latest {
					p.Next = f.read(tailrace.Query{Head: true}).Next
				}
				return p
			}
		}, []string{"S3 completeness/pages of any size join without gap or overlap", "model/random operations", "concurrent/publishers, readers and trims"}},
		{"raises floors to the head", func(f *faulty) {
			f.page = func(f *faulty, q tailrace.Query, p tailrace.Page) tailrace.Page {
				head := f.read(tailrace.Query{Head: true}).Next
				if !q.After.IsZero() && q.Told == 0 && p.Reset == nil && !q.Latest && q.After.Pos+200 < head.Pos {
					return tailrace.Page{Next: q.After, Told: head.Pos, Reset: &tailrace.Reset{Reason: tailrace.Trimmed}}
				}
				return p
			}
		}, []string{"idle/an idle topic never causes a reset", "concurrent/publishers, readers and trims"}},
		{"forgets ids now and then", func(f *faulty) {
			var n atomic.Int64
			f.append = func(f *faulty, events []tailrace.Event) ([]tailrace.Receipt, error) {
				events = slices.Clone(events)
				for i := range events {
					if events[i].ID != "" {
						if k := n.Add(1); k%3 == 0 {
							events[i].ID += fmt.Sprint("#", k)
						}
					}
				}
				return f.Log.Append(context.Background(), events)
			}
		}, []string{"S6 ids/by many at once", "model/random operations", "concurrent/publishers, readers and trims"}},
		{"claims an id in two steps", func(f *faulty) {
			var mu sync.Mutex
			first := map[string]tailrace.Receipt{}
			f.append = func(f *faulty, events []tailrace.Event) ([]tailrace.Receipt, error) {
				id := events[0].ID
				if id == "" {
					return f.Log.Append(context.Background(), events)
				}
				mu.Lock()
				r, ok := first[id]
				mu.Unlock()
				if ok {
					r.Duplicate, r.Time = true, time.Time{}
					return []tailrace.Receipt{r}, nil
				}
				f.pauseAt("id.claim")
				rs, err := f.Log.Append(context.Background(), []tailrace.Event{event(events[0].Topic, string(events[0].Data))})
				mu.Lock()
				defer mu.Unlock()
				first[id] = rs[0]
				return rs, err
			}
		}, []string{"schedules/id.claim, the same id"}},
		{"acknowledges what it has not stored", func(f *faulty) {
			f.append = func(f *faulty, events []tailrace.Event) ([]tailrace.Receipt, error) {
				n := len(events)
				if n < 2 {
					return f.Log.Append(context.Background(), events)
				}
				rs, err := f.Log.Append(context.Background(), events[:n-1])
				if err == nil {
					last := rs[n-2]
					last.Cursor.Pos++
					rs = append(rs, last)
				}
				return rs, err
			}
		}, []string{"S1 order/receipts are in order of the events", "concurrent/publishers, readers and trims", "scale/many topics"}},
		{"parts the events of a call", func(f *faulty) {
			f.append = func(f *faulty, events []tailrace.Event) (all []tailrace.Receipt, err error) {
				for i := range events {
					rs, err := f.Log.Append(context.Background(), events[i:i+1])
					if err != nil {
						return nil, err
					}
					all = append(all, rs...)
					runtime.Gosched()
				}
				return all, nil
			}
		}, []string{
			"S1 order/events of one append and topic have no other between them",
			"S1 order/an invalid event refuses the whole call", "S7 close/nothing follows the end in its own call",
		}},
		{"answers before the event can be read", func(f *faulty) {
			f.append = func(f *faulty, events []tailrace.Event) ([]tailrace.Receipt, error) {
				rs, err := f.Log.Append(context.Background(), events)
				if err == nil && len(rs) > 0 {
					f.hide(rs[0].Cursor.Pos)
				}
				return rs, err
			}
			f.page = func(f *faulty, q tailrace.Query, p tailrace.Page) tailrace.Page {
				if n := len(p.Events); n > 0 && p.Events[n-1].Cursor.Pos == f.hidden.Swap(0) {
					p.Events = p.Events[:n-1]
					p.Next.Pos = p.Next.Pos - 1
				}
				return p
			}
		}, []string{"S2 visibility/what is acknowledged is seen, and the head does not go back", "model/random operations"}},
		{"loses wakes", func(f *faulty) { f.deaf = true }, []string{
			"S12 watch/each commit that matches wakes", "concurrent/publishers, readers and trims",
		}},
		{"tells no loss between the pages of a snapshot", func(f *faulty) {
			f.page = func(f *faulty, q tailrace.Query, p tailrace.Page) tailrace.Page {
				if q.Latest {
					p.Told = f.read(tailrace.Query{Head: true}).Next.Pos
				}
				return p
			}
		}, []string{"S9 latest/a loss between the pages is told after the cut"}},
		{"moves the cut of a snapshot", func(f *faulty) {
			f.page = func(f *faulty, q tailrace.Query, p tailrace.Page) tailrace.Page {
				if q.Latest {
					p.Next = f.read(tailrace.Query{Head: true}).Next
				}
				return p
			}
		}, []string{"S9 latest/what changes after the cut follows it"}},
	} {
		t.Run(c.fault, func(t *testing.T) {
			for _, path := range c.seen {
				x := find(t, path)
				config := faultyConfig(c.wrap)
				var said string
				// A race needs luck; a test that never fails has none in many tries.
				for range 20 {
					if said = failure(t, func(tb testing.TB) { x.run(tb, config) }); said != "" {
						break
					}
				}
				if said == "" {
					t.Errorf("%s did not see it", path)
				}
				line, _, _ := strings.Cut(said, "\n")
				t.Logf("%s: %.200s", path, line)
			}
		})
	}
}

func find(t *testing.T, path string) *test {
	t.Helper()
	for _, g := range groups() {
		for _, x := range g.tests {
			if g.name+"/"+x.name == path {
				return &x
			}
		}
	}
	t.Fatalf("there is no test %q", path)
	return nil
}

func faultyConfig(wrap func(*faulty)) *Config {
	open := func(_ testing.TB, _ string, rules []tailrace.Rule) tailrace.Log {
		f := &faulty{Log: tailrace.NewMemoryLog(&tailrace.MemoryOptions{Rules: rules})}
		wrap(f)
		return f
	}
	return &Config{
		Open:      open,
		Pause:     func(l tailrace.Log, fn func(string)) { l.(*faulty).pause.Store(&fn) },
		wakeLimit: 300 * time.Millisecond,
	}
}

// faulty is a log with a fault.
type faulty struct {
	tailrace.Log
	before func(*faulty, tailrace.Query) (tailrace.Page, bool)
	page   func(*faulty, tailrace.Query, tailrace.Page) tailrace.Page
	append func(*faulty, []tailrace.Event) ([]tailrace.Receipt, error)
	deaf   bool
	hidden atomic.Uint64
	pause  atomic.Pointer[func(string)]
}

func (f *faulty) read(q tailrace.Query) tailrace.Page {
	p, _ := f.Log.Read(context.Background(), q)
	return p
}

func (f *faulty) hide(pos uint64) { f.hidden.Store(pos) }

func (f *faulty) pauseAt(point string) {
	if fn := f.pause.Load(); fn != nil && *fn != nil {
		(*fn)(point)
	}
}

func (f *faulty) Read(ctx context.Context, q tailrace.Query) (tailrace.Page, error) {
	if f.before != nil {
		if p, done := f.before(f, q); done {
			return p, nil
		}
	}
	p, err := f.Log.Read(ctx, q)
	f.pauseAt("read.slice")
	if err == nil && f.page != nil {
		p = f.page(f, q, p)
	}
	return p, err
}

func (f *faulty) Append(ctx context.Context, events []tailrace.Event) ([]tailrace.Receipt, error) {
	defer f.pauseAt("append.commit")
	if f.append != nil {
		return f.append(f, events)
	}
	return f.Log.Append(ctx, events)
}

func (f *faulty) Watch(s tailrace.Selector, wake func()) (func(), error) {
	if f.deaf {
		return func() {}, nil
	}
	return f.Log.Watch(s, wake)
}

// failure runs check and returns what it failed with, "" if it passed.
func failure(t *testing.T, check func(testing.TB)) string {
	r := &recorder{TB: t}
	var wg sync.WaitGroup
	wg.Go(func() { check(r) })
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said
}

// recorder is a testing.TB whose failures are no failures of the test.
type recorder struct {
	testing.TB
	mu   sync.Mutex
	said string
}

func (r *recorder) say(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said == "" {
		r.said = s
	}
}

func (r *recorder) Error(args ...any)                 { r.say(fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.say(fmt.Sprintf(format, args...)) }
func (r *recorder) Fail()                             { r.say("Fail") }
func (r *recorder) Fatal(args ...any)                 { r.Error(args...); runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }
func (r *recorder) FailNow()                          { r.Fail(); runtime.Goexit() }
func (r *recorder) Log(...any)                        {}
func (r *recorder) Logf(string, ...any)               {}
func (r *recorder) Skip(...any)                       { runtime.Goexit() }
func (r *recorder) Skipf(string, ...any)              { runtime.Goexit() }
func (r *recorder) SkipNow()                          { runtime.Goexit() }
