package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKillNine: eight publishers, eight readers, and a server that is killed
// without warning again and again. What was acknowledged reaches every reader
// once and in order; there is no gap and no duplicate.
func TestKillNine(t *testing.T) {
	t.Parallel()
	for _, engine := range engines() {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			killNine(t, random(t), kills(), "--engine="+engine)
		})
	}
}

// engines are those of delivery that are tested.
func engines() []string {
	if *engine != "auto" {
		return []string{*engine}
	}
	return []string{"auto", "portable"}
}

// TestKillNineWithRetention: the same while events are removed underneath. Every
// loss is announced by a gap event.
func TestKillNineWithRetention(t *testing.T) {
	t.Parallel()
	killNineWithRetention(t, random(t), kills())
}

// TestSoak runs both, each time in a new directory, for as long as -e2e.soak
// says.
func TestSoak(t *testing.T) {
	if *soakFlag == 0 {
		t.Skip("runs for as long as -e2e.soak, or SOAK in the environment, says")
	}
	chance := random(t)
	for end := time.Now().Add(*soakFlag); time.Now().Before(end) && !t.Failed(); {
		for _, engine := range engines() {
			t.Run("kill/"+engine, func(t *testing.T) { killNine(t, chance, 30, "--engine="+engine) })
		}
		t.Run("retention", func(t *testing.T) { killNineWithRetention(t, chance, 30) })
	}
}

func killNine(t *testing.T, chance *rand.Rand, kills int, flags ...string) {
	s := startServer(t, flags...)
	l := startLoad(t, s, chance, nil)
	for range kills {
		murder(s, l, chance)
	}
	judge(t, l)
	s.stop()
}

const retention = `
policies:
  - {pattern: load/hot, count: 40}
  - {pattern: "load/*", count: 10}
  - {pattern: "deep/**", bytes: 2KiB}
`

// What the policies and the trims certainly keep of a topic, in events.
func retained() map[string]int {
	return map[string]int{hotTopic: 40, "load/a": 5, "load/b": 10, "deep/a/x": 5, "deep/b": 5}
}

func killNineWithRetention(t *testing.T, chance *rand.Rand, kills int) {
	file := filepath.Join(t.TempDir(), "tailrace.yaml")
	if err := os.WriteFile(file, []byte(retention), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, "--config", file)
	l := startLoad(t, s, chance, retained())
	l.pubs.Go(func() { l.trim("load/a", 5) })
	for range kills {
		murder(s, l, chance)
	}
	h := judge(t, l)
	if h.gaps() == 0 {
		t.Error("no reader was ever told of a loss: the test has tested nothing")
	}
	s.stop()
}

// murder kills the server at a random moment of its work, one time in four once
// more before it is up, and starts it again.
func murder(s *server, l *load, chance *rand.Rand) {
	if !l.progress(chance.IntN(500)) {
		s.dump()
		s.t.Fatal("publishing does not get on")
	}
	time.Sleep(time.Duration(chance.IntN(20_000)) * time.Microsecond)
	s.kill()
	if chance.IntN(4) == 0 {
		s.spawn()
		time.Sleep(time.Duration(chance.IntN(500)) * time.Millisecond)
		s.kill()
	}
	s.start()
}

// judge ends the load and reports every fault.
func judge(t *testing.T, l *load) *history {
	t.Helper()
	h := l.finish()
	t.Log(h.summary())
	if found := h.faults(); len(found) > 0 {
		t.Errorf("%d faults, the first of them:\n%s", len(found), strings.Join(found[:min(len(found), 20)], "\n"))
	}
	return h
}
