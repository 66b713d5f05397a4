package tailrace

import (
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"reflect"
	"syscall"
	"time"
	"unsafe"
)

// Socket options that package syscall does not name.
const (
	tcpUserTimeout  = 0x12
	tcpNotsentLowat = 0x19
)

// unsentLimit bounds what the kernel holds for a reader that stalls.
const unsentLimit = 128 << 10

// handover is a connection that the fast engine may take over.
type handover struct {
	fd   int // its own, of the same socket; -1 once it is somebody else's
	sock socket
}

// prepare looks whether the fast engine may take the connection over: HTTP/1.1
// straight from net/http, a descriptor for it, and nothing in between that
// hides it. It comes before the head, which says that the connection closes
// then: a proxy must not keep it for another request. Nil leaves the stream to
// the portable engine.
func (h *Hub) prepare(w http.ResponseWriter, r *http.Request) *handover {
	why, sock := h.whyPortable(w, r)
	fits := sock.tcp != nil
	if fits && !h.startShards() {
		why, fits = fastOff, false
	}
	if fits {
		fd, err := dup(sock.tcp, h.opts.StallTimeout)
		if err == nil {
			w.Header().Set("Connection", "close")
			return &handover{fd, sock}
		}
		why = fastDescriptors
	}
	h.counters.fastRefused(why)
	return nil
}

// drop gives a handover up that has not been used.
func (o *handover) drop() {
	if o != nil && o.fd >= 0 {
		syscall.Close(o.fd)
		o.fd = -1
	}
}

// takeOver gives s to a shard. The head is out; on false nothing has changed.
func (h *Hub) takeOver(o *handover, s *stream, w http.ResponseWriter) bool {
	if o == nil {
		return false
	}
	head := w.Header()
	if head.Get("Content-Encoding") != "" || head.Get("Content-Length") != "" || head.Get("Content-Type") != "text/event-stream" {
		h.counters.fastRefused(fastEncoding)
		return false
	}
	if !h.hijack(o, s, w) {
		h.counters.fastRefused(fastWrapper)
		return false
	}
	return true
}

// whyPortable says what keeps a stream from the fast engine, or returns its
// socket.
func (h *Hub) whyPortable(w http.ResponseWriter, r *http.Request) (fastRefusal, socket) {
	none := socket{}
	head := w.Header()
	switch {
	case h.opts.DisableFastEngine:
		return fastOff, none
	case r.ProtoMajor >= 2:
		return fastHTTP2, none
	case r.ProtoMajor != 1 || r.ProtoMinor != 1:
		return fastProtocol, none
	case r.Header.Get("Expect") != "" || r.Header.Get("Upgrade") != "":
		return fastRequest, none
	case head.Get("Content-Encoding") != "" || head.Get("Content-Length") != "":
		return fastEncoding, none
	case r.Context().Value(http.ServerContextKey) == nil:
		return fastWrapper, none
	}
	conn, ok := connUnder(w)
	if !ok {
		return fastWrapper, none
	}
	sock, ok := socketOf(conn)
	if !ok {
		return fastListener, none
	}
	return 0, sock
}

// connUnder returns the connection of a writer whose chain of Unwrap ends in
// net/http's own. A release of Go that renames what is looked at turns the
// engine off, never wrongly on.
func connUnder(w http.ResponseWriter) (net.Conn, bool) {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = u.Unwrap()
	}
	v := reflect.ValueOf(w)
	if v.Type().String() != "*http.response" {
		return nil, false
	}
	conn := v.Elem().FieldByName("conn")
	if conn.Kind() != reflect.Pointer || conn.IsNil() || conn.Elem().Kind() != reflect.Struct {
		return nil, false
	}
	rwc := conn.Elem().FieldByName("rwc")
	if !rwc.IsValid() || rwc.Type() != reflect.TypeFor[net.Conn]() || rwc.IsNil() {
		return nil, false
	}
	// The type is as expected, so this reads a net.Conn.
	return *(*net.Conn)(unsafe.Pointer(rwc.UnsafeAddr())), true
}

// socket is what the fast engine needs of a connection. Over TLS that is one
// whose writes it can take, so that none of them ever waits.
type socket struct {
	tcp *net.TCPConn
	tls *tls.Conn
	raw *tapConn
}

func socketOf(conn net.Conn) (s socket, ok bool) {
	switch c := conn.(type) {
	case *net.TCPConn:
		return socket{tcp: c}, true
	case *tapConn:
		return socket{tcp: c.TCPConn}, true
	case *tls.Conn:
		raw, ok := c.NetConn().(*tapConn)
		if !ok {
			return socket{}, false
		}
		return socket{tcp: raw.TCPConn, tls: c, raw: raw}, true
	}
	return socket{}, false
}

// hijack takes the socket out of net/http and out of the runtime's poller.
func (h *Hub) hijack(o *handover, s *stream, w http.ResponseWriter) bool {
	_, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	if rw.Reader.Buffered() > 0 {
		// More bytes behind the request: they never get an answer here.
		s.closing.Store(&ending{"client", "pipelined"})
	}
	c := &fastConn{fd: int32(o.fd), slot: -1, at: -1, tls: o.sock.tls, raw: o.sock.raw}
	o.fd = -1
	o.sock.tcp.Close() // but not the socket, which c.fd is
	if c.raw != nil {
		c.raw.taken, c.raw.TCPConn = true, nil
	}

	sh := h.pickShard()
	s.feed.mu.Lock()
	delete(s.feed.streams, s)
	s.feed.taken++
	s.feed.mu.Unlock()
	s.feed.fast[sh.index].Add(1)
	s.mu.Lock()
	s.fast = c
	s.shard.Store(sh)
	s.port.Store(nil) // nothing may hold on to the request and its buffers
	s.mu.Unlock()
	return true
}

// moveTaken counts a taken stream in its new feed and out of the old one.
func (h *Hub) moveTaken(s *stream, old *feed) {
	i := s.shard.Load().index
	s.feed.mu.Lock()
	delete(s.feed.streams, s)
	s.feed.taken++
	s.feed.mu.Unlock()
	s.feed.fast[i].Add(1)
	old.fast[i].Add(-1)
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
