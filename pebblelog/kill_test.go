package pebblelog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// The tests of this file start the test binary again as a child that publishes until it is
// killed. It says on its standard output what was acknowledged and what a reader saw.
const (
	childDir    = "PEBBLELOG_TEST_DIR"
	childClass  = "PEBBLELOG_TEST_CLASS"  // durability, or mixed
	childNoSync = "PEBBLELOG_TEST_NOSYNC" // pose as fsync
	childBig    = "PEBBLELOG_TEST_BIG"    // small memtable, bigger events: tables are written
)

const childPublishers = 32

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		publish(dir)
		return
	}
	os.Exit(m.Run())
}

func childOptions(class string) *Options {
	o := testOptions()
	o.sweep = 20 * time.Millisecond
	switch class {
	case "fsync":
	case "mixed":
		o.Rules = []tailrace.Rule{{Pattern: "m/**", Policy: tailrace.Policy{Durability: tailrace.Memory}}}
	default:
		o.Rules = []tailrace.Rule{{Pattern: "**", Policy: tailrace.Policy{Durability: tailrace.Durability(class)}}}
	}
	return o
}

// publish is the child.
func publish(dir string) {
	class := os.Getenv(childClass)
	o := childOptions(class)
	o.noSync = os.Getenv(childNoSync) != ""
	size := 20
	if os.Getenv(childBig) != "" {
		o.memTable, size = 256<<10, 400
	}
	l, err := Open(dir, o)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("open")
	padding := strings.Repeat("x", size)
	for p := range childPublishers {
		topic := fmt.Sprintf("f/%d", p%4)
		if class == "mixed" && p%2 == 0 {
			topic = fmt.Sprintf("m/%d", p%4)
		}
		go func() {
			for i := 0; ; i++ {
				rs, err := l.Append(context.Background(), []tailrace.Event{{Topic: topic, ID: fmt.Sprintf("%d-%d-%d", os.Getpid(), p, i), Data: []byte(padding)}})
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				fmt.Printf("ack %s %d %s %d\n", topic, p, rs[0].Cursor, i)
			}
		}()
	}
	wake := make(chan struct{}, 1)
	l.Watch(tailrace.Selector{}, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	head, _ := l.Read(context.Background(), tailrace.Query{Head: true})
	for q := (tailrace.Query{After: head.Next, Limit: 1000}); ; {
		page, err := l.Read(context.Background(), q)
		if err != nil || page.Reset != nil {
			fmt.Println("error", err, page.Reset)
			os.Exit(1)
		}
		for _, e := range page.Events {
			if e.Cursor.Pos%16 == 0 {
				fmt.Printf("saw %s %s\n", e.Topic, e.Cursor)
			}
		}
		if q.After, q.Told = page.Next, page.Told; !page.More {
			<-wake
		}
	}
}

// history is what a killed child has said.
type history struct {
	acked map[string][]tailrace.Cursor // by topic, in the order of the lines
	order map[string][]uint64          // by publisher, positions in the order of its appends
	saw   map[string][]tailrace.Cursor
}

// kill runs a child on dir and kills it after about d, once it has opened the log.
func (h *history) kill(t testing.TB, dir string, d time.Duration, env ...string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(env, childDir+"="+dir)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if h.acked == nil {
		h.acked, h.order, h.saw = map[string][]tailrace.Cursor{}, map[string][]uint64{}, map[string][]tailrace.Cursor{}
	}
	in := bufio.NewScanner(out)
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch {
		case f[0] == "open":
			time.AfterFunc(d, func() { cmd.Process.Kill() })
		case f[0] == "ack" && len(f) == 5:
			c, err := tailrace.ParseCursor(f[3])
			if err != nil {
				continue // the last line may be cut off
			}
			h.acked[f[1]] = append(h.acked[f[1]], c)
			p := strconv.Itoa(cmd.Process.Pid) + "-" + f[2]
			h.order[p] = append(h.order[p], c.Pos)
		case f[0] == "saw" && len(f) == 3:
			if c, err := tailrace.ParseCursor(f[2]); err == nil {
				h.saw[f[1]] = append(h.saw[f[1]], c)
			}
		case f[0] == "error":
			t.Errorf("child: %s", in.Text())
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
}

// copyDir copies a log that nobody has open.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(from, path)
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(filepath.Join(to, rel))
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestKill(t *testing.T) {
	rounds := 4
	if os.Getenv("TAILRACE_LONG") != "" {
		rounds = 30
	}
	for _, class := range []string{"fsync", "interval", "memory", "mixed"} {
		t.Run(class, func(t *testing.T) {
			dir := t.TempDir()
			var h history
			lost := 0
			for range rounds {
				h.kill(t, dir, time.Duration(20+rand.IntN(200))*time.Millisecond, childClass+"="+class)
				l := openTest(t, copyDir(t, dir), childOptions(class))
				lost = h.check(t, l, class)
				l.Close()
			}
			acked := 0
			for _, cs := range h.acked {
				acked += len(cs)
			}
			t.Logf("%d acknowledged, %d lost and told", acked, lost)
			if acked < rounds {
				t.Errorf("only %d events acknowledged", acked)
			}
		})
	}
}

// check looks at the log that is left and says how many acknowledged events are lost.
func (h *history) check(t testing.TB, l *Log, class string) (lost int) {
	t.Helper()
	for topic, cs := range h.acked {
		safe := class == "fsync" || class == "mixed" && strings.HasPrefix(topic, "f/")
		lost += checkAfterCrash(t, l, topic, cs, safe)
		checkAfterCrash(t, l, topic, h.saw[topic], safe)
	}
	ids := map[string]bool{}
	all, _ := readAll(t, l, tailrace.Query{Limit: 10_000, MaxBytes: 1 << 30})
	for _, e := range all {
		if ids[e.ID] {
			t.Fatalf("%s is there twice", e.ID)
		}
		ids[e.ID] = true
	}
	if class == "fsync" {
		for p, order := range h.order {
			for i := range order[1:] {
				if order[i] >= order[i+1] {
					t.Fatalf("publisher %s: %d acknowledged before %d", p, order[i], order[i+1])
				}
			}
		}
		if n := len(*l.epochs.Load()); n != 1 {
			t.Fatalf("%d epochs; a kill does not end one that is all fsynced", n)
		}
	}
	return lost
}

// quietT collects what fails, so that a control run can be seen to fail.
type quietT struct {
	testing.TB
	failed string
}

type quietFailure struct{}

func (q *quietT) Helper() {}
func (q *quietT) Fatal(args ...any) {
	q.failed = fmt.Sprint(args...)
	panic(quietFailure{})
}
func (q *quietT) Fatalf(format string, args ...any) { q.Fatal(fmt.Sprintf(format, args...)) }

// failure is how check fails, or "".
func failure(t testing.TB, check func(t testing.TB)) string {
	q := &quietT{TB: t}
	func() {
		defer func() {
			if r := recover(); r != nil && r != any(quietFailure{}) {
				panic(r)
			}
		}()
		check(q)
	}()
	return q.failed
}

// TestKillSeesMissingSync is the control run: without syncs, acknowledged events must be found
// missing.
func TestKillSeesMissingSync(t *testing.T) {
	dir := t.TempDir()
	var h history
	for range 20 {
		h.kill(t, dir, time.Duration(20+rand.IntN(100))*time.Millisecond, childClass+"=fsync", childNoSync+"=1")
		l := openTest(t, copyDir(t, dir), childOptions("fsync"))
		why := failure(t, func(t testing.TB) { h.check(t, l, "fsync") })
		l.Close()
		if why != "" {
			t.Logf("seen: %s", why)
			return
		}
	}
	t.Error("the kill test does not see that syncs are missing")
}

// damage is one thing done to a file of a killed log.
type damage struct {
	what string
	do   func(b []byte) []byte
}

var damages = []damage{
	{"a bit at 10 %", flip(10)},
	{"a bit at 40 %", flip(40)},
	{"a bit at 80 %", flip(80)},
	{"a bit at 99 %", flip(99)},
	{"cut to 60 %", func(b []byte) []byte { return b[:len(b)*6/10] }},
	{"cut by a byte", func(b []byte) []byte { return b[:len(b)-1] }},
}

// flip flips a bit at a part of what was written; the end of a write-ahead log may be zeros.
func flip(percent int) func([]byte) []byte {
	return func(b []byte) []byte {
		end := len(b)
		for end > 0 && b[end-1] == 0 {
			end--
		}
		b[max(0, end-1)*percent/100] ^= 0x10
		return b
	}
}

// files are those of the store with the suffix: all tables, since some may be left that are no
// longer used, and the newest write-ahead log.
func files(t testing.TB, dir, suffix string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "data", "*"+suffix))
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s file: %v", suffix, err)
	}
	if suffix == ".log" {
		return names[len(names)-1:] // in order of their numbers
	}
	return names
}

// TestDamageIsNeverSilent damages copies of a killed log. It must refuse to open, or fail to
// read, or tell exactly those whose cursors are beyond what is left.
func TestDamageIsNeverSilent(t *testing.T) {
	for _, suffix := range []string{".log", ".sst"} {
		env := []string{childClass + "=mixed"}
		if suffix == ".sst" {
			env = append(env, childBig+"=1")
		}
		// A kill right after the store has begun a new file leaves nothing in it to be damaged.
		noticed := 0
		for attempt := 0; noticed == 0 && attempt < 5; attempt++ {
			dir := t.TempDir()
			var h history
			h.kill(t, dir, 300*time.Millisecond, env...)
			for _, d := range damages {
				t.Run(suffix[1:]+" "+d.what, func(t *testing.T) {
					if h.damaged(t, dir, suffix, d, childOptions("mixed")) {
						noticed++
					}
				})
			}
		}
		if noticed == 0 {
			t.Errorf("no damage of %s files was noticed: the test damages nothing", suffix)
		}
	}
}

// damaged opens a damaged copy of the log, and reports whether anything was noticed.
func (h *history) damaged(t testing.TB, dir, suffix string, d damage, o *Options) (noticed bool) {
	t.Helper()
	dir = copyDir(t, dir)
	for _, name := range files(t, dir, suffix) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) == 0 {
			continue // a table that was being written
		}
		if err := os.WriteFile(name, d.do(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Open(dir, o)
	if err != nil {
		t.Logf("refused: %.120v", err)
		return true
	}
	defer l.Close()
	lost := 0
	for topic, cs := range h.acked {
		n, err := silentAfterDamage(l, topic, cs)
		if err != nil {
			t.Logf("fails to read: %.120v", err)
			return true
		}
		if n.silent > 0 {
			t.Fatalf("%s: %d of %d acknowledged events are lost, %d in silence, %d resets for nothing", topic, n.lost, len(cs), n.silent, n.spurious)
		}
		if n.spurious > 0 {
			t.Fatalf("%s: %d resets for nothing", topic, n.spurious)
		}
		lost += n.lost
	}
	t.Logf("opened, %d lost and told", lost)
	return lost > 0
}

type damageCount struct{ lost, silent, spurious int }

func silentAfterDamage(l *Log, topic string, acked []tailrace.Cursor) (n damageCount, err error) {
	sel := tailrace.Selector{Topics: []string{topic}}
	kept := map[tailrace.Cursor]bool{}
	for q := (tailrace.Query{Select: sel, Limit: 10_000}); ; {
		p, err := l.Read(context.Background(), q)
		if err != nil {
			return n, err
		}
		for _, e := range p.Events {
			kept[e.Cursor] = true
		}
		if q.After, q.Told = p.Next, p.Told; !p.More {
			break
		}
	}
	for i, c := range acked {
		if kept[c] && i%50 != 0 {
			continue
		}
		p, err := l.Read(context.Background(), tailrace.Query{Select: sel, After: c})
		switch {
		case err != nil:
			return n, err
		case kept[c] && p.Reset != nil:
			n.spurious++
		case !kept[c]:
			n.lost++
			if p.Reset == nil {
				n.silent++
			}
		}
	}
	return n, nil
}

// TestDamageSeesMissingHeadFile is the control run: a log that believes its store alone takes
// damage for a crash, after which those who read only fsynced topics need no telling.
func TestDamageSeesMissingHeadFile(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		var h history
		h.kill(t, dir, 200*time.Millisecond, childClass+"=mixed")
		for _, d := range damages {
			o := childOptions("mixed")
			o.noHead = true
			why := failure(t, func(t testing.TB) { h.damaged(t, dir, ".log", d, o) })
			if why != "" {
				t.Logf("%s: seen: %s", d.what, why)
				return
			}
		}
	}
	t.Error("the damage test does not see that the head file is ignored")
}
