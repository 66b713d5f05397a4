package ssetest_test

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tailrace/tailrace/sse"
	"github.com/tailrace/tailrace/ssetest"
)

func TestConformance(t *testing.T) {
	ssetest.Conformance(t, os.DirFS("../testdata"), func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
		return sse.NewDecoder(r, opts)
	})
}

// failures counts what a test reports instead of failing.
type failures struct {
	testing.TB
	reports []string
}

func (f *failures) Errorf(format string, args ...any) {
	f.reports = append(f.reports, fmt.Sprintf(format, args...))
}

// broken is a right decoder but for one fault.
type broken struct {
	*sse.Decoder
	change func(ev *sse.Event)
	id     string
	retry  time.Duration
}

func (b broken) Decode(ev *sse.Event) error {
	err := b.Decoder.Decode(ev)
	if err == nil && b.change != nil {
		b.change(ev)
	}
	return err
}

func (b broken) LastEventID() string { return b.id + b.Decoder.LastEventID() }

func (b broken) Retry() (time.Duration, bool) {
	d, ok := b.Decoder.Retry()
	return d + b.retry, ok
}

func TestConformanceSeesFaults(t *testing.T) {
	right := func(r io.Reader, opts *sse.DecoderOptions) broken {
		return broken{Decoder: sse.NewDecoder(r, opts)}
	}
	faults := map[string]func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder{
		"data": func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
			b := right(r, opts)
			b.change = func(ev *sse.Event) { ev.Data = append(ev.Data, ' ') }
			return b
		},
		"type": func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
			b := right(r, opts)
			b.change = func(ev *sse.Event) { ev.Type = "message" }
			return b
		},
		"id": func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
			b := right(r, opts)
			b.change = func(ev *sse.Event) { ev.ID = "" }
			return b
		},
		"retry of an event": func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
			b := right(r, opts)
			b.change = func(ev *sse.Event) { ev.Retry = 0 }
			return b
		},
		"comments": func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
			o := *opts
			o.OnComment = nil
			return right(r, &o)
		},
		"first last event id": func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
			o := *opts
			o.LastEventID = ""
			return right(r, &o)
		},
		"final last event id": func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
			b := right(r, opts)
			b.id = "x"
			return b
		},
		"final retry": func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
			b := right(r, opts)
			b.retry = 1
			return b
		},
		"reads ahead": func(r io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
			return right(&readAhead{bufio.NewReader(r)}, opts)
		},
		"fails": func(io.Reader, *sse.DecoderOptions) ssetest.Decoder {
			b := right(brokenReader{}, nil)
			return b
		},
		"loses everything": func(_ io.Reader, opts *sse.DecoderOptions) ssetest.Decoder {
			return right(eofReader{}, opts)
		},
	}
	small := smallStreams(t)
	for name, newDecoder := range faults {
		t.Run(name, func(t *testing.T) {
			f := &failures{TB: t}
			ssetest.Conformance(f, small, newDecoder)
			if len(f.reports) == 0 {
				t.Error("the fault was not seen")
			}
		})
	}
}

// smallStreams are the golden streams but for those that test sizes, which take their time.
func smallStreams(t *testing.T) fs.FS {
	all := os.DirFS("../testdata")
	names, err := fs.Glob(all, "streams/*")
	if err != nil {
		t.Fatal(err)
	}
	small := fstest.MapFS{}
	for _, name := range names {
		if strings.HasPrefix(name, "streams/size-") {
			continue
		}
		data, err := fs.ReadFile(all, name)
		if err != nil {
			t.Fatal(err)
		}
		small[name] = &fstest.MapFile{Data: data}
	}
	return small
}

// readAhead wants the byte that follows before it gives one.
type readAhead struct{ r *bufio.Reader }

func (a *readAhead) Read(p []byte) (int, error) {
	n, err := a.r.Read(p[:min(1, len(p))])
	_, _ = a.r.Peek(1)
	return n, err
}

type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }
