package tailrace

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestMatchPattern(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no string // names, parted by spaces
	}{
		{"a", "a", "b aa a/ /a a/b $a"},
		{"a/b", "a/b", "a b a/b/c a/b/"},
		{"*", "a ü **", "a/b /a a/ $a"},
		{"**", "a a/b a/b/c /a a/", "$a $a/b"},
		{"a/*", "a/b a/ a/*", "a a/b/c b/a"},
		{"a/**", "a/b a/b/c a/ a//", "a b/a ab/c"},
		{"*/b", "a/b /b", "b a/c a/b/c $a/b"},
		{"*/*", "a/b / a/", "a a/b/c $a/b"},
		{"a/*/c", "a/b/c a//c", "a/c a/b/b/c"},
		{"*/b/**", "a/b/c a/b/c/d", "a/b $a/b/c"},
		{"$sys/*", "$sys/a", "$sys sys/a $sys/a/b"},
		{"$*", "$*", "$a $"}, // a star within a segment is a star
		{"a*", "a*", "a ab"},
		{"*a/b", "*a/b", "aa/b"},
		{"a/$x", "a/$x", "$x"},
		{"*/$x", "a/$x", "$a/$x"},
		{"***", "***", "a **"},
		{"a//b", "a//b", "a/b a/x/b"},
		{"a/*b/**", "a/*b/c", "a/b/c"},
	} {
		for _, name := range strings.Fields(c.yes) {
			if !MatchPattern(c.pattern, name) {
				t.Errorf("%q does not match %q", c.pattern, name)
			}
		}
		for _, name := range strings.Fields(c.no) {
			if MatchPattern(c.pattern, name) {
				t.Errorf("%q matches %q", c.pattern, name)
			}
		}
	}
}

// slowMatch is MatchPattern by a regular expression.
func slowMatch(pattern, topic string) bool {
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(pattern, "$") {
		return false
	}
	segments := strings.Split(pattern, "/")
	for i, s := range segments {
		switch {
		case s == "**" && i == len(segments)-1:
			segments[i] = "(?s:.*)"
		case s == "*":
			segments[i] = "[^/]*"
		default:
			segments[i] = regexp.QuoteMeta(s)
		}
	}
	return regexp.MustCompile(`\A(?:` + strings.Join(segments, "/") + `)\z`).MatchString(topic)
}

func FuzzMatchPattern(f *testing.F) {
	for _, s := range []string{"a", "a/b", "*", "**", "a/*", "a/**", "*/b/**", "$sys/*", "**/a", "a//b", "/", "", "a*/**"} {
		f.Add(s, "a/b")
		f.Add(s, "$sys/a")
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, pattern, topic string) {
		if CheckPattern(pattern) != nil || CheckTopic(topic) != nil {
			MatchPattern(pattern, topic) // must not panic
			return
		}
		if got, want := MatchPattern(pattern, topic), slowMatch(pattern, topic); got != want {
			t.Errorf("MatchPattern(%q, %q) is %v, want %v", pattern, topic, got, want)
		}
		if IsPattern(pattern) {
			return
		}
		if MatchPattern(pattern, topic) != (pattern == topic) {
			t.Errorf("%q is no pattern, and matches %q", pattern, topic)
		}
	})
}

func TestMatchPatternDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		MatchPattern("a/*/c/**", "a/b/c/d/e")
		MatchPattern("$sys/**", "a/b/c/d/e")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseSelector(t *testing.T) {
	s, err := ParseSelector("b", "a/*", "a", "**", "x*")
	if err != nil || !slices.Equal(s.Topics, []string{"b", "a", "x*"}) || !slices.Equal(s.Patterns, []string{"a/*", "**"}) {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := ParseSelector(); err != nil || !s.IsZero() {
		t.Errorf("nothing: %+v, %v", s, err)
	}
	for _, c := range []struct {
		part, field string
		offset      int
	}{
		{"", "topic", 0},
		{"a\nb", "topic", 1},
		{"a/*\x7f/*", "pattern", 3},
		{"**/a", "pattern", 0},
		{"a/**/b", "pattern", 2},
		{"a/**/**", "pattern", 2},
		{"**/", "pattern", 0},
		{strings.Repeat("a", 513), "topic", 512},
		{strings.Repeat("a", 511) + "/*", "pattern", 512},
	} {
		_, err := ParseSelector("ok", c.part)
		var invalid *InvalidError
		if !errors.As(err, &invalid) || !errors.Is(err, ErrInvalid) || invalid.Field != c.field || invalid.Offset != c.offset {
			t.Errorf("%.40q: %v, want an invalid %s at byte %d", c.part, err, c.field, c.offset)
		}
	}
	for _, p := range []string{"**", "a/**", "*/**", "***", "a***/b", "**a/b"} {
		if err := CheckPattern(p); err != nil {
			t.Errorf("CheckPattern(%q): %v", p, err)
		}
	}
	if err := CheckPattern(""); !errors.Is(err, ErrInvalid) {
		t.Errorf("the empty pattern: %v", err)
	}
}

func TestIsPattern(t *testing.T) {
	for s, want := range map[string]bool{
		"": false, "a": false, "*": true, "**": true, "a/*": true, "*/a": true, "a/**": true,
		"a*": false, "*a/b": false, "***": false, "a/b*/c": false, "a/*/c": true,
	} {
		if IsPattern(s) != want {
			t.Errorf("IsPattern(%q) is %v", s, !want)
		}
	}
}

func TestSelector(t *testing.T) {
	s := Selector{Topics: []string{"b", "a", "b"}, Patterns: []string{"x/*", "x/*"}}
	for name, want := range map[string]bool{"a": true, "b": true, "x/y": true, "x": false, "c": false, "$s": false} {
		if s.Match(name) != want {
			t.Errorf("Match(%q) is %v", name, !want)
		}
	}
	if zero := (Selector{}); !zero.IsZero() || !zero.Match("a") || !zero.Match("$s/a") {
		t.Error("the zero selector is not everything")
	}
	c := s.Canonical()
	if !slices.Equal(c.Topics, []string{"a", "b"}) || !slices.Equal(c.Patterns, []string{"x/*"}) {
		t.Errorf("canonical: %+v", c)
	}
	if !slices.Equal(s.Topics, []string{"b", "a", "b"}) {
		t.Error("Canonical changed its receiver")
	}
	if name, ok := (Selector{Topics: []string{"a"}}).Single(); name != "a" || !ok {
		t.Errorf("single: %q, %v", name, ok)
	}
	for _, s := range []Selector{{}, {Topics: []string{"a", "b"}}, {Patterns: []string{"a"}}, {Topics: []string{"a"}, Patterns: []string{"*"}}} {
		if _, ok := s.Single(); ok {
			t.Errorf("%+v is single", s)
		}
	}
}

func BenchmarkMatchPattern(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		MatchPattern("user/*/orders/**", "user/12345/orders/67890/lines")
	}
}
