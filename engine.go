package tailrace

import "errors"

// A stream has one of two engines. The portable one is the goroutine of its
// handler: it works under any ResponseWriter. The fast one takes the socket
// over after the head and gives goroutine and buffers back: a shard per core
// writes to all its sockets without blocking. Both run the same steps over the
// same frames, so no byte that a client decodes tells them apart.

// blockEnd says where in a run of blocks the block of an event ends.
type blockEnd struct {
	pos uint64 // of the event in the log
	end int    // in bytes of the run
}

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
	start := putSize(b[:chunkHead], len(b)-chunkHead)
	return chunk{buf: append(b, '\r', '\n'), start: start}
}

// putSize writes the size line of a chunk of n bytes to the end of head and
// returns where it starts.
func putSize(head []byte, n int) (start int) {
	const hex = "0123456789abcdef"
	i := len(head) - 2
	head[i], head[i+1] = '\r', '\n'
	for ok := true; ok; ok = n > 0 {
		i--
		head[i] = hex[n&15]
		n >>= 4
	}
	return i
}

// appendChunk appends the block of ev as a chunk, the bytes that sealChunk
// makes of it.
func appendChunk(b []byte, ev *Event, fm form) []byte {
	var room [chunkHead]byte
	at := len(b)
	b = appendFrame(append(b, room[:]...), ev, fm)
	start := putSize(b[at:at+chunkHead], len(b)-at-chunkHead)
	b = append(b, '\r', '\n')
	n := copy(b[at:], b[at+start:])
	return b[:at+n]
}

// bytes is what goes over the wire.
func (c chunk) bytes() []byte { return c.buf[c.start:] }

// plain is the block alone.
func (c chunk) plain() []byte { return c.buf[chunkHead : len(c.buf)-2] }

// lastChunk ends a chunked body.
var lastChunk = []byte("0\r\n\r\n")

// newText makes b, which is not of the log, a chunk.
func newText(b []byte) chunk { return sealChunk(append(newChunk(len(b)), b...)) }
