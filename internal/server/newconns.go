package server

import (
	"net"
	"net/http"
	"sync"
)

// newConns are the connections on which no request has begun. Browsers open
// them ahead, and http.Server.Shutdown would wait 5 s for each.
type newConns struct {
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// track is a ConnState hook.
func (c *newConns) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state != http.StateNew {
		delete(c.open, conn)
		return
	}
	if c.open == nil {
		c.open = map[net.Conn]struct{}{}
	}
	c.open[conn] = struct{}{}
}

// close closes them. A client that was about to send its first request finds
// what it would have found a moment later: nobody listens.
func (c *newConns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.Close()
	}
}
