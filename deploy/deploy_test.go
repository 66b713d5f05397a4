// Package deploy holds what runs the server elsewhere: image, units, chart,
// alert rules and dashboard. Its tests hold these to the server's own keys,
// times and metrics.
package deploy

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tailrace/tailrace/internal/config"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// loadOpen loads a configuration with somebody who may do something, which is
// for the operator to say.
func loadOpen(src config.Sources) (*config.Config, error) {
	src.Env = append(src.Env, "TAILRACE_AUTH_ANONYMOUS_SUBSCRIBE=public/**")
	return config.Load(src)
}

// readYAML reads a document of YAML, or of JSON, which is YAML too.
func readYAML[T any](t *testing.T, path string) (doc T) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, path)), &doc); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return doc
}

func TestDocumentsAreReadable(t *testing.T) {
	count := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || strings.Contains(path, "templates") {
			return err
		}
		var doc any
		switch filepath.Ext(path) {
		case ".yaml":
			err = yaml.Unmarshal([]byte(read(t, path)), &doc)
		case ".json":
			err = json.Unmarshal([]byte(read(t, path)), &doc)
		default:
			return nil
		}
		if err != nil || doc == nil {
			t.Errorf("%s: %v", path, err)
		}
		count++
		return nil
	})
	if err != nil || count < 7 {
		t.Errorf("only %d documents are found: %v", count, err)
	}
}

// metric is one of those that docs/metrics.md lists, which a test of the server
// holds to what it shows.
type metric struct {
	kind   string
	labels []string
	says   string
}

func metrics(t *testing.T) map[string]metric {
	t.Helper()
	list := map[string]metric{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(tailrace_[a-z_]+)` \\| (\\w+) \\| (.*?) ?\\| (.*) \\|$").FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		list[m[1]] = metric{kind: m[2], labels: regexp.MustCompile(`\w+`).FindAllString(m[3], -1), says: m[4]}
	}
	if len(list) < 30 {
		t.Fatalf("only %d metrics are found in docs/metrics.md", len(list))
	}
	return list
}

var (
	selector = regexp.MustCompile(`\b((?:tailrace|process|go)_[a-z_]+)(\{[^}]*\})?`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|without) *\(([^)]*)\)`)

	// What Prometheus and the collectors of the process and of Go add.
	labelsOfAll = []string{"job", "instance", "le"}
	otherNames  = []string{"process_open_fds", "process_max_fds", "process_resident_memory_bytes", "process_cpu_seconds_total", "go_memstats_heap_alloc_bytes"}
	// Labels whose values docs/metrics.md does not name one by one.
	openLabels = []string{"job", "instance", "le", "status", "route", "method", "version"}
)

// checkQuery holds the names, labels and values in a query to those that exist.
func checkQuery(t *testing.T, where, query string, known map[string]metric) {
	t.Helper()
	labels := slices.Clone(labelsOfAll)
	for _, s := range selector.FindAllStringSubmatch(query, -1) {
		name := s[1]
		m, ok := known[name]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && !ok {
				m, ok = known[base]
				ok = ok && m.kind == "histogram"
			}
		}
		if !ok && !slices.Contains(otherNames, name) {
			t.Errorf("%s: there is no metric %s", where, name)
			continue
		}
		labels = append(labels, m.labels...)
		for _, l := range matcher.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(append(m.labels, labelsOfAll...), l[1]) {
				t.Errorf("%s: %s has no label %s", where, name, l[1])
			} else if !slices.Contains(openLabels, l[1]) && !strings.Contains(m.says, "`"+l[3]+"`") {
				t.Errorf("%s: %s has no value %q of %s", where, name, l[3], l[1])
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(query, -1) {
		for _, label := range regexp.MustCompile(`\w+`).FindAllString(g[1], -1) {
			if !slices.Contains(labels, label) {
				t.Errorf("%s: no metric of it has the label %s", where, label)
			}
		}
	}
}

type alert struct {
	Alert, Expr string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	doc := readYAML[struct{ Groups []struct{ Rules []alert } }](t, "prometheus/alerts.yaml")
	var list []alert
	for _, g := range doc.Groups {
		list = append(list, g.Rules...)
	}
	if len(list) < 10 {
		t.Fatalf("only %d alerts are found", len(list))
	}
	return list
}

func TestAlertsAskForMetricsThatExist(t *testing.T) {
	known := metrics(t)
	operations := read(t, "../docs/operations.md")
	for _, a := range alerts(t) {
		checkQuery(t, a.Alert, a.Expr, known)
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s has the severity %q", a.Alert, s)
		}
		if a.Annotations["summary"] == "" {
			t.Errorf("%s has no summary", a.Alert)
		}
		if !strings.Contains(operations, "\n### "+a.Alert+"\n") {
			t.Errorf("docs/operations.md does not say what to do on %s", a.Alert)
		}
	}
	for _, m := range regexp.MustCompile("`(tailrace_[a-z_]+)").FindAllStringSubmatch(operations, -1) {
		checkQuery(t, "docs/operations.md", m[1], known)
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Tailrace\w+)$`).FindAllStringSubmatch(operations, -1) {
		if !slices.ContainsFunc(alerts(t), func(a alert) bool { return a.Alert == m[1] }) {
			t.Errorf("docs/operations.md has %s, which is no alert", m[1])
		}
	}
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool on this machine: the alert rules are not run")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = "prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestDashboardAsksForMetricsThatExist(t *testing.T) {
	known := metrics(t)
	type target struct{ Expr string }
	board := readYAML[struct {
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int } `yaml:"gridPos"`
			Targets []target
		}
		Templating struct {
			List []struct {
				Name  string
				Query yaml.Node
			}
		}
	}](t, "grafana/tailrace.json")
	queries := 0
	var rules strings.Builder // the queries as promtool reads them
	rules.WriteString("groups: [{name: board, rules: [\n")
	seen := map[int]bool{}
	for i, p := range board.Panels {
		if seen[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %d %q: its number is not its own, or it has no title, or no place", p.ID, p.Title)
		}
		seen[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, q := range p.Targets {
			queries++
			checkQuery(t, p.Title, q.Expr, known)
			fmt.Fprintf(&rules, "{record: 'panel:%d:%d', expr: %q},\n", p.ID, queries, strings.ReplaceAll(q.Expr, "$__rate_interval", "5m"))
		}
		for _, o := range board.Panels[:i] {
			if a, b := p.GridPos, o.GridPos; a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panels %q and %q lie over each other", p.Title, o.Title)
			}
		}
	}
	if queries < 30 {
		t.Errorf("only %d queries are found", queries)
	}
	rules.WriteString("]}]\n")
	if promtool, err := exec.LookPath("promtool"); err == nil {
		file := filepath.Join(t.TempDir(), "rules.yaml")
		if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	} else {
		t.Log("no promtool on this machine: the queries are not parsed")
	}
	for _, v := range board.Templating.List {
		var q struct{ Query string }
		if v.Query.Decode(&q) == nil {
			checkQuery(t, v.Name, q.Query, known)
		}
	}
}
