package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigPrintTellsOrigins(t *testing.T) {
	env := []string{"TAILRACE_LIMITS_STREAMS=5", "TAILRACE_AUTH_ANONYMOUS_PUBLISH=**", "TAILRACE_AUTH_HOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "TAILRACE_AUTH_HOOK_URL=https://hook.example/"}
	r := command(t, nil, env, "config", "print", "--origin", "--publish.timeout", "3s")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	column := -1 // at which all values begin
	for _, line := range lines {
		name, rest, _ := strings.Cut(line, ":")
		at := len(name) + 1 + len(rest) - len(strings.TrimLeft(rest, " "))
		if column >= 0 && at != column {
			t.Errorf("the value is at %d, those before at %d: %s", at, column, line)
		}
		column = at
	}
	for _, want := range []string{
		"limits.streams: 5 # environment TAILRACE_LIMITS_STREAMS",
		"publish.timeout: 3s # flag --publish.timeout",
		"stream.heartbeat: 15s # default",
		`auth.hook.secret: "(hidden)" # environment TAILRACE_AUTH_HOOK_SECRET`,
	} {
		if !strings.Contains(strings.Join(strings.Fields(r.out), " "), want) {
			t.Errorf("config print lacks %q:\n%s", want, r.out)
		}
	}
}

// What config print prints is a file that means the same.
func TestConfigPrintIsAFile(t *testing.T) {
	args := []string{"config", "print", "--limits.streams", "none", "--auth.anonymous.subscribe", "**", "--cors.origins", "https://a.example.com,https://b.example.com",
		"--policies", `[{pattern: "a: \"b\"/**", age: none}, {pattern: "$x"}]`}
	first := command(t, nil, nil, args...)
	file := filepath.Join(t.TempDir(), "tailrace.yaml")
	if err := os.WriteFile(file, []byte(first.out), 0o600); err != nil {
		t.Fatal(err)
	}
	second := command(t, nil, nil, "config", "print", "--config", file)
	if first.code != 0 || second.code != 0 || first.out != second.out || !strings.Contains(first.out, `- {pattern: "a: \"b\"/**", age: none}`) {
		t.Errorf("%s%s became\n%s%s", first.err, first.out, second.err, second.out)
	}
}

func TestConfigInitWritesAFileOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tailrace.yaml")
	if r := command(t, nil, nil, "config", "init", "--dev", file); r.code != 0 || r.out != "" {
		t.Fatalf("exit code %d: %s%s", r.code, r.out, r.err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r := command(t, nil, nil, "config", "init", "--dev"); r.out != string(text) {
		t.Errorf("the file has\n%s\nand without a name it prints\n%s", text, r.out)
	}
	if r := command(t, nil, nil, "config", "init", file); r.code != exitFailed || !strings.Contains(r.err, "exists") {
		t.Errorf("written over: exit code %d: %s", r.code, r.err)
	}
	if r := command(t, nil, nil, "config", "check", "--dev", "--config", file); r.code != 0 {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
	if r := command(t, nil, nil, "config", "init", "a", "b"); r.code != exitUsage {
		t.Errorf("two files: exit code %d", r.code)
	}
}

func TestConfigDocuments(t *testing.T) {
	for name, want := range map[string]string{"schema": `"$schema"`, "reference": "# Configuration"} {
		if r := command(t, nil, nil, "config", name); r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("config %s: exit code %d: %s", name, r.code, r.err)
		}
	}
}
