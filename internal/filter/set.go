package filter

import (
	"crypto/sha256"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace"
)

// Defaults of Options.
const (
	DefaultPerPrincipal = 10
	DefaultTotal        = 1000

	compiledSize = 1024 // texts whose compilation is kept
	priceSize    = 1024 // filters not in use whose price is remembered
)

// Options of a Set. Zero fields are defaults, a negative limit is none.
type Options struct {
	PerPrincipal int                  // distinct filters in use by one principal; default 10
	Total        int                  // distinct filters in use; default 1,000
	Clock        func() time.Duration // monotonic, for the price of a run; default that of the machine
}

// Set holds the filters in use on a node. It is made by [NewSet]; all its
// methods are safe for concurrent use.
type Set struct {
	perPrincipal, total int
	clock               func() time.Duration

	runs, errors, took, refusals atomic.Int64

	mu         sync.Mutex // guards what follows
	compiled   *lru[source, *expression]
	prices     *lru[digest, price] // of parts that are not in use: pages come and go
	parts      map[digest]*shared[*part]
	filters    map[digest]*shared[*Filter]
	principals map[string]map[digest]int // uses of each filter
}

// source is a text and how it is compiled.
type source struct {
	text  string
	token bool
}

// digest names a filter, or a part of one, by all that makes it distinct.
type digest [sha256.Size]byte

// shared counts the users of a value.
type shared[T any] struct {
	value T
	uses  int
}

// NewSet returns an empty set. A nil opts is the defaults.
func NewSet(opts *Options) *Set {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.PerPrincipal == 0 {
		o.PerPrincipal = DefaultPerPrincipal
	}
	if o.Total == 0 {
		o.Total = DefaultTotal
	}
	if o.Clock == nil {
		began := time.Now()
		o.Clock = func() time.Duration { return time.Since(began) }
	}
	return &Set{
		perPrincipal: o.PerPrincipal, total: o.Total, clock: o.Clock,
		compiled:   newLRU[source, *expression](compiledSize),
		prices:     newLRU[digest, price](priceSize),
		parts:      map[digest]*shared[*part]{},
		filters:    map[digest]*shared[*Filter]{},
		principals: map[string]map[digest]int{},
	}
}

// Request says whose filter it is and of what it is made: an event has to match
// the token's and the client's. An empty text is no filter.
type Request struct {
	Principal string         // who is charged for it; "" has no limit
	Scope     string         // of the selection: filters of other scopes are distinct, so that nobody's events make another's filter expensive
	Token     string         // the filter of the token
	Claims    map[string]any // of the token, as its JSON says them; Token alone sees them
	Client    string         // the filter that the client asks for
}

// Open returns the filter of a request, to be given back by [Use.Close]. It is
// nil, which matches every event, if the request has none. Errors are an
// [*Error], a [*ClaimError], a [*LimitError] and [ErrTooExpensive].
func (s *Set) Open(r *Request) (*Use, error) {
	if r.Token == "" && r.Client == "" {
		return nil, nil
	}
	var list []bound
	if r.Token != "" {
		b, err := s.bind(r, source{r.Token, true})
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	if r.Client != "" {
		b, err := s.bind(r, source{r.Client, false})
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return s.open(r.Principal, list)
}

// Check reports what is wrong with a text, as Open would.
func (s *Set) Check(text string, token bool) error {
	_, err := s.expression(source{text, token})
	return err
}

// bound is an expression with the claims that it reads.
type bound struct {
	expr   *expression
	claims map[string]any
	key    digest
}

// bind compiles a text and binds the claims that it reads.
func (s *Set) bind(r *Request, src source) (bound, error) {
	e, err := s.expression(src)
	if err != nil {
		return bound{}, err
	}
	b := bound{expr: e}
	read := r.Claims
	if !e.allClaims {
		read = make(map[string]any, len(e.claims))
	}
	for _, name := range e.claims {
		v, ok := r.Claims[name]
		if !ok {
			return bound{}, &ClaimError{name}
		}
		read[name] = v
	}
	text, err := json.Marshal(read) // members are sorted, so equal claims have equal texts
	if err == nil && src.token {
		b.claims, _ = parse(text).(map[string]any)
	}
	if src.token && b.claims == nil && read != nil { // without them, a filter could match more
		return bound{}, &Error{Token: true, Line: 1, Column: 1, Reason: "the claims that it reads are no JSON, or nested too deeply"}
	}
	b.key = digestOf(strconv.FormatBool(src.token), src.text, string(text), r.Scope)
	return b, nil
}

// expression returns what a text compiles to. Texts that are wrong are not
// kept: they cost no more than the right ones they would push out.
func (s *Set) expression(src source) (*expression, error) {
	s.mu.Lock()
	e, ok := s.compiled.get(src)
	s.mu.Unlock()
	if ok {
		return e, nil
	}
	e, err := compile(src.text, src.token)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first, ok := s.compiled.get(src); ok {
		return first, nil // compiled meanwhile
	}
	s.compiled.put(src, e)
	return e, nil
}

func (s *Set) open(principal string, list []bound) (*Use, error) {
	var keys strings.Builder
	for _, b := range list {
		keys.Write(b.key[:])
	}
	key := digestOf(keys.String())

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range list {
		known, _ := s.prices.get(b.key)
		if known.refused() || s.parts[b.key] != nil && s.parts[b.key].value.refused.Load() {
			return nil, ErrTooExpensive
		}
	}
	f := s.filters[key]
	if f == nil && s.total > 0 && len(s.filters) >= s.total {
		return nil, &LimitError{"filters", s.total}
	}
	mine := s.principals[principal]
	if principal != "" && mine[key] == 0 && s.perPrincipal > 0 && len(mine) >= s.perPrincipal {
		return nil, &LimitError{"filters_per_principal", s.perPrincipal}
	}
	if f == nil {
		f = &shared[*Filter]{value: &Filter{key: key}}
		for _, b := range list {
			f.value.keys = append(f.value.keys, b.key)
			f.value.parts = append(f.value.parts, s.part(b))
		}
		s.filters[key] = f
	}
	f.uses++
	if principal != "" {
		if mine == nil {
			mine = map[digest]int{}
			s.principals[principal] = mine
		}
		mine[key]++
	}
	return &Use{Filter: f.value, set: s, principal: principal}, nil
}

// part returns the part in use that b describes; mu is held.
func (s *Set) part(b bound) *part {
	p := s.parts[b.key]
	if p == nil {
		known, _ := s.prices.get(b.key)
		p = &shared[*part]{value: &part{set: s, expr: b.expr, claims: b.claims, price: known}}
		s.parts[b.key] = p
	}
	p.uses++
	return p.value
}

// close gives back one use.
func (s *Set) close(u *Use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := u.Filter.key
	if mine := s.principals[u.principal]; mine != nil {
		if mine[key]--; mine[key] == 0 {
			delete(mine, key)
		}
		if len(mine) == 0 {
			delete(s.principals, u.principal)
		}
	}
	f := s.filters[key]
	if f.uses--; f.uses > 0 {
		return
	}
	delete(s.filters, key)
	for _, k := range f.value.keys {
		p := s.parts[k]
		if p.uses--; p.uses > 0 {
			continue
		}
		delete(s.parts, k)
		s.prices.put(k, p.value.paid())
	}
}

// Stats counts what the filters of a set have done.
type Stats struct {
	Filters  int           // distinct ones, in use
	Runs     int64         // evaluations
	Errors   int64         // evaluations that failed, so that the event did not match
	Refusals int64         // filters that were too expensive
	Took     time.Duration // by all evaluations
}

// Stats returns the figures of s as of now.
func (s *Set) Stats() Stats {
	s.mu.Lock()
	n := len(s.filters)
	s.mu.Unlock()
	return Stats{
		Filters: n, Runs: s.runs.Load(), Errors: s.errors.Load(), Refusals: s.refusals.Load(),
		Took: time.Duration(s.took.Load()),
	}
}

// digestOf hashes parts with their lengths, so that no two lists have the same
// bytes.
func digestOf(parts ...string) digest {
	h := sha256.New()
	var b []byte
	for _, p := range parts {
		b = strconv.AppendInt(b[:0], int64(len(p)), 10)
		b = append(b, ':')
		h.Write(append(b, p...))
	}
	return digest(h.Sum(nil))
}

// Filter says which events a stream wants. Equal ones are the same. It is safe
// for concurrent use.
type Filter struct {
	key   digest
	keys  []digest // of parts
	parts []*part
}

// Key names f by all that makes it distinct: pages made with filters of equal
// keys are the same pages.
func (f *Filter) Key() string {
	if f == nil {
		return ""
	}
	return string(f.key[:])
}

// Match reports whether f wants ev. It keeps nothing of ev, and never fails:
// what goes wrong is no match. A nil Filter wants every event. Once Err is not
// nil it wants none.
func (f *Filter) Match(ev *tailrace.Event) bool {
	if f == nil {
		return true
	}
	var doc document
	for _, p := range f.parts {
		if !p.match(ev, &doc) {
			return false
		}
	}
	return true
}

// Err is ErrTooExpensive once the filter is refused, and nil before. Look at it
// after a page was made, before the page is used: what a refused filter did
// not match is no answer.
func (f *Filter) Err() error {
	if f == nil {
		return nil
	}
	for _, p := range f.parts {
		if p.refused.Load() {
			return ErrTooExpensive
		}
	}
	return nil
}

// Use is a stream's hold on a filter.
type Use struct {
	*Filter
	set       *Set
	principal string
	once      sync.Once
}

// Close gives the filter back. The zero and the nil Use have none; closing
// twice is no error.
func (u *Use) Close() {
	if u == nil || u.set == nil {
		return
	}
	u.once.Do(func() { u.set.close(u) })
}
