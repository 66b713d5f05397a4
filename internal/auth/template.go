package auth

import (
	"strings"
	"unicode/utf8"
)

// resolve returns g with {sub}, {iss} and {claims.name} replaced by the string
// claims of that name. A selector whose claim is missing, or has a value that
// could reach beyond its segment, grants nothing and is left out.
func (g Grants) resolve(claims map[string]any) Grants {
	for _, l := range g.lists() {
		if l.action == Gateway {
			continue // names of models, in which braces are literal
		}
		var out []string
		for _, selector := range *l.list {
			if s, ok := substitute(selector, claims); ok {
				out = append(out, s)
			}
		}
		*l.list = out
	}
	return g
}

// substitute replaces the placeholders of one selector in a single pass: a
// value that looks like a placeholder stays what it is. Braces that are no
// placeholder are literal.
func substitute(selector string, claims map[string]any) (string, bool) {
	var b strings.Builder
	rest := selector
	for {
		before, name, after, ok := cutPlaceholder(rest)
		if !ok {
			break
		}
		value, isText := claims[name].(string)
		if !isText || !isPlainSegment(value) {
			return "", false
		}
		b.WriteString(before)
		b.WriteString(value)
		rest = after
	}
	b.WriteString(rest)
	out := b.String()
	return out, checkSelector(out) == nil
}

// cutPlaceholder finds the first placeholder of s and the claim that it names.
// That may hold dots and slashes, as in {claims.https://example.com/tenant}.
func cutPlaceholder(s string) (before, claim, after string, ok bool) {
	for at := 0; ; at++ {
		i := strings.IndexByte(s[at:], '{')
		if i < 0 {
			return s, "", "", false
		}
		at += i
		name, after, closed := strings.Cut(s[at+1:], "}")
		if !closed {
			return s, "", "", false
		}
		if name == "sub" || name == "iss" {
			return s[:at], name, after, true
		}
		if name, ok := strings.CutPrefix(name, "claims."); ok && name != "" {
			return s[:at], name, after, true
		}
	}
}

// isPlainSegment reports whether a claim's value can stand for one segment
// and nothing else: it matches no other name, and proxies do not rewrite it.
func isPlainSegment(value string) bool {
	switch value {
	case "", "*", "**", ".", "..":
		return false
	}
	if value[0] == '$' || strings.Contains(value, "/") || !utf8.ValidString(value) {
		return false
	}
	return checkSelector(value) == nil // no controls, no noncharacters
}
