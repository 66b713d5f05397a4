// Package pebblelog is the durable log of one node: a [tailrace.Log] in a directory, on the
// embedded store cockroachdb/pebble.
//
// One goroutine, the committer, owns the sequence. It takes what waits, writes it as one batch,
// syncs if an event of class fsync is in it, and only then lets readers see it; while one sync
// runs the next batch collects, so that many publishers share one sync and a single one waits
// for nobody.
//
// An fsynced event survives a kill of the process and the loss of power. A crash may take events
// of the classes memory and interval; it then ends the epoch, so that a cursor beyond what was
// kept is answered with a reset. Positions are never given twice: after any unclean stop they
// go on beyond everything that can have been shown. A side file remembers the last synced
// position, since a damaged write-ahead log opens with less and does not say so.
//
// A failed write or sync stops the log for good: nothing of its batch is acknowledged, appends
// get ErrStopped, reads of what was visible go on.
package pebblelog
