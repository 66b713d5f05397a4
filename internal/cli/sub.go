package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/sse"
)

// subOptions are the flags of sub.
type subOptions struct {
	from       string
	snapshot   bool
	json       bool
	count      int
	cursorFile string
	strict     bool
}

func (a *app) subCommand() *cobra.Command {
	var o subOptions
	cmd := &cobra.Command{
		Use:   "sub <selector...>",
		Short: "Subscribe to topics and patterns",
		Long: `Prints the events of topics and patterns as they come. In a pattern * is one
segment of a name and ** at its end is the rest.

It reconnects by itself and goes on after the last event that it printed. Where
events are missing, it says so on stderr.`,
		Example: `  tailrace sub demo --from start
  tailrace sub 'host/**' orders/eu
  tailrace sub orders/eu --json --cursor-file orders.cursor | ./import`,
		Args: cobra.MinimumNArgs(1),
		RunE: a.run(func(ctx context.Context, selectors []string) error {
			s := &subscriber{app: a, options: o}
			return s.run(ctx, selectors)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.from, "from", "", "where to begin: new, start, last:N, a time such as 2026-01-31T12:00:00Z, or -10m (default new)")
	f.BoolVar(&o.snapshot, "snapshot", false, "begin with the last event of each key")
	f.BoolVar(&o.json, "json", false, "print each event as one line of JSON")
	f.IntVar(&o.count, "count", 0, "end after so many events")
	f.StringVar(&o.cursorFile, "cursor-file", "", "keep the place in this file and go on there the next time")
	f.BoolVar(&o.strict, "strict", false, "end with exit code 7 if events were missing")
	a.serverFlag(cmd)
	return cmd
}

// subscriber prints one stream.
type subscriber struct {
	*app
	options subOptions
	printer printer
	cursor  *cursorFile
	printed int
	gap     bool
	lost    bool // the person knows that there is no connection
}

func (s *subscriber) run(ctx context.Context, selectors []string) error {
	// The envelope tells topic, key and time, and cursors hold on every
	// selection; hello brings a cursor before the first event.
	query := url.Values{"topic": selectors, "meta": {"1"}, "ids": {"cursor"}, "hello": {"1"}}
	if s.options.from != "" {
		query.Set("from", s.options.from)
	}
	if s.options.snapshot {
		query.Set("snapshot", "1")
	}
	target, err := s.url("/v1/events", query)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return exit(exitUsage, err)
	}
	req.Header.Set("User-Agent", userAgent())
	req.Header.Set("Tailrace-Client", userAgent())
	if s.options.cursorFile != "" {
		s.cursor, err = openCursorFile(s.options.cursorFile)
		if err != nil {
			return err
		}
		if id := s.cursor.id; id != "" {
			req.Header.Set("Last-Event-ID", id)
		}
	}
	s.printer = newPrinter(s.out, s.options.json, isTerminal(s.out), s.getenv("NO_COLOR") != "")
	err = s.stream(ctx, req)
	if s.cursor != nil {
		if cerr := s.cursor.close(); err == nil && cerr != nil {
			return cerr
		}
	}
	switch {
	case err != nil:
		return err
	case s.options.strict && s.gap:
		return exit(exitGap, nil)
	case ctx.Err() != nil:
		return exit(exitInterrupted, nil)
	}
	return nil
}

// stream prints events until there are enough of them, the server has ended
// the stream, or ctx has ended.
func (s *subscriber) stream(ctx context.Context, req *http.Request) error {
	client := &sse.Client{
		OnOpen: func(*http.Response) {
			if s.lost {
				s.note("connected again")
				s.lost = false
			}
		},
		OnRetry: func(err error, delay time.Duration) { s.retries(err) },
	}
	conn, err := client.Do(req)
	if err == nil {
		defer conn.Close()
		for ev, everr := range conn.Events() {
			if everr != nil {
				err = everr
				break
			}
			done, perr := s.event(&ev)
			if perr != nil {
				return perr
			}
			if s.cursor != nil {
				if err := s.cursor.set(conn.LastEventID()); err != nil {
					return err
				}
			}
			if done {
				return nil
			}
		}
	}
	var refused *sse.ResponseError
	switch {
	case err == nil || ctx.Err() != nil:
		return nil
	case errors.As(err, &refused):
		return failure(readRefusal(refused.StatusCode, refused.Header, refused.Body))
	}
	return failure(err)
}

// retries tells once that the connection is gone.
func (s *subscriber) retries(err error) {
	if s.lost {
		return
	}
	s.lost = true
	var refused *sse.ResponseError
	switch {
	case errors.As(err, &refused):
		err = readRefusal(refused.StatusCode, refused.Header, refused.Body)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the connection has ended")
	default:
		err = unreachable(err)
	}
	s.note("%v; trying again", err)
}

// event prints ev and says whether that was the last one wanted.
func (s *subscriber) event(ev *sse.Event) (done bool, err error) {
	switch ev.Type {
	case tailrace.TypeGap:
		var gap struct{ Reason, Requested, Oldest string }
		if err := json.Unmarshal(ev.Data, &gap); err != nil {
			return false, fmt.Errorf("the server announces a gap that cannot be read: %w", err)
		}
		s.gap = true
		s.note("gap: events after %s are missing (%s)", orNone(gap.Requested), gap.Reason)
		return false, nil
	case tailrace.TypeEnd:
		s.note("the topic has ended")
		return false, nil
	}
	if strings.HasPrefix(ev.Type, tailrace.ReservedTypePrefix) {
		return false, nil
	}
	if err := s.printer.print(ev); err != nil {
		return false, err
	}
	s.printed++
	return s.printed == s.options.count, nil
}

func orNone(id string) string {
	if id == "" {
		return "the place asked for"
	}
	return id
}
