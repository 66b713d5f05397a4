package auth

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
)

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		grant, want string
		covered     bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a/b", "a", false},
		{"a", "a/b", false},
		{"*", "a", true},
		{"*", "*", true},
		{"*", "**", false},
		{"*", "a/b", false},
		{"**", "a/b/c", true},
		{"**", "**", true},
		{"**", "*/x", true},
		{"a/**", "a", false},
		{"a/**", "a/*", true},
		{"a/**", "a/**", true},
		{"a/*", "a/**", false},
		{"a/*/c", "a/*/c", true},
		{"a/b/c", "a/*/c", false},
		{"a/*", "a/", true}, // an empty segment is a segment
		{"a/**", "a//b", true},
		{"a*", "ab", false}, // a star in a segment is literal
		{"a*", "a*", true},
		{"**", "$stats", false},
		{"*", "$stats", false},
		{"$stats", "$stats", true},
		{"$x/**", "$x/*", true},
		{"*/y", "$x/y", false},
		{"a/*", "a/$x", true}, // only the first segment makes a name the system's
		{"user/u1/**", "user/**", false},
		{"user/u1/**", "user/u1/../u2", true}, // dots have no meaning in names
	} {
		if got := tailrace.Covers(tc.grant, tc.want); got != tc.covered {
			t.Errorf("covers(%q, %q) = %v", tc.grant, tc.want, got)
		}
	}
}

// A grant that covers a pattern matches every name that the pattern matches;
// one that does not cover it leaves out at least one.
func TestCoversAgreesWithMatching(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	segments := []string{"a", "b", "$a", "", "*"}
	pattern := func() string {
		parts := make([]string, 1+rng.IntN(3))
		for i := range parts {
			parts[i] = segments[rng.IntN(len(segments))]
		}
		if rng.IntN(3) == 0 {
			parts[len(parts)-1] = "**"
		}
		return strings.Join(parts, "/")
	}
	// Every name of up to four segments, with one segment that no pattern has.
	var names []string
	var grow func(prefix string, depth int)
	grow = func(prefix string, depth int) {
		for _, s := range []string{"a", "b", "$a", "", "zz"} {
			names = append(names, prefix+s)
			if depth > 1 {
				grow(prefix+s+"/", depth-1)
			}
		}
	}
	grow("", 4)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "" })
	matches := func(p, n string) bool { return p == n || tailrace.MatchPattern(p, n) }
	covered := 0
	for range 3000 {
		grant, want := pattern(), pattern()
		if grant == "" || want == "" {
			continue
		}
		escape := ""
		for _, n := range names {
			if matches(want, n) && !matches(grant, n) {
				escape = n
				break
			}
		}
		got := tailrace.Covers(grant, want)
		if got && escape != "" {
			t.Fatalf("covers(%q, %q), but %q is matched by the second only", grant, want, escape)
		}
		if !got && escape == "" {
			t.Fatalf("not covers(%q, %q), but no name shows it", grant, want)
		}
		if got {
			covered++
		}
	}
	if covered < 100 {
		t.Errorf("only %d pairs covered: the test shows little", covered)
	}
}

func TestMissing(t *testing.T) {
	g := Grants{
		Publish:   []string{"room/*"},
		Subscribe: []string{"room/*", "user/u7/**"},
		Presence:  []string{"room/*"},
		Admin:     []string{"room/**"},
		Gateway:   []string{"small"},
	}
	for _, tc := range []struct {
		name    string
		grants  Grants
		do      Action
		topics  []string
		missing []string
	}{
		{"own", g, Subscribe, []string{"room/a", "user/u7/x/y"}, nil},
		{"a pattern that is covered", g, Subscribe, []string{"room/*"}, nil},
		{"a wider pattern", g, Subscribe, []string{"room/**"}, []string{"room/**"}},
		{"one of three", g, Subscribe, []string{"room/a", "user/u8/x", "room/b"}, []string{"user/u8/x"}},
		{"another action", g, Publish, []string{"user/u7/x"}, []string{"user/u7/x"}},
		{"presence of a topic", g, Subscribe, []string{"$presence/room/a"}, nil},
		{"presence of a pattern", g, Subscribe, []string{"$presence/room/*"}, nil},
		{"presence of another topic", g, Subscribe, []string{"$presence/user/u7"}, []string{"$presence/user/u7"}},
		{"presence of all", g, Subscribe, []string{"$presence/**"}, []string{"$presence/**"}},
		{"presence as an action", g, Presence, []string{"room/a"}, nil},
		{"system without admin on it", g, Subscribe, []string{"$stats"}, []string{"$stats"}},
		{"system by a subscribe grant", Grants{Subscribe: []string{"**", "$stats"}}, Subscribe, []string{"$stats"}, []string{"$stats"}},
		{"system by name", Grants{Admin: []string{"$stats"}}, Subscribe, []string{"$stats"}, nil},
		{"system by all", Grants{Admin: []string{"**"}}, Subscribe, []string{"$audit/**", "$stats"}, nil},
		{"admin gives no reading", Grants{Admin: []string{"**"}}, Subscribe, []string{"room/a"}, []string{"room/a"}},
		{"admin of a topic", g, Admin, []string{"room/a"}, nil},
		{"admin of the server", g, Admin, nil, []string{"**"}},
		{"admin of all", Grants{Admin: []string{"**"}}, Admin, nil, nil},
		{"a model", g, Gateway, []string{"small"}, nil},
		{"another model", g, Gateway, []string{"large"}, []string{"large"}},
		{"any model", Grants{Gateway: []string{"*"}}, Gateway, []string{"a/b"}, nil},
		{"nothing asked", Grants{}, Open, nil, nil},
		{"nothing granted", Grants{}, Subscribe, []string{"a"}, []string{"a"}},
		{"an unknown action", Grants{Admin: []string{"**"}}, "delete", []string{"a"}, []string{"a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.grants.Missing(tc.do, tc.topics); !slices.Equal(got, tc.missing) {
				t.Errorf("missing %q, want %q", got, tc.missing)
			}
		})
	}
}

func TestClaimsCannotLeaveTheirSegment(t *testing.T) {
	for _, tc := range []struct {
		selector string
		value    any
		want     string // "" is no grant
	}{
		{"user/{sub}/**", "u7", "user/u7/**"},
		{"user-{sub}", "u7", "user-u7"},
		{"{sub}", "u7", "u7"},
		{"user/{sub}", "*", ""},
		{"user/{sub}", "**", ""},
		{"user/{sub}", "", ""},
		{"user/{sub}", ".", ""},
		{"user/{sub}", "..", ""},
		{"user/{sub}", "a/b", ""},
		{"user/{sub}", "/", ""},
		{"user/{sub}", "$stats", ""},
		{"{sub}", "$stats", ""},
		{"user/{sub}", "a\x00b", ""},
		{"user/{sub}", "a\nb", ""},
		{"user/{sub}", "a\u0085b", ""},
		{"user/{sub}", "\xff", ""},
		{"user/{sub}", "\ufdd0", ""},
		{"user/{sub}", strings.Repeat("x", 600), ""},
		{"user/{sub}", 7.0, ""},
		{"user/{sub}", nil, ""},
		{"user/{sub}", []any{"u7"}, ""},
		{"user/*{sub}", "*", ""},
		{"user/{sub}{sub}", "*", ""},
		{"user/{sub}", "a*", "user/a*"}, // literal, as in any name
		{"user/{sub}", "{iss}", "user/{iss}"},
		{"user/{other}/{sub}", "u7", "user/{other}/u7"},
		{"user/{claims.sub}", "u7", "user/u7"},
		{"user/{claims.}/x", "u7", "user/{claims.}/x"},
		{"user/{sub", "u7", "user/{sub"},
		{"{{sub}}", "u7", "{u7}"},
		{"t/{claims.https://example.com/tenant}/x", "u7", ""},
	} {
		g := Grants{Subscribe: []string{tc.selector}}.resolve(map[string]any{"sub": tc.value, "iss": "me"})
		got := strings.Join(g.Subscribe, " ")
		if got != tc.want {
			t.Errorf("%q with %q grants %q, want %q", tc.selector, tc.value, got, tc.want)
		}
	}
	g := Grants{Publish: []string{"t/{claims.https://example.com/tenant}/x", "n/{claims.a.b}"}, Gateway: []string{"{sub}"}}
	got := g.resolve(map[string]any{"https://example.com/tenant": "acme", "a.b": "c", "sub": "x"})
	if !slices.Equal(got.Publish, []string{"t/acme/x", "n/c"}) || !slices.Equal(got.Gateway, []string{"{sub}"}) {
		t.Errorf("got %+v", got)
	}
}

func TestJoinLeavesItsPartsAlone(t *testing.T) {
	a := Grants{Publish: make([]string, 0, 4)}
	b := a.join(Grants{Publish: []string{"x"}})
	c := a.join(Grants{Publish: []string{"y"}})
	if len(a.Publish) != 0 || b.Publish[0] != "x" || c.Publish[0] != "y" {
		t.Errorf("a %v, b %v, c %v share memory", a, b, c)
	}
}
