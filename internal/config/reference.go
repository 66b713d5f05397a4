package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Reference returns the page that documents every key, as Markdown.
func Reference() []byte {
	p := page{dev: map[string]string{}}
	for _, f := range Default(true).fields() {
		p.dev[f.key] = f.yaml()
	}
	p.b.WriteString(referenceHead)
	root := reflect.ValueOf(Default(false)).Elem()
	var single []field // keys of no section
	for i := range root.NumField() {
		t := root.Type().Field(i)
		f := field{key: t.Tag.Get("config"), value: root.Field(i), tag: t.Tag}
		switch {
		case !t.IsExported():
		case t.Type.Kind() == reflect.Struct:
			fmt.Fprintf(&p.b, "\n## %s\n\n%s.\n\n", f.key, sentence(f.tag.Get("help")))
			p.table(fields(f.value, f.key+"."))
			for _, list := range fields(f.value, f.key+".") {
				p.items(list)
			}
		case isItems(t.Type):
			fmt.Fprintf(&p.b, "\n## %s\n\n", f.key)
			p.list(f)
		default:
			single = append(single, f)
		}
	}
	p.b.WriteString("\n## Other keys\n\n")
	p.table(single)
	return []byte(p.b.String())
}

const referenceHead = `<!-- made by scripts/docs from the struct that the server reads; edit that -->
# Configuration

Every key can be given in four ways. The first that is there wins:

| | |
| --- | --- |
| flag | ` + "`--drain.window 10s`" + ` |
| variable | ` + "`TAILRACE_DRAIN_WINDOW=10s`" + ` |
| file | ` + "`drain: {window: 10s}`" + ` in the YAML file that ` + "`--config` or `TAILRACE_CONFIG`" + ` names |
| default | as in the tables below |

| command | does |
| --- | --- |
| ` + "`tailrace config init`" + ` | prints a file to start from, with every key; ` + "`--dev`" + ` for this machine only |
| ` + "`tailrace config check`" + ` | says all that is wrong at once, each with its place and the cure; exit code 3 if anything is |
| ` + "`tailrace config print`" + ` | prints what is in force, as a file; ` + "`--origin`" + ` says where each value came from |
| ` + "`tailrace config schema`" + ` | prints the [JSON Schema](schema/config.schema.json) of the file, for editors and linters |

Durations and sizes need a unit: ` + "`500ms`, `30s`, `10m`, `24h`; `64KiB`, `256MiB`, `2GiB`" + `. Where a key may have no
limit, the word is ` + "`none`" + `. A list is a YAML list in the file, and separated by commas in a flag or a variable; a list
of structures is YAML on one line there. A key or a ` + "`TAILRACE_`" + ` variable that does not exist is an error that names
the nearest one that does.

` + "`--dev`" + ` is a flag only, and means this machine only: where a default differs then, it is in brackets.
`

// page writes the reference.
type page struct {
	b   strings.Builder
	dev map[string]string // defaults with --dev, by key
}

func (p *page) table(list []field) {
	p.b.WriteString("| key | default | says |\n| --- | --- | --- |\n")
	for _, f := range list {
		if isItems(f.value.Type()) {
			fmt.Fprintf(&p.b, "| `%s` | | %s: [see below](#%s) |\n", f.key, cell(f.help()), strings.ReplaceAll(f.key, ".", ""))
			continue
		}
		value := f.tag.Get("default") // of a list's member
		if value == "" {
			value = f.yaml()
		}
		text := "`" + value + "`"
		if value == `""` || value == "" {
			text = ""
		}
		if dev, ok := p.dev[f.key]; ok && dev != f.yaml() {
			text += " (`" + dev + "`)"
		}
		fmt.Fprintf(&p.b, "| `%s` | %s | %s |\n", f.key, text, cell(f.help()))
	}
}

// items gives a list of structures inside of a section a part of its own.
func (p *page) items(f field) {
	if !isItems(f.value.Type()) {
		return
	}
	fmt.Fprintf(&p.b, "\n### %s\n\n", f.key)
	p.list(f)
}

func (p *page) list(f field) {
	fmt.Fprintf(&p.b, "%s. A list of:\n\n", sentence(f.tag.Get("help")))
	members := fields(reflect.New(f.value.Type().Elem()).Elem(), "")
	p.table(members)
	if f.tag.Get("example") == "" {
		return
	}
	name := f.key[strings.LastIndexByte(f.key, '.')+1:]
	fmt.Fprintf(&p.b, "\n```yaml\n%s:\n  - %s\n```\n", name, f.tag.Get("example"))
}

// sentence is text with a capital at its beginning.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// cell is text as it stands in a cell of a table.
func cell(text string) string { return strings.NewReplacer("|", `\|`, "*", `\*`).Replace(text) }
