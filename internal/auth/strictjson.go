package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxDepth bounds the nesting of JSON that is read from outside.
const maxDepth = 64

// decodeStrict decodes one JSON object. Two readers must not take different
// things from one text, so a member that is there twice, at any depth, is an
// error (RFC 7519, 4 and RFC 8259, 4), and so is text that is not UTF-8.
// Names of members are compared exactly.
func decodeStrict(data []byte) (map[string]any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	v, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("has more than one value")
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("is not a JSON object")
	}
	return object, nil
}

func decodeValue(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	switch {
	case err != nil:
		return nil, errors.New("is not JSON")
	case depth > maxDepth:
		return nil, fmt.Errorf("is nested deeper than %d", maxDepth)
	}
	switch token {
	case json.Delim('{'):
		object := map[string]any{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, errors.New("is not JSON")
			}
			text := name.(string) // the decoder admits nothing else here
			if _, twice := object[text]; twice {
				return nil, fmt.Errorf("has the member %.40q twice", text)
			}
			if object[text], err = decodeValue(d, depth+1); err != nil {
				return nil, err
			}
		}
		return object, closeValue(d)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := decodeValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, closeValue(d)
	}
	return token, nil
}

func closeValue(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errors.New("is not JSON")
	}
	return nil
}

// stringList returns a list of strings.
func stringList(v any) ([]string, bool) {
	items, ok := v.([]any)
	if !ok {
		return nil, false
	}
	list := make([]string, len(items))
	for i, item := range items {
		if list[i], ok = item.(string); !ok {
			return nil, false
		}
	}
	return list, true
}
