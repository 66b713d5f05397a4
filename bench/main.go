// Command bench measures Tailrace on this machine and prints one table of
// ratios: what is ours beside a reference that was measured in turn with it.
// README.md says what the groups are.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace/bench/figure"
)

// group is one part of the measurements, which can be run by itself. It has
// either measure, or experiments, whose rows can be run alone.
type group struct {
	name        string
	measure     func(context.Context, *lab) ([]figure.Row, error)
	experiments []experiment
}

func groups() []group {
	return []group{
		{name: "sse", measure: measureProtocol},
		{name: "log", measure: measureLog},
		{name: "replay", measure: measureReplay},
		{name: "topics", measure: measureTopics},
		{name: "delivery", experiments: delivery()},
		{name: "memory", experiments: memory()},
		{name: "connect", experiments: connect()},
	}
}

// rowName is the name in the table of a group's row.
func rowName(group, row string) string { return group + ": " + row }

// run measures the rows of g whose names match.
func (g *group) run(ctx context.Context, l *lab, wanted *regexp.Regexp) (rows []figure.Row, err error) {
	if g.measure != nil {
		rows, err = g.measure(ctx, l)
		rows = slices.DeleteFunc(rows, func(r figure.Row) bool { return !wanted.MatchString(rowName(g.name, r.Name)) })
	} else {
		rows, err = g.runExperiments(ctx, l, wanted)
	}
	for i := range rows {
		rows[i].Name = rowName(g.name, rows[i].Name)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", g.name, err)
	}
	return rows, err
}

// runExperiments runs what is wanted of the experiments. One that fails leaves
// the others as they are.
func (g *group) runExperiments(ctx context.Context, l *lab, wanted *regexp.Regexp) (rows []figure.Row, err error) {
	b, err := newBench(ctx, l)
	if err != nil {
		return nil, err
	}
	var failed []error
	for _, e := range g.experiments {
		part := e.only(g.name, wanted)
		got, err := part.rounds(ctx, b)
		rows = append(rows, got...)
		failed = append(failed, err)
	}
	return rows, errors.Join(failed...)
}

// lab is what every group needs.
type lab struct {
	root   string // of the repository
	dir    string // scratch directory on the disk to be measured
	rounds int
	notes  io.Writer // what the programs that are run say
}

func main() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "child-") {
		os.Exit(child(os.Args[1], os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var names []string
	for _, g := range groups() {
		names = append(names, g.name)
	}
	only := flag.String("only", "", "groups to run, comma separated: "+strings.Join(names, ", ")+" (default all)")
	row := flag.String("row", "", "regular expression: only rows whose names match; without -only of the groups delivery, memory and connect")
	rounds := flag.Int("rounds", 3, "rounds; the table has their median and range")
	dir := flag.String("dir", "", "directory for scratch data, on the disk to be measured (default bench/out)")
	asJSON := flag.Bool("json", false, "print JSON lines with every round instead of the table")
	verbose := flag.Bool("v", false, "show what the programs that are run say")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 {
		return errors.New("no arguments are taken, and -rounds is at least 1")
	}
	wanted, err := regexp.Compile(*row)
	if err != nil {
		return err
	}
	chosen, err := choose(*only, *row != "")
	if err != nil {
		return err
	}
	l := &lab{rounds: *rounds, notes: io.Discard}
	if *verbose {
		l.notes = os.Stderr
	}
	if l.root, err = moduleRoot(ctx); err != nil {
		return err
	}
	if *dir == "" {
		*dir = filepath.Join(l.root, "bench", "out")
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	if l.dir, err = os.MkdirTemp(*dir, "run-"); err != nil {
		return err
	}
	defer os.RemoveAll(l.dir)

	var rows []figure.Row
	var failed []error
	fmt.Fprintf(os.Stderr, "bench: %s\n", machine())
	for _, g := range chosen {
		start := time.Now()
		got, err := g.run(ctx, l, wanted)
		rows = append(rows, got...)
		failed = append(failed, err)
		fmt.Fprintf(os.Stderr, "bench: %s took %v\n", g.name, time.Since(start).Round(time.Second))
		if ctx.Err() != nil {
			break
		}
	}
	if len(rows) == 0 && errors.Join(failed...) == nil {
		return fmt.Errorf("no row matches %q", *row)
	}
	fmt.Fprintf(os.Stderr, "bench: %s\n\n", machine())
	if *asJSON {
		for i := range rows {
			rows[i].Write(os.Stdout)
		}
	} else {
		figure.Print(os.Stdout, rows)
	}
	for _, r := range rows {
		if r.Lost != nil && *r.Lost != 0 {
			failed = append(failed, fmt.Errorf("%s: %d events lost, doubled or out of order", r.Name, *r.Lost))
		}
	}
	return errors.Join(failed...)
}

// choose returns the named groups in the order in which they run. Without names
// it returns all, or with byRow those whose rows can be run alone.
func choose(only string, byRow bool) (chosen []group, err error) {
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(only, ",") {
		if name != "" {
			wanted[name] = true
		}
	}
	for _, g := range groups() {
		if only == "" && (!byRow || g.measure == nil) || wanted[g.name] {
			chosen = append(chosen, g)
			delete(wanted, g.name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("there is no group %q", name)
	}
	return chosen, nil
}

// moduleRoot finds the repository, since its commands are built and run.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/tailrace/tailrace").Output()
	if err != nil {
		return "", fmt.Errorf("finding the repository (run this inside it): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build compiles the package pkg of the module in dir, relative to the
// repository, and returns the program.
func (l *lab) build(ctx context.Context, dir, pkg, name string) (string, error) {
	program := filepath.Join(l.dir, name)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	_, err := l.output(ctx, "go", "-C", filepath.Join(l.root, dir), "build", "-o", program, pkg)
	return program, err
}

// output runs a program in the repository and returns its standard output. The
// error has the end of what it said.
func (l *lab) output(ctx context.Context, program string, args ...string) ([]byte, error) {
	var said bytes.Buffer
	c := exec.CommandContext(ctx, program, args...)
	c.Dir = l.root
	c.Stderr = io.MultiWriter(&said, l.notes)
	out, err := c.Output()
	if err != nil {
		text := said.String()
		if text == "" {
			text = string(out)
		}
		return out, fmt.Errorf("%s %s: %w\n%s", filepath.Base(program), strings.Join(args, " "), err, text[max(0, len(text)-4096):])
	}
	return out, nil
}

// machine says what the figures are of, and how busy it is with other things.
func machine() string {
	load := ""
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = ", load " + strings.Join(strings.Fields(string(b))[:3], " ")
	}
	return fmt.Sprintf("%s, %s/%s, %d CPUs, %s%s", time.Now().UTC().Format("2006-01-02 15:04"),
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), load)
}
