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
	policiesType = reflect.TypeFor[[]Policy]()
)

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
	case t == policiesType:
		x, err = parsePolicies(text)
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
	return reflect.ValueOf(x), err
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
	case t == policiesType:
		return "yaml"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.String:
		return "text"
	}
	return f.value.Kind().String()
}

func (f field) String() string {
	switch x := f.value.Interface().(type) {
	case []string:
		return strings.Join(x, ",")
	case []Policy:
		return formatPolicies(x)
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

// parsePolicies reads the list from a flag or a variable, where it is YAML
// (and so may be JSON) on one line.
func parsePolicies(text string) ([]Policy, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, errors.New("is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	l := &loader{}
	list := l.policies(doc.Content[0], "policies")
	if len(l.problems) > 0 {
		return nil, &Error{Problems: l.problems}
	}
	return list, nil
}

// formatPolicies writes the list as [parsePolicies] reads it.
func formatPolicies(list []Policy) string {
	items := make([]string, len(list))
	for i := range list {
		var members []string
		for _, f := range fields(reflect.ValueOf(&list[i]).Elem(), "") {
			text := f.String()
			if f.value.Kind() == reflect.String {
				text = strconv.Quote(text)
			}
			if !f.value.IsZero() {
				members = append(members, f.key+": "+text)
			}
		}
		items[i] = "{" + strings.Join(members, ", ") + "}"
	}
	return "[" + strings.Join(items, ", ") + "]"
}
