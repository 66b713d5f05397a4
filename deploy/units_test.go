package deploy

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/cli"
	"github.com/tailrace/tailrace/internal/config"
)

// isCommand says whether args are a command line of the binary, by asking for
// its help.
func isCommand(args ...string) bool {
	var out strings.Builder
	code := cli.Run(context.Background(), append(slices.Clone(args), "--help"), nil, strings.NewReader(""), &out, io.Discard)
	return code == 0 && strings.Contains(out.String(), "tailrace "+args[0])
}

// drainTime is how long the server may take to stop, as it comes.
func drainTime() time.Duration { return config.Default(false).Drain.Max }

func TestServiceUnit(t *testing.T) {
	unit := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^([A-Z]\w+)=(.*)$`).FindAllStringSubmatch(read(t, "systemd/tailrace.service"), -1) {
		unit[m[1]] = append(unit[m[1]], m[2])
	}
	stop, err := time.ParseDuration(strings.Join(unit["TimeoutStopSec"], ""))
	if err != nil || stop < drainTime()+10*time.Second {
		t.Errorf("killed after %v, and drain.max is %v: %v", stop, drainTime(), err)
	}
	env := append(strings.Fields(strings.Join(unit["Environment"], " ")), "TAILRACE_CONFIG=")
	if _, err := loadOpen(config.Sources{Env: env}); err != nil {
		t.Errorf("the server refuses the unit's variables: %v", err)
	}
	for _, line := range append(unit["ExecStart"], unit["ExecStartPre"]...) {
		if words := strings.Fields(line); !isCommand(words[1:]...) {
			t.Errorf("%s is no command", line)
		}
	}
	// The numbers are those of the binary's contract: 2 usage, 3 configuration.
	if got := strings.Join(unit["RestartPreventExitStatus"], ""); got != "2 3" {
		t.Errorf("not started again after %s", got)
	}
}

func TestServiceUnitIsVerified(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze on this machine: the unit is not verified")
	}
	self, err := os.Executable() // in place of the binary, which is not installed
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(read(t, "systemd/tailrace.service"), "/usr/local/bin/tailrace", self)
	file := filepath.Join(t.TempDir(), "tailrace.service")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput()
	if err != nil || strings.Contains(string(out), "tailrace.service:") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestImage(t *testing.T) {
	text := strings.ReplaceAll(read(t, "Dockerfile"), "\\\n", " ")
	steps := map[string][]string{}
	var last string
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" || name == "#" {
			continue
		}
		if name != strings.ToUpper(name) {
			t.Errorf("%s is no instruction", name)
		}
		steps[name] = append(steps[name], strings.TrimSpace(rest))
		last = name
	}
	if from := steps["FROM"]; from[len(from)-1] != "scratch" {
		t.Errorf("the image is made from %s", from)
	}
	want := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "../go.mod"))
	if got, _, _ := strings.Cut(steps["FROM"][0], " "); got != "golang:"+want[1] {
		t.Errorf("built by %s, and go.mod has %s", got, want[1])
	}
	if got := steps["USER"]; len(got) != 1 || strings.HasPrefix(got[0], "0") {
		t.Errorf("runs as %v", got)
	}
	if got := steps["STOPSIGNAL"]; len(got) != 1 || got[0] != "SIGTERM" {
		t.Errorf("stopped by %v", got)
	}
	if last != "CMD" || steps["CMD"][0] != `["serve"]` || !isCommand("serve") {
		t.Errorf("runs %v", steps["CMD"])
	}
	if got := steps["HEALTHCHECK"]; len(got) != 1 || !strings.HasSuffix(got[0], `CMD ["/usr/local/bin/tailrace", "healthcheck"]`) || !isCommand("healthcheck") {
		t.Errorf("asked by %v", got)
	}
	env := append(strings.Fields(steps["ENV"][0]), "TAILRACE_LISTEN_TRUSTED_PROXIES=10.0.0.0/8")
	c, err := loadOpen(config.Sources{Env: env})
	if err != nil {
		t.Fatalf("the server refuses the image's variables: %v", err)
	}
	if len(steps["VOLUME"]) != 1 || c.Log.Dir != steps["VOLUME"][0] || c.Listen.HTTP != ":"+steps["EXPOSE"][0] {
		t.Errorf("the log is in %s, listens at %s", c.Log.Dir, c.Listen.HTTP)
	}
}

func TestCompose(t *testing.T) {
	type service struct {
		Build       struct{ Context, Dockerfile string }
		Command     []string
		Environment map[string]string
		Configs     []struct{ Source, Target string }
		Volumes     []string
		Grace       string `yaml:"stop_grace_period"`
	}
	doc := readYAML[struct {
		Services map[string]service
		Configs  map[string]struct{ File string }
		Volumes  map[string]any
		Networks map[string]struct {
			IPAM struct{ Config []struct{ Subnet string } }
		}
	}](t, "compose.yaml")
	s := doc.Services["tailrace"]
	if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
		t.Error(err)
	}
	var env []string
	for name, value := range s.Environment {
		env = append(env, name+"="+value)
	}
	c, err := loadOpen(config.Sources{Env: env})
	if err != nil {
		t.Fatalf("the server refuses the variables: %v", err)
	}
	if p := c.Listen.Proxies(); len(p) != 1 || p[0].String() != doc.Networks["front"].IPAM.Config[0].Subnet {
		t.Errorf("trusts %v, and its network is %v", p, doc.Networks["front"])
	}
	if grace, err := time.ParseDuration(s.Grace); err != nil || grace < drainTime()+10*time.Second {
		t.Errorf("killed after %s, and drain.max is %v", s.Grace, drainTime())
	}
	volume, dir, _ := strings.Cut(s.Volumes[0], ":")
	if _, ok := doc.Volumes[volume]; !ok || dir != c.Log.Dir {
		t.Errorf("the volume %s is at %s, and the log in %s", volume, dir, c.Log.Dir)
	}
	if len(s.Configs) != 1 || doc.Configs[s.Configs[0].Source].File == "" || s.Command[len(s.Command)-1] != s.Configs[0].Target {
		t.Errorf("runs %v with %v", s.Command, s.Configs)
	}
	if !isCommand(s.Command[0]) {
		t.Errorf("%v is no command", s.Command)
	}
}
