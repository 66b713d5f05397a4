//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/tailrace/tailrace"
)

// floor is the least that a durable log can be: one file that is only appended to, records with
// a checksum, an index in memory, and the batching of package pebblelog. What it lacks is
// everything else: retention, ids, topics by the million, a start without reading all.
type floor struct {
	f    *os.File
	sync bool

	mu     sync.Mutex // guards what follows
	calls  []*floorCall
	closed bool

	ready chan struct{}
	ended chan struct{}
	index map[string][]int64 // offsets of the records of a topic
	size  int64
}

type floorCall struct {
	topic string
	data  []byte
	done  chan error
}

var floorCalls = sync.Pool{New: func() any { return &floorCall{done: make(chan error, 1)} }}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openFloor makes a file of size bytes that is written once before it is used, so that a sync
// has no blocks to allocate.
func openFloor(name string, size int64, sync bool) (*floor, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, at); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	if err := f.Sync(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &floor{f: f, sync: sync, ready: make(chan struct{}, 1), ended: make(chan struct{}), index: map[string][]int64{}}
	go l.run()
	return l, nil
}

func (l *floor) append(topic string, data []byte) error {
	c := floorCalls.Get().(*floorCall)
	c.topic, c.data = topic, data
	l.mu.Lock()
	l.calls = append(l.calls, c)
	l.mu.Unlock()
	select {
	case l.ready <- struct{}{}:
	default:
	}
	err := <-c.done
	floorCalls.Put(c)
	return err
}

const batchEvents = 1024

// run writes and syncs what waits, like the committer of package pebblelog.
func (l *floor) run() {
	defer close(l.ended)
	var batch []*floorCall
	var buf []byte
	for range l.ready {
		for {
			l.mu.Lock()
			n := min(len(l.calls), batchEvents)
			batch = append(batch[:0], l.calls[:n]...)
			l.calls = l.calls[:copy(l.calls, l.calls[n:])]
			closed := l.closed
			l.mu.Unlock()
			if n == 0 {
				if closed {
					return
				}
				break
			}
			buf = buf[:0]
			for _, c := range batch {
				l.index[c.topic] = append(l.index[c.topic], l.size+int64(len(buf)))
				buf = appendFloorRecord(buf, c.topic, c.data)
			}
			_, err := l.f.WriteAt(buf, l.size)
			if err == nil && l.sync {
				err = syscall.Fdatasync(int(l.f.Fd()))
			}
			l.size += int64(len(buf))
			for _, c := range batch {
				c.done <- err
			}
		}
	}
}

// A record is its checksum, its length, the time, the topic and the data.
func appendFloorRecord(b []byte, topic string, data []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(8+2+len(topic)+len(data)))
	b = binary.LittleEndian.AppendUint64(b, uint64(time.Now().UnixNano()))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	b = append(b, data...)
	binary.LittleEndian.PutUint32(b[start:], crc32.Checksum(b[start+4:], castagnoli))
	return b
}

var errFloor = errors.New("bad record")

// replay reads everything back as events, as a reader of the log gets them.
func (l *floor) replay() (n int, err error) {
	const page = 256
	buf := make([]byte, 1<<20)
	events := make([]tailrace.Event, 0, page)
	at := int64(0)
	for at < l.size {
		k, err := l.f.ReadAt(buf[:min(int64(len(buf)), l.size-at)], at)
		if err != nil && err != io.EOF {
			return n, err
		}
		b := append([]byte(nil), buf[:k]...) // events keep their data
		for len(b) >= 8 {
			size := 8 + int(binary.LittleEndian.Uint32(b[4:]))
			if len(b) < size {
				break
			}
			if crc32.Checksum(b[4:size], castagnoli) != binary.LittleEndian.Uint32(b) {
				return n, errFloor
			}
			topic := 18 + int(binary.LittleEndian.Uint16(b[16:]))
			if len(events) == page {
				events = make([]tailrace.Event, 0, page)
			}
			events = append(events, tailrace.Event{
				Topic: string(b[18:topic]), Data: b[topic:size],
				Cursor: tailrace.Cursor{Epoch: 1, Pos: uint64(n + 1)}, Time: time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:]))),
			})
			n++
			b = b[size:]
			at += int64(size)
		}
	}
	return n, nil
}

func (l *floor) close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	select {
	case l.ready <- struct{}{}:
	default:
	}
	<-l.ended
	return errors.Join(l.f.Close(), os.Remove(l.f.Name()))
}
