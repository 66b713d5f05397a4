package pebblelog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// headFile is a side file that remembers how far the log is synced. A damaged write-ahead log
// looks to the store like one whose last writes were cut off by a crash, and opens with less in
// silence; only something outside it can tell. Two slots are written in turn, so that a torn
// write leaves the one before.
//
// After a kill of the process it is exact; after a power cut it is at most a second old, which
// the jump of positions covers.
type headFile struct {
	f vfs.File

	mu    sync.Mutex // guards what follows
	last  headMark
	dirty bool // written since the last sync
}

// headMark is one slot: epoch, position, number of the write, clean; little-endian, CRC32C.
type headMark struct {
	epoch, pos, seq uint64
	clean           bool // by Close; cleared by Open
}

const headSlot = 32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (m *headMark) encode() (b [headSlot]byte) {
	binary.LittleEndian.PutUint64(b[0:], m.epoch)
	binary.LittleEndian.PutUint64(b[8:], m.pos)
	binary.LittleEndian.PutUint64(b[16:], m.seq)
	if m.clean {
		b[24] = 1
	}
	binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	return b
}

func (m *headMark) decode(b []byte) bool {
	if crc32.Checksum(b[:28], castagnoli) != binary.LittleEndian.Uint32(b[28:]) {
		return false
	}
	m.epoch = binary.LittleEndian.Uint64(b[0:])
	m.pos = binary.LittleEndian.Uint64(b[8:])
	m.seq = binary.LittleEndian.Uint64(b[16:])
	m.clean = b[24] == 1
	return m.seq > 0
}

// openHead opens or creates the file; h.last is the newest valid slot, zero if there is none.
func openHead(fs vfs.FS, name string) (*headFile, error) {
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	h := &headFile{f: f}
	var b [2 * headSlot]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, f.Close())
	}
	for i := 0; i+headSlot <= n; i += headSlot {
		var m headMark
		if m.decode(b[i:i+headSlot]) && m.seq > h.last.seq {
			h.last = m
		}
	}
	return h, nil
}

// write records that everything up to pos is synced in the store. It does not sync the file.
func (h *headFile) write(epoch, pos uint64, clean bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := headMark{epoch: epoch, pos: pos, seq: h.last.seq + 1, clean: clean}
	b := m.encode()
	if _, err := h.f.WriteAt(b[:], int64(m.seq%2)*headSlot); err != nil {
		return err
	}
	h.last, h.dirty = m, true
	return nil
}

// sync brings what was written to the disk. A failure is not tried again: the file is then
// merely older, like after a power cut.
func (h *headFile) sync() error {
	h.mu.Lock()
	dirty := h.dirty
	h.dirty = false
	h.mu.Unlock()
	if !dirty {
		return nil
	}
	return h.f.SyncData()
}

func (h *headFile) close() error { return h.f.Close() }
