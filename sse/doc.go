// Package sse is Server-Sent Events: bytes to events, events to bytes, one
// stream on a server, one reconnecting connection on a client.
//
// It follows WHATWG HTML, section 9.2, to the byte. It has no state outside its
// values and needs the standard library alone; topics, fan-out and replay are
// the business of package tailrace.
//
// Reading:
//
//   - [Events] yields the events of any reader, each with memory of its own.
//   - [Decoder] reads the same without an allocation, lends the data, and goes
//     on over reconnections.
//
// Writing:
//
//   - [Event.AppendText] appends one event's frame to a slice; [AppendComment]
//     and [AppendRetry] append the two lines that are not events. Nothing that
//     a stranger puts into an event can be read as another one.
//
// Serving:
//
//   - [HandlerFunc] makes an http.Handler of a function that returns an
//     iterator of events.
//   - [Accept] turns a request into a [Stream], for handlers that send when
//     they want to. Its deadlines keep a stalled reader from holding the
//     handler for ever.
//
// Subscribing:
//
//   - [Client] sends a request and gives a [Conn], which yields events over
//     reconnections, resumes at the last event id, backs off and ends where the
//     standard says so. The zero Client works.
//
// Package ssetest has what the tests of such code need.
//
// An error is one of the sentinels ErrX, or a [FieldError], [TooLongError] or
// [ResponseError], or comes from the reader, the writer or the connection as it
// is.
package sse
