package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/cli"
)

// The names under which this program starts itself.
const (
	childServer = "child-server" // the server, which collects garbage when told to
	childWriter = "child-writer" // the reference of the replay
)

func child(name string, args []string) int {
	switch name {
	case childServer:
		return serveAndCollect(args)
	case childWriter:
		return serveFile(args)
	}
	fmt.Fprintln(os.Stderr, "bench: no such child:", name)
	return 2
}

// serveAndCollect is the command tailrace that, for each line on its standard
// input, collects garbage, gives memory back, and answers with a line.
func serveAndCollect(args []string) int {
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			debug.FreeOSMemory()
			fmt.Println("collected")
		}
		os.Exit(0) // the benchmark has gone
	}()
	os.Args = append([]string{"tailrace"}, args...)
	return cli.Main()
}

// writeSize is what a stream joins into one write when it replays.
const writeSize = 32 << 10

// serveFile is what net/http takes to send an event stream: args are the
// address and a file, which each request gets in writes of writeSize.
func serveFile(args []string) int {
	stream, err := os.ReadFile(args[1])
	if err == nil {
		err = http.ListenAndServe(args[0], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			rc := http.NewResponseController(w)
			for rest := stream; len(rest) > 0; {
				n, err := w.Write(rest[:min(len(rest), writeSize)])
				if err != nil || rc.Flush() != nil {
					return
				}
				rest = rest[n:]
			}
			<-r.Context().Done() // a stream has no end
		}))
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

// process is a server that was started to be measured.
type process struct {
	addr   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	exited chan struct{}
	err    error // once exited is closed
}

// start runs a server that gets its address from args and waits until it
// accepts connections.
func (l *lab) start(ctx context.Context, program string, args func(addr string) []string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	p := &process{addr: addr, exited: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, program, args(addr)...)
	p.cmd.Stderr = l.notes
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return p, nil
		}
		select {
		case <-p.exited:
			return nil, fmt.Errorf("%s has ended: %w (-v shows why)", filepath.Base(program), p.err)
		default:
		}
	}
	p.stop()
	return nil, fmt.Errorf("%s does not accept connections on %s", filepath.Base(program), addr)
}

// stop ends the process as an operator would, and insists after a while.
func (p *process) stop() {
	p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.exited:
	case <-time.After(15 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
	}
}

// collect makes a childServer collect its garbage.
func (p *process) collect() error {
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		return err
	}
	_, err := p.out.ReadString('\n')
	return err
}

// resident is the process's resident memory in bytes.
func (p *process) resident() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("resident memory is known on Linux only: %w", err)
	}
	_, rest, _ := bytes.Cut(b, []byte("VmRSS:"))
	kb, _, ok := strings.Cut(strings.TrimSpace(string(rest)), " kB")
	n, err := strconv.ParseInt(kb, 10, 64)
	if !ok || err != nil {
		return 0, errors.New("/proc tells no resident memory")
	}
	return n << 10, nil
}

// freeAddr is an address on loopback that nothing listens on.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// serverArgs are the arguments of the command tailrace for a log in dir.
func serverArgs(dir string) func(addr string) []string {
	return func(addr string) []string {
		return []string{"serve", "--dev", "--listen.http", addr, "--log.dir", dir, "--telemetry.log.level", "warn"}
	}
}
