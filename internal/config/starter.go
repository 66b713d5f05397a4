package config

import (
	"reflect"
	"strings"

	"github.com/tailrace/tailrace/internal/auth"
)

// Starter returns a file to start from. It has every key with its help and its
// default, commented out but for those that one sets first: in production the
// addresses and files that only the operator knows, some of them still empty,
// so that [Load] names what is to be filled in.
func Starter(dev bool) []byte {
	c := Default(dev)
	w := fileWriter{active: map[string]bool{"log.dir": true, "listen.http": true}}
	head := productionHead
	if dev {
		head = devHead
	} else {
		c.Listen.HTTP = ":8443"
		c.Log.Dir = "/var/lib/tailrace"
		c.Auth.Keys = []auth.KeyConfig{{
			Name:   "app",
			Hash:   "sha256:", // for `tailrace keys new` to say
			Grants: auth.Grants{Publish: []string{"**"}, Subscribe: []string{"**"}},
		}}
		for _, key := range []string{"listen.tls.cert_file", "listen.tls.key_file", "auth.keys"} {
			w.active[key] = true
		}
	}
	w.b.WriteString(head)
	w.members(reflect.ValueOf(c).Elem(), "", "")
	return []byte(w.b.String())
}

const productionHead = `# Configuration of a Tailrace server that others can reach.
#
#   tailrace config check --config FILE    says what is wrong with it
#   tailrace serve --config FILE           runs with it
#
# Every key is here. Those behind a # show their default. A flag (--drain.window)
# wins over a variable (TAILRACE_DRAIN_WINDOW), and that over this file.
`

const devHead = `# Configuration of a Tailrace server for development: this machine only, no
# credentials. The word --dev is not a key, and has to be said:
#
#   tailrace serve --dev --config FILE
#
# Every key is here. Those behind a # show their default. A flag (--drain.window)
# wins over a variable (TAILRACE_DRAIN_WINDOW), and that over this file.
`

// YAML returns c as a file that gives c again, with keys in the order of the
// struct.
func (c *Config) YAML() []byte {
	w := fileWriter{bare: true}
	w.members(reflect.ValueOf(c).Elem(), "", "")
	return []byte(w.b.String())
}

// fileWriter writes a configuration file.
type fileWriter struct {
	b      strings.Builder
	bare   bool            // every key, and no comments
	active map[string]bool // otherwise: the keys that are not commented out
}

// members writes those of the struct v, each line behind indent. What is
// commented out has its # where it begins, and what is inside of that has none
// of its own: taking away the first # of each line leaves the file in order.
func (w *fileWriter) members(v reflect.Value, prefix, indent string) {
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if !t.IsExported() {
			continue
		}
		f := field{key: prefix + t.Tag.Get("config"), value: v.Field(i), tag: t.Tag}
		name, section := t.Tag.Get("config"), t.Type.Kind() == reflect.Struct
		if !w.bare {
			if prefix == "" {
				w.b.WriteByte('\n')
			}
			w.comment(f.help(), indent)
		}
		mark := ""
		if !w.isActive(f.key, section) && !strings.Contains(indent, "#") {
			mark = "#"
		}
		w.b.WriteString(indent + mark + name + ":")
		switch inside := indent + mark + "  "; {
		case section:
			w.b.WriteByte('\n')
			w.members(f.value, f.key+".", inside)
		case isItems(t.Type) && (f.value.Len() > 0 || !w.bare && t.Tag.Get("example") != ""):
			w.b.WriteByte('\n')
			w.items(f, inside)
		default:
			w.b.WriteString(" " + f.yaml() + "\n")
		}
	}
}

// items writes one line for each struct of a list, or for the example of one.
func (w *fileWriter) items(f field, indent string) {
	if f.value.Len() == 0 {
		w.b.WriteString(indent + "- " + f.tag.Get("example") + "\n")
	}
	for i := range f.value.Len() {
		w.b.WriteString(indent + "- " + formatStruct(f.value.Index(i)) + "\n")
	}
}

// commentWidth is where a comment goes on in the next line.
const commentWidth = 78

func (w *fileWriter) comment(text, indent string) {
	if text == "" {
		return
	}
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > commentWidth {
			w.b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	w.b.WriteString(line + "\n")
}

func (w *fileWriter) isActive(key string, section bool) bool {
	if w.bare || w.active[key] {
		return true
	}
	for active := range w.active {
		if section && strings.HasPrefix(active, key+".") {
			return true
		}
	}
	return false
}
