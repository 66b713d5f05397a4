// Package presence knows who is in a topic, and says so in the topic
// $presence/{topic}.
//
// A principal is present in a topic while at least one stream of its, on any
// node, names the topic exactly. It leaves when the last one has ended and none
// has come back within the grace of the topic's rule: a client that reconnects
// makes no event.
//
// # Events
//
// A topic whose rule is [Members] has events of type join and leave, with a key
// that is the same for a principal everywhere, so that a snapshot shows who is
// there:
//
//	{"topic":"room/1","principal":"jwt:i|u7","payload":{"name":"Ada"},"since":"…","count":3}
//
// A topic whose rule is [Count] has events of type count, the first at once and
// then at most one a second, of key count:
//
//	{"topic":"room/1","count":3}
//
// The count is of principals, and of streams without one: those have no key,
// and are counted and never listed. What says that a member or everybody is
// gone removes its key.
//
// # What is promised
//
// The events of a principal in a topic alternate, join first. They are the
// difference between what is so and what the log says is so, and are made when
// the log takes them: while it does not, those of a principal that comes and
// goes add up to nothing, and memory is bounded by who is there. Each has an own
// id, so that one of which the log has not said whether it has it is repeated
// until it has, and is stored once.
//
// A node that starts finds in the log who was there when it ended, however it
// did. They are kept for one grace, and leave unless they come back. What other
// nodes have told lives as long as they do: when one has been silent for 30 s,
// its streams count as ended.
package presence
