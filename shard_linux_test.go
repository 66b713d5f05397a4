package tailrace

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// bareShard is a shard that the test runs itself, with streams that are in
// step on sockets that the test reads.
type bareShard struct {
	*shard
	feed    *feed
	streams []*stream
	peers   []int
}

func newBareShard(t *testing.T, n int) *bareShard {
	t.Helper()
	h, err := New(&Options{DrainWindow: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Shutdown(t.Context()) })
	sh, err := newShard(h, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := &bareShard{shard: sh}
	for range n {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		s := &stream{
			hub: h, id: rand128(), from: &peer{}, left: -1, live: true, every: 15,
			fast: &fastConn{fd: int32(fds[0]), slot: -1, at: -1},
		}
		s.shard.Store(sh)
		b.feed = h.join(Selector{Topics: []string{"a"}}, s)
		s.feed = b.feed
		s.setCursor(Cursor{Epoch: 1, Pos: b.feed.from})
		sh.register(s)
		b.streams = append(b.streams, s)
		b.peers = append(b.peers, fds[1])
	}
	t.Cleanup(func() {
		for i, s := range b.streams {
			syscall.Close(int(s.fast.fd))
			syscall.Close(b.peers[i])
			s.feed.mu.Lock()
			delete(s.feed.streams, s)
			s.feed.mu.Unlock()
		}
		sh.poll.Close()
	})
	return b
}

// put makes n events visible. Rings allocate; passes must not.
func (b *bareShard) put(n int) {
	h := b.hub
	for range n {
		c := Cursor{Epoch: 1, Pos: h.visible.Load() + 1}
		fr := &frame{ev: Event{Topic: "a", Data: []byte("some data"), Cursor: c, Time: time.Now()}}
		fr.block(0)
		b.feed.append(fr, maxRingFrames)
		h.visible.Store(c.Pos)
	}
}

// read takes what the sockets hold.
func (b *bareShard) read(buf []byte) (bytes int) {
	for _, fd := range b.peers {
		n, _ := syscall.Read(fd, buf)
		bytes += max(n, 0)
	}
	return bytes
}

func TestPassAllocatesNothing(t *testing.T) {
	b := newBareShard(t, 20)
	buf := make([]byte, 64<<10)
	for _, c := range []struct {
		name   string
		before func()
		run    func()
	}{
		{"one event", func() { b.put(1) }, func() { b.news.dirty = append(b.news.dirty, b.feed) }},
		{"16 events joined", func() { b.put(16) }, func() { b.news.dirty = append(b.news.dirty, b.feed) }},
		{"a step of each", func() { b.put(1) }, func() { b.news.inbox = append(b.news.inbox, b.streams...) }},
		{"a heartbeat to each", func() { b.hub.tick.Add(60) }, func() { b.news.sweep = true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			const rounds = 20
			var allocs uint64
			for i := range rounds + 2 {
				c.before()
				runtime.ReadMemStats(&before)
				c.run()
				b.pass()
				runtime.ReadMemStats(&after)
				if i >= 2 { // the first make the room that is kept
					allocs += after.Mallocs - before.Mallocs
				}
				if n := b.read(buf); n == 0 {
					t.Fatal("nothing was written")
				}
			}
			if allocs >= rounds {
				t.Errorf("%d allocations in %d passes", allocs, rounds)
			}
		})
	}
}

// A socket that takes a part of what is joined stands between or in the midst
// of events; the rest follows from there, byte for byte, and the others have
// not waited.
func TestEveryCutOfJoinedEvents(t *testing.T) {
	b := newBareShard(t, 2)
	buf := make([]byte, 1<<20)
	slow := b.streams[0]
	size := func() int {
		n, _ := syscall.GetsockoptInt(int(slow.fast.fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
		return n
	}
	syscall.SetsockoptInt(int(slow.fast.fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 1)
	t.Logf("send buffer %d", size())
	var got, want []byte
	for round := range 200 {
		b.put(1 + round%40)
		b.news.dirty = append(b.news.dirty, b.feed)
		b.pass()
		n, _ := syscall.Read(b.peers[1], buf)
		want = append(want, buf[:max(n, 0)]...)
		n, _ = syscall.Read(b.peers[0], buf[:1+round*37%700])
		got = append(got, buf[:max(n, 0)]...)
		if slow.fast.full {
			b.hasRoom(slow)
			b.news.inbox = append(b.news.inbox, slow)
			b.pass()
		}
	}
	for range 10_000 {
		n, _ := syscall.Read(b.peers[0], buf)
		got = append(got, buf[:max(n, 0)]...)
		if n <= 0 && !slow.fast.full {
			break
		}
		if slow.fast.full {
			b.hasRoom(slow)
		}
		b.news.inbox = append(b.news.inbox, slow)
		b.pass()
	}
	if string(got) != string(want) {
		t.Fatalf("%d bytes, want %d: …%q", len(got), len(want), tailOf(got, want))
	}
	if !slow.fast.inStep {
		t.Error("it has not come back in step")
	}
	pos, events, _ := slow.progress()
	if _, others, _ := b.streams[1].progress(); pos != b.hub.visible.Load() || events != others {
		t.Errorf("at %d with %d events, the other has %d", pos, events, others)
	}
}

// tailOf is where a begins to differ from b.
func tailOf(a, b []byte) string {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return fmt.Sprintf("%q, want %q", a[i:min(len(a), i+60)], b[i:min(len(b), i+60)])
}
