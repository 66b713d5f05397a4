package tailrace

import (
	"errors"
	"testing"
	"time"
)

func TestPolicyDefaults(t *testing.T) {
	want := Policy{
		MaxAge:     24 * time.Hour,
		MaxBytes:   256 << 20,
		Durability: Fsync,
		IdleDelete: 7 * 24 * time.Hour,
		MaxEvent:   1 << 20,
	}
	if got := (Policy{}).WithDefaults(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	set := Policy{MaxAge: -1, MaxCount: 5, MaxBytes: -1, Durability: Memory, KeepLatest: true, IdleDelete: -1, MaxEvent: 7, Closable: true}
	if got := set.WithDefaults(); got != set {
		t.Errorf("%+v, want %+v", got, set)
	}
}

func TestRules(t *testing.T) {
	rs := Rules{
		{Pattern: "a/b", Policy: Policy{MaxCount: 1}},
		{Pattern: "a/*", Policy: Policy{MaxCount: 2}},
		{Pattern: "a/**", Policy: Policy{MaxCount: 3}},
		{Pattern: "$sys/**", Policy: Policy{MaxCount: 4}},
		{Pattern: "**", Policy: Policy{MaxCount: 5}},
		{Pattern: "a/x", Policy: Policy{MaxCount: 6}}, // never
	}
	if err := rs.Check(); err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]int64{"a/b": 1, "a/x": 2, "a/b/c": 3, "$sys/x": 4, "$other": 0, "z": 5} {
		p := rs.Policy(topic)
		if p.MaxCount != want {
			t.Errorf("%s: rule %d, want %d", topic, p.MaxCount, want)
		}
		if p.MaxAge != DefaultMaxAge || p.Durability != Fsync {
			t.Errorf("%s: no defaults: %+v", topic, p)
		}
	}
	if p := (Rules)(nil).Policy("a"); p != (Policy{}).WithDefaults() {
		t.Errorf("no rules: %+v", p)
	}
}

func TestRulesCheck(t *testing.T) {
	for name, r := range map[string]Rule{
		"pattern":    {Pattern: "a/**/b"},
		"no pattern": {},
		"durability": {Pattern: "a", Policy: Policy{Durability: "never"}},
		"count":      {Pattern: "a", Policy: Policy{MaxCount: -1}},
		"event size": {Pattern: "a", Policy: Policy{MaxEvent: -1}},
	} {
		if err := (Rules{{Pattern: "ok"}, r}).Check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
