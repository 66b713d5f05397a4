package docs_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/cli"
)

// The test binary is the command tailrace when this variable is set.
const asCommand = "DOCS_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(cli.Main())
	}
	os.Exit(m.Run())
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestREADMEShowsTheExample compares the Go code of the README with the
// example that is compiled and run.
func TestREADMEShowsTheExample(t *testing.T) {
	_, code, found := strings.Cut(read(t, "../README.md"), "```go\n")
	code, _, _ = strings.Cut(code, "```\n")
	parts := strings.Split(read(t, "example_test.go"), "\t// README\n")
	if !found || len(parts) != 3 {
		t.Fatal("README or example lost its mark")
	}
	want := strings.TrimPrefix(strings.ReplaceAll(parts[1], "\n\t", "\n"), "\t")
	if code != want {
		t.Errorf("the README shows\n%s\nthe example has\n%s", code, want)
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md", "../CHANGELOG.md") {
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(read(t, page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}

// step is a shell command of a page and what the page says that it prints.
type step struct{ command, output string }

// steps returns the blocks marked sh, each with the block marked text that
// follows it.
func steps(page string) []step {
	var list []step
	for _, m := range regexp.MustCompile("(?s)```(sh|text)\n(.*?)```\n").FindAllStringSubmatch(page, -1) {
		if m[1] == "sh" {
			list = append(list, step{command: m[2]})
		} else if len(list) > 0 {
			list[len(list)-1].output = m[2]
		}
	}
	return list
}

// TestCommandsOfThePages runs the shell commands of each page, in order,
// against a new server, and looks for what the page says that they print. A
// dash of three dots stands for any text, and lines may come between.
func TestCommandsOfThePages(t *testing.T) {
	for _, tool := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s on this machine: the commands of the documentation are not tested", tool)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"getting-started.md", "http.md"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			address := serve(t, self)
			bin := t.TempDir()
			if err := os.Symlink(self, filepath.Join(bin, "tailrace")); err != nil {
				t.Fatal(err)
			}
			env := append(os.Environ(), asCommand+"=1", "TAILRACE_SERVER="+address, "PATH="+bin+":"+os.Getenv("PATH"))
			list := steps(read(t, page))
			if len(list) < 5 {
				t.Fatalf("only %d commands are found", len(list))
			}
			for _, s := range list {
				got := shell(t, strings.ReplaceAll(s.command, "localhost:8080", address), env, s.output)
				if want := pattern(s.output); !want.MatchString(got) {
					t.Errorf("%sprints\n%s\nand not\n%s", s.command, got, s.output)
				}
			}
		})
	}
}

// environment is that of this process, with nothing in it that configures the
// command.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TAILRACE_") })
	return append(env, asCommand+"=1")
}

// serve runs a server on a free port and returns its address.
func serve(t *testing.T, self string) string {
	t.Helper()
	cmd := exec.Command(self, "serve", "--dev", "--listen.http", "127.0.0.1:0", "--log.dir", t.TempDir())
	cmd.Env = environment()
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var text []byte
	for chunk := make([]byte, 4096); ; {
		n, err := out.Read(chunk)
		text = append(text, chunk[:n]...)
		if m := regexp.MustCompile(`http://(127\.0\.0\.1:\d+)/`).FindSubmatch(text); m != nil {
			return string(m[1])
		}
		if err != nil {
			t.Fatalf("the server did not start: %s", text)
		}
	}
}

// shell runs command until it ends or has printed what is wanted: most of the
// streams have no end.
func shell(t *testing.T, command string, env []string, want string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if !strings.Contains(command, "|") {
		command = "exec " + command // so that it is the command itself that is ended
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Env = env
	out := &watched{want: pattern(want), found: cancel}
	if want == "" {
		out.found = func() {}
	}
	cmd.Stdout = out
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("%s: %v", command, err)
	}
	return out.buf.String()
}

// watched is the output of a command; found is called when it has all that is
// wanted. Only one goroutine writes to it.
type watched struct {
	buf   bytes.Buffer
	want  *regexp.Regexp
	found func()
}

func (w *watched) Write(p []byte) (int, error) {
	w.buf.Write(p)
	if w.want.Match(w.buf.Bytes()) {
		w.found()
	}
	return len(p), nil
}

// pattern matches what a page says that a command prints.
func pattern(output string) *regexp.Regexp {
	var b strings.Builder
	for line := range strings.Lines(output) {
		b.WriteString(`(?m:^)`)
		for i, part := range strings.Split(line, "…") {
			if i > 0 {
				b.WriteString(`.*`)
			}
			b.WriteString(regexp.QuoteMeta(part))
		}
		b.WriteString(`(?s:.*)`)
	}
	return regexp.MustCompile(b.String())
}
