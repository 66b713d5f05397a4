package tailrace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of Options.
const (
	DefaultHeartbeat      = 15 * time.Second // under the idle time-outs of proxies, which begin at 30 s
	DefaultStallTimeout   = 30 * time.Second
	DefaultRingBytes      = 256 << 20
	DefaultReplayBytes    = 64 << 20
	DefaultMaxStreams     = 100_000
	DefaultMaxSelectors   = 128
	DefaultPublishTimeout = 10 * time.Second
	DefaultDrainWindow    = 30 * time.Second
	DefaultConnectRate    = 2_000 // a TLS handshake is 0.3 ms of a core
)

// OverflowPolicy says what happens to a live subscriber that falls so far
// behind that the hub no longer holds its next event in memory.
type OverflowPolicy string

const (
	Resume    OverflowPolicy = "resume"   // the log serves it at its own pace; nothing is skipped
	Conflate  OverflowPolicy = "conflate" // a gap event, then the newest event of each key
	SkipToNow OverflowPolicy = "gap"      // a gap event, then what memory still has
)

// TopicRule gives the topics that match Pattern a policy: the log's part and
// the hub's.
type TopicRule struct {
	Pattern string
	Policy
	Overflow OverflowPolicy // default Resume
	Public   bool           // may be subscribed to without credentials, where a server asks for any
	Retired  bool           // the topic is gone for good
}

// Options of a Hub. Zero fields are defaults.
type Options struct {
	Log            Log           // nil is a memory log, which Shutdown closes
	Rules          []TopicRule   // the first match wins
	Heartbeat      time.Duration // to a stream that had nothing for so long; default 15 s
	StallTimeout   time.Duration // a stream that takes no byte for so long is cut and resumes; default 30 s
	RingBytes      int64         // frames in memory, of all streams together; default 256 MiB
	ReplayBytes    int64         // pages in memory of the streams that are behind, together; default 64 MiB
	MaxStreams     int           // open streams; default 100,000, and never more than open files allow
	MaxSelectors   int           // topics and patterns of one stream; default 128
	PublishTimeout time.Duration // how long Publish waits for the log; default 10 s
	DrainWindow    time.Duration // over which Shutdown ends the streams; default 30 s
	Logger         *slog.Logger  // default slog.Default()

	// Limits on streams besides MaxStreams; a negative one is none, and so is a
	// negative MaxStreams. A stream over a limit is refused before it costs
	// anything, and no other is ended for it.
	//
	// The address is that of Request.RemoteAddr, for IPv6 its /64. Behind a
	// proxy all clients have the proxy's: there, set RemoteAddr in a middleware.
	// What is no IP address counts as none.
	MaxStreamsPerPrincipal int // default none; the empty principal has no limit
	MaxStreamsPerAddr      int // default none
	ConnectRate            int // new streams a second; default 2,000
	ConnectBurst           int // of them at once, after a rest; default five times ConnectRate

	// MaxConnectionAge makes each stream end cleanly, as in a drain, at a random
	// age between 80 and 100 % of it; default none.
	MaxConnectionAge time.Duration

	// DisableFastEngine leaves every stream on the goroutine of its handler.
	// The fast engine, which takes plain HTTP/1.1 connections over on Linux,
	// writes past middleware once the head is out: set this where one must see
	// every byte and has an Unwrap method.
	DisableFastEngine bool

	// OnConnect is called on the handler's goroutine when the head is about to
	// be sent, OnDisconnect when the stream has ended; both outside locks.
	OnConnect    func(ConnInfo)
	OnDisconnect func(ConnInfo)
}

func (o *Options) withDefaults() Options {
	var v Options
	if o != nil {
		v = *o
	}
	setDefault(&v.Heartbeat, DefaultHeartbeat)
	setDefault(&v.StallTimeout, DefaultStallTimeout)
	setDefault(&v.RingBytes, DefaultRingBytes)
	setDefault(&v.ReplayBytes, DefaultReplayBytes)
	setDefault(&v.MaxStreams, DefaultMaxStreams)
	setDefault(&v.MaxSelectors, DefaultMaxSelectors)
	setDefault(&v.PublishTimeout, DefaultPublishTimeout)
	setDefault(&v.DrainWindow, DefaultDrainWindow)
	setDefault(&v.MaxStreamsPerPrincipal, -1)
	setDefault(&v.MaxStreamsPerAddr, -1)
	setDefault(&v.ConnectRate, DefaultConnectRate)
	setDefault(&v.ConnectBurst, 5*v.ConnectRate)
	if v.Logger == nil {
		v.Logger = slog.Default()
	}
	return v
}

func setDefault[T comparable](p *T, d T) {
	var zero T
	if *p == zero {
		*p = d
	}
}

// Hub connects publishers and subscribers over a log. It is made by [New]; all
// its methods are safe for concurrent use.
type Hub struct {
	opts    Options
	log     Log
	ownsLog bool
	rules   atomic.Pointer[[]TopicRule]

	// visible is the position up to which every feed's ring is complete. It
	// moves only while tailMu is held.
	visible atomic.Uint64
	epoch   atomic.Uint64 // of the log's head
	acked   atomic.Uint64 // highest position that Publish has acknowledged

	tailMu  sync.Mutex // guards the index of feeds and what they share
	feeds   map[string]*feed
	matcher *matcher
	ringUse int64 // bytes of all frames in rings, each counted once

	streamsMu sync.Mutex
	streams   map[string]*stream
	places    places
	refused   bool // no new streams: drained or stopped
	streamsWG sync.WaitGroup

	ringFrames int // of one feed

	behind  atomic.Int64  // streams that the log serves now
	readers chan struct{} // bounds reads of the log on behalf of streams
	filters chan struct{} // bounds those of them that run filters, to a half
	tick    atomic.Int64  // coarse clock, unix seconds, kept by the sweeper

	waitersMu sync.Mutex
	waiters   []waiter

	judges   judges
	pages    pageCache
	pageRoom int // bytes that it keeps

	wakeTail  chan struct{}
	stop      context.CancelFunc
	ctx       context.Context
	unwatch   func()
	workers   sync.WaitGroup
	stopOnce  sync.Once
	stopError error

	cores    int    // shards of the fast engine
	shards   shards // those that run
	counters counters
}

// New returns a running hub. The error names the option that is wrong, or is
// the log's.
func New(opts *Options) (*Hub, error) {
	o := opts.withDefaults()
	h := &Hub{
		opts:     o,
		log:      o.Log,
		feeds:    map[string]*feed{},
		matcher:  newMatcher(),
		streams:  map[string]*stream{},
		places:   newPlaces(&o),
		readers:  make(chan struct{}, replayReaders()),
		filters:  make(chan struct{}, replayReaders()/2),
		wakeTail: make(chan struct{}, 1),

		ringFrames: maxRingFrames,
		pageRoom:   int(min(o.ReplayBytes/4, maxPageCache)),
		cores:      runtime.GOMAXPROCS(0),
	}
	if h.log == nil {
		h.log, h.ownsLog = NewMemoryLog(nil), true
	}
	if err := h.SetRules(o.Rules); err != nil {
		return nil, err
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	page, err := h.log.Read(h.ctx, Query{Head: true})
	if err != nil {
		h.stop()
		return nil, fmt.Errorf("tailrace: reading the log's head: %w", err)
	}
	h.visible.Store(page.Next.Pos)
	h.acked.Store(page.Next.Pos)
	h.epoch.Store(page.Next.Epoch)
	h.tick.Store(time.Now().Unix())
	if h.unwatch, err = h.log.Watch(Selector{}, h.hint); err != nil {
		h.stop()
		return nil, fmt.Errorf("tailrace: watching the log: %w", err)
	}
	h.workers.Go(func() { h.tail(page.Next) })
	h.workers.Go(h.sweep)
	return h, nil
}

// Log returns the hub's log. Trim and delete topics there.
func (h *Hub) Log() Log { return h.log }

// Rule returns the rule of topic with defaults set; its Pattern is "" if none
// matched.
func (h *Hub) Rule(topic string) TopicRule {
	for _, r := range *h.rules.Load() {
		if MatchPattern(r.Pattern, topic) {
			return r
		}
	}
	return TopicRule{Policy: Policy{}.WithDefaults(), Overflow: Resume}
}

// Rules returns the rules in force, in match order, defaults set.
func (h *Hub) Rules() []TopicRule { return *h.rules.Load() }

// SetRules replaces the rules, of the log too if it can. Open streams keep the
// overflow policy that they began with.
func (h *Hub) SetRules(rules []TopicRule) error {
	set := make([]TopicRule, len(rules))
	logRules := make(Rules, len(rules))
	for i, r := range rules {
		switch r.Overflow {
		case "":
			r.Overflow = Resume
		case Resume, Conflate, SkipToNow:
		default:
			return fmt.Errorf("tailrace: rule %q: overflow is not resume, conflate or gap", r.Pattern)
		}
		r.Policy = r.Policy.WithDefaults()
		set[i], logRules[i] = r, Rule{Pattern: r.Pattern, Policy: r.Policy}
	}
	if err := logRules.Check(); err != nil {
		return err
	}
	if s, ok := h.log.(RuleSetter); ok {
		if err := s.SetRules(logRules); err != nil {
			return err
		}
	}
	h.rules.Store(&set)
	return nil
}

// overflow returns the mildest policy of a selection's parts. A pattern has
// that of the rule with the same text or one that covers every name; without
// such a rule it is Resume.
func (h *Hub) overflow(s Selector) OverflowPolicy {
	policy := SkipToNow
	milder := func(p OverflowPolicy) {
		if p == Resume || p == Conflate && policy == SkipToNow {
			policy = p
		}
	}
	if s.IsZero() {
		return Resume
	}
	for _, t := range s.Topics {
		milder(h.Rule(t).Overflow)
	}
	for _, p := range s.Patterns {
		found := Resume
		for _, r := range *h.rules.Load() {
			if r.Pattern == p || Covers(r.Pattern, p) {
				found = r.Overflow
				break
			}
		}
		milder(found)
	}
	return policy
}

// Publish appends events and returns when they are as durable as their topics'
// policies say, with one receipt for each. System topics and reserved types
// are refused with ErrReserved, retired topics with ErrRetired. Other errors
// are those of [Log.Append]: one that is none of this package's, such as
// context.DeadlineExceeded after PublishTimeout, leaves the outcome unknown,
// and repeating with the same own ids is right.
//
// The hub keeps Data.
func (h *Hub) Publish(ctx context.Context, events ...Event) ([]Receipt, error) {
	for i := range events {
		if err := h.mayPublish(&events[i]); err != nil {
			h.counters.publishErrors.Add(1)
			return nil, err
		}
	}
	return h.append(ctx, events)
}

func (h *Hub) mayPublish(ev *Event) error {
	if strings.HasPrefix(ev.Topic, "$") {
		return fmt.Errorf("%w: topic %q", ErrReserved, ev.Topic)
	}
	if strings.HasPrefix(ev.Type, ReservedTypePrefix) {
		return fmt.Errorf("%w: type %q", ErrReserved, ev.Type)
	}
	if IsPattern(ev.Topic) {
		return &InvalidError{Field: "topic", Reason: "is a pattern"}
	}
	if h.Rule(ev.Topic).Retired {
		return fmt.Errorf("%w: topic %q", ErrRetired, ev.Topic)
	}
	return nil
}

// append is Publish without its checks of names.
func (h *Hub) append(ctx context.Context, events []Event) ([]Receipt, error) {
	if h.ctx.Err() != nil {
		return nil, ErrStopped
	}
	ctx, cancel := context.WithTimeout(ctx, h.opts.PublishTimeout)
	defer cancel()
	receipts, err := h.log.Append(ctx, events)
	var last uint64
	for i := range receipts {
		r := &receipts[i]
		switch {
		case r.Err != nil:
			h.counters.publishErrors.Add(1)
		case r.Duplicate:
			h.counters.duplicates.Add(1)
		default:
			last = max(last, r.Cursor.Pos)
			h.counters.published.Add(1)
			h.counters.publishedBytes.Add(int64(len(events[i].Data)))
		}
	}
	if receipts == nil && err != nil {
		h.counters.publishErrors.Add(int64(len(events)))
	}
	raise(&h.acked, last)
	return receipts, err
}

// CloseTopic ends topic: subscribers that have read everything are told so,
// and later appends get ErrClosed. It returns the cursor of the topic's last
// event. Closing twice is no error; a topic whose policy does not allow it is
// ErrNotClosable.
func (h *Hub) CloseTopic(ctx context.Context, topic string) (Cursor, error) {
	if strings.HasPrefix(topic, "$") {
		return Cursor{}, fmt.Errorf("%w: topic %q", ErrReserved, topic)
	}
	receipts, err := h.append(ctx, []Event{{Topic: topic, Type: TypeEnd, Close: true}})
	if len(receipts) == 1 && (err == nil || errors.Is(err, ErrClosed)) {
		return receipts[0].Cursor, nil
	}
	return Cursor{}, err
}

// raise sets v to at least n.
func raise(v *atomic.Uint64, n uint64) {
	for {
		old := v.Load()
		if n <= old || v.CompareAndSwap(old, n) {
			return
		}
	}
}
