// Package e2e tests the promises of Tailrace from outside: the real binary,
// built with the race detector, as a child process on loopback, with curl-like
// publishers, readers that resume, a browser, a proxy, and kill -9.
//
// What is random comes from a seed that is printed; -e2e.seed repeats it.
// TAILRACE_LONG=1 runs the long forms.
package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	// What is tested is a binary of its own; without this the test cache would
	// not see that it has changed.
	_ "github.com/tailrace/tailrace/internal/cli"
)

var (
	seedFlag  = flag.Uint64("e2e.seed", 0, "seed of what is random; 0 draws one")
	killsFlag = flag.Int("e2e.kills", 0, "how often the kill tests kill the server; 0 is 6, or 30 with TAILRACE_LONG=1")
	engine    = flag.String("e2e.engine", "auto", "engine of the servers: auto or portable")
	soakFlag  = flag.Duration("e2e.soak", soakDefault(), "how long TestSoak runs (also SOAK in the environment); 0 skips it")
)

// long says whether the long forms of the tests are asked for.
var long = os.Getenv("TAILRACE_LONG") == "1"

// scratch is a directory of this run, for the binaries.
var scratch string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "tailrace-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	return m.Run()
}

func soakDefault() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("SOAK"))
	return d
}

// binary returns the path of the command, built with the race detector.
func binary(t testing.TB) string { return built(t, raceBinary) }

// plainBinary is for tests that measure memory.
func plainBinary(t testing.TB) string { return built(t, leanBinary) }

func built(t testing.TB, build func() (string, error)) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	raceBinary = sync.OnceValues(func() (string, error) { return build("tailrace-race", "-race") })
	leanBinary = sync.OnceValues(func() (string, error) { return build("tailrace") })
)

func build(name string, flags ...string) (string, error) {
	path := filepath.Join(scratch, name)
	args := append(append([]string{"build"}, flags...), "-o", path, "../cmd/tailrace")
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// random returns the test's source of chance, whose seed is printed.
func random(t testing.TB) *rand.Rand {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed: -e2e.seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// kills returns how often a kill test kills the server.
func kills() int {
	switch {
	case *killsFlag > 0:
		return *killsFlag
	case long:
		return 30
	}
	return 6
}
