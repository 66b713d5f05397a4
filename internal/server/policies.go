package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/problem"
)

// policiesTopic holds the list of rules that the API owns: its last event is
// the list in force, and that event's cursor is the list's ETag.
const policiesTopic = "$config/policies"

// configRule keeps the system's own settings for good.
var configRule = tailrace.TopicRule{
	Pattern: "$config/**",
	Policy: tailrace.Policy{
		MaxAge: -1, MaxBytes: -1, MaxCount: 100, IdleDelete: -1, KeepLatest: true,
		Durability: tailrace.Fsync, MaxEvent: maxAdminBody,
	},
}

// policies are the rules of topics in match order: the system's, the list that
// the API owns, that of the configuration. All methods are safe for concurrent
// use.
type policies struct {
	hub     *tailrace.Hub
	applied func() // called after other rules are in force, with mu held; nil is nothing

	mu     sync.Mutex           // guards what follows, and the order of changes
	system []tailrace.TopicRule // before all others
	file   []tailrace.TopicRule // of the configuration, after all others
	api    []tailrace.TopicRule
	head   tailrace.Cursor // of the event that holds api; zero while there was none
	loaded bool            // api is in force
}

// load takes over the list that the log holds, if it is another than that in
// force.
func (p *policies) load(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refresh(ctx)
}

// refresh is load; mu is held.
func (p *policies) refresh(ctx context.Context) error {
	page, err := p.hub.Log().Read(ctx, tailrace.Query{Select: tailrace.Selector{Topics: []string{policiesTopic}}, Last: 1})
	if err != nil {
		return fmt.Errorf("server: reading the policies of the API: %w", err)
	}
	if len(page.Events) == 0 {
		if p.head.IsZero() && p.loaded {
			return nil
		}
		return p.apply(nil, tailrace.Cursor{})
	}
	ev := page.Events[len(page.Events)-1]
	if ev.Cursor == p.head {
		return nil
	}
	var list []policyJSON
	if err := json.Unmarshal(ev.Data, &list); err != nil {
		return fmt.Errorf("server: %s holds no list of policies: %w", policiesTopic, err)
	}
	rules, err := rulesOf(list)
	if err != nil {
		return fmt.Errorf("server: %s: %w", policiesTopic, err)
	}
	return p.apply(rules, ev.Cursor)
}

// apply puts api in force; mu is held.
func (p *policies) apply(api []tailrace.TopicRule, head tailrace.Cursor) error {
	if err := p.hub.SetRules(slices.Concat(p.system, api, p.file)); err != nil {
		return err
	}
	p.api, p.head, p.loaded = api, head, true
	if p.applied != nil {
		p.applied()
	}
	return nil
}

// setFile puts other rules of the configuration in force and returns those
// before, which stay if there is an error.
func (p *policies) setFile(rules []tailrace.TopicRule) (before []tailrace.TopicRule, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, p.file = p.file, rules
	if err := p.apply(p.api, p.head); err != nil {
		p.file = before
		return nil, err
	}
	return before, nil
}

// setSystem puts other rules of the system in force.
func (p *policies) setSystem(rules []tailrace.TopicRule) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.system = rules
	return p.apply(p.api, p.head)
}

// list returns the rules without the system's, and the ETag.
func (p *policies) list() (list []sourcedPolicy, etag string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list = []sourcedPolicy{}
	for _, r := range p.api {
		list = append(list, sourcedPolicy{policyOf(r), "api"})
	}
	for _, r := range p.file {
		list = append(list, sourcedPolicy{policyOf(r), "file"})
	}
	return list, p.etag()
}

// etag names the version of the API's list; mu is held.
func (p *policies) etag() string {
	if p.head.IsZero() {
		return `"none"`
	}
	return `"` + p.head.String() + `"`
}

// source says where the rule of topic was set, and which it is.
func (p *policies) source(topic string) (pattern, source string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range []struct {
		rules  []tailrace.TopicRule
		source string
	}{{p.system, "system"}, {p.api, "api"}, {p.file, "file"}} {
		for _, r := range part.rules {
			if tailrace.MatchPattern(r.Pattern, topic) {
				return r.Pattern, part.source
			}
		}
	}
	return "", "default"
}

// replace stores rules as the API's list and puts it in force, if ifMatch
// still names the list they replace.
func (p *policies) replace(ctx context.Context, ifMatch string, rules []tailrace.TopicRule) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(ctx); err != nil {
		return err
	}
	if !etagMatches(ifMatch, p.etag()) {
		return problem.New("stale", "the list has changed: its ETag is %s", p.etag())
	}
	return p.store(ctx, rules)
}

// retire puts a rule before all others that ends topic for good.
func (p *policies) retire(ctx context.Context, topic string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(ctx); err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(p.api), func(r tailrace.TopicRule) bool { return r.Pattern == topic })
	return p.store(ctx, slices.Insert(rest, 0, tailrace.TopicRule{Pattern: topic, Retired: true}))
}

// store writes the list and puts it in force; mu is held.
func (p *policies) store(ctx context.Context, rules []tailrace.TopicRule) error {
	list := []policyJSON{}
	for _, r := range rules {
		list = append(list, policyOf(r))
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if len(data) > maxAdminBody {
		return tooLarge(maxAdminBody)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	head := p.head
	receipts, err := p.hub.Log().Append(ctx, []tailrace.Event{{Topic: policiesTopic, Type: "policies", Key: "policies", Data: data, IfHead: &head}})
	if errors.Is(err, tailrace.ErrHead) {
		return problem.New("stale", "another node has changed the list; read it again")
	}
	if err != nil {
		return unknownOutcome(err)
	}
	return p.apply(rules, receipts[0].Cursor)
}

// unknownOutcome is the answer to an error of Append: one that is none of the
// log's own leaves it open whether the event is stored.
func unknownOutcome(err error) error {
	if p := problemOf(err); p != nil && p.Name != "unavailable" || errors.Is(err, tailrace.ErrStopped) {
		return err
	}
	return &problem.Problem{Name: "outcome-unknown", Detail: "the log did not answer: the change may or may not be stored. Look, and repeat", RetryAfter: time.Second}
}

// etagMatches reports whether an If-Match header admits the version etag
// (RFC 9110, 13.1.1).
func etagMatches(ifMatch, etag string) bool {
	for tag := range strings.SplitSeq(ifMatch, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == etag {
			return true
		}
	}
	return false
}

// policyJSON is a rule as the API shows it, defaults included, and as it takes
// it, where what is missing is the default.
type policyJSON struct {
	Pattern    string              `json:"pattern"`
	Age        limit[jsonDuration] `json:"age"`
	Count      int64               `json:"count"` // 0 is no limit
	Bytes      limit[int64]        `json:"bytes"`
	Durability tailrace.Durability `json:"durability"`
	KeepLatest bool                `json:"keep_latest"`
	IdleDelete limit[jsonDuration] `json:"idle_delete"`
	MaxEvent   int                 `json:"max_event"`
	Closable   bool                `json:"closable"`

	Overflow tailrace.OverflowPolicy `json:"overflow"`
	Public   bool                    `json:"public"`
	Retired  bool                    `json:"retired"`
}

// sourcedPolicy says of a rule where it was set: system, api, file, default.
type sourcedPolicy struct {
	policyJSON
	Source string `json:"source,omitempty"`
}

var policyMembers = []string{
	"policies", "pattern", "age", "count", "bytes", "durability", "keep_latest", "idle_delete", "max_event", "closable",
	"overflow", "public", "retired", "source",
}

// policyOf is the JSON form of a rule.
func policyOf(r tailrace.TopicRule) policyJSON {
	p := r.Policy.WithDefaults()
	if r.Overflow == "" {
		r.Overflow = tailrace.Resume
	}
	return policyJSON{
		Pattern: r.Pattern, Age: limit[jsonDuration]{jsonDuration(p.MaxAge)}, Count: p.MaxCount, Bytes: limit[int64]{p.MaxBytes},
		Durability: p.Durability, KeepLatest: p.KeepLatest, IdleDelete: limit[jsonDuration]{jsonDuration(p.IdleDelete)}, MaxEvent: p.MaxEvent,
		Closable: p.Closable, Overflow: r.Overflow, Public: r.Public, Retired: r.Retired,
	}
}

// rulesOf reads the JSON form. The error names the entry that is wrong.
func rulesOf(list []policyJSON) ([]tailrace.TopicRule, error) {
	rules := make([]tailrace.TopicRule, len(list))
	for i, p := range list {
		rules[i] = tailrace.TopicRule{
			Pattern: p.Pattern,
			Policy: tailrace.Policy{
				MaxAge: time.Duration(p.Age.v), MaxCount: p.Count, MaxBytes: p.Bytes.v, Durability: p.Durability,
				KeepLatest: p.KeepLatest, IdleDelete: time.Duration(p.IdleDelete.v), MaxEvent: p.MaxEvent, Closable: p.Closable,
			},
			Overflow: p.Overflow, Public: p.Public, Retired: p.Retired,
		}
		if err := tailrace.CheckPattern(p.Pattern); err != nil {
			return nil, fmt.Errorf("policies[%d]: %w", i, err)
		}
		if err := rules[i].Policy.Check(); err != nil {
			return nil, fmt.Errorf("policies[%d]: %w", i, err)
		}
		switch p.Overflow {
		case "", tailrace.Resume, tailrace.Conflate, tailrace.SkipToNow:
		default:
			return nil, fmt.Errorf("policies[%d]: %w", i, &tailrace.InvalidError{Field: "overflow", Reason: "is not resume, conflate or gap"})
		}
	}
	return rules, nil
}

// limit is a bound as JSON: its value, or "none" where it is negative.
type limit[T interface{ ~int64 }] struct{ v T }

func (l limit[T]) MarshalJSON() ([]byte, error) {
	if l.v < 0 {
		return []byte(`"none"`), nil
	}
	return json.Marshal(l.v)
}

func (l *limit[T]) UnmarshalJSON(b []byte) error {
	if string(b) == `"none"` {
		l.v = -1
		return nil
	}
	if err := json.Unmarshal(b, &l.v); err != nil {
		return err
	}
	if l.v < 0 {
		return errors.New(`a limit is 0 for the default, more, or "none"`)
	}
	return nil
}

// jsonDuration is a Go duration as text.
type jsonDuration time.Duration

func (d jsonDuration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).String())
}

func (d *jsonDuration) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return errors.New(`a duration is a text such as "90s" or "24h"`)
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is no duration; write 90s or 24h", text)
	}
	*d = jsonDuration(v)
	return nil
}

func (s *Server) topicPolicy(w http.ResponseWriter, c *call) error {
	pattern, source := s.policies.source(c.name)
	p := policyOf(s.hub.Rule(c.name))
	p.Pattern = pattern
	return writeJSON(w, struct {
		Topic  string        `json:"topic"`
		Policy sourcedPolicy `json:"policy"`
	}{c.name, sourcedPolicy{p, source}})
}

func (s *Server) listPolicies(w http.ResponseWriter, _ *call) error {
	list, etag := s.policies.list()
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", "no-cache")
	return writeJSON(w, map[string]any{"policies": list})
}

// putPolicies replaces the API's list. Entries of the configuration are passed
// over, so that what GET answered can be changed and sent back.
func (s *Server) putPolicies(w http.ResponseWriter, c *call) error {
	ifMatch := strings.Join(c.Header.Values("If-Match"), ",")
	if ifMatch == "" {
		return problem.New("precondition-required", "send If-Match with the ETag of GET /v1/policies")
	}
	var req struct {
		Policies *[]sourcedPolicy `json:"policies"`
	}
	if err := s.readJSON(w, c.Request, &req, policyMembers); err != nil {
		return err
	}
	if req.Policies == nil {
		return problem.New("invalid-request", `the body is {"policies":[…]}`)
	}
	var own []policyJSON
	for _, p := range *req.Policies {
		if p.Source != "file" {
			own = append(own, p.policyJSON)
		}
	}
	rules, err := rulesOf(own)
	if err != nil {
		return err
	}
	if err := s.policies.replace(c.Context(), ifMatch, rules); err != nil {
		return err
	}
	return s.listPolicies(w, c)
}
