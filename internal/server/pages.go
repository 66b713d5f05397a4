package server

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tailrace/tailrace/docs"
	"github.com/tailrace/tailrace/internal/problem"
)

// pagePolicy lets a page have its own style and nothing else.
const pagePolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

var problemTemplate = template.Must(template.New("problems").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} · Tailrace</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem }
code { font-family: ui-monospace, monospace }
td { padding: .2rem 1rem .2rem 0; vertical-align: top }
</style>
<h1>{{.Title}}</h1>
{{with .Type}}<p><code>{{.Name}}</code>, status {{.Status}}</p>
<p>{{.Help}}</p>
<p><a href="/docs/problems">All problems</a></p>
{{else}}<p>Every error is answered as <code>application/problem+json</code> (RFC 9457) with one of these types.</p>
<table>{{range .All}}
<tr><td>{{.Status}}<td><a href="/docs/problems/{{.Name}}"><code>{{.Name}}</code></a><td>{{.Title}}{{end}}
</table>
{{end}}`))

// problemPage explains a problem type, to a browser as a page, to curl as
// text.
func (s *Server) problemPage(w http.ResponseWriter, c *call) error {
	t, ok := problem.Find(c.name)
	if !ok {
		return problem.New("not-found", "there is no problem type %q; /docs/problems lists them", c.name)
	}
	if !wantsHTML(c.Request) {
		return writeText(w, fmt.Sprintf("%s: %s (status %d)\n\n%s\n", t.Name, t.Title, t.Status, t.Help))
	}
	return writeHTML(w, map[string]any{"Title": t.Title, "Type": t})
}

func (s *Server) problemIndex(w http.ResponseWriter, c *call) error {
	if !wantsHTML(c.Request) {
		var b strings.Builder
		for _, t := range problem.Types() {
			fmt.Fprintf(&b, "%d  %-22s %s\n", t.Status, t.Name, t.Title)
		}
		return writeText(w, b.String())
	}
	return writeHTML(w, map[string]any{"Title": "Problems", "All": problem.Types()})
}

func wantsHTML(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

func writeText(w http.ResponseWriter, text string) error {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Add("Vary", "Accept")
	fmt.Fprint(w, text)
	return nil
}

func writeHTML(w http.ResponseWriter, data map[string]any) error {
	var b strings.Builder
	if err := problemTemplate.Execute(&b, data); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Add("Vary", "Accept")
	fmt.Fprint(w, b.String())
	return nil
}

func (s *Server) openapiYAML(w http.ResponseWriter, _ *call) error {
	w.Header().Set("Content-Type", "application/yaml")
	w.Write(docs.OpenAPI)
	return nil
}

// openapiDocument is the description as JSON.
func openapiDocument() (json.RawMessage, error) {
	var doc any
	if err := yaml.Unmarshal(docs.OpenAPI, &doc); err != nil {
		return nil, fmt.Errorf("server: openapi.yaml: %w", err)
	}
	return json.Marshal(doc)
}

func (s *Server) openapiJSON(w http.ResponseWriter, _ *call) error {
	return writeJSON(w, s.openapi)
}
