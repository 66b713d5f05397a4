package filter

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// noon is when the events of these tests were published.
var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func event(data string) *tailrace.Event {
	return &tailrace.Event{Topic: "orders/eu", Type: "order", Key: "o-1", ID: "x7", Data: []byte(data), Time: noon}
}

// open returns the filter of a client's text; it is closed with the test.
func open(t testing.TB, s *Set, r *Request) *Use {
	t.Helper()
	u, err := s.Open(r)
	if err != nil {
		t.Fatalf("Open(%q, %q) = %v", r.Token, r.Client, err)
	}
	t.Cleanup(u.Close)
	return u
}

func TestExpressionSeesTheEvent(t *testing.T) {
	const order = `{"total":150,"tags":["a","b"],"big":9007199254740993,"nested":{"x":null},"items":[{"n":1},{"n":5}],"ratio":1.0}`
	for _, test := range []struct {
		text, data string
		want       bool
	}{
		{`type == "order" && data.total > 100`, order, true},
		{`type == "order" && data.total > 150`, order, false},
		{`topic startsWith "orders/" && key == "o-1" && id == "x7"`, order, true},
		{`text == "hello"`, "hello", true},
		{`data == nil`, "hello", true},
		{`data == nil`, "", true},
		{`data == nil`, `{"a":1} {"b":2}`, true},
		{`data == 7`, " 7 ", true},
		{`size == 5 && len(text) == 3`, "aééX"[:5], true},
		{`time > date("2026-03-04") && time.Hour() == 12`, order, true},
		{`time < date("2026-03-04T12:00:00Z") + duration("1s")`, order, true},
		{`data.big == 9007199254740993`, order, true},
		{`data.big == 9007199254740992`, order, false},
		{`data.total % 50 == 0`, order, true},
		{`data.total / 4 == 37.5`, order, true},
		{`data.ratio == 1`, order, true},
		{`"b" in data.tags`, order, true},
		{`"tags" in data`, order, true},
		{`data.type in ["x", "y"]`, `{"type":"y"}`, true},
		{`data.total in 100..200`, order, true},
		{`any(data.items, .n > 4)`, order, true},
		{`all(data.items, .n > 4)`, order, false},
		{`count(data.items, # .n >= 1) == 2 && sum(data.items, .n) == 6`, order, true},
		{`len(filter(data.items, .n == 5)) == 1 and map(data.items, .n)[1] == 5`, order, true},
		{`find(data.items, .n > 1).n == 5`, order, true},
		{`data?.missing?.deeper == nil`, order, true},
		{`(data.missing ?? "none") == "none"`, order, true},
		{`data.nested.x == nil`, order, true},
		{`lower(upper(data.tags[0]) + "X") == "ax"`, order, true},
		{`split(key, "-")[1] == "1"`, order, true},
		{`text matches "(?i)TOTAL.*1[0-9]0"`, order, true},
		{`not (text matches "^$")`, order, true},
		{`let n = data.total; n > 100 ? n < 200 : false`, order, true},
		{`data.tags == ["a", "b"]`, order, true},
		{`string(data.total) == "150" && int("7") == 7 && float("1.5") == 1.5`, order, true},
		{`keys(data)[0] == "k" && values(data) == [1]`, `{"k":1}`, true},
		{`data.a == 2`, `{"a":1,"a":2}`, true},
		{`data.e > 1e300`, `{"e":1e999}`, true},
		{`data`, `true`, true},
		{`data`, `false`, false},
	} {
		s := NewSet(nil)
		u := open(t, s, &Request{Client: test.text})
		if got := u.Match(event(test.data)); got != test.want || s.Stats().Errors != 0 {
			t.Errorf("%s of %s: %v with %d errors, want %v", test.text, test.data, got, s.Stats().Errors, test.want)
		}
	}
	u := open(t, NewSet(nil), &Request{Client: `type == "message" && key == "" && id == ""`})
	if !u.Match(&tailrace.Event{Topic: "t"}) {
		t.Error("an event without a type is not a message")
	}
}

func TestInvalidFilterSaysWhere(t *testing.T) {
	for _, test := range []struct {
		text         string
		offset       int
		line, column int
		reason       string
	}{
		{"", 0, 1, 1, "unexpected token"},
		{"type ==", 6, 1, 7, "unexpected token"},
		{"missing == 1", 0, 1, 1, "unknown name missing"},
		{"\"é\" == typo", 8, 1, 8, "unknown name typo"},
		{"true &&\n  typo", 10, 2, 3, "unknown name typo"},
		{"size", 0, 1, 1, "expected bool"},
		{"size == \"a\"", 5, 1, 6, "mismatched types"},
		{"topic.name == 1", 6, 1, 7, "no field"},
		{"claims.tenant == 1", 0, 1, 1, "claims are for the filter of a token"},
		{"$env.Meter == nil", 0, 1, 1, "there is no $env"},
		{"__meter == nil", 0, 1, 1, "there is no __meter"},
		{"let __meter = 1; true", 4, 1, 5, "names do not begin with _"},
		{"let __read = 1; true", 4, 1, 5, "names do not begin with _"},
		{"__step(nil)", 0, 1, 1, "there is no __step"},
		{"now() > time", 0, 1, 1, "no function now"},
		{"timezone(\"UTC\") == nil", 0, 1, 1, "no function timezone"},
		{"date(\"1\", \"2\", \"UTC\") > time", 0, 1, 1, "date takes"},
		{"repeat(text, 1000000) == \"\"", 0, 1, 1, "no function repeat"},
		{"uper(text) == \"\"", 0, 1, 1, "did you mean upper?"},
		{"fromJSON(text) == 1", 0, 1, 1, "no function fromJSON"},
		{"reduce(1..9, #acc + #) == 1", 0, 1, 1, "no function reduce"},
		{"sortBy(data, #)[0] == 1", 0, 1, 1, "no function sortBy"},
		{"text matches data.pattern", 18, 1, 19, "has to be written out"},
		{"text matches \"(\" + \"a)\"", 17, 1, 18, "has to be written out"},
		{"text matches \"(\"", 13, 1, 14, "missing closing )"},
		{"text matches \"((a{0,30}){0,30}){0,30}\"", 13, 1, 14, "invalid repeat count"},
		{"text matches \"(abcdefghij){60}\"", 13, 1, 14, "too large"},
		{"text matches \"(((x{1,10}){1,10}){1,10}y){1,1}\"", 13, 1, 14, "too large"},
		{"7 % 0 == 1", 2, 1, 3, "divide by zero"},
		{"\"\xff\" == key", 0, 1, 1, "is not UTF-8"},
		{strings.Repeat("(", 512) + "true" + strings.Repeat(")", 509), 0, 1, 1, "limit is 1024"},
		{strings.Repeat("!", 250) + "true", -1, 1, -1, "exceeds maximum allowed nodes"},
		{strings.Repeat("true&&", 120) + "true", -1, 1, -1, "exceeds maximum allowed nodes"},
	} {
		err := NewSet(nil).Check(test.text, false)
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%.40q: %v, want an *Error", test.text, err)
			continue
		}
		if test.offset >= 0 && e.Offset != test.offset || e.Line != test.line || test.column >= 0 && e.Column != test.column || !strings.Contains(e.Reason, test.reason) {
			t.Errorf("%.40q: %q at byte %d (%d:%d), want %q at byte %d (%d:%d)",
				test.text, e.Reason, e.Offset, e.Line, e.Column, test.reason, test.offset, test.line, test.column)
		}
	}
	if err := NewSet(nil).Check(`claims.tenant == data.tenant`, true); err != nil {
		t.Errorf("a token's filter: %v", err)
	}
}

// TestHostileExpressionsEnd runs what would loop, allocate or crash, over data
// that is made for it.
func TestHostileExpressionsEnd(t *testing.T) {
	big := strings.Repeat("a", 1<<20)
	deep := strings.Repeat("[", 64) + strings.Repeat("]", 64)
	list := "[" + strings.Repeat("1,", 200_000) + "1]"
	double := "let a0 = text + text; "
	for i := range 12 {
		double += fmt.Sprintf("let a%d = a%d + a%d; ", i+1, i, i)
	}
	tree := "let a0 = [1, 1]; "
	for i := range 24 {
		tree += fmt.Sprintf("let a%d = [a%d, a%d]; ", i+1, i, i)
	}
	for _, test := range []struct {
		promise, text, data string
		fails               bool
	}{
		{"loops in loops", `let r = 1..60000; all(r, all(r, all(r, # > 0)))`, "", true},
		{"a loop over a range", `all(1..1000000000, # > 0)`, "", true},
		{"a range beyond integers", `all(-9223372036854775807..9223372036854775807, # > 0)`, "", false},
		{"ranges in a loop", `all(1..50000, len(1..50000) > 0)`, "", true},
		{"a loop over the data", `all(data, all(data, # == 1))`, list, true},
		{"doubling a text", double + "a12 == key", big, true},
		{"doubling an array", tree + "a24 == data", "[]", true},
		{"text of a doubled array", tree + "string(a24) == key", "", true},
		{"a text in a loop", `all(1..60000, (text + key) != key)`, big, true},
		{"a search in a loop", `all(1..60000, not (text contains "b"))`, big, true},
		{"upper case in a loop", `all(1..60000, upper(text) != key)`, big, true},
		{"splitting into letters", `len(split(text, "")) > 0`, big, true},
		{"comparing a text with itself in a loop", `all(1..60000, text == text + "")`, big, true},
		{"a slow regular expression", `text matches "(x?){40}(a?){40}$"`, big, true},
		{"a regular expression in a loop", `all(1..60000, text matches "^(a+)+$")`, big, true},
		{"catastrophe for those who go back", `text matches "^(a+)+b$"`, strings.Repeat("a", 50_000), false},
		{"a large text", `text contains "b"`, big, false},
		{"depth 64", `data == nil`, deep, false},
		{"depth 65", `data != nil`, "[" + deep + "]", false},
		{"depth without end", `data != nil`, strings.Repeat("[", 1<<20), false},
		{"divides by zero", `data.n % data.zero == 1`, `{"n":1,"zero":0}`, true},
		{"a member of nothing", `data.a.b.c == 1`, `{}`, true},
		{"names a missing member", `data.total > 100`, `{}`, true},
		{"data that is no JSON", `data.total > 100`, `hello`, true},
		{"a text against a number", `data.total > 100`, `{"total":"150"}`, true},
		{"a value that is no boolean", `data`, `{"total":"150"}`, true},
		{"nothing for a boolean", `data.flag`, `{}`, false},
		{"beyond the end", `data[5] == 1`, `[1]`, true},
		{"a call of data", `data.f()`, `{"f":1}`, true},
		{"a negative shift", `bitshl(1, data) == 1`, `-1`, true},
		{"a wrong date", `time > date(text)`, "yesterday", true},
		{"no number", `float("NaN") == float("NaN") || float("NaN") > 1`, "", false},
		{"no number in a sum", `sum([float("NaN"), 1]) > 0`, "", false},
	} {
		t.Run(test.promise, func(t *testing.T) {
			s := NewSet(nil)
			u := open(t, s, &Request{Client: test.text})
			began := time.Now()
			if matched := u.Match(event(test.data)); matched && test.fails {
				t.Error("what fails has matched")
			}
			if failed := s.Stats().Errors == 1; failed != test.fails {
				t.Errorf("failed: %v, want %v", failed, test.fails)
			}
			if took := time.Since(began); took > 10*time.Second { // hangs are what is sought, not slowness
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestParse(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"a":[`, n/2) + "1" + strings.Repeat("]}", n/2) }
	for _, test := range []struct {
		text string
		want any
	}{
		{` [ ] `, []any{}}, {`{}`, map[string]any{}}, {`-0`, 0}, {`0`, 0}, {`01`, nil}, {`-`, nil}, {`1.`, nil}, {`.5`, nil}, {`1e`, nil},
		{`1E+2`, 100.0}, {`9223372036854775807`, math.MaxInt}, {`9223372036854775808`, 9223372036854775808.0}, {`1e999`, math.Inf(1)},
		{`"\u00e9\n\"\\"`, "é\n\"\\"}, {`"\ud83d\ude00"`, "😀"}, {`"é"`, "é"}, {`"\x"`, nil}, {`"\"`, nil}, {`"`, nil}, {"\"\n\"", nil}, {"\"\xff\"", nil},
		{`{"a":1,"a":[null,true,false]}`, map[string]any{"a": []any{nil, true, false}}}, {`{"a\n":1}`, map[string]any{"a\n": 1}},
		{`[1,]`, nil}, {`{"a":1,}`, nil}, {`{a:1}`, nil}, {`{"a"}`, nil}, {`[1 2]`, nil}, {`tru`, nil}, {`1 2`, nil}, {`NaN`, nil}, {``, nil},
		{nested(66), nil}, {"[" + nested(64) + "]", nil},
	} {
		if got := parse([]byte(test.text)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s is %#v, want %#v", test.text, got, test.want)
		}
	}
	if parse([]byte(nested(64))) == nil {
		t.Error("depth 64 is no JSON")
	}
}

func TestTokenAndClientBothDecide(t *testing.T) {
	s := NewSet(nil)
	claims := map[string]any{"tenant": "a", "other": 1}
	u := open(t, s, &Request{Token: `data.tenant == claims.tenant`, Claims: claims, Client: `data.n > 1 || true`})
	for data, want := range map[string]bool{
		`{"tenant":"a","n":2}`: true, `{"tenant":"b","n":2}`: false, `{"n":2}`: false, `x`: false,
	} {
		if got := u.Match(event(data)); got != want {
			t.Errorf("%s: %v, want %v", data, got, want)
		}
	}
	// A claim that looks like an expression is a value all the same.
	evil := map[string]any{"tenant": `" || true || "`}
	u = open(t, s, &Request{Token: `data.tenant == claims.tenant`, Claims: evil})
	if u.Match(event(`{"tenant":"a"}`)) {
		t.Error("a claim was read as part of the filter")
	}
	// Nor is a client's text pasted behind a token's.
	u = open(t, s, &Request{Token: `data.tenant == claims.tenant`, Claims: claims, Client: `false || true`})
	if u.Match(event(`{"tenant":"b"}`)) {
		t.Error("a client's filter has widened the token's")
	}
	for _, client := range []string{`true) || (true`, `true // `, `true; true`, `claims.tenant == "a"`, `let data = 1; true`, `let claims = 1; true`} {
		if u, err := s.Open(&Request{Token: `data.tenant == claims.tenant`, Claims: claims, Client: client}); err == nil && u.Match(event(`{"tenant":"b"}`)) {
			t.Errorf("a client's filter %s has widened the token's", client)
		}
	}
}

func TestMissingClaimIsRefused(t *testing.T) {
	s := NewSet(nil)
	_, err := s.Open(&Request{Token: `data.tenant == claims.tenant`, Claims: map[string]any{"sub": "u"}})
	if e, ok := errors.AsType[*ClaimError](err); !ok || e.Name != "tenant" {
		t.Errorf("Open = %v, want a *ClaimError", err)
	}
	deep := any("x")
	for range 80 {
		deep = []any{deep}
	}
	if _, err := s.Open(&Request{Token: `data.tenant == claims.tenant`, Claims: map[string]any{"tenant": deep}}); err == nil {
		t.Error("claims that cannot be bound are passed over")
	}
	if _, err := s.Open(&Request{Token: `claims.`, Claims: nil}); err == nil || !func() bool { e, ok := errors.AsType[*Error](err); return ok && e.Token }() {
		t.Errorf("Open = %v, want an *Error of the token", err)
	}
	// What is optional is asked for by get.
	u := open(t, s, &Request{Token: `get(claims, "role") == nil`, Claims: map[string]any{"sub": "u"}})
	if !u.Match(event("")) {
		t.Error("get of a claim that is not there is not nil")
	}
}

func TestDistinctFilters(t *testing.T) {
	s := NewSet(&Options{PerPrincipal: -1})
	key := func(r Request) string { return open(t, s, &r).Key() }
	base := Request{Principal: "p", Scope: "s", Token: `data.t == claims.tenant`, Claims: map[string]any{"tenant": "a", "sub": "u1"}, Client: `size > 1`}
	same := base
	same.Principal, same.Claims = "q", map[string]any{"sub": "u2", "tenant": "a"}
	if key(base) != key(same) {
		t.Error("claims that are not read make filters distinct")
	}
	for what, change := range map[string]func(r *Request){
		"claim":  func(r *Request) { r.Claims = map[string]any{"tenant": "b"} },
		"client": func(r *Request) { r.Client = `size > 2` },
		"token":  func(r *Request) { r.Token = `claims.tenant == data.t` },
		"scope":  func(r *Request) { r.Scope = "other" },
		"whole":  func(r *Request) { r.Token = `claims["tenant"] == data.t && len(claims) > 0` },
		"none":   func(r *Request) { r.Token = "" },
	} {
		other := base
		change(&other)
		if key(base) == key(other) {
			t.Errorf("filters that differ by %s are the same", what)
		}
	}
	if u, err := s.Open(&Request{Principal: "p"}); u != nil || err != nil {
		t.Errorf("no filter = %v, %v", u, err)
	}
	var none *Use
	none.Close()
	if f := (*Filter)(nil); !f.Match(event("")) || f.Err() != nil || f.Key() != "" {
		t.Error("no filter does not match")
	}
}

func TestEventIsJudgedOnce(t *testing.T) {
	s := NewSet(&Options{PerPrincipal: -1})
	const readers, events = 1000, 300
	list := make([]*tailrace.Event, events)
	for i := range list {
		list[i] = event(fmt.Sprintf(`{"n":%d}`, i))
		list[i].Cursor = tailrace.Cursor{Epoch: 7, Pos: uint64(10 + i)}
	}
	var wg sync.WaitGroup
	for i := range readers {
		u := open(t, s, &Request{Principal: fmt.Sprint("p", i), Client: `data.n % 2 == 0`})
		wg.Go(func() {
			for n, ev := range list {
				if u.Match(ev) != (n%2 == 0) {
					t.Errorf("wrong about event %d", n)
				}
			}
		})
	}
	wg.Wait()
	if got := s.Stats(); got.Runs != events || got.Filters != 1 {
		t.Errorf("%d runs of %d filters for %d events and %d readers", got.Runs, got.Filters, events, readers)
	}
	// The same position in another epoch is another event.
	other := event(`{"n":1}`)
	other.Cursor = tailrace.Cursor{Epoch: 8, Pos: 10}
	if u := open(t, s, &Request{Client: `data.n % 2 == 0`}); u.Match(other) {
		t.Error("the verdict of another epoch was used")
	}
}

func TestLimitsOnDistinctFilters(t *testing.T) {
	s := NewSet(&Options{PerPrincipal: 2, Total: 3})
	try := func(principal, text string) (*Use, error) {
		return s.Open(&Request{Principal: principal, Client: text})
	}
	limit := func(err error) string {
		e, _ := errors.AsType[*LimitError](err)
		if e == nil {
			return fmt.Sprint(err)
		}
		return e.Limit
	}
	var uses []*Use
	for _, test := range []struct{ principal, text, want string }{
		{"a", "size > 1", "<nil>"}, {"a", "size > 2", "<nil>"}, {"a", "size > 1", "<nil>"},
		{"a", "size > 3", "filters_per_principal"}, {"b", "size > 3", "<nil>"}, {"b", "size > 4", "filters"},
		{"b", "size > 1", "<nil>"}, {"c", "size > 2", "<nil>"},
	} {
		u, err := try(test.principal, test.text)
		if limit(err) != test.want {
			t.Errorf("%s opens %s: %v, want %s", test.principal, test.text, err, test.want)
		}
		uses = append(uses, u)
	}
	for _, u := range uses {
		u.Close()
		u.Close()
	}
	if n := s.Stats().Filters; n != 0 || len(s.parts) != 0 || len(s.principals) != 0 {
		t.Errorf("%d filters, %d parts, %d principals left", n, len(s.parts), len(s.principals))
	}
	if _, err := try("a", "size > 3"); err != nil {
		t.Errorf("after all were closed: %v", err)
	}
}

// clock tells a time that moves on by step at each second look: so each run
// takes one step.
type clock struct {
	now, step time.Duration
	running   bool
}

func (c *clock) read() time.Duration {
	if c.running {
		c.now += c.step
	}
	c.running = !c.running
	return c.now
}

func TestExpensiveFilterIsRefused(t *testing.T) {
	for _, test := range []struct {
		what  string
		price func(run int) time.Duration
		after int // runs until it is refused; 0 is never
	}{
		{"100 µs each", func(int) time.Duration { return 100 * time.Microsecond }, 0},
		{"101 µs each", func(int) time.Duration { return 101 * time.Microsecond }, 991},
		{"1 ms each", func(int) time.Duration { return time.Millisecond }, 101},
		{"dear in the second thousand", func(run int) time.Duration {
			if run < 1000 {
				return time.Microsecond
			}
			return 200 * time.Microsecond
		}, 1501},
		{"one stall of the machine", func(run int) time.Duration {
			if run == 500 {
				return time.Minute
			}
			return 10 * time.Microsecond
		}, 0},
		{"a second each", func(int) time.Duration { return time.Second }, 5},
	} {
		t.Run(test.what, func(t *testing.T) {
			var c clock
			s := NewSet(&Options{Clock: c.read})
			r := Request{Client: "size >= 0", Scope: "one"}
			u := open(t, s, &r)
			refused := 0
			for run := range 3000 {
				c.step = test.price(run)
				matched := u.Match(event(""))
				if u.Err() != nil && refused == 0 {
					refused = run + 1
				}
				if !matched && refused == 0 {
					t.Fatal("no match before it is refused")
				}
			}
			if refused != test.after {
				t.Fatalf("refused after %d runs, want %d", refused, test.after)
			}
			if refused == 0 {
				return
			}
			if u.Match(event("")) {
				t.Error("a refused filter matches")
			}
			if _, err := s.Open(&r); !errors.Is(err, ErrTooExpensive) {
				t.Errorf("opened beside the refused one: %v", err)
			}
			u.Close()
			if _, err := s.Open(&r); !errors.Is(err, ErrTooExpensive) {
				t.Errorf("opened after the refused one was closed: %v", err)
			}
			other := r
			other.Scope = "two"
			open(t, s, &other) // dear over one selection says nothing of another
		})
	}
}

func TestPriceOutlivesPages(t *testing.T) {
	var c clock
	c.step = 500 * time.Microsecond
	s := NewSet(&Options{Clock: c.read})
	for page := range 20 {
		u, err := s.Open(&Request{Client: "size >= 0"})
		if err != nil {
			if !errors.Is(err, ErrTooExpensive) || page != 11 {
				t.Errorf("page %d: %v", page, err)
			}
			return
		}
		for range 19 {
			u.Match(event(""))
		}
		u.Close()
	}
	t.Error("a filter that is used for one page after the other is never refused")
}

func TestCompilationIsShared(t *testing.T) {
	s := NewSet(&Options{Total: -1})
	first, _ := s.expression(source{"size > 1", false})
	for range 3 {
		if again, _ := s.expression(source{"size > 1", false}); again != first {
			t.Fatal("compiled twice")
		}
	}
	for i := range compiledSize {
		if _, err := s.expression(source{fmt.Sprint("size > ", i+10), false}); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.compiled.order.Len(); n != compiledSize || len(s.compiled.index) != n {
		t.Errorf("%d compiled texts are kept", n)
	}
	if again, _ := s.expression(source{"size > 1", false}); again == first {
		t.Error("the text used longest ago is still there")
	}
}

func TestRegexpSizeBoundsTheProgram(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	atoms := []string{"a", "abc", "[a-z]", ".", "(?:", ")", "*", "+?", "{3}", "{2,7}", "{4,}", "|", "^", "$", `\d`, "(?i)k"}
	n := 0
	for range 20_000 {
		var b strings.Builder
		for range rng.IntN(14) {
			b.WriteString(atoms[rng.IntN(len(atoms))])
		}
		size, err := patternSize(b.String())
		if err != nil {
			continue
		}
		n++
		if real := programSize(t, b.String()); real > size+size/2+8 {
			t.Fatalf("%s compiles to %d instructions, %d were expected", b.String(), real, size)
		}
	}
	if n < 1000 {
		t.Errorf("only %d valid expressions", n)
	}
}
