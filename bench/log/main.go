//go:build linux

// Command log measures package pebblelog against the disk: against a bare loop of write and
// fdatasync, and against the least that a durable log can be. Each round measures all of them
// in turn. It writes figure.Row lines to standard output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/bench/figure"
	"github.com/tailrace/tailrace/pebblelog"
)

const (
	eventSize  = 200
	replaySize = 200_000
	topicCount = 1_000_000
	floorSize  = 512 << 20
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds; what is reported has one value of each")
	dir := flag.String("dir", "", "directory for scratch data, on the disk to be measured (default a temporary one)")
	slice := flag.Duration("slice", 800*time.Millisecond, "how long one thing is measured in one round")
	child := flag.String("child", "", "publish to 1,000,000 topics with this durability and report, then end")
	flag.Parse()
	var err error
	if *child != "" {
		err = publishTopics(*dir, tailrace.Durability(*child))
	} else {
		err = run(*rounds, *dir, *slice)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "log:", err)
		os.Exit(1)
	}
}

// lab is what the measurements share.
type lab struct {
	dir   string
	slice time.Duration

	n int // of directories made
}

// noise is what the data of events is cut from: it hardly compresses.
var noise = func() []byte {
	b := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range b {
		b[i] = byte(' ' + r.IntN(95))
	}
	return b
}()

var cuts atomic.Uint64

// data is that of the next event.
func data() []byte {
	at := cuts.Add(1) * 7919 % uint64(len(noise)-eventSize)
	return noise[at : at+eventSize : at+eventSize]
}

func run(rounds int, parent string, slice time.Duration) error {
	dir, err := os.MkdirTemp(parent, "log-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l := &lab{dir: dir, slice: slice}

	const loop, bare = "write+fdatasync, same batching", "8 KiB fdatasync"
	rate := map[int]*figure.Row{
		32:  {Name: "append, 32 publishers", Unit: "events/s", Against: loop, Ratio: figure.AtLeast(0.5)},
		512: {Name: "append, 512 publishers", Unit: "events/s", Against: loop, Ratio: figure.AtLeast(0.5)},
	}
	perSync := map[int]*figure.Row{
		32:  {Name: "events in the time of one sync, 32 publishers", Unit: "/s", Against: bare, Ratio: figure.AtLeast(12)},
		512: {Name: "events in the time of one sync, 512 publishers", Unit: "/s", Against: bare, Ratio: figure.AtLeast(60)},
	}
	latency := map[int]*figure.Row{
		1:  {Name: "acknowledgement p50, 1 publisher", Unit: "µs", Against: bare + " p50", Ratio: figure.AtMost(2)},
		32: {Name: "acknowledgement p50, 32 publishers", Unit: "µs", Against: bare + " p50", Ratio: figure.AtMost(3)},
	}
	memory := &figure.Row{Name: "append, class memory, 32 publishers", Unit: "events/s", Against: "write, same batching", Ratio: figure.AtLeast(0.45)}
	replay := &figure.Row{Name: "replay of one topic", Unit: "events/s", Against: "reading the records of a file", Ratio: figure.AtLeast(0.4)}

	for round := range rounds {
		fmt.Fprintf(os.Stderr, "log: round %d of %d\n", round+1, rounds)
		disk, err := l.bareSync()
		if err != nil {
			return err
		}
		for _, n := range []int{1, 32, 512} {
			ours, err := l.measure(tailrace.Fsync, n)
			if err != nil {
				return err
			}
			if row := latency[n]; row != nil {
				row.Ours, row.Base = append(row.Ours, micros(ours.p50)), append(row.Base, micros(disk.p50))
			}
			if rate[n] == nil {
				continue
			}
			base, err := l.measureFloor(true, n)
			if err != nil {
				return err
			}
			rate[n].Ours, rate[n].Base = append(rate[n].Ours, ours.rate), append(rate[n].Base, base.rate)
			perSync[n].Ours, perSync[n].Base = append(perSync[n].Ours, ours.rate), append(perSync[n].Base, disk.rate)
		}
		ours, err := l.measure(tailrace.Memory, 32)
		if err != nil {
			return err
		}
		base, err := l.measureFloor(false, 32)
		if err != nil {
			return err
		}
		memory.Ours, memory.Base = append(memory.Ours, ours.rate), append(memory.Base, base.rate)

		got, err := l.replay()
		if err != nil {
			return err
		}
		ref, err := l.replayFloor()
		if err != nil {
			return err
		}
		replay.Ours, replay.Base = append(replay.Ours, got), append(replay.Base, ref)
	}
	rows := []*figure.Row{rate[32], rate[512], perSync[32], perSync[512], latency[1], latency[32], memory, replay}
	topics, err := l.topics()
	if err != nil {
		return err
	}
	for _, r := range append(rows, topics...) {
		if err := r.Write(os.Stdout); err != nil {
			return err
		}
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// result is the outcome of one slice.
type result struct {
	rate float64 // a second
	p50  time.Duration
}

// publish runs n publishers for a slice and measures their calls.
func (l *lab) publish(n int, call func() error) (result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.slice)
	defer cancel()
	took := make([][]time.Duration, n)
	errs := make([]error, n)
	start := time.Now()
	var wg sync.WaitGroup
	for p := range n {
		wg.Go(func() {
			last := time.Now()
			for ctx.Err() == nil {
				if errs[p] = call(); errs[p] != nil {
					return
				}
				now := time.Now()
				took[p] = append(took[p], now.Sub(last))
				last = now
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	all := slices.Concat(took...)
	if err := errors.Join(errs...); err != nil || len(all) == 0 {
		return result{}, errors.Join(err, errors.New("nothing was appended"))
	}
	slices.Sort(all)
	return result{float64(len(all)) / elapsed.Seconds(), all[len(all)/2]}, nil
}

// bareSync writes 8 KiB and syncs, again and again, in a file that has its blocks already.
func (l *lab) bareSync() (r result, err error) {
	f, err := os.Create(filepath.Join(l.dir, "bare"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	const size = 64 << 20
	if _, err := f.Write(make([]byte, size)); err != nil {
		return r, err
	}
	if err := f.Sync(); err != nil {
		return r, err
	}
	block := []byte(strings.Repeat("x", 8<<10))
	at := int64(0)
	return l.publish(1, func() error {
		_, err := f.WriteAt(block, at)
		at = (at + int64(len(block))) % size
		return errors.Join(err, syscall.Fdatasync(int(f.Fd())))
	})
}

func (l *lab) open(class tailrace.Durability) (*pebblelog.Log, string, error) {
	l.n++
	dir := filepath.Join(l.dir, strconv.Itoa(l.n))
	return openLog(dir, class)
}

func openLog(dir string, class tailrace.Durability) (*pebblelog.Log, string, error) {
	log, err := pebblelog.Open(dir, &pebblelog.Options{
		Rules:  []tailrace.Rule{{Pattern: "**", Policy: tailrace.Policy{Durability: class, MaxBytes: -1}}},
		Logger: slog.New(slog.DiscardHandler), MinFree: -1, Reserve: -1,
	})
	return log, dir, err
}

func (l *lab) measure(class tailrace.Durability, publishers int) (r result, err error) {
	log, dir, err := l.open(class)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, log.Close(), os.RemoveAll(dir)) }()
	if err := warm(log); err != nil {
		return r, err
	}
	return l.publish(publishers, func() error {
		_, err := log.Append(context.Background(), []tailrace.Event{{Topic: "bench/topic", Data: data()}})
		return err
	})
}

// warm brings a log to where it recycles its write-ahead files, as the reference has written its
// file before.
func warm(log *pebblelog.Log) error {
	batch := make([]tailrace.Event, 500)
	for range 96 << 20 / (len(batch) * eventSize) {
		for i := range batch {
			batch[i] = tailrace.Event{Topic: "bench/warm", Data: data()}
		}
		if _, err := log.Append(context.Background(), batch); err != nil {
			return err
		}
	}
	time.Sleep(500 * time.Millisecond) // the store tidies up behind it
	return nil
}

func (l *lab) measureFloor(sync bool, publishers int) (r result, err error) {
	f, err := openFloor(filepath.Join(l.dir, "floor"), floorSize, sync)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	return l.publish(publishers, func() error { return f.append("bench/topic", data()) })
}

// replay reads a topic from its start, from a log that was opened anew and has been read once.
func (l *lab) replay() (rate float64, err error) {
	log, dir, err := l.open(tailrace.Memory)
	if err != nil {
		return 0, err
	}
	batch := make([]tailrace.Event, 500)
	for range replaySize / len(batch) {
		for i := range batch {
			batch[i] = tailrace.Event{Topic: "bench/topic", Data: data()}
		}
		if _, err := log.Append(context.Background(), batch); err != nil {
			return 0, errors.Join(err, log.Close())
		}
	}
	if err := log.Close(); err != nil {
		return 0, err
	}
	if log, _, err = openLog(dir, tailrace.Memory); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, log.Close(), os.RemoveAll(dir)) }()
	if _, err := readTopic(log); err != nil {
		return 0, err
	}
	return readTopic(log)
}

func readTopic(log *pebblelog.Log) (rate float64, err error) {
	start, n := time.Now(), 0
	for q := (tailrace.Query{Select: tailrace.Selector{Topics: []string{"bench/topic"}}}); ; {
		p, err := log.Read(context.Background(), q)
		if err != nil {
			return 0, err
		}
		n += len(p.Events)
		if q.After, q.Told = p.Next, p.Told; !p.More {
			break
		}
	}
	if n != replaySize {
		return 0, fmt.Errorf("replayed %d of %d events", n, replaySize)
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// diskUse is what the files below dir take.
func diskUse(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		i, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil // the store has removed it meanwhile
		}
		if err == nil {
			n += i.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	return n, err
}

func (l *lab) replayFloor() (rate float64, err error) {
	f, err := openFloor(filepath.Join(l.dir, "floor"), floorSize, false)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range replaySize / 64 {
				if f.append("bench/topic", data()) != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	start := time.Now()
	n, err := f.replay()
	return float64(n) / time.Since(start).Seconds(), err
}

// topics measures a million new topics in processes of their own.
func (l *lab) topics() ([]*figure.Row, error) {
	rate := &figure.Row{Name: "append to 1,000,000 new topics", Unit: "events/s", Against: "class memory", Ratio: figure.AtLeast(0.5)}
	rss := &figure.Row{Name: "process with 1,000,000 topics, collected", Unit: "MB", Value: figure.AtMost(100)}
	disk := &figure.Row{Name: "disk for an event of 200 bytes, each in a topic of its own", Unit: "bytes", Value: figure.AtMost(350)}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, class := range []tailrace.Durability{tailrace.Fsync, tailrace.Memory} {
		fmt.Fprintf(os.Stderr, "log: 1,000,000 topics, class %s\n", class)
		l.n++
		dir := filepath.Join(l.dir, strconv.Itoa(l.n))
		c := exec.Command(self, "-child", string(class), "-dir", dir)
		c.Stderr = os.Stderr
		out, err := c.Output()
		if err != nil {
			return nil, fmt.Errorf("publishing to topics: %w", err)
		}
		var perSecond, mb, bytes float64
		if _, err := fmt.Sscan(string(out), &perSecond, &mb, &bytes); err != nil {
			return nil, err
		}
		if class == tailrace.Fsync {
			rate.Ours, rss.Ours = append(rate.Ours, perSecond), append(rss.Ours, mb)
			disk.Ours = append(disk.Ours, bytes)
		} else {
			rate.Base = append(rate.Base, perSecond)
		}
		os.RemoveAll(dir)
	}
	return []*figure.Row{rate, rss, disk}, nil
}

// publishTopics is the process that appends one event to each of a million topics, from 128
// publishers. It prints events a second, resident megabytes after a collection, and bytes on disk
// for each event.
func publishTopics(dir string, class tailrace.Durability) (err error) {
	log, _, err := openLog(dir, class)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	const publishers = 128
	errs := make([]error, publishers)
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for p := range publishers {
		wg.Go(func() {
			for i := next.Add(1); i <= topicCount && errs[p] == nil; i = next.Add(1) {
				_, errs[p] = log.Append(context.Background(), []tailrace.Event{{Topic: fmt.Sprintf("bench/topic/%07d", i), Data: data()}})
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	perSecond := topicCount / time.Since(start).Seconds()
	debug.FreeOSMemory()
	rss, err := resident()
	if err != nil {
		return err
	}
	used, err := diskUse(dir)
	fmt.Println(perSecond, float64(rss)/1e6, float64(used)/topicCount)
	return err
}

// resident is the resident memory of this process.
func resident() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		return 0, err
	}
	return pages * int64(os.Getpagesize()), nil
}
