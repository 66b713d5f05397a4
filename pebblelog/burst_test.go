package pebblelog

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tailrace/tailrace"
)

// shrinkingFS reports less free space with each look.
type shrinkingFS struct {
	vfs.FS
	free chan uint64
}

func (fs *shrinkingFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := <-fs.free
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: 100 << 30}, nil
}

func (fs *shrinkingFS) Unwrap() vfs.FS { return fs.FS }

// A burst that writes more than the sweeper's second allows is refused in time.
func TestBurstIsRefusedBeforeTheDiskIsFull(t *testing.T) {
	fs := &shrinkingFS{FS: vfs.NewMem(), free: make(chan uint64, 1)}
	looks := make(chan struct{})
	defer close(looks)
	go func() {
		free := uint64(10 << 30)
		for {
			select {
			case fs.free <- free:
				free = 1 << 20 // the next look finds it nearly full
			case <-looks:
				return
			}
		}
	}()
	l, err := Open("log", &Options{fs: fs, MinFree: 64 << 20, Reserve: -1, sweep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	data := make([]byte, 256<<10)
	for i := range data {
		data[i] = 'x'
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		_, err := l.Append(t.Context(), []tailrace.Event{{Topic: "a", Data: data}})
		if errors.Is(err, tailrace.ErrFull) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("nothing was refused")
}
