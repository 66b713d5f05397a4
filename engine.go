package tailrace

import "errors"

// A stream has one of two engines. The portable one is the goroutine of its
// handler: it works under any ResponseWriter. The fast one takes the socket
// over after the head and gives goroutine and buffers back: a shard per core
// writes to all its sockets without blocking. Both run the same steps over the
// same frames, so no byte that a client decodes tells them apart.

// errGone is the error of a connection whose client has left.
var errGone = errors.New("tailrace: the client has gone")

// chunkHead is the room before a block for the size line of its chunk.
const chunkHead = 10

// chunk is bytes in the chunked transfer coding (RFC 9112, section 7.1), made
// in place: room for the size line, the block, CR LF.
type chunk struct {
	buf   []byte
	start int // of the size line
}

// newChunk returns a buffer with the room that sealChunk wants; blocks are
// appended to it.
func newChunk(size int) []byte { return make([]byte, chunkHead, chunkHead+size+2) }

// sealChunk makes b, which newChunk began, a chunk.
func sealChunk(b []byte) chunk {
	const hex = "0123456789abcdef"
	n := len(b) - chunkHead
	b[chunkHead-1], b[chunkHead-2] = '\n', '\r'
	i := chunkHead - 2
	for ok := true; ok; ok = n > 0 {
		i--
		b[i] = hex[n&15]
		n >>= 4
	}
	return chunk{buf: append(b, '\r', '\n'), start: i}
}

// bytes is what goes over the wire.
func (c chunk) bytes() []byte { return c.buf[c.start:] }

// plain is the block alone.
func (c chunk) plain() []byte { return c.buf[chunkHead : len(c.buf)-2] }

// lastChunk ends a chunked body.
var lastChunk = []byte("0\r\n\r\n")
