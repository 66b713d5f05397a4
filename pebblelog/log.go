package pebblelog

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tailrace/tailrace"
)

// Defaults of Options.
const (
	DefaultCursorLife = 7 * 24 * time.Hour // longer than a machine sleeps over a holiday week
	DefaultReserve    = 64 << 20           // enough to trim, compact a little and close
	minFreeFloor      = 1 << 30
	minFreePercent    = 5
)

// Sizes of the store. Together they bound what the log keeps in memory.
const (
	memTableSize = 16 << 20
	blockCache   = 64 << 20 // memtables count: two of them are full when the disk is slow
	maxOpenFiles = 512
	topicsCached = 32768
	bloomBits    = 10

	// l0Depth is how many tables may lie over each other before they are merged. The store's
	// default merges earlier, and its writes compete with the syncs.
	l0Depth = 8

	blockSize      = 8 << 10
	indexBlockSize = 64 << 10
)

// storeFormat is pinned: raising it makes a directory unreadable for older versions. This one
// lets the store tell damage in the middle of its write-ahead log from a torn end.
const storeFormat = pebble.FormatTableFormatV6

// ErrFormat says that a directory was written by a version whose format this one does not know.
var ErrFormat = errors.New("pebblelog: unknown format")

// Options are the options of Open. Nil and the zero value are the defaults.
type Options struct {
	// Rules are the policies of topics, as of SetRules.
	Rules []tailrace.Rule

	// CursorLife is how long a topic that was deleted or forgotten is remembered, so that
	// cursors from before hear of it. 0 is DefaultCursorLife.
	CursorLife time.Duration

	// MaxDisk is the size in bytes above which the oldest events of the whole log go first,
	// whatever their policies say. 0 is no limit.
	MaxDisk int64

	// MinFree is the free space in bytes below which Append gives ErrFull; reads and trims go
	// on, and appends again above 1.25 times it. 0 is the larger of 1 GiB and 5 % of the file
	// system; negative is none.
	MinFree int64

	// Reserve is the size in bytes of a file that is removed when the disk is full all the
	// same, so that the log can finish what it has begun. 0 is DefaultReserve; negative is none.
	Reserve int64

	// Logger gets what no caller is told: damage that was found, low disk, why the log stopped.
	// Nil is slog.Default.
	Logger *slog.Logger

	// Now is the log's clock. Nil is time.Now.
	Now func() time.Time

	// OnFatal is called once, on a goroutine of its own, when the log stops by itself: a write
	// or sync failed. Appends get ErrStopped from then on, reads go on. Nil is nothing.
	OnFatal func(error)

	fs       vfs.FS        // nil is the disk
	sweep    time.Duration // between sweeps; 0 is a second
	noSync   bool          // control run: acknowledge without syncing
	noHead   bool          // control run: believe the store alone
	exit     func(int)     // nil is os.Exit
	tailLess bool          // read everything from the store
	memTable uint64        // size; 0 is memTableSize
}

// Log is a [tailrace.Log] in a directory. Open makes one.
type Log struct {
	opts    Options
	log     *slog.Logger
	fs      vfs.FS
	dir     string
	db      *pebble.DB
	lock    *dirLock
	head    *headFile
	disk    *disk
	metrics metrics

	rules  atomic.Pointer[rules]
	epochs atomic.Pointer[epochs]
	folded atomic.Pointer[floor] // of the topics that are forgotten
	raised atomic.Uint64         // stamp of the newest raise that may be in the store, visible or not

	firstBatch atomic.Uint64 // position below which there are no batches
	tail       tail
	names      nameCache
	watch      watchers
	queue      queue
	pause      atomic.Pointer[func(string)]

	sweeper   sweeper
	committed chan struct{} // closed when the committer has ended

	life   sync.RWMutex // held for reading by everything that uses db
	closed bool         // guarded by life

	closeOnce sync.Once
	closeErr  error
	stopOnce  sync.Once
	stopped   atomic.Pointer[error] // why the log stopped by itself
}

// rules are a list of rules and what follows from it.
type rules struct {
	list  tailrace.Rules
	lossy []string // patterns with a class below fsync
	hash  uint64   // of what decides when a topic is looked at
}

func newRules(list []tailrace.Rule) (*rules, error) {
	rs := &rules{list: slices.Clone(list)}
	if err := rs.list.Check(); err != nil {
		return nil, err
	}
	h := fnv.New64a()
	for _, r := range rs.list {
		p := r.Policy.WithDefaults()
		if p.Durability != tailrace.Fsync {
			rs.lossy = append(rs.lossy, r.Pattern)
		}
		fmt.Fprintf(h, "%q %d %d %d %d\n", r.Pattern, p.MaxAge, p.MaxCount, p.MaxBytes, p.IdleDelete)
	}
	rs.hash = h.Sum64()
	return rs, nil
}

// Open opens the log in dir, which it creates. The directory can be open once only:
// [*InUseError]. A directory of an unknown format is refused with ErrFormat.
func Open(dir string, opts *Options) (_ *Log, err error) {
	l := &Log{dir: dir, committed: make(chan struct{})}
	if opts != nil {
		l.opts = *opts
	}
	l.setDefaults()
	rs, err := newRules(l.opts.Rules)
	if err != nil {
		return nil, fmt.Errorf("pebblelog: rules: %w", err)
	}
	l.rules.Store(rs)
	defer func() {
		if err != nil {
			l.release()
		}
	}()
	if err := makeDir(l.fs, dir); err != nil {
		return nil, fmt.Errorf("pebblelog: %w", err)
	}
	if vfs.Root(l.fs) == vfs.Default {
		if l.lock, err = lockDir(dir); err != nil {
			return nil, err
		}
	}
	if err := checkFormat(l.fs, dir); err != nil {
		return nil, err
	}
	if l.head, err = openHead(l.fs, l.fs.PathJoin(dir, "head")); err != nil {
		return nil, fmt.Errorf("pebblelog: %w", err)
	}
	l.disk = newDisk(l)
	if l.db, err = pebble.Open(l.fs.PathJoin(dir, "data"), l.storeOptions()); err != nil {
		if pebble.IsCorruptionError(err) {
			return nil, fmt.Errorf("pebblelog: open %s: the store is damaged, put a backup back: %w", dir, err)
		}
		return nil, fmt.Errorf("pebblelog: open %s: %w", dir, err)
	}
	c := newCommitter(l)
	if err := c.recover(); err != nil {
		return nil, fmt.Errorf("pebblelog: open %s: %w", dir, err)
	}
	go c.run()
	l.sweeper.start(l)
	return l, nil
}

func (l *Log) setDefaults() {
	o := &l.opts
	if o.CursorLife == 0 {
		o.CursorLife = DefaultCursorLife
	}
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
	if o.sweep == 0 {
		o.sweep = time.Second
	}
	l.log = o.Logger
	l.queue.ready = make(chan struct{}, 1)
	l.sweeper.space = make(chan struct{}, 1)
	l.fs = o.fs
}

func (l *Log) storeOptions() *pebble.Options {
	o := &pebble.Options{
		FS:                    l.disk.fs,
		Comparer:              comparer,
		CacheSize:             blockCache,
		MemTableSize:          memTableSize,
		MaxOpenFiles:          maxOpenFiles,
		FormatMajorVersion:    storeFormat,
		L0CompactionThreshold: l0Depth,
		Logger:                &storeLogger{l: l},
	}
	if n := l.opts.memTable; n > 0 {
		o.MemTableSize = n
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
		o.Levels[i].BlockSize, o.Levels[i].IndexBlockSize = blockSize, indexBlockSize
	}
	o.Experimental.SpanPolicyFunc = spans
	o.EventListener = l.listen()
	return o
}

// Close writes what is not on disk yet and closes the directory. Appends in progress get
// ErrStopped unless they are being committed.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.queue.close()
		l.sweeper.stop()
		<-l.committed
		l.life.Lock()
		l.closed = true
		l.life.Unlock()
		l.closeErr = l.release()
	})
	return l.closeErr
}

// closeStore closes the store. One with a damaged table may have lost count of who uses it, and
// then panics: that is an error of this call, not the end of the process.
func (l *Log) closeStore() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("store: %v", r)
		}
	}()
	return l.db.Close()
}

// release gives back what Open took. The committer and the sweeper have ended.
func (l *Log) release() error {
	var errs []error
	if l.db != nil && !l.queue.horked.Load() {
		errs = append(errs, l.closeStore())
	}
	if l.head != nil {
		errs = append(errs, l.head.close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("pebblelog: close: %w", err)
	}
	return nil
}

// SetRules replaces the policies of topics. What a new policy no longer keeps goes with the
// next sweeps.
func (l *Log) SetRules(list []tailrace.Rule) error {
	rs, err := newRules(list)
	if err != nil {
		return err
	}
	l.rules.Store(rs)
	return nil
}

// use keeps the store open until the function that it returns is called.
func (l *Log) use() (done func(), err error) {
	l.life.RLock()
	if l.closed {
		l.life.RUnlock()
		return nil, tailrace.ErrStopped
	}
	return l.life.RUnlock, nil
}

// stop makes the log refuse appends from now on, because of err.
func (l *Log) stop(err error) {
	l.stopOnce.Do(func() {
		l.stopped.Store(&err)
		l.metrics.stopped.Store(true)
		l.log.Error("the log has stopped: nothing more is accepted; restart the server once the cause is gone", "dir", l.dir, "err", err)
		if f := l.opts.OnFatal; f != nil {
			go f(err)
		}
	})
}

// errStopped is what appends get once the log is stopped or closed.
func (l *Log) errStopped() error {
	if err := l.stopped.Load(); err != nil {
		return fmt.Errorf("%w: %w", tailrace.ErrStopped, *err)
	}
	return tailrace.ErrStopped
}

// at calls the hook of a test.
func (l *Log) at(point string) {
	if f := l.pause.Load(); f != nil {
		(*f)(point)
	}
}

// checkFormat refuses a directory of another format and marks a new one.
func checkFormat(fs vfs.FS, dir string) error {
	const text = "tailrace log 1\n"
	name := fs.PathJoin(dir, "format")
	b, err := readFile(fs, name)
	switch {
	case err == nil && len(b) > 0:
		if string(b) != text {
			return fmt.Errorf("%w: %s says %q, this version reads %q", ErrFormat, name, firstLine(b), strings.TrimSpace(text))
		}
		return nil
	case err != nil && !isNotExist(err):
		return fmt.Errorf("pebblelog: %w", err)
	}
	if ls, err := fs.List(fs.PathJoin(dir, "data")); err == nil && len(ls) > 0 {
		return fmt.Errorf("%w: %s has data but no format file", ErrFormat, dir)
	}
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("pebblelog: %w", err)
	}
	_, err = f.Write([]byte(text))
	if err = errors.Join(err, f.Sync(), f.Close(), syncDir(fs, dir)); err != nil {
		return fmt.Errorf("pebblelog: %w", err)
	}
	return nil
}

func firstLine(b []byte) string {
	s, _, _ := strings.Cut(string(b[:min(len(b), 80)]), "\n")
	return s
}

// storeLogger takes what the store has to say.
type storeLogger struct{ l *Log }

func (s *storeLogger) Infof(string, ...any) {}

func (s *storeLogger) Errorf(format string, args ...any) {
	s.l.log.Warn("store: "+fmt.Sprintf(format, args...), "dir", s.l.dir)
}

// Fatalf must not return. On the committer's goroutine it ends that, and the log stops; on any
// other the store may hold a lock, so that only the end of the process is safe.
func (s *storeLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("pebblelog: "+format, args...)
	s.l.stop(err)
	if s.l.queue.onCommitter() {
		s.l.queue.horked.Store(true)
		runtime.Goexit()
	}
	s.l.exitProcess()
}
