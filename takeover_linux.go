package tailrace

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"syscall"
	"time"
)

// Socket options that package syscall does not name.
const (
	tcpUserTimeout  = 0x12
	tcpNotsentLowat = 0x19
)

// unsentLimit bounds what the kernel holds for a reader that stalls.
const unsentLimit = 128 << 10

// takeOver gives s to a shard if the connection allows it: HTTP/1.1 in the
// clear, straight from net/http, with nothing in between that encodes. The
// head is out; on false nothing has changed.
func (h *Hub) takeOver(s *stream, w http.ResponseWriter, r *http.Request) bool {
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.TLS != nil ||
		r.Header.Get("Expect") != "" || r.Header.Get("Upgrade") != "" ||
		r.Context().Value(http.ServerContextKey) == nil || !endsInNetHTTP(w) {
		return false
	}
	head := w.Header()
	if head.Get("Content-Encoding") != "" || head.Get("Content-Length") != "" || head.Get("Content-Type") != "text/event-stream" {
		return false
	}
	return h.startShards() && h.hijack(s, w)
}

// endsInNetHTTP reports whether the chain of Unwrap ends in net/http's own
// writer of a plain TCP connection. A release that renames what is looked at
// turns the engine off, never wrongly on.
func endsInNetHTTP(w http.ResponseWriter) bool {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = u.Unwrap()
	}
	v := reflect.ValueOf(w)
	if v.Type().String() != "*http.response" {
		return false
	}
	conn := v.Elem().FieldByName("conn")
	if conn.Kind() != reflect.Pointer || conn.IsNil() || conn.Elem().Kind() != reflect.Struct {
		return false
	}
	rwc := conn.Elem().FieldByName("rwc")
	return rwc.Kind() == reflect.Interface && !rwc.IsNil() && rwc.Elem().Type() == reflect.TypeFor[*net.TCPConn]()
}

// hijack takes the socket out of net/http and out of the runtime's poller. On
// true the stream is the fast engine's, even if it is to end at once.
func (h *Hub) hijack(s *stream, w http.ResponseWriter) bool {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	c := &fastConn{fd: -1, slot: -1}
	s.fast = c
	if tcp, ok := conn.(*net.TCPConn); ok && rw.Reader.Buffered() == 0 {
		if fd, err := dup(tcp, h.opts.StallTimeout); err == nil {
			c.fd = fd
		}
	}
	if c.fd < 0 {
		// More bytes behind the request, which never get an answer here, or no
		// descriptor left: the client comes back.
		conn.Write(lastChunk)
		c.err = errGone
	}
	conn.Close()

	sh := h.pickShard()
	s.feed.mu.Lock()
	delete(s.feed.streams, s)
	s.feed.taken++
	s.feed.mu.Unlock()
	s.feed.fast[sh.index].Add(1)
	s.mu.Lock()
	s.out, s.rc = nil, nil // nothing may hold on to the request and its buffers
	s.shard.Store(sh)
	s.mu.Unlock()
	return true
}

// dup returns a descriptor of its own for the socket. A reader that stalls may
// fill the kernel's buffer up to a bound, and a peer that has vanished is given
// up after stall.
func dup(conn *net.TCPConn, stall time.Duration) (fd int, err error) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := rc.Control(func(old uintptr) {
		n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
		if errno != 0 {
			err = errno
			return
		}
		fd = int(n)
	})
	if cerr != nil || err != nil {
		return -1, errors.Join(cerr, err)
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpNotsentLowat, unsentLimit)
	// A little later than the sweep, which knows a stalled reader's reason.
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpUserTimeout, int((stall + 3*time.Second).Milliseconds()))
	return fd, nil
}

// pickShard takes the smaller of two random shards.
func (h *Hub) pickShard() *shard {
	list := h.shards.list
	a, b := list[rand.IntN(len(list))], list[rand.IntN(len(list))]
	if b.size.Load() < a.size.Load() {
		a = b
	}
	a.size.Add(1)
	return a
}
