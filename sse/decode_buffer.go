package sse

import (
	"bytes"
	"errors"
	"io"
	"math/bits"
)

const (
	firstBufferSize = 4 << 10  // holds dozens of token events
	readSize        = 32 << 10 // a buffer that a reader fills at one go grows to this
	keptBufferSize  = 64 << 10 // a larger buffer is let go when the next event fits in less
	maxEmptyReads   = 100      // in a row end a reader that returns neither bytes nor an error
)

var (
	bom            = []byte("\uFEFF")
	errInvalidRead = errors.New("sse: reader returned an invalid count")
)

// fill reads once more. The buffer holds no whole line when it is called, so
// that no event waits for a read.
func (d *Decoder) fill() error {
	if d.err != nil {
		return d.finish()
	}
	if !d.starting {
		rest := d.buf[d.pos:d.end]
		if d.skipping || len(rest) > 0 && d.hasNoEffect(rest) {
			n := len(rest) - incompleteTail(rest)
			d.skipping = true
			d.skipped += validLen(rest[:n])
			d.pos += n
			d.high = d.pos // what is left is the beginning of a sequence, or nothing
		}
		if d.end-d.pos+d.skipped > d.limit {
			return d.fail(&TooLongError{Limit: d.limit})
		}
	}
	d.makeRoom()

	noCR, noHigh := d.cr == d.end, d.high == d.end
	from := d.end // the first byte not yet looked at
	for empty := 0; d.err == nil; {
		n, err := d.r.Read(d.buf[d.end:])
		if n < 0 || n > len(d.buf)-d.end {
			n, err = 0, errInvalidRead
		} else if n == 0 && err == nil {
			if empty++; empty == maxEmptyReads {
				err = io.ErrNoProgress
			}
		}
		d.end += n
		d.err = err
		if d.end == from {
			continue
		}
		if !d.starting {
			break
		}
		if head := d.buf[d.pos:d.end]; len(head) >= len(bom) || !bytes.HasPrefix(bom, head) {
			break
		}
	}
	d.filled = d.end == len(d.buf)
	if d.starting {
		d.starting = false
		if bytes.HasPrefix(d.buf[d.pos:d.end], bom) {
			d.pos += len(bom)
			from = d.pos
		}
	}
	if d.skipLF && d.end > from {
		d.skipLF = false
		if d.buf[from] == '\n' {
			from++
			d.pos = from
		}
	}
	d.scanned = from
	if noCR {
		d.cr = d.indexCR(from)
	}
	if noHigh {
		d.high = d.indexHigh(from)
	}
	return nil
}

// hasNoEffect tells whether a line that begins like this does nothing, however
// it goes on.
func (d *Decoder) hasNoEffect(line []byte) bool {
	if line[0] == ':' {
		return d.onComment == nil
	}
	for _, name := range [...]string{"data:", "event:", "id:", "retry:"} {
		n := min(len(name), len(line))
		if string(line[:n]) == name[:n] {
			return false
		}
	}
	return true
}

// makeRoom makes room behind buf[:end]. It moves what is not yet decoded to the
// front, or to a larger or smaller buffer. A byte moves to the front at most
// once, since its line then begins there, and else only as buffers double.
func (d *Decoder) makeRoom() {
	pending := d.end - d.pos
	size := len(d.buf)
	shrink := size > keptBufferSize && max(pending, d.longest, d.last) <= keptBufferSize/2
	if pending == 0 && !d.inBuf {
		d.pos, d.end, d.scanned, d.cr, d.high = 0, 0, 0, 0, 0
	}
	switch {
	case shrink:
		size = max(firstBufferSize, 1<<bits.Len(uint(2*pending)))
	case size == 0:
		size = firstBufferSize
	case d.filled && size < readSize, d.end == size && pending > size/4:
		if size *= 2; d.limit < size-firstBufferSize {
			size = max(size/2, d.limit+firstBufferSize)
		}
	case size-d.end >= size/4:
		return
	}
	d.saveData()
	from := d.buf[d.pos:d.end]
	if size != len(d.buf) {
		d.buf = make([]byte, size)
		if !d.hasData {
			d.data = nil // it would keep the old buffer alive
		}
	}
	copy(d.buf, from)
	d.cr -= d.pos
	d.high -= d.pos
	d.pos, d.end, d.scanned = 0, pending, pending
}

// finish ends the decoder after the last byte: with the reader's error, unless
// the line that it cuts off is too long already.
func (d *Decoder) finish() error {
	if d.skipped+validLen(d.buf[d.pos:d.end]) > d.limit {
		return d.fail(&TooLongError{Limit: d.limit})
	}
	return d.fail(d.err)
}

// fail drops what is not yet decoded and makes err the last word.
func (d *Decoder) fail(err error) error {
	d.err = err
	d.pos, d.scanned, d.cr, d.high = d.end, d.end, d.end, d.end
	d.skipping, d.skipped = false, 0
	d.clearBlock()
	return err
}

func (d *Decoder) indexCR(from int) int {
	if i := bytes.IndexByte(d.buf[from:d.end], '\r'); i >= 0 {
		return from + i
	}
	return d.end
}

func (d *Decoder) indexHigh(from int) int {
	return from + indexNonASCII(d.buf[from:d.end])
}
