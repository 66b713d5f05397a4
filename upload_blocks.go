package tailrace

import "io"

// uploadBuffer is how much of an upload is read at once, in bytes: what arrives
// during one append of a fast upload, and is the next one.
const uploadBuffer = 32 << 10

// resetID is the line that empties a decoder's id buffer.
const resetID = "id\n"

// blockReader hands an event stream to a decoder with the line "id" put before
// every block but the first. A decoder's last event id lives on from block to
// block (WHATWG HTML, 9.2.6), which is right for who resumes and wrong for who
// copies; with that line each event has the id of its own block or none.
//
// It also tells when all that has arrived is decoded, and whether the end cut
// a block.
type blockReader struct {
	src    io.Reader
	before func() error // before each read of src; its error ends the stream

	in   []byte
	out  []byte
	rest []byte // of out, not read yet
	err  error  // of src, once rest is read

	bom    int     // bytes of a byte order mark seen
	line   [6]byte // how the line begins
	length int     // bytes of line in use
	sawCR  bool    // an LF that comes now belongs to the CR before it
	reset  bool    // the next line begins a block
	open   bool    // the block has a line that is lost if the block is not finished
}

func (b *blockReader) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		if err := b.before(); err != nil {
			b.err = err
			return 0, err
		}
		if b.in == nil {
			b.in = make([]byte, uploadBuffer)
		}
		n, err := b.src.Read(b.in)
		b.err = err
		b.out = b.scan(b.out[:0], b.in[:n])
		b.rest = b.out
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// scan appends in to out, with the lines put in.
func (b *blockReader) scan(out, in []byte) []byte {
	start := 0
	for i, c := range in {
		if b.bom < 3 {
			if c == "\xef\xbb\xbf"[b.bom] {
				b.bom++
				continue
			}
			b.bom = 3
		}
		if c != '\n' && c != '\r' {
			b.sawCR = false
			if b.reset {
				b.reset = false
				out = append(append(out, in[start:i]...), resetID...)
				start = i
			}
			if b.length < len(b.line) {
				b.line[b.length] = c
				b.length++
			}
			continue
		}
		if c == '\n' && b.sawCR {
			b.sawCR = false
			continue
		}
		b.sawCR = c == '\r'
		b.endLine()
	}
	return append(out, in[start:]...)
}

func (b *blockReader) endLine() {
	switch {
	case b.length == 0:
		b.reset, b.open = true, false
	case b.line[0] == ':', string(b.line[:b.length]) == "retry:":
		// A comment means nothing, and a reconnection time counts at once.
	default:
		b.open = true
	}
	b.length = 0
}

// unfinished reports whether the bytes so far end within a block. Comments and
// a reconnection time, which may be a stream's last words, make no block.
func (b *blockReader) unfinished() bool {
	return b.open || b.length > 0 && b.line[0] != ':'
}
