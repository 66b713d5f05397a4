package tailrace

import (
	"net"
	"time"
)

// NewListener wraps a listener of TCP so that the fast engine can serve streams
// over TLS: give it to http.Server.ServeTLS, or to tls.NewListener. In the
// clear it changes nothing, and other connections than TCP pass through as they
// are.
func NewListener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		return &tapConn{TCPConn: tcp}, nil
	}
	return c, err
}

// tapConn is the connection under a tls.Conn. Once the fast engine has taken
// the socket over, what is written goes to sink, and the engine sends it.
type tapConn struct {
	*net.TCPConn
	taken bool
	sink  *[]byte
}

func (c *tapConn) Write(b []byte) (int, error) {
	if !c.taken {
		return c.TCPConn.Write(b)
	}
	if c.sink == nil {
		return 0, net.ErrClosed
	}
	*c.sink = append(*c.sink, b...)
	return len(b), nil
}

// SetWriteDeadline does nothing any more once the socket is taken: who writes
// never waits.
func (c *tapConn) SetWriteDeadline(t time.Time) error {
	if c.taken {
		return nil
	}
	return c.TCPConn.SetWriteDeadline(t)
}
