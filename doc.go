// Package tailrace is a hub for Server-Sent Events over a log.
//
// Publishers append events to topics; subscribers are plain browsers with an
// EventSource, curl, or Go code in the same process. [New] makes a [Hub],
// which is an [net/http.Handler] for subscribers; [Hub.Publish] and
// [Hub.PublishHandler] publish; [Hub.Connections], [Hub.Send], [Hub.Broadcast]
// and [Hub.Disconnect] manage the open streams. What is kept, and for how long,
// is the [Log]'s business: one in memory comes with this package, a durable one
// is package pebblelog.
//
// # What holds
//
// There is one true order. A log is one sequence over all its topics, and each
// subscriber sees its selection of it, in that order, each event once.
//
// A subscriber is a cursor, not a queue. It costs the hub its place in the log,
// however far behind it is and however slowly it reads, so it can neither delay
// others nor lose events because it was slow. Replay and live delivery are the
// same walk: what is recent is answered from memory, the rest by the log, and
// there is no hand-over between them.
//
// A gap is never silent. If events after a subscriber's cursor are gone
// (retention, a delete, a foreign cursor), it gets an event of [TypeGap] that
// says so, before anything else, and goes on from what there is.
//
// Delivery comes after commit: nobody sees an event before it is as durable as
// its topic's [Policy] says, and when Publish has returned it is.
//
// A publish followed by a Send or Broadcast of the same caller arrives in that
// order. Events of one Publish call and one topic stay together and are stored
// all or none. Between topics, a call that fails may have stored some: its
// receipts say which.
//
// # Bytes
//
// Event.Data is shared by everybody who reads the event and is never changed:
// not by who published it, and not by a reader. Each event is encoded once for
// each form that is asked for, and all subscribers get the same bytes.
//
// The stream itself follows the WHATWG HTML standard, section 9.2, by way of
// package sse.
package tailrace
