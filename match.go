package tailrace

import "strings"

// matcher finds the feeds whose selection has a topic: a map for exact names
// and a tree of patterns, walked once per event however many subscribers there
// are. Its user locks it.
type matcher struct {
	topics map[string][]*feed
	root   patternNode
	all    []*feed // of the zero selector
	size   int     // patterns in the tree
}

// patternNode is one segment of the patterns that share what is before it.
type patternNode struct {
	children map[string]*patternNode
	star     *patternNode // any one segment
	ends     []*feed      // patterns that end here
	rest     []*feed      // patterns that end here with "**"
}

func (n *patternNode) empty() bool {
	return len(n.children) == 0 && n.star == nil && len(n.ends) == 0 && len(n.rest) == 0
}

func newMatcher() *matcher { return &matcher{topics: map[string][]*feed{}} }

func (m *matcher) add(f *feed) {
	if f.sel.IsZero() {
		m.all = append(m.all, f)
	}
	for _, t := range f.sel.Topics {
		m.topics[t] = append(m.topics[t], f)
	}
	for _, p := range f.sel.Patterns {
		m.size++
		n := &m.root
		for seg := range strings.SplitSeq(p, "/") {
			switch seg {
			case "**":
				n.rest = append(n.rest, f)
				n = nil
			case "*":
				if n.star == nil {
					n.star = &patternNode{}
				}
				n = n.star
			default:
				if n.children == nil {
					n.children = map[string]*patternNode{}
				}
				c := n.children[seg]
				if c == nil {
					c = &patternNode{}
					n.children[seg] = c
				}
				n = c
			}
		}
		if n != nil {
			n.ends = append(n.ends, f)
		}
	}
}

func (m *matcher) remove(f *feed) {
	m.all = without(m.all, f)
	for _, t := range f.sel.Topics {
		if rest := without(m.topics[t], f); len(rest) > 0 {
			m.topics[t] = rest
		} else {
			delete(m.topics, t)
		}
	}
	for _, p := range f.sel.Patterns {
		m.size--
		m.root.remove(p, f)
	}
}

// remove takes f out of the pattern p below n and drops what is empty then.
func (n *patternNode) remove(p string, f *feed) {
	seg, rest, more := strings.Cut(p, "/")
	if seg == "**" {
		n.rest = without(n.rest, f)
		return
	}
	c := n.star
	if seg != "*" {
		c = n.children[seg]
	}
	if c == nil {
		return
	}
	if more {
		c.remove(rest, f)
	} else {
		c.ends = without(c.ends, f)
	}
	if !c.empty() {
		return
	}
	if seg == "*" {
		n.star = nil
	} else {
		delete(n.children, seg)
	}
}

func without(list []*feed, f *feed) []*feed {
	for i, g := range list {
		if g == f {
			list[i] = list[len(list)-1]
			list[len(list)-1] = nil
			return list[:len(list)-1]
		}
	}
	return list
}

// appendTo adds the feeds that select topic to dst. A feed may come more than
// once, when several parts of its selection match.
func (m *matcher) appendTo(dst []*feed, topic string) []*feed {
	dst = append(dst, m.all...)
	dst = append(dst, m.topics[topic]...)
	if m.size > 0 {
		dst = m.root.appendTo(dst, topic, strings.HasPrefix(topic, "$"))
	}
	return dst
}

// appendTo walks the patterns below n. A system name is not matched by a star
// in its first segment.
func (n *patternNode) appendTo(dst []*feed, topic string, system bool) []*feed {
	if !system {
		dst = append(dst, n.rest...)
	}
	seg, rest, more := strings.Cut(topic, "/")
	if c := n.children[seg]; c != nil {
		if more {
			dst = c.appendTo(dst, rest, false)
		} else {
			dst = append(dst, c.ends...)
		}
	}
	if c := n.star; c != nil && !system {
		if more {
			dst = c.appendTo(dst, rest, false)
		} else {
			dst = append(dst, c.ends...)
		}
	}
	return dst
}
