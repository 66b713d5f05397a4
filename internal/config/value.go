package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Size is a number of bytes. It is written with a unit: 64KiB, 256MiB, 2GiB.
type Size int64

var units = []struct {
	name  string
	bytes Size
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (s Size) String() string {
	for _, u := range units {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return "0"
}

// ParseSize reads what [Size.String] writes. 0 needs no unit.
func ParseSize(text string) (Size, error) {
	if text == "0" {
		return 0, nil
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > int64(^uint64(0)>>1)/int64(u.bytes) {
			break
		}
		return Size(n) * u.bytes, nil
	}
	return 0, fmt.Errorf("%q is not a size; write a whole number and a unit: B, KiB, MiB, GiB or TiB", text)
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
)

// isItems says whether t is a list of structs, such as policies. In a file it
// is a sequence of mappings; in a flag or a variable it is YAML, which may be
// JSON, on one line.
func isItems(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

// field is a key and the place of its value.
type field struct {
	key   string // of the whole path, such as drain.window
	value reflect.Value
	tag   reflect.StructTag
}

// fields returns the fields of the struct v, those of nested structs
// included, in the order in which they are declared.
func fields(v reflect.Value, prefix string) []field {
	var fs []field
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if !t.IsExported() {
			continue
		}
		f := field{key: prefix + t.Tag.Get("config"), value: v.Field(i), tag: t.Tag}
		if t.Type.Kind() == reflect.Struct {
			fs = append(fs, fields(f.value, f.key+".")...)
		} else {
			fs = append(fs, f)
		}
	}
	return fs
}

// set parses text into the field and checks what its tags say.
func (f field) set(text string) error {
	v, err := f.parse(text)
	if err != nil {
		return err
	}
	if oneof := f.tag.Get("oneof"); oneof != "" && !slices.Contains(strings.Fields(oneof), text) {
		return fmt.Errorf("%q is not one of %s", text, strings.Join(strings.Fields(oneof), ", "))
	}
	if err := f.inRange(v); err != nil {
		return err
	}
	f.value.Set(v)
	return nil
}

func (f field) parse(text string) (reflect.Value, error) {
	var x any
	var err error
	switch t := f.value.Type(); {
	case f.tag.Get("none") != "" && text == "none":
		return reflect.ValueOf(int64(-1)).Convert(t), nil
	case t == durationType:
		x, err = parseDuration(text)
	case t == sizeType:
		x, err = ParseSize(text)
	case isItems(t):
		return parseItems(text, f.key, t)
	case t.Kind() == reflect.Slice:
		x = splitList(text)
	case t.Kind() == reflect.Bool:
		if x, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("%q is not true or false", text)
		}
	case t.Kind() == reflect.Int:
		if x, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("%q is not a whole number", text)
		}
	default:
		x = text
	}
	return reflect.ValueOf(x).Convert(f.value.Type()), err
}

// inRange checks a number against the tags min and max; without min it is at
// least 0.
func (f field) inRange(v reflect.Value) error {
	if !v.CanInt() || v.Int() == -1 && f.tag.Get("none") != "" {
		return nil
	}
	low, high := int64(0), int64(^uint64(0)>>1)
	bound := func(name string, n *int64) string {
		text := f.tag.Get(name)
		if text != "" {
			b, err := f.parse(text)
			if err != nil {
				panic(fmt.Sprintf("config: tag %s of %s: %v", name, f.key, err))
			}
			*n = b.Int()
		}
		return text
	}
	least, most := bound("min", &low), bound("max", &high)
	switch {
	case v.Int() < low && least == "":
		return errors.New("is negative")
	case v.Int() < low:
		return fmt.Errorf("is less than %s", least)
	case v.Int() > high:
		return fmt.Errorf("is more than %s", most)
	}
	return nil
}

// kind names what a value is, for the list of flags.
func (f field) kind() string {
	switch t := f.value.Type(); {
	case t == durationType:
		return "duration"
	case t == sizeType:
		return "size"
	case isItems(t):
		return "yaml"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.String:
		return "text"
	}
	return f.value.Kind().String()
}

// hidden stands for a secret wherever values are shown.
const hidden = "(hidden)"

// String is the value as a flag would give it, but for a secret.
func (f field) String() string {
	if f.tag.Get("secret") != "" && !f.value.IsZero() {
		return hidden
	}
	if isItems(f.value.Type()) {
		return formatItems(f.value)
	}
	if f.value.Kind() == reflect.Slice {
		return strings.Join(texts(f.value), ",")
	}
	if f.tag.Get("none") != "" && f.value.Int() == -1 {
		return "none"
	}
	text := fmt.Sprint(f.value.Interface())
	if f.value.Type() == durationType { // 2h0m0s is read better as 2h
		if head, ok := strings.CutSuffix(text, "m0s"); ok {
			text = head + "m"
		}
		if head, ok := strings.CutSuffix(text, "h0m"); ok {
			text = head + "h"
		}
	}
	return text
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write a number and a unit: 500ms, 30s, 10m or 24h", text)
	}
	return d, nil
}

func splitList(text string) []string {
	var list []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// parseItems reads a list of structs of the type t from a flag or a variable.
func parseItems(text, key string, t reflect.Type) (reflect.Value, error) {
	list := reflect.Zero(t)
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return list, errors.New("is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 {
		return list, nil
	}
	l := &loader{config: &Config{origins: map[string]Origin{}}}
	list = l.items(doc.Content[0], key, t)
	if len(l.problems) > 0 {
		return list, &Error{Problems: l.problems}
	}
	return list, nil
}

// formatItems writes the list as [parseItems] reads it.
func formatItems(list reflect.Value) string {
	items := make([]string, list.Len())
	for i := range items {
		items[i] = formatStruct(list.Index(i))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// formatStruct writes the members of v that are not zero as YAML on one line.
func formatStruct(v reflect.Value) string {
	var members []string
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if !t.IsExported() || v.Field(i).IsZero() {
			continue
		}
		key := t.Tag.Get("config")
		if v.Field(i).Kind() == reflect.Struct {
			members = append(members, key+": "+formatStruct(v.Field(i)))
			continue
		}
		members = append(members, key+": "+field{value: v.Field(i), tag: t.Tag}.yaml())
	}
	return "{" + strings.Join(members, ", ") + "}"
}

// yaml writes the value as it stands in a file, on one line.
func (f field) yaml() string {
	switch t := f.value.Type(); {
	case isItems(t):
		return formatItems(f.value)
	case t.Kind() == reflect.Slice:
		list := texts(f.value)
		for i := range list {
			list[i] = strconv.Quote(list[i])
		}
		return "[" + strings.Join(list, ", ") + "]"
	case t.Kind() == reflect.String && f.tag.Get("oneof") == "":
		return strconv.Quote(f.String())
	}
	return f.String()
}

// texts returns the elements of a list of texts.
func texts(list reflect.Value) []string {
	out := make([]string, list.Len())
	for i := range out {
		out[i] = list.Index(i).String()
	}
	return out
}
