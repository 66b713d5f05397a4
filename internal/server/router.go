package server

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// endpoint is one method of one path.
type endpoint struct {
	method   string
	path     string      // ends in {topic}: the rest of the path; {id}, {name}: one segment
	do       auth.Action // what the caller must be allowed to; Open needs no right and looks at no credential
	whole    bool        // the right is needed on the server itself, whatever topic= says
	decides  bool        // serve asks for the right itself: it alone knows the topics, or the credential is what it is about
	params   []string    // the query parameters it knows
	body     bool        // it reads a body; the others refuse one
	stream   bool        // GET that may stay open: HEAD is not the same without the body
	problems []string    // types it can answer with, besides commonProblems
	serve    func(w http.ResponseWriter, r *call) error
}

// commonProblems can come from every endpoint.
var commonProblems = []string{
	"headers-too-large", "internal", "invalid-parameter", "invalid-request", "method-not-allowed", "not-found",
	"origin-refused", "unknown-parameter", "conflicting-parameter", "uri-too-long", "wrong-host",

	// Of those that look at credentials, which are most.
	"auth-unavailable", "csrf", "forbidden", "invalid-token", "rate-limited", "ticket-spent", "token-expired", "token-in-url", "token-revoked", "unauthenticated",
}

// call is one request at its endpoint.
type call struct {
	*http.Request
	name      string          // what stands for {topic}, {id} or {name}, decoded once
	query     url.Values      // known parameters only
	principal *auth.Principal // who asks; set by decide
}

// route is a path with its methods.
type route struct {
	path    string // as in the table
	prefix  string // before the placeholder, or all of the path
	suffix  string // behind it
	methods map[string]*endpoint
	allow   string // the Allow header
}

// newRoutes groups the table by path.
func newRoutes(table []endpoint) []*route {
	var routes []*route
	for i := range table {
		e := &table[i]
		at := slices.IndexFunc(routes, func(rt *route) bool { return rt.path == e.path })
		if at < 0 {
			rt := &route{path: e.path, prefix: e.path, methods: map[string]*endpoint{}}
			if before, after, ok := strings.Cut(e.path, "{"); ok {
				rt.prefix = before
				_, rt.suffix, _ = strings.Cut(after, "}")
			}
			at = len(routes)
			routes = append(routes, rt)
		}
		routes[at].methods[e.method] = e
	}
	for _, rt := range routes {
		methods := []string{http.MethodOptions}
		for m, e := range rt.methods {
			methods = append(methods, m)
			if m == http.MethodGet && !e.stream && rt.methods[http.MethodHead] == nil {
				methods = append(methods, http.MethodHead)
			}
		}
		slices.Sort(methods)
		rt.allow = strings.Join(methods, ", ")
	}
	// A longer path is looked at first: /v1/connections/{id}/events before /v1/connections/{id}.
	slices.SortStableFunc(routes, func(a, b *route) int {
		return cmp.Or(len(b.prefix)-len(a.prefix), len(b.suffix)-len(a.suffix))
	})
	return routes
}

// match reports whether the escaped path is of this route, and returns what
// stands for the placeholder, still escaped.
func (rt *route) match(escaped string) (name string, ok bool) {
	if rt.prefix == rt.path {
		return "", escaped == rt.path
	}
	name, ok = strings.CutPrefix(escaped, rt.prefix)
	if !ok || strings.HasSuffix(rt.path, "{topic}") {
		return name, ok
	}
	name, ok = strings.CutSuffix(name, rt.suffix)
	return name, ok && name != "" && !strings.Contains(name, "/")
}

// endpoint returns what serves method, or nil.
func (rt *route) endpoint(method string) *endpoint {
	if e := rt.methods[method]; e != nil {
		return e
	}
	if e := rt.methods[http.MethodGet]; e != nil && method == http.MethodHead && !e.stream {
		return e
	}
	return nil
}

// find returns the route of the escaped path, or nil.
func (s *Server) find(escaped string) (rt *route, name string) {
	for _, rt := range s.routes {
		if name, ok := rt.match(escaped); ok {
			return rt, name
		}
	}
	return nil, ""
}

// dispatch answers a request that passed the guards.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request, rt *route, name string) error {
	if rt == nil {
		if s.opts.Pages != nil && (r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/start/")) {
			s.opts.Pages.ServeHTTP(w, r)
			return nil
		}
		return problem.New("not-found", "there is nothing at %q", r.URL.Path)
	}
	if r.Method == http.MethodOptions {
		s.servePreflight(w, r, rt.allow)
		return nil
	}
	e := rt.endpoint(r.Method)
	if e == nil {
		w.Header().Set("Allow", rt.allow)
		return problem.New("method-not-allowed", "%s has %s", rt.path, rt.allow)
	}
	if !e.body && r.ContentLength != 0 { // -1: chunked, or HTTP/2 without a length
		return problem.New("invalid-request", "%s %s takes no body", r.Method, rt.path)
	}
	c := &call{Request: r}
	var err error
	if c.name, err = url.PathUnescape(name); err != nil {
		return problem.New("invalid-request", "the path is not percent-encoded: %v", err)
	}
	c.query, err = parseQuery(r.URL.RawQuery, e.params)
	topics := c.query["topic"]
	if err == nil && strings.HasSuffix(rt.path, "{topic}") {
		topics = []string{c.name}
		err = checkTopic(c.name)
	}
	switch {
	case err != nil && (e.decides || e.do != auth.Open):
		// A credential that is wrong, or where it should not be, comes first.
		if refusal := s.authenticate(c); refusal != nil {
			return refusal
		}
	case err == nil && !e.decides && e.do != auth.Open:
		if e.whole {
			topics = nil
		}
		err = s.decide(c, e.do, topics)
	}
	if err != nil {
		return err
	}
	return e.serve(w, c)
}

// checkSelector refuses what is neither a topic's name nor a pattern.
func checkSelector(s string) error {
	if !tailrace.IsPattern(s) {
		return checkTopic(s)
	}
	if err := tailrace.CheckPattern(s); err != nil {
		return tailrace.InvalidTopic(err)
	}
	return nil
}

// checkTopic refuses what is no topic's name, and patterns.
func checkTopic(name string) error {
	if err := tailrace.CheckTopic(name); err != nil {
		return problemOf(err)
	}
	if tailrace.IsPattern(name) {
		return problem.New("invalid-topic", "%q is a pattern; a pattern is given as topic= to /v1/events", name).
			With("offset", strings.Index(name, "*"))
	}
	return nil
}

// checkWritable refuses the system's topics.
func checkWritable(topic string) error {
	if strings.HasPrefix(topic, "$") {
		return problem.New("reserved-topic", "%q begins with $ and is the system's", topic)
	}
	return nil
}
