package e2e

import (
	"bufio"
	"context"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

var curlLine = regexp.MustCompile(`(?m)^\s+(publish|subscribe)\s+(curl .*)$`)

// TestWelcomeLinesWork: what the server prints when it starts can be pasted into
// a shell, and shows the event with an id.
func TestWelcomeLinesWork(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	s := startServer(t)
	lines := map[string]string{}
	for _, m := range curlLine.FindAllStringSubmatch(s.stderr.String(), -1) {
		lines[m[1]] = m[2]
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	shell := func(line string) *exec.Cmd { return command(ctx, "/bin/sh", "-c", "exec "+line) }
	out, err := shell(lines["publish"]).Output()
	if err != nil || !strings.Contains(string(out), `"cursor":`) {
		t.Fatalf("%s: %v\n%s", lines["publish"], err, out)
	}
	sub := shell(lines["subscribe"])
	stream, err := sub.StdoutPipe()
	if err == nil {
		err = sub.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Wait()
	defer sub.Process.Kill()
	var id, data string
	for text := bufio.NewScanner(stream); data == "" && text.Scan(); {
		if v, ok := strings.CutPrefix(text.Text(), "id: "); ok {
			id = v
		}
		if v, ok := strings.CutPrefix(text.Text(), "data: "); ok {
			data = v
		}
	}
	if data != "hello" || id == "" {
		t.Errorf("%s: the event has the data %q and the id %q", lines["subscribe"], data, id)
	}
}
