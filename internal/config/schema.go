package config

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Schema returns the JSON Schema (draft 2020-12) of the file, for editors and
// linters. It knows keys, kinds and values; contradictions between keys are for
// `tailrace config check` to find.
func Schema() []byte {
	s := schemaOf(reflect.ValueOf(Default(false)).Elem())
	s = append(object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"title", "Configuration of Tailrace"},
	}, s...)
	s = append(s, member{"$defs", object{
		{"duration", text(durationPattern)},
		{"size", text(sizePattern)},
	}})
	text, err := json.Marshal(s)
	if err != nil {
		panic("config: schema: " + err.Error()) // not reached: it is made of texts and numbers
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		panic("config: schema: " + err.Error()) // nor this: it is JSON
	}
	return append(b.Bytes(), '\n')
}

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b = append(strconv.AppendQuote(b, m.name), ':')
		b = append(b, value...)
	}
	return append(b, '}'), nil
}

func schemaOf(v reflect.Value) object {
	var properties object
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if !t.IsExported() {
			continue
		}
		var s object
		if t.Type.Kind() == reflect.Struct {
			s = append(object{{"description", t.Tag.Get("help")}}, schemaOf(v.Field(i))...)
		} else {
			s = field{value: v.Field(i), tag: t.Tag}.schema()
		}
		properties = append(properties, member{t.Tag.Get("config"), s})
	}
	return object{{"type", "object"}, {"additionalProperties", false}, {"properties", properties}}
}

// The texts that [time.ParseDuration] and [ParseSize] read; no duration or size
// of the configuration is negative.
const (
	durationPattern = `^([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*$`
	sizePattern     = `^[0-9]+ *(B|KiB|MiB|GiB|TiB)$`
)

// text is what matches pattern, or the one number that needs no unit.
func text(pattern string) object {
	return object{{"anyOf", []object{{{"type", "string"}, {"pattern", pattern}}, {{"const", 0}}}}}
}

// orNone is s, and the word none if the field has it.
func (f field) orNone(s object) object {
	if f.tag.Get("none") == "" {
		return s
	}
	return object{{"anyOf", []object{s, {{"const", "none"}}}}}
}

// schema is that of the field's values as they stand in a file. Its default is
// the field's value, or what the tag says of a list's member.
func (f field) schema() object {
	s := object{{"description", f.help()}}
	switch t := f.value.Type(); {
	case t == reflect.TypeFor[time.Duration]():
		s = append(s, f.orNone(object{{"$ref", "#/$defs/duration"}})...)
	case t == reflect.TypeFor[Size]():
		s = append(s, f.orNone(object{{"$ref", "#/$defs/size"}})...)
	case isItems(t):
		return append(s, member{"type", "array"}, member{"items", schemaOf(reflect.New(t.Elem()).Elem())})
	case t.Kind() == reflect.Slice:
		s = append(s, member{"type", "array"}, member{"items", object{{"type", "string"}}})
	case t.Kind() == reflect.Bool:
		s = append(s, member{"type", "boolean"})
	case t.Kind() == reflect.Int:
		s = append(s, f.intSchema()...)
	case f.tag.Get("oneof") != "":
		s = append(s, member{"enum", strings.Fields(f.tag.Get("oneof"))})
	default:
		s = append(s, member{"type", "string"})
	}
	return append(s, member{"default", f.byDefault()})
}

func (f field) intSchema() object {
	n := object{{"type", "integer"}, {"minimum", 0}}
	if least, err := strconv.Atoi(f.tag.Get("min")); err == nil {
		n[1].value = least
	}
	if most, err := strconv.Atoi(f.tag.Get("max")); err == nil {
		n = append(n, member{"maximum", most})
	}
	return f.orNone(n)
}

// byDefault is the default as JSON.
func (f field) byDefault() any {
	if text := f.tag.Get("default"); text != "" {
		return text
	}
	switch f.value.Kind() {
	case reflect.Bool:
		return f.value.Bool()
	case reflect.Slice:
		return append([]string{}, texts(f.value)...)
	case reflect.Int, reflect.Int64:
		if text := f.String(); text != strconv.FormatInt(f.value.Int(), 10) && f.value.Int() != 0 {
			return text // 15s, 256MiB, none
		}
		return f.value.Int()
	}
	return f.value.String()
}
