// Package filter decides, event by event, whether a subscriber wants it: by an
// expression of the language of expr-lang/expr that yields a boolean, such as
//
//	type == "order" && data.total > 100
//
// The expression sees these names.
//
//	topic, type, key, id   strings; type is "message" if the event has none
//	text, size             the data as text, and its length in bytes
//	data                   the data parsed as JSON, nil if it is none
//	time                   when it was published
//	claims                 the claims of the token; in a token's own filter only
//
// Whole numbers of JSON are integers as long as they fit into 64 bits. JSON
// that is nested deeper than 64 counts as no JSON.
//
// # Who writes them
//
// Anybody who may subscribe. So an expression is bounded before it runs (1,024
// bytes, 200 nodes, regular expressions that are constant and small, no clock,
// no function that writes more than it reads) and while it runs: a budget of
// work, counted in bytes looked at and elements visited, and one of memory. No
// expression can panic, hang or fill the memory. What goes wrong while one
// runs (a member of nothing, a number that is compared with a text, a budget
// that is used up) means that the event does not match, and is counted.
//
// Claims are bound as values. They are never part of the text, so a claim
// cannot change what the filter of its token means.
//
// # How they are shared
//
// Expressions are compiled once for each text. Filters of the same text, the
// same claims that it reads and the same scope are one, which judges each event
// once however many streams ask. One that takes over 100 µs on average is
// refused from then on.
package filter
