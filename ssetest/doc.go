// Package ssetest helps to test code that sends or reads event streams.
//
// A [Recorder] is a ResponseWriter for handlers: it shows the events, the flushes and the
// deadlines. A [Server] plays a script to a client, over a socket or in memory. [StalledClient]
// is the reader that every server must survive, and [UnwrapOnly], [FlusherOnly] and [Opaque] are
// the middleware that it will stand behind. [Conformance] runs a decoder over golden streams.
//
// The package prints nothing and cleans up after itself. What needs no socket works inside
// testing/synctest. A recorder is no connection: it has room for everything and is never slow,
// so what a stalled reader does to a handler shows only over a socket.
package ssetest
