package filter

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
)

// maxDepth is how deep JSON may be nested to be seen as JSON.
const maxDepth = 64

// parse returns text as a value of the language: nil, bool, string, int,
// float64, []any or map[string]any. It is nil for what is no JSON text, and for
// what is nested deeper than maxDepth. Of a member that occurs twice the last
// counts.
func parse(text []byte) any {
	if depth(text) > maxDepth {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil
	}
	return settle(v)
}

// depth returns how deep arrays and objects are nested in text. It knows
// strings, so that brackets in them do not count, and nothing else of JSON.
func depth(text []byte) int {
	most, now, quoted := 0, 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
			if c == '\\' {
				i++
			}
		case c == '[' || c == '{':
			now++
			most = max(most, now)
		case c == ']' || c == '}':
			now--
		}
	}
	return most
}

// settle gives the numbers in v their Go types, in place.
func settle(v any) any {
	switch v := v.(type) {
	case json.Number:
		return number(string(v))
	case []any:
		for i := range v {
			v[i] = settle(v[i])
		}
	case map[string]any:
		for name, member := range v {
			switch member.(type) {
			case json.Number, []any, map[string]any:
				v[name] = settle(member)
			}
		}
	}
	return v
}

// number is an int where the text is one and fits, so that large ids compare
// exactly and % works; otherwise the nearest float64, infinite if need be.
func number(text string) any {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	f, _ := strconv.ParseFloat(text, 64)
	return f
}
