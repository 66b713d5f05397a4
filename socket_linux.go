package tailrace

import (
	"cmp"
	"crypto/tls"
	"sync"
	"sync/atomic"
	"syscall"
)

// fastConn is the connection of a stream of the fast engine. Who runs the
// stream has it, but for the fields with a comment about it.
type fastConn struct {
	fd   int32
	slot int32 // in its shard; -1 before and after

	// What the socket has of the stream. A full one costs nothing until the
	// kernel says that it has room: then the event of which it has a part is
	// made again, from the ring or from the log.
	full    bool
	off     int    // bytes of the event at half that it has taken
	half    uint64 // position of that event; 0 is none
	pending []byte // bytes that are of no event in the log, or are sealed; never changed

	err      error  // the connection is lost
	reason   string // why the stream ends, once its farewell is written
	farewell uint32 // tick since which it is to end
	wrote    int64  // tick

	tls *tls.Conn // nil in the clear; it writes to raw
	raw *tapConn

	// The shard's own.
	group   *group
	at      int32  // in group.members if inStep, else in group.apart; -1: in neither
	inStep  bool   // guarded by shard.state for reading elsewhere
	working bool   // a worker has the stream
	gone    bool   // the client has left while a worker had it
	room    bool   // the socket has had room since
	base    totals // of the group when it came in step

	queued bool        // in the shard's inbox; guarded by shard.mu
	failed error       // of the worker's step; guarded by shard.mu
	killed atomic.Bool // it ends now, whatever it still has to say
}

// text sends b whole: what the socket does not take waits.
func (c *fastConn) text(b []byte) error {
	if c.err != nil {
		return c.err
	}
	if c.tls != nil {
		buf := sealBuffers.Get().(*[]byte)
		defer sealBuffers.Put(buf)
		if b, c.err = c.seal((*buf)[:0], b); c.err != nil {
			return c.err
		}
		if cap(b) <= 4*maxRecord {
			*buf = b
		}
	}
	if len(c.pending) > 0 {
		// A second text of one step, such as a snapshot's after a gap's.
		c.pending = append(c.pending[:len(c.pending):len(c.pending)], b...)
		return nil
	}
	n, err := writeSome(int(c.fd), b)
	if err != nil {
		c.err = err
		return err
	}
	if n < len(b) {
		c.full = true
		c.pending = b[n:]
		if c.tls != nil {
			c.pending = append([]byte(nil), c.pending...) // not the pool's
		}
	}
	return nil
}

// write sends b, as far as the socket takes it now. Over TLS that is whole
// records: what is sealed cannot be made again, so the rest of one waits.
func (c *fastConn) write(b []byte) (n int, err error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.tls == nil {
		n, c.err = writeSome(int(c.fd), b)
		c.full = n < len(b)
		return n, c.err
	}
	for n < len(b) && !c.full {
		part := b[n:min(len(b), n+maxRecord)]
		if err := c.text(part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// maxRecord is the most that a record of TLS holds (RFC 8446, section 5.1).
const maxRecord = 16 << 10

// sealBuffers are for records on their way to the socket.
var sealBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, maxRecord+1<<10)
	return &b
}}

// seal appends b in records of TLS to dst.
func (c *fastConn) seal(dst, b []byte) ([]byte, error) {
	c.raw.sink = &dst
	_, err := c.tls.Write(b)
	c.raw.sink = nil
	if err != nil {
		return nil, errGone
	}
	return dst, nil
}

// flush writes what is pending, as far as the socket takes it.
func (c *fastConn) flush() (progress bool, err error) {
	n, err := writeSome(int(c.fd), c.pending)
	if err != nil {
		c.err = err
		return false, err
	}
	c.pending = c.pending[n:]
	if c.full = len(c.pending) > 0; !c.full {
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

// close closes the socket. What the client has sent is read and thrown away
// first: closing with unread input would send a reset, and the client would
// lose what is on its way to it. A connection that is lost drops what the
// kernel still holds.
func (c *fastConn) close() {
	fd := int(c.fd)
	if fd < 0 {
		return
	}
	c.fd = -1
	if c.err != nil {
		syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		syscall.Close(fd)
		return
	}
	if c.tls != nil {
		var alert []byte
		c.raw.sink = &alert
		c.tls.CloseWrite()
		c.raw.sink = nil
		writeSome(fd, alert)
	}
	syscall.Shutdown(fd, syscall.SHUT_WR)
	var b [4096]byte
	for range 16 {
		if n, err := syscall.Read(fd, b[:]); n <= 0 && err != syscall.EINTR {
			break
		}
	}
	syscall.Close(fd)
}

// fastBlocks writes events; marks are in chunks. If the socket is full it
// returns errFull, with s standing behind the last event that is whole.
func (s *stream) fastBlocks(wire []byte, marks []blockEnd) error {
	c := s.fast
	skip := 0
	if c.half != 0 {
		skip = c.off // the caller has seen that the first event is the one at half
	}
	n, err := c.write(wire[skip:])
	if err != nil || n == 0 {
		return cmp.Or(err, errFull)
	}
	done := s.took(skip+n, marks)
	s.wrote(engineFast, n, done)
	if skip+n == len(wire) {
		return nil
	}
	if s.left > 0 {
		s.left -= done
	}
	return errFull
}

// took moves s to where the socket is once it has n bytes of the events of
// marks, and returns how many are whole.
func (s *stream) took(n int, marks []blockEnd) (events int) {
	c := s.fast
	begin := 0
	for events < len(marks) && marks[events].end <= n {
		begin = marks[events].end
		events++
	}
	if events > 0 {
		s.moveTo(marks[events-1].pos)
		c.half, c.off = 0, 0
	}
	if n > begin && events < len(marks) {
		c.half, c.off = marks[events].pos, n-begin
	}
	return events
}

// fastRing writes what the ring has up to limit. It runs on the shard.
func (s *stream) fastRing(limit uint64) (end uint64, events int, err error) {
	sh, c := s.shard.Load(), s.fast
	frames, end, ok := s.feed.after(sh.frames[:0], s.cur.Pos, limit, maxWrite, s.wants.types)
	sh.frames = frames
	switch {
	case !ok:
		return 0, 0, errFallen
	case c.half != 0 && (len(frames) == 0 || frames[0].pos() != c.half):
		c.err = errTorn
		return 0, 0, errTorn
	case s.left >= 0 && len(frames) > s.left:
		frames = frames[:s.left]
		end = frames[s.left-1].pos()
	}
	if len(frames) == 0 {
		return end, 0, nil
	}
	wire := sh.join(frames, s.form)
	err = s.fastBlocks(wire, sh.marks)
	clear(sh.frames)
	return end, len(frames), err
}

// progress says where s stands and what was sent to it.
func (s *stream) progress() (pos uint64, events, bytes int64) {
	if sh := s.shard.Load(); sh != nil {
		sh.state.Lock()
		defer sh.state.Unlock()
		if c := s.fast; c.inStep {
			g := c.group
			return g.pos, s.sentEvents.Load() + g.sent.events - c.base.events, s.sentBytes.Load() + g.sent.bytes - c.base.bytes
		}
	}
	return s.pos.Load(), s.sentEvents.Load(), s.sentBytes.Load()
}
