package logtest

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// Config describes the log under test. A nil hook is a feature that the engine
// lacks; what needs it is skipped and says so.
type Config struct {
	// Open opens a log on dir, which is empty on first use; the same dir again
	// is a restart. The log has the rules, which may be nil. The suite closes
	// it.
	Open func(t testing.TB, dir string, rules []tailrace.Rule) tailrace.Log

	// Durable says that events survive Close and Open on the same dir.
	Durable bool

	// Pause installs fn, which is called at named points of the engine, and
	// may take its time there; nil removes it. Points are, where they exist:
	//
	//	read.floors    floors are read, events not yet
	//	read.slice     between two parts of one page
	//	append.commit  events are stored, the caller has no answer yet
	//	trim.floor     the floor is raised, the events are not removed yet
	//	id.claim       an own id is found to be free, its event is not stored yet
	//	latest.page    a page of a snapshot is begun
	//	epoch.write    a new epoch is written, nothing is appended in it yet
	Pause func(l tailrace.Log, fn func(point string))

	// Clock is Open with a clock, which the tests advance.
	Clock func(t testing.TB, dir string, rules []tailrace.Rule, now func() time.Time) tailrace.Log

	wakeLimit time.Duration // when a wake counts as lost; 0 is 10 s, far beyond what any engine needs
}

// Run runs the whole suite as subtests of t.
func Run(t *testing.T, c Config) {
	for _, g := range groups() {
		t.Run(g.name, func(t *testing.T) {
			for _, x := range g.tests {
				t.Run(x.name, func(t *testing.T) {
					if why := x.lacks(&c); why != "" {
						t.Skip("skipped: " + why)
					}
					x.run(t, &c)
				})
			}
		})
	}
}

// group is a part of the promises; S1 and so on are the numbers under which
// they are spoken of.
type group struct {
	name  string
	tests []test
}

func groups() []group {
	return []group{
		{"names", nameTests()},
		{"S1 order", orderTests()},
		{"S2 visibility", visibilityTests()},
		{"S3 completeness", completenessTests()},
		{"S4 resume", resumeTests()},
		{"S5 reset", resetTests()},
		{"S6 ids", idTests()},
		{"S7 close", closeTests()},
		{"S8 retention", retentionTests()},
		{"S9 latest", latestTests()},
		{"S10 delete", deleteTests()},
		{"S11 failure", failureTests()},
		{"S12 watch", watchTests()},
		{"model", modelTests()},
		{"concurrent", concurrentTests()},
		{"timer", timerTests()},
		{"schedules", scheduleTests()},
		{"idle", idleTests()},
		{"restart", restartTests()},
		{"scale", scaleTests()},
	}
}

// test is one promise.
type test struct {
	name  string
	needs need
	rules []tailrace.Rule
	check func(e *env)
}

// need is a feature of the engine without which a test is skipped.
type need int

const (
	nothing need = iota
	durable
	clock
	pause
)

func (x *test) lacks(c *Config) string {
	switch {
	case x.needs == durable && !c.Durable:
		return "the log is not durable"
	case x.needs == clock && c.Clock == nil:
		return "Config.Clock is nil"
	case x.needs == pause && c.Pause == nil:
		return "Config.Pause is nil"
	}
	return ""
}

func (x *test) run(t testing.TB, c *Config) {
	e := &env{TB: t, config: c, dir: t.TempDir(), rules: x.rules, wakeLimit: c.wakeLimit, recording: x.needs == pause}
	if e.wakeLimit == 0 {
		e.wakeLimit = 10 * time.Second
	}
	if x.needs == clock {
		e.clock = &fakeClock{now: time.Date(2030, 5, 17, 12, 0, 0, 0, time.UTC)}
	}
	e.open()
	t.Cleanup(func() {
		if err := e.log.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	x.check(e)
}

// env is one test with its log. Its helpers end the test on an error.
type env struct {
	testing.TB
	config *Config
	dir    string
	rules  []tailrace.Rule
	clock  *fakeClock // nil unless the test needs it
	log    tailrace.Log

	wakeLimit time.Duration

	recording bool
	mu        sync.Mutex
	events    []tailrace.Event // that append appended, if recording
}

func (e *env) open() {
	e.Helper()
	if e.clock != nil {
		e.log = e.config.Clock(e, e.dir, e.rules, e.clock.Now)
	} else {
		e.log = e.config.Open(e, e.dir, e.rules)
	}
}

// restart closes the log and opens it again.
func (e *env) restart() {
	e.Helper()
	if err := e.log.Close(); err != nil {
		e.Fatalf("Close: %v", err)
	}
	e.open()
}

// append appends what must be accepted.
func (e *env) append(events ...tailrace.Event) []tailrace.Receipt {
	e.Helper()
	rs, err := e.log.Append(e.Context(), events)
	if err != nil {
		e.Fatalf("Append: %v", err)
	}
	if len(rs) != len(events) {
		e.Fatalf("Append of %d events gave %d receipts", len(events), len(rs))
	}
	if e.recording {
		e.mu.Lock()
		defer e.mu.Unlock()
		for i, ev := range events {
			ev.Cursor = rs[i].Cursor
			e.events = append(e.events, ev)
		}
	}
	return rs
}

// published returns all that append has appended by now.
func (e *env) published() []tailrace.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.events)
}

// put appends one event with data to topic.
func (e *env) put(topic, data string) tailrace.Cursor {
	e.Helper()
	return e.append(event(topic, data))[0].Cursor
}

func (e *env) read(q tailrace.Query) tailrace.Page {
	e.Helper()
	p, err := e.log.Read(e.Context(), q)
	if err != nil {
		e.Fatalf("Read(%+v): %v", q, err)
	}
	if p.Reset != nil && len(p.Events) > 0 {
		e.Fatalf("Read(%+v): a reset with %d events", q, len(p.Events))
	}
	return p
}

// readAll reads on from q to the end, without any reset, and returns the
// events and where it ended.
func (e *env) readAll(q tailrace.Query) ([]tailrace.Event, tailrace.Page) {
	e.Helper()
	var all []tailrace.Event
	for {
		p := e.read(q)
		if p.Reset != nil {
			e.Fatalf("Read(%+v): reset %+v", q, *p.Reset)
		}
		all = append(all, p.Events...)
		if !p.More {
			return all, p
		}
		q = tailrace.Query{Select: q.Select, After: p.Next, Told: p.Told, Limit: q.Limit, MaxBytes: q.MaxBytes}
	}
}

// data reads on from q to the end and returns the events' data.
func (e *env) data(q tailrace.Query) []string {
	e.Helper()
	all, _ := e.readAll(q)
	return datas(all)
}

// latest reads a whole snapshot, and returns it with its last page.
func (e *env) latest(q tailrace.Query) ([]tailrace.Event, tailrace.Page) {
	e.Helper()
	var all []tailrace.Event
	q.Latest = true
	for {
		p := e.read(q)
		if p.Reset != nil {
			e.Fatalf("Read(%+v): reset %+v", q, *p.Reset)
		}
		all = append(all, p.Events...)
		if p.Mark == "" {
			return all, p
		}
		q.After, q.Mark, q.Told = p.Next, p.Mark, p.Told
	}
}

func (e *env) trim(topic string, upTo tailrace.Cursor) {
	e.Helper()
	if err := e.log.Trim(e.Context(), topic, upTo); err != nil {
		e.Fatalf("Trim(%q, %v): %v", topic, upTo, err)
	}
}

func (e *env) delete(topic string) {
	e.Helper()
	if err := e.log.Delete(e.Context(), topic); err != nil {
		e.Fatalf("Delete(%q): %v", topic, err)
	}
}

func (e *env) stat(topic string) tailrace.Info {
	e.Helper()
	i, err := e.log.Stat(e.Context(), topic)
	if err != nil {
		e.Fatalf("Stat(%q): %v", topic, err)
	}
	return i
}

// head is the end of the log.
func (e *env) head() tailrace.Cursor {
	e.Helper()
	return e.read(tailrace.Query{Head: true}).Next
}

// wantReset reads q and checks that it gives a reset of the reason.
func (e *env) wantReset(q tailrace.Query, reason tailrace.Reason) tailrace.Page {
	e.Helper()
	p := e.read(q)
	switch {
	case p.Reset == nil:
		e.Fatalf("Read(%+v): no reset, want %s; got events %q", q, reason, datas(p.Events))
	case p.Reset.Reason != reason:
		e.Fatalf("Read(%+v): reset %q, want %q", q, p.Reset.Reason, reason)
	}
	return p
}

// fakeClock is a clock that only the test moves.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func event(topic, data string) tailrace.Event {
	return tailrace.Event{Topic: topic, Data: []byte(data)}
}

func datas(events []tailrace.Event) []string {
	s := make([]string, len(events))
	for i := range events {
		s[i] = string(events[i].Data)
	}
	return s
}

func topics(names ...string) tailrace.Selector   { return tailrace.Selector{Topics: names} }
func patterns(names ...string) tailrace.Selector { return tailrace.Selector{Patterns: names} }

// rule gives all topics but those of the system the policy p.
func rule(p tailrace.Policy) []tailrace.Rule {
	return []tailrace.Rule{{Pattern: "**", Policy: p}}
}

// inMemory is for tests of many events, which need no disk to be right.
func inMemory() []tailrace.Rule { return rule(tailrace.Policy{Durability: tailrace.Memory}) }

// long reports whether the long form was asked for.
func long() bool { return os.Getenv("TAILRACE_LONG") != "" }

// size is how much of something a test does.
func size(short, longForm int) int {
	if long() {
		return longForm
	}
	return short
}

// seed returns TAILRACE_SEED, or a random seed.
func seed(t testing.TB) uint64 {
	s, err := strconv.ParseUint(os.Getenv("TAILRACE_SEED"), 10, 64)
	if err != nil {
		s = rand.Uint64()
	}
	t.Logf("TAILRACE_SEED=%d", s)
	return s
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }
