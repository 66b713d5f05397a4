package config

import (
	"reflect"
	"strings"
)

// Key describes one key, for flags, documents and the report of origins.
type Key struct {
	Name   string // such as drain.window
	Help   string // what it is for, and which values it may have
	Value  string // as a flag would give it; of a secret only that it is set
	YAML   string // the same as it stands in a file
	Origin Origin
	Kind   string // bool, int, duration, size, text, list or yaml
}

// Keys returns all keys with their values in c, in the order of the struct.
func (c *Config) Keys() []Key {
	var keys []Key
	for _, f := range c.fields() {
		origin, ok := c.origins[f.key]
		if !ok {
			origin = Origin{Source: "default"}
		}
		help := f.help()
		if isItems(f.value.Type()) {
			var members []string
			for _, m := range fields(reflect.New(f.value.Type().Elem()).Elem(), "") {
				members = append(members, m.key)
			}
			help += "; a YAML list of {" + strings.Join(members, ", ") + "}"
		}
		keys = append(keys, Key{Name: f.key, Help: help, Value: f.String(), YAML: f.yaml(), Origin: origin, Kind: f.kind()})
	}
	return keys
}

// help is what the field is for, and which values it may have.
func (f field) help() string {
	help := f.tag.Get("help")
	least, most := f.tag.Get("min"), f.tag.Get("max")
	switch {
	case f.tag.Get("oneof") != "":
		help += " (" + strings.ReplaceAll(f.tag.Get("oneof"), " ", ", ") + ")"
	case least != "" && most != "":
		help += " (" + least + " to " + most + ")"
	case least != "":
		help += " (at least " + least + ")"
	case most != "":
		help += " (at most " + most + ")"
	}
	if f.tag.Get("none") != "" {
		help += "; none is no limit"
	}
	return help
}
