// Package tailrace is a hub for Server-Sent Events over a log.
//
// It will be described here once the hub stands.
package tailrace
