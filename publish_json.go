package tailrace

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// maxJSONDepth bounds the nesting of arrays and objects in what publishers
// send: nobody means more, and readers' parsers have limits of their own.
const maxJSONDepth = 64

// jsonError says where a text is not JSON.
type jsonError struct {
	offset int
	reason string
}

func (e *jsonError) Error() string { return fmt.Sprintf("%s (at byte %d)", e.reason, e.offset) }

// checkJSON reports whether b is one JSON text (RFC 8259) of at most
// maxJSONDepth levels. It does not look at the UTF-8.
func checkJSON(b []byte) *jsonError {
	if at := tooDeep(b); at >= 0 {
		return &jsonError{at, fmt.Sprintf("arrays and objects are more than %d deep", maxJSONDepth)}
	}
	if json.Valid(b) {
		return nil
	}
	var syntax *json.SyntaxError
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); errors.As(err, &syntax) {
		at := min(int(syntax.Offset), len(b))
		if reason := syntax.Error(); reason != "unexpected end of JSON input" {
			return &jsonError{max(0, at-1), reason} // Offset counts the bad byte too
		}
		return &jsonError{at, "the JSON text ends early"}
	}
	return &jsonError{0, "not JSON"}
}

// tooDeep returns where b nests deeper than maxJSONDepth, or -1. On what is
// not JSON its answer means nothing.
func tooDeep(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i) - 1
		case '{', '[':
			if depth++; depth > maxJSONDepth {
				return i
			}
		case '}', ']':
			depth--
		}
	}
	return -1
}

// skipString returns the index after the JSON string that begins at b[i], or
// len(b).
func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the index after the value that begins at b[i]. b is valid
// JSON.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		for depth := 0; i < len(b); i++ {
			switch b[i] {
			case '"':
				i = skipString(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return len(b)
	}
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
			return i
		}
		i++
	}
	return i
}

// jsonMembers yields the members of the object b, which is valid JSON: the
// decoded name, and the value's bytes within b. If b is no object it yields
// nothing.
func jsonMembers(b []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		i := skipSpace(b, 0)
		if i >= len(b) || b[i] != '{' {
			return
		}
		for i = skipSpace(b, i+1); i < len(b) && b[i] == '"'; {
			end := skipString(b, i)
			name, _ := jsonString(b[i:end])
			i = skipSpace(b, skipSpace(b, end)+1) // over the colon
			end = skipValue(b, i)
			if !yield(name, b[i:end:end]) {
				return
			}
			if i = skipSpace(b, end); i < len(b) && b[i] == ',' {
				i = skipSpace(b, i+1)
			}
		}
	}
}

// jsonElements yields the bytes of the elements of the array b, which is valid
// JSON. If b is no array it yields nothing.
func jsonElements(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		i := skipSpace(b, 0)
		if i >= len(b) || b[i] != '[' {
			return
		}
		for i = skipSpace(b, i+1); i < len(b) && b[i] != ']'; {
			end := skipValue(b, i)
			if !yield(b[i:end:end]) {
				return
			}
			if i = skipSpace(b, end); i < len(b) && b[i] == ',' {
				i = skipSpace(b, i+1)
			}
		}
	}
}

// jsonString decodes the value raw, which is valid JSON, if it is a string. A
// lone surrogate becomes U+FFFD.
func jsonString(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	body := raw[1 : len(raw)-1]
	for _, c := range body {
		if c == '\\' {
			var s string
			err := json.Unmarshal(raw, &s)
			return s, err == nil
		}
	}
	return string(body), true
}

// jsonKind names the kind of the value raw for a message.
func jsonKind(raw []byte) string {
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
