package server

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tailrace/tailrace/docs"
	"github.com/tailrace/tailrace/internal/problem"
)

// The document and the table of endpoints are one: nothing is missing in
// either, route, method, parameter or problem type.
func TestOpenAPIDescribesEveryEndpoint(t *testing.T) {
	s := newServer(t, nil, nil)
	doc := parseDocument(t)
	documented := map[string]bool{}
	for path, item := range doc.members("paths") {
		shared := doc.parameters(t, item["parameters"], "query")
		for method, op := range item {
			if method == "parameters" {
				continue
			}
			name := strings.ToUpper(method) + " " + path
			documented[name] = true
			at := slices.IndexFunc(s.table(), func(e endpoint) bool { return e.method == strings.ToUpper(method) && e.path == path })
			if at < 0 {
				t.Errorf("%s is documented and not served", name)
				continue
			}
			e := s.table()[at]
			operation := op.(map[string]any)
			wantSame(t, name+": parameters", append(shared, doc.parameters(t, operation["parameters"], "query")...), e.params)
			wantSame(t, name+": problem types", texts(operation["x-problems"]), e.problems)
			if _, body := operation["requestBody"]; body != e.body {
				t.Errorf("%s: requestBody %v, the endpoint says %v", name, body, e.body)
			}
			placeholder := strings.Contains(path, "{")
			if n := len(doc.parameters(t, item["parameters"], "path")); (n == 1) != placeholder {
				t.Errorf("%s has %d path parameters", name, n)
			}
			if operation["operationId"] == nil || operation["summary"] == nil || operation["responses"].(map[string]any)["default"] == nil {
				t.Errorf("%s lacks operationId, summary or the default response", name)
			}
		}
	}
	for _, e := range s.table() {
		if !documented[e.method+" "+e.path] {
			t.Errorf("%s %s is not documented", e.method, e.path)
		}
	}
	wantSame(t, "x-common-problems", texts(doc.root["x-common-problems"]), commonProblems)
}

func TestOpenAPINamesEveryProblemType(t *testing.T) {
	doc := parseDocument(t)
	var names []string
	for _, typ := range problem.Types() {
		names = append(names, typ.Name)
	}
	wantSame(t, "ProblemName", texts(doc.members("components")["schemas"]["ProblemName"].(map[string]any)["enum"]), names)

	known := map[string]bool{}
	for _, name := range names {
		known[name] = true
	}
	s := newServer(t, nil, nil)
	for _, e := range s.table() {
		for _, name := range append(slices.Clone(e.problems), commonProblems...) {
			if !known[name] {
				t.Errorf("%s %s names the unknown problem type %q", e.method, e.path, name)
			}
		}
	}
}

func TestOpenAPIReferencesResolve(t *testing.T) {
	doc := parseDocument(t)
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				used[ref] = true
				doc.resolve(t, ref)
			}
			for _, m := range v {
				walk(m)
			}
		case []any:
			for _, m := range v {
				walk(m)
			}
		}
	}
	walk(doc.root)
	for kind, group := range doc.members("components") {
		for name := range group {
			if ref := "#/components/" + kind + "/" + name; !used[ref] {
				t.Errorf("%s is not used", ref)
			}
		}
	}
}

// The table says which parameters the hub's handlers know: each must be one,
// and no other.
func TestParametersOfTheHubAreKnown(t *testing.T) {
	h := start(t, nil, nil)
	values := map[string]string{
		"topic": "t", "snapshot": "1", "meta": "1", "hello": "1", "wait": "0s", "on_gap": "new", "ids": "own", "heartbeat": "5s", "limit": "1",
		"from": "start", "format": "json", "last_event_id": "", "lastEventId": "", "event": "e", "filter": "true", "id": "i", "key": "k", "remove": "0", "retry": "1",
		"if_head": "none", "close": "0", "encode": "base64", "upload": "u", "upload_from": "0", "skip_gaps": "0",
	}
	for _, param := range append([]string{"topic"}, subscribeParams...) {
		query := "?topic=t&format=json&" + param + "=" + values[param]
		h.do("GET", "/v1/events"+query, "").wantStatus(t, 200)
	}
	for _, param := range append([]string{"topic"}, publishParams...) {
		h.do("DELETE", "/v1/topics/t", "")
		target, headers := "/v1/events?topic=t&"+param+"="+values[param], []string{}
		switch param {
		case "upload", "upload_from", "skip_gaps":
			target, headers = target+"&upload=u", []string{"Content-Type", "text/event-stream"}
		}
		h.do("POST", target, "data: x\n\n", headers...).wantStatus(t, 200)
	}
	// What the hub knows and the table does not would be answered 400.
	for _, param := range []string{"filters", "tickets"} {
		h.do("GET", "/v1/events?topic=t&"+param+"=x", "").wantProblem(t, "unknown-parameter")
	}
}

// document is the parsed OpenAPI document.
type document struct{ root map[string]any }

func parseDocument(t *testing.T) document {
	t.Helper()
	var d document
	if err := yaml.Unmarshal(docs.OpenAPI, &d.root); err != nil {
		t.Fatal(err)
	}
	return d
}

// members returns the objects below a member of the root.
func (d document) members(name string) map[string]map[string]any {
	m := map[string]map[string]any{}
	for k, v := range d.root[name].(map[string]any) {
		m[k] = v.(map[string]any)
	}
	return m
}

// resolve returns what a local reference names.
func (d document) resolve(t *testing.T, ref string) map[string]any {
	t.Helper()
	var at any = d.root
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		m, _ := at.(map[string]any)
		at = m[part]
	}
	m, ok := at.(map[string]any)
	if !ok {
		t.Fatalf("%s does not resolve", ref)
	}
	return m
}

// parameters returns the names of a list of parameters that are in a place.
func (d document) parameters(t *testing.T, list any, in string) []string {
	t.Helper()
	var names []string
	items, _ := list.([]any)
	for _, item := range items {
		p := item.(map[string]any)
		if ref, ok := p["$ref"].(string); ok {
			p = d.resolve(t, ref)
		}
		if p["in"] == in {
			names = append(names, p["name"].(string))
		}
	}
	return names
}

func texts(list any) []string {
	var all []string
	items, _ := list.([]any)
	for _, item := range items {
		all = append(all, item.(string))
	}
	return all
}

// wantSame compares two sets.
func wantSame(t *testing.T, what string, got, want []string) {
	t.Helper()
	count := map[string]int{}
	for _, s := range got {
		count[s]++
	}
	for _, s := range want {
		count[s] -= 1
	}
	maps.DeleteFunc(count, func(_ string, n int) bool { return n == 0 })
	for s, n := range count {
		if n > 0 {
			t.Errorf("%s: %q is documented and not there, or twice", what, s)
		} else {
			t.Errorf("%s: %q is not documented", what, s)
		}
	}
}
