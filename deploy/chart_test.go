package deploy

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"text/template"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tailrace/tailrace/internal/config"
)

// render does to the chart what helm does, with as many of its functions as
// the templates use. It returns the manifests by their kind. values are merged
// into those of the chart, by the name of their path.
func render(t *testing.T, values map[string]any) (map[string]map[string]any, error) {
	t.Helper()
	all := readYAML[map[string]any](t, "helm/tailrace/values.yaml")
	for path, value := range values {
		at := all
		names := strings.Split(path, ".")
		for _, name := range names[:len(names)-1] {
			at = at[name].(map[string]any)
		}
		at[names[len(names)-1]] = value
	}
	chart := readYAML[struct{ Name, Version string }](t, "helm/tailrace/Chart.yaml")
	scope := map[string]any{
		"Values":  all,
		"Chart":   chart,
		"Release": map[string]string{"Name": "prod", "Namespace": "events", "Service": "Helm"},
	}

	root := template.New("").Option("missingkey=error")
	indent := func(n int, text string) string {
		return "\n" + strings.Repeat(" ", n) + strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", n))
	}
	root.Funcs(template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var b strings.Builder
			err := root.ExecuteTemplate(&b, name, data)
			return b.String(), err
		},
		"required": func(why string, v any) (any, error) {
			if v == nil || v == "" {
				return nil, errors.New(why)
			}
			return v, nil
		},
		"fail": func(why string) (string, error) { return "", errors.New(why) },
		"toYaml": func(v any) (string, error) {
			text, err := yaml.Marshal(v)
			return strings.TrimSuffix(string(text), "\n"), err
		},
		"nindent":    indent,
		"quote":      func(v any) string { return fmt.Sprintf("%q", fmt.Sprint(v)) },
		"sha256sum":  func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) },
		"contains":   func(part, text string) bool { return strings.Contains(text, part) },
		"trunc":      func(n int, text string) string { return text[:min(n, len(text))] },
		"trimSuffix": func(end, text string) string { return strings.TrimSuffix(text, end) },
		"lower":      strings.ToLower,
		"join": func(by string, list any) string {
			var texts []string
			for i := range reflect.ValueOf(list).Len() {
				texts = append(texts, fmt.Sprint(reflect.ValueOf(list).Index(i)))
			}
			return strings.Join(texts, by)
		},
		"int": func(v any) int { return int(reflect.ValueOf(v).Int()) },
		"add": func(a, b int) int { return a + b },
	})
	if _, err := root.ParseGlob("helm/tailrace/templates/*"); err != nil {
		t.Fatal(err)
	}
	manifests := map[string]map[string]any{}
	for _, file := range root.Templates() {
		if filepath.Ext(file.Name()) != ".yaml" {
			continue
		}
		var b strings.Builder
		if err := file.Execute(&b, scope); err != nil {
			return nil, err
		}
		var doc map[string]any
		if err := yaml.Unmarshal([]byte(b.String()), &doc); err != nil {
			t.Fatalf("%s: %v\n%s", file.Name(), err, b.String())
		}
		if doc != nil {
			manifests[doc["kind"].(string)] = doc
		}
	}
	return manifests, nil
}

// at follows a path of names, and of numbers of elements, into a document.
func at(t *testing.T, doc any, path string) any {
	t.Helper()
	for name := range strings.SplitSeq(path, ".") {
		switch x := doc.(type) {
		case map[string]any:
			doc = x[name]
		case []any:
			var i int
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(x) {
				t.Fatalf("%s: there is no %s", path, name)
			}
			doc = x[i]
		default:
			t.Fatalf("%s: there is no %s", path, name)
		}
	}
	return doc
}

// environment returns the variables of the chart's container as a process has
// them.
func environment(t *testing.T, stateful any) (env []string) {
	t.Helper()
	for _, v := range at(t, stateful, "spec.template.spec.containers.0.env").([]any) {
		v := v.(map[string]any)
		env = append(env, fmt.Sprintf("%s=%s", v["name"], v["value"]))
	}
	return env
}

const pod = "spec.template.spec."

func behindProxy() map[string]any {
	return map[string]any{"image.repository": "registry/tailrace", "trustedProxies": []any{"10.0.0.0/8", "10.1.0.1"}}
}

func TestChartDrainsBeforeItIsKilled(t *testing.T) {
	manifests, err := render(t, behindProxy())
	if err != nil {
		t.Fatal(err)
	}
	stateful := manifests["StatefulSet"]
	c, err := loadOpen(config.Sources{Env: environment(t, stateful)})
	if err != nil {
		t.Fatalf("the server refuses the chart's variables: %v", err)
	}
	grace := time.Duration(at(t, stateful, pod+"terminationGracePeriodSeconds").(int)) * time.Second
	if grace < c.Drain.Max+10*time.Second {
		t.Errorf("killed after %v, and drain.max is %v", grace, c.Drain.Max)
	}
	ready := at(t, stateful, pod+"containers.0.readinessProbe")
	if period := time.Duration(at(t, ready, "periodSeconds").(int)) * time.Second; period >= c.Drain.Delay {
		t.Errorf("asked every %v whether it is ready, and drain.delay is %v", period, c.Drain.Delay)
	}
	for probe, path := range map[string]string{"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"} {
		if got := at(t, stateful, pod+"containers.0."+probe+".httpGet.path"); got != path {
			t.Errorf("%s asks %v", probe, got)
		}
	}
	if n := at(t, stateful, "spec.replicas"); n != 1 {
		t.Errorf("%v servers for one log", n)
	}
	if len(c.Listen.Proxies()) != 2 || c.Log.Dir == "" {
		t.Errorf("proxies %v, log in %q", c.Listen.Proxies(), c.Log.Dir)
	}
}

func TestChartPartsBelongTogether(t *testing.T) {
	values := behindProxy()
	maps.Copy(values, map[string]any{
		"serviceMonitor.enabled": true, "networkPolicy.enabled": true, "tls.secretName": "certificate", "storage.className": "fast",
		"networkPolicy.from":  []any{map[string]any{"podSelector": map[string]any{}}},
		"service.annotations": map[string]any{"a": "b"}, "podLabels": map[string]any{"c": "d"}, "podAnnotations": map[string]any{"e": "f"},
		"resources": map[string]any{"limits": map[string]any{"memory": "1Gi"}}, "nodeSelector": map[string]any{"g": "h"},
		"tolerations": []any{map[string]any{"key": "i"}}, "affinity": map[string]any{"podAffinity": map[string]any{}},
		"imagePullSecrets": []any{map[string]any{"name": "j"}}, "serviceMonitor.labels": map[string]any{"k": "l"},
		"serviceMonitor.tlsConfig": map[string]any{"insecureSkipVerify": true},
		"config":                   map[string]any{"limits": map[string]any{"streams": 5}},
	})
	manifests, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"StatefulSet", "Service", "Secret", "PodDisruptionBudget", "ServiceMonitor", "NetworkPolicy"} {
		if manifests[kind] == nil {
			t.Fatalf("there is no %s", kind)
		}
	}
	stateful := manifests["StatefulSet"]
	labels := fmt.Sprint(at(t, stateful, "spec.selector.matchLabels"))
	for kind, path := range map[string]string{
		"Service": "spec.selector", "PodDisruptionBudget": "spec.selector.matchLabels", "ServiceMonitor": "spec.selector.matchLabels", "NetworkPolicy": "spec.podSelector.matchLabels",
	} {
		if got := fmt.Sprint(at(t, manifests[kind], path)); got != labels {
			t.Errorf("%s selects %s, and the pods are %s", kind, got, labels)
		}
	}
	for name, value := range at(t, stateful, "spec.selector.matchLabels").(map[string]any) {
		if at(t, stateful, "spec.template.metadata.labels").(map[string]any)[name] != value {
			t.Errorf("pods have no label %s=%v", name, value)
		}
	}
	if got := at(t, manifests["ServiceMonitor"], "spec.endpoints.0.scheme"); got != "https" {
		t.Errorf("metrics are asked for by %v", got)
	}
	if got := at(t, stateful, pod+"containers.0.readinessProbe.httpGet.scheme"); got != "HTTPS" {
		t.Errorf("readiness is asked for by %v", got)
	}
	for i, name := range []string{"config", "tls"} { // keys that everybody can read are refused
		if mode := at(t, stateful, fmt.Sprintf("%svolumes.%d.secret.defaultMode", pod, i)).(int); mode != 0o440 {
			t.Errorf("%s has the mode %o", name, mode)
		}
	}
	file := filepath.Join(t.TempDir(), "tailrace.yaml")
	if err := os.WriteFile(file, []byte(at(t, manifests["Secret"], "stringData").(map[string]any)["tailrace.yaml"].(string)), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := loadOpen(config.Sources{File: file}); err != nil || c.Limits.Streams != 5 {
		t.Errorf("the configuration of the chart: %v", err)
	}
}

func TestChartRefusesWhatCannotRun(t *testing.T) {
	for _, tc := range []struct {
		name, path string
		value      any
		want       string
	}{
		{"no image", "image.repository", "", "set image.repository"},
		{"plain HTTP", "trustedProxies", []any{}, "set tls.secretName"},
		{"a drain that is cut", "drain.max", 14, "drain.max is less"},
	} {
		values := behindProxy()
		values[tc.path] = tc.value
		if _, err := render(t, values); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestChartValuesHaveASchema: each value of the chart is in its schema, and
// nothing else.
func TestChartValuesHaveASchema(t *testing.T) {
	schema := readYAML[map[string]any](t, "helm/tailrace/values.schema.json")["properties"].(map[string]any)
	values := readYAML[map[string]any](t, "helm/tailrace/values.yaml")
	for name, value := range values {
		s, ok := schema[name].(map[string]any)
		if !ok {
			t.Errorf("%s is not in the schema", name)
			continue
		}
		if members, ok := value.(map[string]any); ok && s["additionalProperties"] == false {
			properties := s["properties"].(map[string]any)
			for member := range members {
				if properties[member] == nil {
					t.Errorf("%s.%s is not in the schema", name, member)
				}
			}
			if len(properties) != len(members) {
				t.Errorf("%s has %d values, and its schema %d", name, len(members), len(properties))
			}
		}
	}
	for name := range schema {
		if _, ok := values[name]; !ok && name != "global" { // which helm adds
			t.Errorf("%s is in the schema only", name)
		}
	}
}
