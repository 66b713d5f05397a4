package tailrace

import (
	"syscall"
)

// fastConn is the socket of a stream of the fast engine.
type fastConn struct {
	fd      int
	slot    int32  // in its shard; -1 before and after
	at      int    // in the list of its feed
	pending []byte // not yet taken by the socket; shared, never changed
	since   int64  // tick of the last progress while pending
	ending  int64  // tick at which a farewell was written; 0 is none
	reason  string // why it ends
	err     error  // it is lost

	working bool  // a worker has the stream, and with it all fields above
	gone    bool  // the client has left meanwhile
	queued  bool  // in the shard's inbox; guarded by shard.mu
	killed  bool  // guarded by shard.mu
	failed  error // of the worker's step; guarded by shard.mu
}

// write sends b as one chunk, as far as the socket takes it now. The rest
// waits in pending.
func (c *fastConn) write(b []byte) error {
	buf := append(newChunk(len(b)), b...)
	return c.writeChunk(sealChunk(buf).bytes())
}

// writeChunk sends finished chunks.
func (c *fastConn) writeChunk(b []byte) error {
	if c.err != nil {
		return c.err
	}
	if len(c.pending) > 0 {
		// A second small frame of one step, such as a gap's before a
		// snapshot's: keep the order.
		c.pending = append(c.pending[:len(c.pending):len(c.pending)], b...)
		return nil
	}
	n, err := writeSome(c.fd, b)
	if err != nil {
		c.err = err
		return err
	}
	if n < len(b) {
		c.pending = b[n:]
	}
	return nil
}

// flush writes what is pending, as far as the socket takes it.
func (c *fastConn) flush() (progress bool, err error) {
	n, err := writeSome(c.fd, c.pending)
	if err != nil {
		c.err = err
		return false, err
	}
	if c.pending = c.pending[n:]; len(c.pending) == 0 {
		c.pending = nil
	}
	return n > 0, nil
}

// writeSome writes to a non-blocking socket; a full one takes nothing.
func writeSome(fd int, b []byte) (n int, err error) {
	for n < len(b) {
		m, err := syscall.Write(fd, b[n:])
		switch err {
		case nil:
			n += m
		case syscall.EINTR:
		case syscall.EAGAIN:
			return n, nil
		default:
			return n, errGone
		}
	}
	return n, nil
}

// closeSocket closes fd. What the client has sent is read and thrown away
// first: closing with unread input would send a reset, and the client would
// lose what is on its way to it. An unclean end drops what the kernel still
// holds.
func closeSocket(fd int, clean bool) {
	if fd < 0 {
		return
	}
	if clean {
		syscall.Shutdown(fd, syscall.SHUT_WR)
		var b [4096]byte
		for range 16 {
			if n, err := syscall.Read(fd, b[:]); n <= 0 && err != syscall.EINTR {
				break
			}
		}
	} else {
		syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	}
	syscall.Close(fd)
}
