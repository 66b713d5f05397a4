package filter

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/expr-lang/expr/vm"

	"github.com/tailrace/tailrace"
)

// The price of a filter. One that takes more than maxAverage in priceRuns runs
// is refused. One run counts for maxRun at most: the meter lets none take much
// longer, so what is beyond is the machine's, and no stall of it may condemn a
// filter.
const (
	maxAverage = 100 * time.Microsecond
	priceRuns  = 1000
	maxRun     = 25 * time.Millisecond
)

// memoSize is the number of verdicts that a part remembers: some pages of
// events, so that streams that read the same ones a page apart share them.
const memoSize = 1024

// vmMemory is the machine's own budget, which counts elements.
const vmMemory = memoryBudget / elementSize

// price is what a part has cost in the present round of pricing.
type price struct {
	runs int
	took time.Duration
}

// add counts one run. A sum that is more than a whole round may take ends the
// rounds: the average of this one is too high, whatever its rest does.
func (p *price) add(took time.Duration) {
	if p.runs == priceRuns {
		*p = price{}
	}
	p.runs++
	p.took += min(took, maxRun)
}

// refused reports whether it is too high.
func (p price) refused() bool { return p.took > maxAverage*priceRuns }

// part is an expression with its claims bound: what is distinct, judges each
// event once, and has a price. It is safe for concurrent use; evaluations
// follow one another, so that an expression takes one core at most.
type part struct {
	set     *Set
	expr    *expression
	claims  map[string]any
	refused atomic.Bool // it was too expensive

	mu    sync.Mutex // guards what follows
	vm    vm.VM
	scope scope
	meter meter
	memo  []verdict // by position
	price price
}

// verdict is what a part thinks of an event. The zero verdict is of none.
type verdict struct {
	cursor  tailrace.Cursor
	matches bool
}

// document is the data of one event as JSON, parsed when the first expression
// asks for it.
type document struct {
	value  any
	parsed bool
}

// match judges ev. It is false once the part is refused.
func (p *part) match(ev *tailrace.Event, doc *document) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused.Load() {
		return false
	}
	if ev.Cursor.IsZero() {
		return p.run(ev, doc)
	}
	if p.memo == nil {
		p.memo = make([]verdict, memoSize)
	}
	v := &p.memo[ev.Cursor.Pos%memoSize]
	if v.cursor != ev.Cursor {
		*v = verdict{ev.Cursor, p.run(ev, doc)}
	}
	return v.matches
}

// run evaluates the expression; mu is held. Parsing is not in its price: every
// expression that reads data has the same of it.
func (p *part) run(ev *tailrace.Event, doc *document) bool {
	if p.expr.readsData && !doc.parsed {
		doc.value, doc.parsed = parse(ev.Data), true
	}
	p.meter = meter{work: workBudget, memory: memoryBudget}
	p.scope = scope{
		Topic: ev.Topic, Type: ev.Type, Key: ev.Key, ID: ev.ID, Time: ev.Time, Size: len(ev.Data),
		Text:   unsafe.String(unsafe.SliceData(ev.Data), len(ev.Data)), // Data never changes
		Data:   doc.value,
		Claims: p.claims,
		Meter:  &p.meter,
	}
	if ev.Type == "" {
		p.scope.Type = "message"
	}
	p.vm.MemoryBudget = vmMemory
	began := p.set.clock()
	out, err := p.vm.Run(p.expr.program, &p.scope)
	took := p.set.clock() - began
	matches, ok := out.(bool)
	if err != nil || !ok {
		// The machine is left as it was when it failed: with values of this event.
		p.vm = vm.VM{}
		p.set.errors.Add(1)
	}
	p.scope = scope{}
	p.set.runs.Add(1)
	p.set.took.Add(int64(took))
	if p.price.add(took); p.price.refused() {
		p.refused.Store(true)
		p.memo = nil
		p.set.refusals.Add(1)
	}
	return matches && err == nil
}

// paid returns the price so far.
func (p *part) paid() price {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.price
}
