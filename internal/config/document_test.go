package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
)

func TestDocumentsAreThoseOfTheStruct(t *testing.T) {
	for path, want := range map[string][]byte{
		"../../docs/configuration.md":          Reference(),
		"../../docs/schema/config.schema.json": Schema(),
	} {
		got, err := os.ReadFile(filepath.FromSlash(path))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is not what the code makes (%v); run scripts/docs", path, err)
		}
	}
}

// TestEverythingIsExplained: each key, section and member has help, and each
// list of structs an example that can be read.
func TestEverythingIsExplained(t *testing.T) {
	var walk func(v reflect.Value, prefix string)
	walk = func(v reflect.Value, prefix string) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			key := prefix + f.Tag.Get("config")
			if f.Tag.Get("config") == "" || f.Tag.Get("help") == "" {
				t.Errorf("%s (%s) has no key or no help", key, f.Name)
			}
			switch {
			case f.Type.Kind() == reflect.Struct:
				walk(v.Field(i), key+".")
			case isItems(f.Type):
				walk(reflect.New(f.Type.Elem()).Elem(), key+"[].")
				if _, err := parseItems("["+f.Tag.Get("example")+"]", key, f.Type); err != nil || f.Tag.Get("example") == "" {
					t.Errorf("the example of %s, %q: %v", key, f.Tag.Get("example"), err)
				}
			}
		}
	}
	walk(reflect.ValueOf(Default(false)).Elem(), "")
}

// TestSecretsAreNotShown uses a struct of its own, with a secret at each depth.
func TestSecretsAreNotShown(t *testing.T) {
	type inner struct {
		Name   string `config:"name"`
		Secret string `config:"secret" secret:"yes"`
	}
	v := struct {
		Key    string  `config:"key" secret:"yes"`
		Unset  string  `config:"unset" secret:"yes"`
		Shown  string  `config:"shown"`
		List   []inner `config:"list"`
		Nested inner   `config:"nested"`
	}{Key: "s3cr3t", Shown: "shown", List: []inner{{Name: "a", Secret: "s3cr3t"}}, Nested: inner{Secret: "s3cr3t"}}
	w := fileWriter{bare: true}
	w.members(reflect.ValueOf(v), "", "")
	text := w.b.String()
	for _, f := range fields(reflect.ValueOf(v), "") {
		text += f.key + "=" + f.String() + "\n"
	}
	if strings.Contains(text, "s3cr3t") {
		t.Errorf("a secret is shown:\n%s", text)
	}
	for _, want := range []string{`key: "(hidden)"`, `unset: ""`, `shown: "shown"`, `{name: "a", secret: "(hidden)"}`, "nested.secret=(hidden)", "key=(hidden)"} {
		if !strings.Contains(text, want) {
			t.Errorf("not shown: %s in\n%s", want, text)
		}
	}
}

// TestSecretsHaveFiles: a secret that is put into the configuration by hand can
// stand in a file of its own instead.
func TestSecretsHaveFiles(t *testing.T) {
	count := 0
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		list := fields(v, "")
		for _, f := range list {
			if isItems(f.value.Type()) {
				walk(reflect.New(f.value.Type().Elem()).Elem())
			}
			if f.tag.Get("secret") == "" {
				continue
			}
			count++
			if !slices.ContainsFunc(list, func(other field) bool { return other.key == f.key+"_file" }) {
				t.Errorf("there is no key %s_file", f.key)
			}
		}
	}
	walk(reflect.ValueOf(Default(false)).Elem())
	if count < 3 {
		t.Errorf("only %d secrets are found", count)
	}
}

// TestDefaultsOfPolicies: what the documents say of a policy's members is what
// the log does without them.
func TestDefaultsOfPolicies(t *testing.T) {
	var p Policy
	for _, f := range fields(reflect.ValueOf(&p).Elem(), "") {
		if text := f.tag.Get("default"); text != "" {
			if err := f.set(text); err != nil {
				t.Errorf("%s: %v", f.key, err)
			}
		}
	}
	rule := p.rule()
	if want := (tailrace.Policy{}).WithDefaults(); rule.Policy != want || rule.Overflow != tailrace.Resume {
		t.Errorf("the tags say %+v, want %+v", rule, want)
	}
}

// commented matches the beginning of a line of a starter file that holds a key
// or an element of a list.
var commented = regexp.MustCompile(`(?m)^( *)#( *)([a-z0-9_]+:|- \{)`)

func TestStarterFiles(t *testing.T) {
	loadText := func(text string, dev bool, flags map[string]string) (*Config, error) {
		return Load(Sources{File: writeFile(t, text), Dev: dev, Flags: flags})
	}
	for _, dev := range []bool{false, true} {
		text := string(Starter(dev))
		for line := range strings.Lines(text) {
			if len(line) > 82 && !strings.Contains(line, "- {") {
				t.Errorf("a long line: %s", line)
			}
		}
		c, err := loadText(text, dev, filledIn(t, dev))
		if err != nil {
			t.Fatalf("dev %v: %v", dev, err)
		}
		full, err := loadText(commented.ReplaceAllString(text, "$1$2$3"), dev, filledIn(t, dev))
		if err != nil {
			t.Fatalf("dev %v, with every key: %v", dev, err)
		}
		for i, key := range full.Keys() {
			if key.Origin.Source == "default" {
				t.Errorf("dev %v: the file has no %s", dev, key.Name)
			}
			if was := c.Keys()[i]; key.Kind != "yaml" && key.Value != was.Value && key.Origin.Source == "file" {
				t.Errorf("dev %v: %s is %s in the file, and %s by default", dev, key.Name, key.Value, was.Value)
			}
		}
	}
	_, err := loadText(string(Starter(false)), false, nil)
	for _, want := range []string{"set listen.tls", "auth.keys[0].hash: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the file as it comes has no fault with %s: %v", want, err)
		}
	}
}

// filledIn has the keys that only an operator knows.
func filledIn(t *testing.T, dev bool) map[string]string {
	_, hash, err := auth.NewKey("app")
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]string{"auth.keys": `[{name: app, hash: "` + hash + `", grants: {publish: ["**"]}}]`}
	if !dev {
		flags["listen.tls.cert_file"], flags["listen.tls.key_file"] = certificate(t)
	}
	return flags
}

// TestSchemaTakesWhatIsTaken checks files against the schema with as much of
// its language as the schema uses.
func TestSchemaTakesWhatIsTaken(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	c := Default(false)
	c.Policies = []Policy{{Pattern: "a/**", Age: None, Bytes: 3 << 20, Overflow: "gap"}}
	for _, tc := range []struct {
		name, text string
		valid      bool
	}{
		{"every key", string(c.YAML()), true},
		{"every key of development", string(Default(true).YAML()), true},
		{"the file to start from", string(Starter(false)), true},
		{"zero without a unit", "log: {max_disk: 0}\nstream: {max_connection_age: 0}", true},
		{"fractions", "stream: {heartbeat: 7.5s, stall_timeout: 1m30s}", true},
		{"no limit", "limits: {streams: none}", true},
		{"an unknown key", "limits: {stream: 1}", false},
		{"an unknown section", "limit: {}", false},
		{"a duration without a unit", "stream: {heartbeat: 15}", false},
		{"a negative duration", "stream: {heartbeat: -15s}", false},
		{"a size of another kind", "memory: {ring: 256MB}", false},
		{"none where there is a limit", "limits: {selectors: none}", false},
		{"less than one", "limits: {streams: 0}", false},
		{"an unknown word", "engine: fast", false},
		{"a text for a list", "cors: {origins: https://a.example}", false},
		{"a text for a truth", "listen: {h2c: maybe}", false},
		{"an unknown member", "policies: [{patern: a}]", false},
	} {
		var doc any
		if err := yaml.Unmarshal([]byte(tc.text), &doc); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if got := valid(schema, schema, doc); got != tc.valid {
			t.Errorf("%s: valid %v", tc.name, got)
		}
	}
}

func valid(root, schema map[string]any, doc any) bool {
	if ref, ok := schema["$ref"].(string); ok {
		defs := root["$defs"].(map[string]any)
		return valid(root, defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), doc)
	}
	if anyOf, ok := schema["anyOf"].([]any); ok {
		return slices.ContainsFunc(anyOf, func(s any) bool { return valid(root, s.(map[string]any), doc) })
	}
	if want, ok := schema["const"]; ok {
		n, isInt := doc.(int)
		return doc == want || isInt && want == float64(n)
	}
	if enum, ok := schema["enum"].([]any); ok {
		return slices.Contains(enum, doc)
	}
	switch schema["type"] {
	case "object":
		m, ok := doc.(map[string]any)
		properties := schema["properties"].(map[string]any)
		for name, value := range m {
			property, known := properties[name].(map[string]any)
			ok = ok && known && valid(root, property, value)
		}
		return ok
	case "array":
		list, ok := doc.([]any)
		for _, item := range list {
			ok = ok && valid(root, schema["items"].(map[string]any), item)
		}
		return ok
	case "string":
		text, ok := doc.(string)
		pattern, _ := schema["pattern"].(string)
		return ok && regexp.MustCompile(pattern).MatchString(text)
	case "integer":
		n, ok := doc.(int)
		least, _ := schema["minimum"].(float64)
		return ok && float64(n) >= least
	case "boolean":
		_, ok := doc.(bool)
		return ok
	}
	return false
}
