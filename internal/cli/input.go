package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/tailrace/tailrace/sse"
)

const (
	maxLine  = 16 << 20 // bytes of one line; the server's own limit is lower, and says so
	maxItems = 1000     // of one request, as the server takes them
	maxBytes = 4 << 20  // of one request, half of what the server takes
)

// item is one event of the input, as it goes into a request.
type item struct {
	ordinal int // from 0
	place   int // line or event of the input, from 1
	body    []byte
}

// batch is the events of one request.
type batch struct{ items []item }

func (b batch) body(separator string) []byte {
	var body []byte
	for i := range b.items {
		body = append(append(body, b.items[i].body...), separator...)
	}
	return body
}

// input is standard input on its way to the server.
type input struct {
	ctx   context.Context
	items chan item
	err   error // why reading ended, if not by the end of input; set before items is closed
}

// readInput reads ahead in a goroutine of its own, which ends with the input
// or, as a read from a terminal or pipe cannot be broken off, with the next
// item after the end of ctx.
func readInput(ctx context.Context, events iter.Seq2[item, error]) *input {
	in := &input{ctx: ctx, items: make(chan item, maxItems)}
	go func() {
		defer close(in.items)
		for it, err := range events {
			if err != nil {
				in.err = err
				return
			}
			if ctx.Err() != nil {
				return
			}
			select {
			case in.items <- it:
			case <-ctx.Done():
				return
			}
		}
	}()
	return in
}

// batches yields what has arrived, as soon as something has. It ends with the
// input, whose error comes last, or after the end of ctx with what was read
// until then.
func (in *input) batches() iter.Seq2[batch, error] {
	return func(yield func(batch, error) bool) {
		for {
			it, ok := in.next()
			if !ok {
				break
			}
			b, size := batch{[]item{it}}, len(it.body)
			for ok && len(b.items) < maxItems && size < maxBytes {
				if it, ok = in.arrived(); ok {
					b.items = append(b.items, it)
					size += len(it.body)
				}
			}
			if !yield(b, nil) {
				return
			}
		}
		if in.ctx.Err() == nil && in.err != nil {
			yield(batch{}, in.err)
		}
	}
}

// arrived returns an item that has been read already.
func (in *input) arrived() (item, bool) {
	select {
	case it, ok := <-in.items:
		return it, ok
	default:
		return item{}, false
	}
}

// next waits for an item, but not longer than ctx lasts.
func (in *input) next() (item, bool) {
	if it, ok := in.arrived(); ok {
		return it, true
	}
	select {
	case it, ok := <-in.items:
		return it, ok
	case <-in.ctx.Done():
		return in.arrived()
	}
}

// reader returns the events of standard input in the form that the flags say.
// Those that have no id get prefix.ordinal.
func (p *publisher) reader(prefix string) iter.Seq2[item, error] {
	switch {
	case p.options.sse:
		return p.blocks()
	case p.options.ndjson:
		return p.lines(func(line []byte, ordinal int) ([]byte, error) {
			return withID(line, fmt.Sprintf("%s.%d", prefix, ordinal))
		})
	}
	return p.lines(func(line []byte, ordinal int) ([]byte, error) {
		if !utf8.Valid(line) {
			return nil, errors.New("is not UTF-8")
		}
		return json.Marshal(struct {
			ID    string `json:"id"`
			Event string `json:"event,omitempty"`
			Key   string `json:"key,omitempty"`
			Data  string `json:"data"`
		}{fmt.Sprintf("%s.%d", prefix, ordinal), p.options.event, p.options.key, string(line)})
	})
}

// lines yields the input line by line; a line ends with LF or CR LF. encode
// returns nil for a line that is no event.
func (p *publisher) lines(encode func(line []byte, ordinal int) ([]byte, error)) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		r := bufio.NewReaderSize(p.in, 64<<10)
		ordinal := 0
		for place := 1; ; place++ {
			line, err := readLine(r)
			if err == io.EOF {
				return
			}
			var body []byte
			if err == nil {
				body, err = encode(line, ordinal)
			}
			if err != nil {
				yield(item{}, fmt.Errorf("line %d of the input: %w", place, err))
				return
			}
			if body == nil {
				continue
			}
			if !yield(item{ordinal, place, body}, nil) {
				return
			}
			ordinal++
		}
	}
}

// readLine returns the next line without its end. A last line that has no end
// counts.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("is longer than %d MiB", maxLine>>20)
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && len(line) > 0:
			return line, nil
		case err != nil:
			return nil, err
		}
		return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
	}
}

// withID puts an id into a JSON object that has none. All else of the line
// stays as it is, byte for byte.
func withID(line []byte, id string) ([]byte, error) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 {
		return nil, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(line, &members); err != nil {
		return nil, fmt.Errorf("is not a JSON object: %w", err)
	}
	if _, ok := members["id"]; ok {
		return line, nil
	}
	comma := ","
	if len(members) == 0 {
		comma = ""
	}
	quoted, err := json.Marshal(id)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `%s%s"id":%s}`, line[:len(line)-1], comma, quoted), nil
}

// blocks yields the events of an event stream. Control events of another
// Tailrace are left out, but a gap ends the input: what was lost there would
// be missing here without a word.
func (p *publisher) blocks() iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		ordinal, lastID := 0, ""
		for ev, err := range sse.Events(p.in) {
			if err != nil {
				yield(item{}, fmt.Errorf("event %d of the input: %w", ordinal+1, err))
				return
			}
			if ev.Type == "tailrace.gap" && !p.options.skipGaps {
				yield(item{}, fmt.Errorf("the input has a gap before event %d: %s (--skip-gaps carries on)", ordinal+1, ev.Data))
				return
			}
			// A decoder gives an event without an id line the last id; only an
			// id that is new is the event's own.
			id := ev.ID
			if ev.ID == lastID {
				ev.ID = ""
			}
			lastID = id
			if strings.HasPrefix(ev.Type, "tailrace.") {
				continue
			}
			body, err := ev.AppendText(nil)
			if err != nil {
				yield(item{}, fmt.Errorf("event %d of the input: %w", ordinal+1, err))
				return
			}
			if !yield(item{ordinal, ordinal + 1, body}, nil) {
				return
			}
			ordinal++
		}
	}
}
