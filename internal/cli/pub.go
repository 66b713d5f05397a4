package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// pubOptions are the flags of pub.
type pubOptions struct {
	event, id, key string
	ndjson, sse    bool
	skipGaps       bool
	json           bool
	retry          time.Duration
}

func (a *app) pubCommand() *cobra.Command {
	var o pubOptions
	cmd := &cobra.Command{
		Use:   "pub <topic> [data]",
		Short: "Publish an event, or standard input event by event",
		Long: `Publishes data to a topic, or, without data, every line of standard input as an
event of its own, as it comes. It ends when the server has stored everything.

Every event has an id, given or made up, and so is stored once however often it
must be sent. While the server cannot be reached, input waits.`,
		Example: `  tailrace pub demo hello
  tailrace pub orders/eu '{"total":7}' --event created --key o-1
  while sleep 1; do cat /proc/loadavg; done | tailrace pub host/load
  curl -N https://example.com/stream | tailrace pub copy --sse`,
		Args: cobra.RangeArgs(1, 2),
	}
	f := cmd.Flags()
	f.StringVar(&o.event, "event", "", "type of the events")
	f.StringVar(&o.id, "id", "", "id of the event; with standard input the events get ID.0, ID.1 and so on, so that the same input again is stored once")
	f.StringVar(&o.key, "key", "", "state key of the events")
	f.BoolVar(&o.ndjson, "ndjson", false, `standard input has a JSON object a line: {"event","id","key","data",...}`)
	f.BoolVar(&o.sse, "sse", false, "standard input is an event stream")
	f.BoolVar(&o.skipGaps, "skip-gaps", false, "with --sse: carry on where the stream says that it has a gap")
	f.BoolVar(&o.json, "json", false, "print what the server answers for each event")
	f.DurationVar(&o.retry, "retry", 0, "how long to keep trying while the server cannot take an event (default: for ever with standard input, else not at all)")
	a.serverFlag(cmd)
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error { return o.check(len(args) == 2) }
	cmd.RunE = a.run(func(ctx context.Context, args []string) error {
		if !f.Changed("retry") && len(args) == 1 {
			o.retry = -1
		}
		p := &publisher{app: a, topic: args[0], options: o}
		if len(args) == 2 {
			return p.one(ctx, args[1])
		}
		return p.input(ctx)
	})
	return cmd
}

// check reports flags that contradict each other.
func (o *pubOptions) check(data bool) error {
	switch {
	case o.ndjson && o.sse:
		return errors.New("--ndjson and --sse are two forms of standard input; give one")
	case data && (o.ndjson || o.sse):
		return errors.New("--ndjson and --sse read standard input; leave the data out")
	case (o.ndjson || o.sse) && (o.event != "" || o.key != ""):
		return errors.New("--event and --key belong into the input's own events with --ndjson and --sse")
	case o.skipGaps && !o.sse:
		return errors.New("--skip-gaps needs --sse")
	}
	return nil
}

// publisher sends events to one topic.
type publisher struct {
	*app
	topic   string
	options pubOptions
	stored  int  // events that the server has acknowledged
	waiting bool // the person knows that the server cannot take events now
}

// one publishes data as it is.
func (p *publisher) one(ctx context.Context, data string) error {
	id := p.options.id
	if id == "" {
		id = newID()
	}
	query := url.Values{"id": {id}}
	if p.options.event != "" {
		query.Set("event", p.options.event)
	}
	if p.options.key != "" {
		query.Set("key", p.options.key)
	}
	answer, err := p.post(ctx, query, "text/plain; charset=utf-8", []byte(data))
	if err != nil {
		return err
	}
	if p.options.json {
		return p.printJSON(answer)
	}
	return nil
}

// input publishes standard input. What has arrived together is one request,
// so that a slow source is sent at once and a fast one in batches.
func (p *publisher) input(ctx context.Context) error {
	prefix := p.options.id
	if prefix == "" {
		prefix = newID()
	}
	if isTerminal(p.in) {
		p.note("each line is an event; Ctrl-D ends")
	}
	in := readInput(ctx, p.reader(prefix))
	for b, err := range in.batches() {
		if err != nil {
			return err
		}
		if err := p.send(ctx, prefix, b); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return exit(exitInterrupted, nil)
	}
	return nil
}

// newID returns an id that nobody else makes up; 80 random bits.
func newID() string { return rand.Text()[:16] }

// send publishes a batch. A batch of lines is all or nothing; if one of them
// is refused, those before it are stored all the same.
func (p *publisher) send(ctx context.Context, prefix string, b batch) error {
	var answer []byte
	var err error
	if p.options.sse {
		query := url.Values{"upload": {prefix}, "upload_from": {fmt.Sprint(b.items[0].ordinal)}}
		answer, err = p.post(ctx, query, "text/event-stream", b.body(""))
	} else {
		answer, err = p.post(ctx, nil, "application/x-ndjson", b.body("\n"))
	}
	var r *refusal
	if err != nil && errors.As(err, &r) && r.status < 500 && len(b.items) > 1 && !p.options.sse {
		for _, it := range b.items {
			if err := p.send(ctx, prefix, batch{[]item{it}}); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		place := fmt.Sprintf("line %d", b.items[0].place)
		if len(b.items) > 1 {
			place = fmt.Sprintf("lines %d to %d", b.items[0].place, b.items[len(b.items)-1].place)
		}
		if p.options.sse {
			place = strings.Replace(place, "line", "event", 1)
		}
		var coded *exitError
		if errors.As(err, &coded) && coded.err != nil {
			coded.err = fmt.Errorf("%s of the input: %w (%d stored before)", place, coded.err, p.stored)
		}
		return err
	}
	p.stored += len(b.items)
	if p.options.json {
		return p.printResults(answer)
	}
	return nil
}

// post sends one request until the server has acknowledged it. Everything in
// it has an id, so sending it again is safe.
func (p *publisher) post(ctx context.Context, query url.Values, contentType string, body []byte) ([]byte, error) {
	target, err := p.url(topicPath(p.topic), query)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	for n := 0; ; n++ {
		answer, err := attempt(ctx, target, contentType, body)
		if err == nil {
			if p.waiting {
				p.note("published again")
				p.waiting = false
			}
			return answer, nil
		}
		if !isPassing(err) {
			return nil, failure(err)
		}
		delay := retryDelay(err, n)
		if p.options.retry >= 0 && time.Since(start)+delay > p.options.retry {
			return nil, failure(err)
		}
		if !p.waiting {
			p.note("%v; trying again", unreachable(err))
			p.waiting = true
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, exit(exitInterrupted, errors.New("interrupted; not published: "+unreachable(err).Error()))
		}
	}
}

func (p *publisher) printJSON(answer []byte) error {
	_, err := fmt.Fprintf(p.out, "%s\n", strings.TrimSpace(string(answer)))
	return err
}

// printResults prints the results of a batch, one a line.
func (p *publisher) printResults(answer []byte) error {
	var batch struct{ Results []json.RawMessage }
	if err := json.Unmarshal(answer, &batch); err != nil || batch.Results == nil {
		return p.printJSON(answer)
	}
	for _, result := range batch.Results {
		if err := p.printJSON(result); err != nil {
			return err
		}
	}
	return nil
}
