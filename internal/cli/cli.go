// Package cli is the command tailrace: its commands, what they print, and
// their exit codes. Data goes to stdout, everything else to stderr.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tailrace/tailrace/internal/nearest"
)

// Exit codes. They are part of the command's contract.
const (
	exitDone          = 0
	exitFailed        = 1
	exitUsage         = 2
	exitConfiguration = 3
	exitRefused       = 4 // the server refuses the credentials
	exitUnreachable   = 5
	exitUnhealthy     = 6
	exitGap           = 7 // sub --strict
	exitInterrupted   = 130
)

// exitError is an error that has a code of its own. With no err the code says
// all.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func exit(code int, err error) error { return &exitError{code, err} }

// app is one run of the command.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      []string
	server   string // --server
	started  bool   // a command runs; before that an error is one of usage
}

// Main runs the process's command line and returns its exit code. The first
// SIGINT or SIGTERM asks the command to end in good order, the second ends the
// process now.
func Main() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	signal.Ignore(syscall.SIGPIPE) // a closed stdout is an error of the write, which ends sub in good order
	return Run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
}

// Run runs one command line and returns its exit code. Cancelling ctx is the
// first signal.
func Run(ctx context.Context, args, env []string, in io.Reader, out, errw io.Writer) int {
	a := &app{in: in, out: out, err: errw, env: env}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	var coded *exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &coded):
		if coded.err != nil {
			a.note("%v", coded.err)
		}
		return coded.code
	case errors.Is(err, syscall.EPIPE):
		return exitDone // who read our output has had enough
	case !a.started:
		a.note("%v", err)
		return exitUsage
	default:
		a.note("%v", err)
		return exitFailed
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "tailrace",
		Short: "Server-Sent Events, with nothing lost",
		Long: `Tailrace publishes and streams events by Server-Sent Events, and keeps them on
disk, so that every subscriber gets every event after its last one, in order.

  tailrace serve --dev
  tailrace pub demo hello
  tailrace sub demo --from start`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(a.tokenCommand(), a.keysCommand(), a.serveCommand(), a.pubCommand(), a.subCommand(), a.configCommand(),
		a.healthcheckCommand(), a.doctorCommand(), a.versionCommand())
	return root
}

// run adapts the body of a command.
func (a *app) run(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.started = true
		return f(cmd.Context(), args)
	}
}

// flagError names the nearest flag, and where the list is.
func flagError(cmd *cobra.Command, err error) error {
	hint := ""
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := nearest.Name(unknown.GetSpecifiedName(), names); near != "" {
			hint = "; did you mean --" + near + "?"
		}
	}
	return fmt.Errorf("%w%s (%s --help lists them)", err, hint, cmd.CommandPath())
}

// note tells the person at the terminal something, on stderr.
func (a *app) note(format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf(format, args...), "\n")
	for line := range strings.Lines(text) {
		fmt.Fprintf(a.err, "tailrace: %s\n", strings.TrimPrefix(strings.TrimRight(line, "\n"), "tailrace: "))
	}
}

// getenv returns a variable of the environment, or "".
func (a *app) getenv(name string) string {
	for _, entry := range a.env {
		if n, value, _ := strings.Cut(entry, "="); n == name {
			return value
		}
	}
	return ""
}

// isTerminal says whether a person is at the other end of a stream.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
