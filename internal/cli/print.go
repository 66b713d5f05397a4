package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/tailrace/tailrace/sse"
)

// printer writes events to stdout, each with one write as soon as it is there.
type printer struct {
	out      io.Writer
	json     bool
	terminal bool // control characters are shown, not obeyed
	colour   bool
}

func newPrinter(out io.Writer, asJSON, terminal, noColour bool) printer {
	return printer{out: out, json: asJSON, terminal: terminal, colour: terminal && !noColour}
}

// envelope is what the server wraps an event in.
type envelope struct {
	Topic string    `json:"topic"`
	Event string    `json:"event"`
	Key   string    `json:"key"`
	ID    string    `json:"id"`
	Time  time.Time `json:"time"`
	Data  string    `json:"data"`
}

// Colours of a terminal (ECMA-48, SGR).
const (
	dim    = "\x1b[2m"
	cyan   = "\x1b[36m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

// print writes one event. Its data is the envelope, which is one line of JSON
// already.
func (p printer) print(ev *sse.Event) error {
	if p.json {
		_, err := p.out.Write(append(ev.Data, '\n'))
		return err
	}
	var e envelope
	if err := json.Unmarshal(ev.Data, &e); err != nil {
		return fmt.Errorf("the server sends no envelope: %w", err)
	}
	var b bytes.Buffer
	p.word(&b, dim, e.Time.Local().Format("15:04:05.000"))
	p.word(&b, cyan, e.Topic)
	if e.Event != "" {
		p.word(&b, yellow, e.Event)
	}
	if e.Key != "" {
		p.word(&b, dim, "["+e.Key+"]")
	}
	b.WriteString(strings.ReplaceAll(p.safe(e.Data), "\n", "\n  "))
	b.WriteByte('\n')
	_, err := p.out.Write(b.Bytes())
	return err
}

func (p printer) word(b *bytes.Buffer, colour, text string) {
	if p.colour {
		b.WriteString(colour + p.safe(text) + reset)
	} else {
		b.WriteString(p.safe(text))
	}
	b.WriteString("  ")
}

// safe shows control characters in place of letting a publisher drive the
// reader's terminal with them.
func (p printer) safe(text string) string {
	if !p.terminal || strings.IndexFunc(text, isControl) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isControl(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isControl(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\t'
}
