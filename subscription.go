package tailrace

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/tailrace/tailrace/internal/problem"
)

// Subscription says what one stream or page carries, and how.
type Subscription struct {
	Select     Selector
	LastID     string        // resume after this wire id, as the client sent it; "" is none
	From       From          // where to start without LastID
	Snapshot   bool          // the newest event of each key first
	OnGapNew   bool          // after a gap go on with new events, not with the oldest kept
	Filter     Filter        // only events that it matches; nil is all
	FilterText string        // the parameter filter, which who makes Filter has read
	Types      []string      // only events of these types ("message" for those without); nil is all
	Meta       bool          // data is the envelope
	CursorIDs  bool          // ids on the wire are cursors, also where an event has its own
	Hello      bool          // all control events
	Heartbeat  time.Duration // 0 is the hub's
	Limit      int           // events until the end; 0 is none (pages: 100)

	JSON bool          // a page is wanted, not a stream
	Wait time.Duration // how long a page waits for a first event

	Client    string // what the client calls itself in Tailrace-Client
	Principal string // set by who authorises; Connections shows it

	// OnEnd, if set, is called once: when the stream or page has ended, or was
	// refused. It must not block.
	OnEnd func()
}

// ended calls OnEnd.
func (s *Subscription) ended() {
	if s.OnEnd != nil {
		s.OnEnd()
	}
}

// From is where a subscription without a last event id starts. The zero From
// is new events.
type From struct {
	Kind FromKind
	N    int       // of FromLast
	Time time.Time // of FromTime
}

// FromKind is the kind of a From.
type FromKind int

const (
	FromNew   FromKind = iota
	FromStart          // the oldest event kept
	FromLast           // the newest N events of the selection
	FromTime           // the first event of Time or later
)

// Limits of a subscription's parameters.
const (
	minHeartbeat  = 5 * time.Second
	maxHeartbeat  = 120 * time.Second
	maxWait       = 60 * time.Second
	maxPageLimit  = 1000
	defaultLimit  = 100
	maxLastID     = 512
	maxQueryBody  = 64 << 10
	maxEventTypes = 64
	maxFilter     = 1024
)

// noID stands for a last event id that no event can have: it is too long.
var noID = "invalid" + strings.Repeat("-", MaxID)

// query is the log query that s starts with.
func (s *Subscription) query() Query {
	q := Query{Select: s.Select}
	if s.LastID != "" {
		q.LastID = s.LastID
		return q
	}
	switch s.From.Kind {
	case FromNew:
		q.Head = true
	case FromLast:
		q.Last = s.From.N
	case FromTime:
		q.Since = s.From.Time
	}
	return q
}

// typeSet is s.Types as a set, nil for all.
func (s *Subscription) typeSet() map[string]bool {
	if len(s.Types) == 0 {
		return nil
	}
	m := map[string]bool{}
	for _, t := range s.Types {
		m[t] = true
	}
	return m
}

// subscribeParams are the parameters of a subscription, by name.
var subscribeParams = []string{
	"topic", "last_event_id", "lastEventId", "from", "snapshot", "on_gap", "event", "filter", "meta", "ids",
	"hello", "heartbeat", "limit", "wait", "format",
}

// ParseSubscription reads what r asks for: Accept, Last-Event-ID and the
// parameters of its query, or of its form body with the method QUERY. topics,
// if given, are those that the path names; then there is no parameter topic.
// Every error is a [*problem.Problem].
func ParseSubscription(r *http.Request, maxSelectors int, topics ...string) (*Subscription, error) {
	params, err := subscribeValues(r)
	if err != nil {
		return nil, err
	}
	known := subscribeParams
	if len(topics) > 0 {
		known = known[1:]
	}
	for name := range params {
		if !strings.HasPrefix(name, "_") && !slices.Contains(known, name) {
			return nil, problem.UnknownName("parameter", name, known)
		}
	}
	s := &Subscription{Client: strings.Clone(printable(r.Header.Get("Tailrace-Client")))}
	p := paramReader{values: params}

	if s.JSON, err = wantsPage(r, p.one("format")); err != nil {
		return nil, err
	}
	parts := topics
	if len(parts) == 0 {
		parts = params["topic"]
	}
	switch {
	case len(parts) == 0:
		return nil, problem.New("no-topic", "name at least one topic, for example %s?topic=orders/*&topic=demo", r.URL.Path)
	case len(parts) > maxSelectors:
		return nil, problem.New("invalid-parameter", "%d topics and patterns, the limit is %d", len(parts), maxSelectors)
	}
	if len(topics) > 0 {
		s.Select.Topics = topics
		err = s.Select.Check()
		if err == nil && IsPattern(topics[0]) {
			err = &InvalidError{Field: "topic", Reason: "is a pattern, which a path cannot name; use /v1/events?topic="}
		}
	} else {
		s.Select, err = ParseSelector(parts...)
	}
	if err != nil {
		return nil, InvalidTopic(err)
	}
	s.Select = s.Select.Canonical()
	_, single := s.Select.Single()

	s.LastID = r.Header.Get("Last-Event-ID")
	if s.LastID == "" {
		if s.LastID = p.one("last_event_id"); s.LastID == "" {
			s.LastID = p.one("lastEventId")
		}
	}
	if bad := len(s.LastID) > maxLastID || strings.ContainsFunc(s.LastID, unicode.IsControl); bad && s.JSON {
		return nil, problem.New("invalid-parameter", "last_event_id has more than %d bytes or a control character", maxLastID)
	} else if bad {
		// A status would end a native EventSource for good; a gap tells it.
		s.LastID = noID
	}
	if s.JSON {
		s.From.Kind = FromStart
	}
	p.parse("from", func(v string) error { return s.From.parse(v) })
	p.flag("snapshot", &s.Snapshot)
	p.enum("on_gap", []string{"oldest", "new"}, func(v string) { s.OnGapNew = v == "new" })
	p.flag("meta", &s.Meta)
	s.CursorIDs = !single
	p.enum("ids", []string{"own", "cursor"}, func(v string) { s.CursorIDs = v == "cursor" })
	p.flag("hello", &s.Hello)
	p.duration("heartbeat", minHeartbeat, maxHeartbeat, &s.Heartbeat)
	p.duration("wait", 0, maxWait, &s.Wait)
	limit := 1 << 30
	if s.JSON {
		limit = maxPageLimit
	}
	p.number("limit", 1, limit, &s.Limit)
	if s.FilterText = p.one("filter"); len(s.FilterText) > maxFilter {
		p.fail("filter", "at most %d bytes", maxFilter)
	}
	if s.Types = params["event"]; len(s.Types) > maxEventTypes {
		p.fail("event", "at most %d types", maxEventTypes)
	}
	for _, t := range s.Types {
		if err := checkText("type", t, MaxType); err != nil {
			p.fail("event", "%v", err)
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	return s, nil
}

// InvalidTopic turns an error of a name or pattern into a problem.
func InvalidTopic(err error) *problem.Problem {
	p := problem.New("invalid-topic", "%v", err)
	if bad, ok := err.(*InvalidError); ok {
		p = p.With("offset", bad.Offset)
	}
	return p
}

// subscribeValues returns the parameters of r.
func subscribeValues(r *http.Request) (url.Values, error) {
	params, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problem.New("invalid-request", "the query cannot be parsed: %v", err)
	}
	if r.Method != "QUERY" {
		return params, nil
	}
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/x-www-form-urlencoded" {
		return nil, problem.New("unsupported-type", "QUERY takes its parameters as application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxQueryBody+1))
	if err != nil {
		return nil, problem.New("invalid-request", "the body cannot be read: %v", err)
	}
	if len(body) > maxQueryBody {
		return nil, problem.New("too-large", "the body is over %d bytes", maxQueryBody).With("limit", maxQueryBody)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, problem.New("invalid-request", "the body cannot be parsed: %v", err)
	}
	for name, values := range form {
		params[name] = append(params[name], values...)
	}
	return params, nil
}

// wantsPage decides between a stream and a page, by format or else by the
// quality of Accept; ties go to the stream.
func wantsPage(r *http.Request, format string) (bool, error) {
	switch format {
	case "sse":
		return false, nil
	case "json":
		return true, nil
	case "":
	default:
		return false, problem.New("invalid-parameter", "format is %q; it is sse or json", format)
	}
	accept := r.Header.Values("Accept")
	stream, page := quality(accept, "text", "event-stream"), quality(accept, "application", "json")
	if len(accept) == 0 {
		return false, nil
	}
	if stream == 0 && page == 0 {
		return false, problem.New("not-acceptable", "this is text/event-stream or application/json; Accept admits neither")
	}
	return page > stream, nil
}

// quality is how much an Accept header wants a media type: that of its most
// specific range (RFC 9110, section 12.5.1).
func quality(accept []string, typ, subtype string) float64 {
	best, q := 0, 0.0
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(item, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			var rank int
			switch name {
			case typ + "/" + subtype:
				rank = 3
			case typ + "/*":
				rank = 2
			case "*/*":
				rank = 1
			default:
				continue
			}
			if rank < best {
				continue
			}
			best, q = rank, 1
			for param := range strings.SplitSeq(params, ";") {
				k, v, _ := strings.Cut(param, "=")
				if strings.EqualFold(strings.TrimSpace(k), "q") {
					if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
						q = f
					}
				}
			}
		}
	}
	return q
}

// ParseFrom reads a From as the parameter from has it: "new", "start", "last:N",
// a time, or a span back from now such as "-10m". The empty text is new.
func ParseFrom(text string) (f From, err error) {
	if text != "" {
		err = f.parse(text)
	}
	return f, err
}

// parse reads "new", "start", "last:N", a time, or a span back from now such
// as "-10m".
func (f *From) parse(v string) error {
	switch {
	case v == "new":
		*f = From{}
		return nil
	case v == "start":
		*f = From{Kind: FromStart}
		return nil
	case strings.HasPrefix(v, "last:"):
		n, err := strconv.Atoi(v[len("last:"):])
		if err != nil || n < 1 || n > MaxLast {
			return fmt.Errorf("last:N takes 1 to %d", MaxLast)
		}
		*f = From{Kind: FromLast, N: n}
		return nil
	case strings.HasPrefix(v, "-"):
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("%q is no span of time", v)
		}
		*f = From{Kind: FromTime, Time: time.Now().Add(d)}
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, v)
	if err != nil {
		return fmt.Errorf("it is new, start, last:N, a time such as 2026-01-31T12:00:00Z, or a span such as -10m")
	}
	*f = From{Kind: FromTime, Time: t}
	return nil
}

// paramReader reads parameters that are given at most once and keeps the first
// error.
type paramReader struct {
	values url.Values
	err    error
}

func (p *paramReader) fail(name, format string, args ...any) {
	if p.err == nil {
		p.err = problem.New("invalid-parameter", "%s: %s", name, fmt.Sprintf(format, args...)).With("parameter", name)
	}
}

func (p *paramReader) one(name string) string {
	v := p.values[name]
	for _, other := range v[min(1, len(v)):] {
		if other != v[0] && p.err == nil {
			p.err = problem.New("conflicting-parameter", "%s is given twice with different values", name).With("parameter", name)
		}
	}
	if len(v) == 0 {
		return ""
	}
	return v[0]
}

func (p *paramReader) parse(name string, f func(string) error) {
	if v := p.one(name); v != "" {
		if err := f(v); err != nil {
			p.fail(name, "%v", err)
		}
	}
}

func (p *paramReader) flag(name string, dst *bool) {
	p.enum(name, []string{"0", "1"}, func(v string) { *dst = v == "1" })
}

func (p *paramReader) enum(name string, allowed []string, set func(string)) {
	p.parse(name, func(v string) error {
		if !slices.Contains(allowed, v) {
			return fmt.Errorf("%q is not %s", v, strings.Join(allowed, " or "))
		}
		set(v)
		return nil
	})
}

func (p *paramReader) duration(name string, from, to time.Duration, dst *time.Duration) {
	p.parse(name, func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < from || d > to {
			return fmt.Errorf("%q is not a duration from %v to %v", v, from, to)
		}
		*dst = d
		return nil
	})
}

func (p *paramReader) number(name string, from, to int, dst *int) {
	p.parse(name, func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < from || n > to {
			return fmt.Errorf("%q is not a number from %d to %d", v, from, to)
		}
		*dst = n
		return nil
	})
}

// printable is s with everything but visible ASCII and spaces replaced, at
// most 256 bytes: for texts of clients that people will read in lists.
func printable(s string) string {
	if len(s) > 256 {
		s = s[:256]
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
}
