package filter

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/tailrace/tailrace"
)

// FuzzFilter holds that no text and no data make a filter panic, and that a
// text that is wrong is told where.
func FuzzFilter(f *testing.F) {
	for _, text := range []string{
		`type == "order" && data.total > 100`, `any(data.items, .n > 4)`, `text matches "^a+$"`, `claims.tenant == data.t`,
		`let a = text + text; let b = a + a; b contains a`, `all(1..9, all(1..9, # != #index))`, `(data?.a ?? 1) in 1..3`,
		`time.Year() == 2026 and time - date("2026-01-01") > duration("1h")`, `string(data[0:2]) + "x" == upper(key)`,
		`{"a": data, "b": [1, 2]}.b[-1] == 2`, `first(split(text, "")) == get(data, "x")`, `data | map(# + 1) | sum() > 3`,
	} {
		f.Add(text, `{"total":1,"items":[{"n":5},[1.5,null,true]],"t":"a"}`)
	}
	f.Add(`data == nil`, `[[[[]]]]`)
	f.Fuzz(func(t *testing.T, text, data string) {
		s := NewSet(nil)
		claims := map[string]any{"tenant": "a"}
		for _, r := range []Request{{Client: text}, {Token: text, Claims: claims}} {
			u, err := s.Open(&r)
			if err != nil {
				if e, ok := errors.AsType[*Error](err); ok && (e.Offset < 0 || e.Offset > len(text) || e.Line < 1 || e.Column < 1 || e.Reason == "") {
					t.Fatalf("%+v is no place in %q", e, text)
				}
				continue
			}
			if u == nil {
				continue
			}
			ev := &tailrace.Event{Topic: "t", Key: "k", Data: []byte(data)}
			u.Match(ev)
			if m := u.parts[0].meter; m.work < 0 || m.memory < 0 {
				t.Fatalf("the budget is overdrawn: %+v", m)
			}
			u.Close()
		}
	})
}

// FuzzParse holds that JSON is what encoding/json says it is, but for the
// types of numbers and for what is nested deeper than the limit.
func FuzzParse(f *testing.F) {
	for _, text := range []string{`{"a":[1,2.5,-0,1e3,9007199254740993,1e999]}`, `"x"`, `[[]] `, `{"a":1}{`, "\ufeff1", `nul`, ``, `{"a":{"a":null}}`, `["\ud83d\ude00", "\ud800", "\\"]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := parse(text)
		if !json.Valid(text) {
			if got != nil {
				t.Fatalf("%q is %v", text, got)
			}
			return
		}
		var want any
		if json.Unmarshal(text, &want) != nil || !utf8.Valid(text) || depth(want) > maxDepth {
			return // a number beyond float64, or what is no data of an event
		}
		if got := floats(got); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is %#v, want %#v", text, got, want)
		}
	})
}

// depth returns how deep arrays and objects are nested in v.
func depth(v any) int {
	most := 0
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			most = max(most, depth(e))
		}
		return most + 1
	case map[string]any:
		for _, e := range v {
			most = max(most, depth(e))
		}
		return most + 1
	}
	return 0
}

// floats makes every number of v a float64.
func floats(v any) any {
	switch v := v.(type) {
	case int:
		return float64(v)
	case []any:
		for i := range v {
			v[i] = floats(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = floats(v[name])
		}
	}
	return v
}
