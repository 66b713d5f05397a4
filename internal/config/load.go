package config

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tailrace/tailrace/internal/nearest"
)

// Sources is where values are looked for.
type Sources struct {
	File  string            // path of a YAML file; "" is none
	Env   []string          // as [os.Environ] gives it
	Flags map[string]string // by key: the flags that were given
	Dev   bool              // development mode, which admits this machine only
}

// Origin says where a value came from.
type Origin struct {
	Source string // default, file, environment or flag
	Place  string // file and line, variable or flag; "" for a default
}

func (o Origin) String() string {
	if o.Place == "" {
		return o.Source
	}
	return o.Source + " " + o.Place
}

// Error has everything that is wrong with a configuration, one line each,
// with its place and the cure.
type Error struct{ Problems []string }

func (e *Error) Error() string { return strings.Join(e.Problems, "\n") }

// Load returns the configuration from all sources. All that is wrong, a
// contradiction between two keys included, is in one [*Error].
func Load(src Sources) (*Config, error) {
	l := &loader{config: Default(src.Dev)}
	if src.File != "" {
		l.file(src.File)
	}
	l.environment(src.Env)
	for _, f := range l.config.fields() {
		if text, ok := src.Flags[f.key]; ok {
			l.set(f, text, Origin{"flag", "--" + f.key})
		}
	}
	l.check(src.Dev)
	if len(l.problems) > 0 {
		return nil, &Error{Problems: l.problems}
	}
	return l.config, nil
}

func (c *Config) fields() []field { return fields(reflect.ValueOf(c).Elem(), "") }

// loader gathers values and everything that is wrong with them.
type loader struct {
	config   *Config
	path     string // of the file being read; "" in a value that is YAML itself
	problems []string
}

func (l *loader) problem(place, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if place != "" {
		text = place + ": " + text
	}
	l.problems = append(l.problems, text)
}

func (l *loader) set(f field, text string, from Origin) {
	if err := f.set(text); err != nil {
		place := from.Place
		if from.Source == "file" {
			place = strings.TrimPrefix(place+": "+f.key, ": ")
		}
		l.problem(place, "%v", err)
		return
	}
	maps.DeleteFunc(l.config.origins, func(key string, _ Origin) bool { return strings.HasPrefix(key, f.key+"[") }) // of a list that this one replaces
	l.config.origins[f.key] = from
}

// Variables that other parts of the command read.
var otherVariables = []string{"TAILRACE_CONFIG", "TAILRACE_SERVER"}

// fromKubernetes says whether a variable is one that Kubernetes sets in every
// pod that runs beside a Service with the name tailrace.
func fromKubernetes(name string) bool {
	rest := strings.TrimPrefix(name, "TAILRACE_")
	return strings.HasPrefix(rest, "SERVICE_") || rest == "PORT" || strings.HasPrefix(rest, "PORT_")
}

// Variable returns the name of the environment variable of a key.
func Variable(key string) string {
	return "TAILRACE_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

func (l *loader) environment(env []string) {
	byName := map[string]field{}
	known := slices.Clone(otherVariables)
	for _, f := range l.config.fields() {
		byName[Variable(f.key)] = f
		known = append(known, Variable(f.key))
	}
	for _, entry := range slices.Sorted(slices.Values(env)) {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "TAILRACE_") || fromKubernetes(name) || slices.Contains(otherVariables, name) {
			continue
		}
		f, ok := byName[name]
		if !ok {
			l.problem(name, "there is no such variable%s", didYouMean(name, known))
			continue
		}
		l.set(f, text, Origin{"environment", name})
	}
}

func (l *loader) file(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		l.problem("", "%v", err)
		return
	}
	l.path = path
	l.document(text)
}

func (l *loader) document(text []byte) {
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	switch err := d.Decode(&doc); {
	case err == io.EOF: // empty, or comments only
	case err != nil:
		l.problem(l.path, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	case d.Decode(&more) != io.EOF:
		l.problem(l.path, "has more than one document; only the first would count")
	default:
		l.section(doc.Content[0], reflect.ValueOf(l.config).Elem(), "")
	}
}

// section reads a mapping into the struct v.
func (l *loader) section(node *yaml.Node, v reflect.Value, prefix string) {
	l.mapping(node, v.Type(), prefix, func(i int, key string, value *yaml.Node) {
		f := field{key: prefix + key, value: v.Field(i), tag: v.Type().Field(i).Tag}
		origin := Origin{"file", l.place(value)}
		switch {
		case f.value.Kind() == reflect.Struct:
			l.section(value, f.value, f.key+".")
		case isItems(f.value.Type()):
			f.value.Set(l.items(value, f.key, f.value.Type()))
			l.config.origins[f.key] = origin
		case f.value.Kind() == reflect.Slice:
			if list, ok := l.list(value, f.key); ok {
				l.set(f, strings.Join(list, ","), origin) // as a flag would give it
			}
		default:
			if text, ok := l.scalar(value, f.key); ok {
				l.set(f, text, origin)
			}
		}
	})
}

// items reads a sequence of mappings into a list of structs of the type t. An
// element with a method Check is asked whether it is right by itself.
func (l *loader) items(node *yaml.Node, key string, t reflect.Type) reflect.Value {
	list := reflect.Zero(t)
	if node = resolve(node); node.Kind != yaml.SequenceNode {
		l.problem(l.place(node), "%s is not a list", key)
		return list
	}
	for i, element := range node.Content {
		v := reflect.New(t.Elem())
		name := fmt.Sprintf("%s[%d]", key, i)
		l.config.origins[name] = Origin{"file", l.place(element)}
		l.section(element, v.Elem(), name+".")
		if c, ok := v.Interface().(interface{ Check() error }); ok {
			if err := c.Check(); err != nil {
				l.problem(l.place(element), "%s: %v", name, err)
			}
		}
		list = reflect.Append(list, v.Elem())
	}
	return list
}

// mapping calls visit with the index of the struct's field for each pair that
// has one.
func (l *loader) mapping(node *yaml.Node, t reflect.Type, prefix string, visit func(i int, key string, value *yaml.Node)) {
	if node = resolve(node); node.Kind != yaml.MappingNode {
		l.problem(l.place(node), "%s is not a mapping of keys", strings.TrimSuffix(prefix, "."))
		return
	}
	byKey := map[string]int{}
	var known []string
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("config"); key != "" {
			byKey[key] = i
			known = append(known, key)
		}
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i].Value
		index, ok := byKey[key]
		switch {
		case !ok:
			l.problem(l.place(node.Content[i]), "there is no key %s%s", prefix+key, didYouMean(key, known))
		case seen[key]:
			l.problem(l.place(node.Content[i]), "%s is there twice", prefix+key)
		default:
			seen[key] = true
			visit(index, key, resolve(node.Content[i+1]))
		}
	}
}

func (l *loader) scalar(node *yaml.Node, key string) (string, bool) {
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		l.problem(l.place(node), "%s needs one value", key)
		return "", false
	}
	return node.Value, true
}

func (l *loader) list(node *yaml.Node, key string) (list []string, ok bool) {
	if node.Kind != yaml.SequenceNode {
		l.problem(l.place(node), "%s is not a list", key)
		return nil, false
	}
	for _, item := range node.Content {
		text, ok := l.scalar(resolve(item), key)
		if !ok {
			return nil, false
		}
		list = append(list, text)
	}
	return list, true
}

func (l *loader) place(node *yaml.Node) string {
	if l.path == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", l.path, node.Line)
}

func resolve(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

// didYouMean returns a hint that names the nearest of known, or "".
func didYouMean(name string, known []string) string {
	if near := nearest.Name(name, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
