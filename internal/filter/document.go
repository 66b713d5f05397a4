package filter

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// maxDepth is how deep JSON may be nested to be seen as JSON.
const maxDepth = 64

// parse returns text as a value of the language: nil, bool, string, int,
// float64, []any or map[string]any. It is nil for what is no JSON text
// (RFC 8259), and for what is nested deeper than maxDepth. Of a member that
// occurs twice the last counts. Strings may share the bytes of text, which must
// not change.
//
// It takes half the time of encoding/json, which is most of the time of a filter
// that reads data, and that one reads JSON of any depth.
func parse(text []byte) any {
	r := reader{text: unsafe.String(unsafe.SliceData(text), len(text))}
	v, ok := r.value(0)
	r.space()
	if !ok || r.at < len(r.text) {
		return nil
	}
	return v
}

// reader reads a JSON text from at on. Its methods report false where the text
// is none.
type reader struct {
	text string
	at   int
}

// space passes over white space.
func (r *reader) space() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// next passes over white space and returns the byte behind it; 0 is the end.
func (r *reader) next() byte {
	r.space()
	if r.at == len(r.text) {
		return 0
	}
	return r.text[r.at]
}

// value reads a value within depth arrays and objects.
func (r *reader) value(depth int) (any, bool) {
	switch c := r.next(); c {
	case '{':
		return r.object(depth + 1)
	case '[':
		return r.array(depth + 1)
	case '"':
		return r.str()
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	default:
		return r.number()
	}
}

func (r *reader) word(w string) bool {
	if len(r.text)-r.at < len(w) || r.text[r.at:r.at+len(w)] != w {
		return false
	}
	r.at += len(w)
	return true
}

func (r *reader) array(depth int) (any, bool) {
	r.at++
	list := []any{}
	if depth > maxDepth {
		return nil, false
	}
	if r.next() == ']' {
		r.at++
		return list, true
	}
	for {
		v, ok := r.value(depth)
		if !ok {
			return nil, false
		}
		list = append(list, v)
		switch r.next() {
		case ',':
			r.at++
		case ']':
			r.at++
			return list, true
		default:
			return nil, false
		}
	}
}

func (r *reader) object(depth int) (any, bool) {
	r.at++
	members := map[string]any{}
	if depth > maxDepth {
		return nil, false
	}
	if r.next() == '}' {
		r.at++
		return members, true
	}
	for {
		if r.next() != '"' {
			return nil, false
		}
		name, ok := r.str()
		if !ok || r.next() != ':' {
			return nil, false
		}
		r.at++
		v, ok := r.value(depth)
		if !ok {
			return nil, false
		}
		members[name] = v
		switch r.next() {
		case ',':
			r.at++
		case '}':
			r.at++
			return members, true
		default:
			return nil, false
		}
	}
}

// str reads a string, from its opening quote on. One without escapes shares the
// bytes of the text.
func (r *reader) str() (string, bool) {
	began := r.at + 1
	for i := began; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '"':
			r.at = i + 1
			s := r.text[began:i]
			return s, utf8.ValidString(s)
		case c == '\\':
			return r.escaped(began, i+1)
		case c < 0x20:
			return "", false
		}
	}
	return "", false
}

// escaped reads a string that has an escape; i is behind its backslash. What an
// escape is, encoding/json says.
func (r *reader) escaped(began, i int) (string, bool) {
	for i++; i < len(r.text); i++ {
		switch r.text[i] {
		case '\\':
			i++
		case '"':
			r.at = i + 1
			var s string
			err := json.Unmarshal([]byte(r.text[began-1:r.at]), &s)
			return s, err == nil
		}
	}
	return "", false
}

// number reads a number: an int where it is written as one and fits, so that
// large ids compare exactly and % works; otherwise the nearest float64,
// infinite if need be.
func (r *reader) number() (any, bool) {
	began := r.at
	if r.at < len(r.text) && r.text[r.at] == '-' {
		r.at++
	}
	whole := r.at
	if !r.digits() || r.text[whole] == '0' && r.at > whole+1 {
		return nil, false
	}
	isInt := true
	if r.at < len(r.text) && r.text[r.at] == '.' {
		r.at++
		isInt = false
		if !r.digits() {
			return nil, false
		}
	}
	if r.at < len(r.text) && (r.text[r.at] == 'e' || r.text[r.at] == 'E') {
		r.at++
		isInt = false
		if r.at < len(r.text) && (r.text[r.at] == '+' || r.text[r.at] == '-') {
			r.at++
		}
		if !r.digits() {
			return nil, false
		}
	}
	text := r.text[began:r.at]
	if isInt {
		if n, err := strconv.Atoi(text); err == nil {
			return n, true
		}
	}
	f, _ := strconv.ParseFloat(text, 64)
	return f, true
}

// digits passes over digits, of which there must be one.
func (r *reader) digits() bool {
	began := r.at
	for r.at < len(r.text) && '0' <= r.text[r.at] && r.text[r.at] <= '9' {
		r.at++
	}
	return r.at > began
}
