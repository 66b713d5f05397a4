package pebblelog

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// shim is a file system that fails on demand.
type shim struct {
	vfs.FS

	mu     sync.Mutex // guards what follows
	room   int64      // bytes that can still be written; negative is no limit
	sizes  map[string]int64
	usage  *vfs.DiskUsage // reported instead of the truth
	fail   bool           // the next sync of a write-ahead log fails
	broken int            // syncs asked for after one has failed
	failed bool
}

func newShim(fs vfs.FS) *shim { return &shim{FS: fs, room: -1, sizes: map[string]int64{}} }

var errSync = errors.New("shim: sync failed")

func (s *shim) Unwrap() vfs.FS { return s.FS }

func (s *shim) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(name)(s.FS.Create(name, c))
}

func (s *shim) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return s.wrap(name)(s.FS.OpenReadWrite(name, c, opts...))
}

func (s *shim) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(name)(s.FS.ReuseForWrite(old, name, c))
}

func (s *shim) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		return &shimFile{File: f, s: s, name: name}, nil
	}
}

func (s *shim) Remove(name string) error {
	err := s.FS.Remove(name)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.room >= 0 {
			s.room += s.sizes[name]
		}
		delete(s.sizes, name)
	}
	return err
}

func (s *shim) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usage != nil {
		return *s.usage, nil
	}
	return s.FS.GetDiskUsage(path)
}

// setFree makes the file system report so many bytes free of 100 GB.
func (s *shim) setFree(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usage = &vfs.DiskUsage{AvailBytes: n, TotalBytes: 100e9, UsedBytes: 100e9 - n}
}

func (s *shim) setRoom(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = n
}

func (s *shim) take(name string, n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room >= 0 {
		if s.room < n {
			return syscall.ENOSPC
		}
		s.room -= n
	}
	s.sizes[name] += n
	return nil
}

func (s *shim) syncs(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.HasSuffix(name, ".log") {
		return nil
	}
	if s.failed {
		s.broken++
	}
	if s.fail {
		s.fail, s.failed = false, true
		return errSync
	}
	return nil
}

type shimFile struct {
	vfs.File
	s    *shim
	name string
}

func (f *shimFile) Write(b []byte) (int, error) {
	if err := f.s.take(f.name, int64(len(b))); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f *shimFile) Preallocate(offset, length int64) error {
	if strings.HasSuffix(f.name, "reserve") {
		if err := f.s.take(f.name, length); err != nil {
			return err
		}
	}
	return nil
}

func (f *shimFile) Sync() error {
	if err := f.s.syncs(f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *shimFile) SyncData() error {
	if err := f.s.syncs(f.name); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *shimFile) SyncTo(n int64) (bool, error) { return f.File.SyncTo(n) }

// countingFS counts bytes read.
type countingFS struct {
	vfs.FS
	read atomic.Int64
}

func (c *countingFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := c.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return &countingFile{f, c}, nil
}

type countingFile struct {
	vfs.File
	c *countingFS
}

func (f *countingFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	f.c.read.Add(int64(n))
	return n, err
}

func (f *countingFile) ReadAt(b []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(b, at)
	f.c.read.Add(int64(n))
	return n, err
}
