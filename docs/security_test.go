package docs_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/internal/auth"
)

// TestCommandsOfTheSecurityPage runs them against a server with the page's two
// keys, and an issuer.
func TestCommandsOfTheSecurityPage(t *testing.T) {
	for _, tool := range []string{"sh", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s on this machine: the commands of the documentation are not tested", tool)
		}
	}
	text := read(t, "security.md")
	const secret = "0123456789abcdef0123456789abcdef"
	env := environment()
	_, yaml, _ := strings.Cut(text, "```yaml\n")
	yaml, _, _ = strings.Cut(yaml, "```\n")
	for _, name := range []string{"app", "admin"} {
		key, hash, err := auth.NewKey(name)
		if err != nil {
			t.Fatal(err)
		}
		yaml = strings.Replace(yaml, "sha256:…", hash, 1)
		env = append(env, strings.ToUpper(name)+"="+key)
	}
	yaml += "  issuers:\n    - {iss: \"https://id.example.com\", aud: [tailrace], algs: [HS256], secret: " + secret + "}\n"
	signer, err := auth.NewSecretKey([]byte(secret), "")
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(nil, map[string]any{
		"iss": "https://id.example.com", "aud": "tailrace", "sub": "u7", "exp": time.Now().Add(time.Hour).Unix(),
		"tailrace": map[string]any{"subscribe": []string{"room/*"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, "TOKEN="+token)

	dir := t.TempDir()
	file := filepath.Join(dir, "tailrace.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	address := serveGuarded(t, file, filepath.Join(dir, "data"))
	list := steps(text)
	if len(list) < 5 {
		t.Fatalf("only %d commands are found", len(list))
	}
	for _, s := range list {
		got := shell(t, strings.ReplaceAll(s.command, "localhost:8080", address), env, s.output)
		if !pattern(s.output).MatchString(got) {
			t.Errorf("%sprints\n%s\nand not\n%s", s.command, got, s.output)
		}
	}
}

// serveGuarded runs a server with a configuration on a free port and returns
// its address.
func serveGuarded(t *testing.T, file, data string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "serve", "--config", file, "--listen.http", "127.0.0.1:0", "--log.dir", data)
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
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := regexp.MustCompile(`is at http://(127\.0\.0\.1:\d+)`).FindStringSubmatch(lines.Text()); m != nil {
			return m[1]
		}
		t.Log(lines.Text())
	}
	t.Fatal("the server did not start")
	return ""
}
