package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace/internal/doctor"
)

func (a *app) doctorCommand() *cobra.Command {
	var o doctor.Options
	var asJSON bool
	var streams int
	cmd := &cobra.Command{
		Use:   "doctor <url>",
		Short: "Find what is wrong between a server and its clients",
		Long: `Looks at a server from here, through whatever proxies are between, and says what
is wrong, how it shows, and what to change: proxies that hold events back or cut
silent streams, compression, HTTP versions, lost Last-Event-ID, CORS, headers,
TLS, clocks, limits of connections.

It publishes five small events to a topic of its own, or to --topic, and watches
a silent stream until its first heartbeat, or for as long as --wait says.

Exit code 0: no fault. 4: the token may not read the topic. 5: nothing answers.
6: there are faults.`,
		Example: `  tailrace doctor https://events.example.com
  tailrace doctor https://events.example.com --origin https://app.example.com --wait 2m
  tailrace doctor localhost:8080 --topic demo --json`,
		Args: cobra.ExactArgs(1),
		RunE: a.run(func(ctx context.Context, args []string) error {
			o.URL, o.UserAgent = args[0], userAgent()
			if o.Token == "" {
				o.Token = a.getenv("TAILRACE_TOKEN")
			}
			if o.Streams = streams; streams == 0 {
				o.Streams = -1
			}
			report, err := doctor.Examine(ctx, o)
			if len(report.Findings) > 0 {
				if perr := a.printReport(report, asJSON); perr != nil {
					return perr
				}
			}
			switch {
			case ctx.Err() != nil:
				return exit(exitInterrupted, nil)
			case errors.Is(err, doctor.ErrRefused):
				return exit(exitRefused, nil)
			case errors.Is(err, doctor.ErrUnreachable):
				return exit(exitUnreachable, nil)
			case err != nil:
				return exit(exitUsage, err)
			case report.Count(doctor.Fault) > 0:
				return exit(exitUnhealthy, nil)
			}
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Token, "token", "", "bearer token (TAILRACE_TOKEN)")
	flags.StringVar(&o.Topic, "topic", "", "topic to publish to and to read (default a new one under doctor/)")
	flags.BoolVar(&o.ReadOnly, "read-only", false, "publish nothing")
	flags.StringVar(&o.Origin, "origin", "", "origin of the pages that subscribe, such as https://app.example.com")
	flags.DurationVar(&o.Wait, "wait", 0, "how long a silent stream is watched (default until its first heartbeat, at most 30s)")
	flags.IntVar(&streams, "streams", 8, "how many streams are opened at once; 0 is none")
	flags.BoolVar(&asJSON, "json", false, "the report as JSON")
	return cmd
}

// Colours of findings, besides those of events.
const (
	red   = "\x1b[31m"
	green = "\x1b[32m"
)

// levels are what a finding's level is called and its colour.
var levels = map[doctor.Level]struct{ word, colour string }{
	doctor.OK:     {"ok", green},
	doctor.Fault:  {"FAULT", red},
	doctor.Advice: {"advice", yellow},
	doctor.Unseen: {"unseen", dim},
}

// printReport writes a report to stdout: the findings in one column, and what
// belongs to each below it.
func (a *app) printReport(r *doctor.Report, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	p := newPrinter(a.out, false, isTerminal(a.out), a.getenv("NO_COLOR") != "")
	paint := func(colour, text string) string {
		if !p.colour {
			return text
		}
		return colour + text + reset
	}
	var b strings.Builder
	head := r.URL
	for _, part := range []string{r.Protocol, r.Proxy} {
		if part != "" {
			head += "  " + part
		}
	}
	fmt.Fprintf(&b, "%s\n\n", p.safe(head))
	for _, f := range r.Findings {
		level := levels[f.Level]
		fmt.Fprintf(&b, "%s  %-11s  %s\n", paint(level.colour, fmt.Sprintf("%-6s", level.word)), f.Check, p.safe(f.What))
		detail := func(name, text string) {
			if text != "" {
				fmt.Fprintf(&b, "%21s%s\n", "", paint(dim, name+":")+" "+p.safe(text))
			}
		}
		if f.Level != doctor.OK {
			detail("seen", f.How)
			detail("change", f.Change)
			for _, c := range f.Config {
				detail(c.Proxy, c.Line)
			}
		}
	}
	fmt.Fprintf(&b, "\n%s\n", summary(r))
	_, err := a.out.Write([]byte(b.String()))
	return err
}

// summary is the last line of a report.
func summary(r *doctor.Report) string {
	faults := "no fault"
	switch n := r.Count(doctor.Fault); n {
	case 0:
	case 1:
		faults = "1 fault"
	default:
		faults = fmt.Sprintf("%d faults", n)
	}
	return fmt.Sprintf("%s, %d to consider, %d in order, %d not seen", faults, r.Count(doctor.Advice), r.Count(doctor.OK), r.Count(doctor.Unseen))
}
