package ssetest

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tailrace/tailrace/sse"
)

// A GoldenStream is an input and what the standard makes of it.
type GoldenStream struct {
	Name        string
	Section     string // of the standard
	LastEventID string // with which the decoder starts
	Input       []byte
	Events      []GoldenEvent
	Comments    []string // text after the colon of each comment line
	Cuts        []int    // offsets at which a cut is most telling
	Final       GoldenState
}

// A GoldenEvent is an event and when it must be out.
type GoldenEvent struct {
	sse.Event
	At int // bytes of input after which it must be out, whatever follows
}

// A GoldenState is the state of a decoder at the end of its input.
type GoldenState struct {
	LastEventID string
	Retry       time.Duration
	HasRetry    bool
}

// Golden reads the golden streams: in fsys, streams/NAME.sse is an input and streams/NAME.json
// the result, as the README of Tailrace's testdata describes them.
func Golden(fsys fs.FS) ([]GoldenStream, error) {
	names, err := fs.Glob(fsys, "streams/*.json")
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("ssetest: no golden streams: %w", fs.ErrNotExist)
	}
	all := make([]GoldenStream, 0, len(names))
	for _, name := range names {
		base := strings.TrimSuffix(name, ".json")
		doc, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		g := GoldenStream{Name: strings.TrimPrefix(base, "streams/")}
		if err := g.unmarshal(doc); err != nil {
			return nil, fmt.Errorf("ssetest: %s: %w", name, err)
		}
		if g.Input, err = fs.ReadFile(fsys, base+".sse"); err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, nil
}

func (g *GoldenStream) unmarshal(doc []byte) error {
	var in struct {
		Section     string
		LastEventID string
		Events      []struct {
			Type, Data, ID string
			Retry          *int64 // ms
			At             int
		}
		Comments []string
		Cuts     []int
		Final    struct {
			LastEventID string
			Retry       *int64 // ms
		}
	}
	if err := json.Unmarshal(doc, &in); err != nil {
		return err
	}
	g.Section, g.LastEventID, g.Comments, g.Cuts = in.Section, in.LastEventID, in.Comments, in.Cuts
	for _, ev := range in.Events {
		e := GoldenEvent{Event: sse.Event{Type: ev.Type, Data: []byte(ev.Data), ID: ev.ID}, At: ev.At}
		if ev.Retry != nil {
			e.Retry = time.Duration(*ev.Retry) * time.Millisecond
		}
		g.Events = append(g.Events, e)
	}
	g.Final.LastEventID = in.Final.LastEventID
	if in.Final.Retry != nil {
		g.Final.Retry, g.Final.HasRetry = time.Duration(*in.Final.Retry)*time.Millisecond, true
	}
	return nil
}

// A Decoder is what [Conformance] tests; *[sse.Decoder] is one. Decode returns io.EOF at the end
// of the input; ev need hold only until the next Decode.
type Decoder interface {
	Decode(ev *sse.Event) error
	LastEventID() string
	Retry() (time.Duration, bool)
}

// slowestSize is the input up to which [Conformance] goes in steps of one and two bytes.
const slowestSize = 128 << 10

// Conformance runs a decoder over the golden streams in fsys: each of them whole, byte by byte, in
// twos, at the cuts that it names and at random ones, which are the same in each run. It reports
// what differs from the standard, the first difference of each stream, and an event that
// comes later than its last byte.
func Conformance(t testing.TB, fsys fs.FS, newDecoder func(r io.Reader, opts *sse.DecoderOptions) Decoder) {
	t.Helper()
	all, err := Golden(fsys)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		for how, cuts := range g.chunkings() {
			if err := g.check(cuts, newDecoder); err != nil {
				t.Errorf("%s (section %s), %s: %v", g.Name, g.Section, how, err)
				break
			}
		}
	}
}

// chunkings yields ways to cut the input: each the offsets, in order, at which a read ends.
func (g *GoldenStream) chunkings() func(yield func(how string, cuts []int) bool) {
	every := func(n int) (cuts []int) {
		for i := n; i < len(g.Input); i += n {
			cuts = append(cuts, i)
		}
		return cuts
	}
	return func(yield func(string, []int) bool) {
		if !yield("whole", nil) {
			return
		}
		if len(g.Input) <= slowestSize {
			if !yield("byte by byte", every(1)) || !yield("in twos", every(2)) {
				return
			}
		}
		if len(g.Cuts) > 0 && !yield("at its cuts", g.Cuts) {
			return
		}
		rng := rand.New(rand.NewPCG(9, 2)) // the section of the standard
		for i := range 5 {
			var cuts []int
			for at := 0; ; {
				if at += 1 + rng.IntN(2+len(g.Input)/10); at >= len(g.Input) {
					break
				}
				cuts = append(cuts, at)
			}
			if !yield(fmt.Sprint("at random cuts ", i), cuts) {
				return
			}
		}
	}
}

// check runs a decoder over the input and returns the first difference.
func (g *GoldenStream) check(cuts []int, newDecoder func(io.Reader, *sse.DecoderOptions) Decoder) error {
	var comments []string
	r := &cutReader{input: g.Input, cuts: cuts}
	d := newDecoder(r, &sse.DecoderOptions{
		LastEventID: g.LastEventID,
		OnComment:   func(text []byte) { comments = append(comments, string(text)) },
	})
	for i := 0; ; i++ {
		if i < len(g.Events) {
			r.due = g.Events[i].At
		} else {
			r.due = len(g.Input) + 1
		}
		var ev sse.Event
		err := d.Decode(&ev)
		if r.late {
			return fmt.Errorf("event %d was not out after %d bytes", i, g.Events[i].At)
		}
		if err == io.EOF {
			if i < len(g.Events) {
				return fmt.Errorf("%d events, want %d", i, len(g.Events))
			}
			break
		}
		if err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
		if i == len(g.Events) {
			return fmt.Errorf("one event more than %d: type %q, data %q", i, ev.Type, clip(string(ev.Data)))
		}
		if want := g.Events[i].Event; ev.Type != want.Type || string(ev.Data) != string(want.Data) || ev.ID != want.ID || ev.Retry != want.Retry {
			return fmt.Errorf("event %d: type %q, data %q, id %q, retry %v; want type %q, data %q, id %q, retry %v", i,
				ev.Type, clip(string(ev.Data)), ev.ID, ev.Retry, want.Type, clip(string(want.Data)), want.ID, want.Retry)
		}
	}
	if !slices.Equal(comments, g.Comments) {
		return fmt.Errorf("comments %q, want %q", comments, g.Comments)
	}
	final := GoldenState{LastEventID: d.LastEventID()}
	if final.Retry, final.HasRetry = d.Retry(); final != g.Final {
		return fmt.Errorf("at the end %+v, want %+v", final, g.Final)
	}
	return nil
}

// clip keeps a failure readable.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}

// A cutReader gives its input in pieces, each up to the next cut at most.
type cutReader struct {
	input []byte
	cuts  []int
	at    int
	due   int  // an event must be out after this many bytes
	late  bool // one was not: more was asked for
}

func (r *cutReader) Read(p []byte) (int, error) {
	if r.at >= r.due {
		r.late = true
	}
	end := len(r.input)
	for len(r.cuts) > 0 && r.cuts[0] <= r.at {
		r.cuts = r.cuts[1:]
	}
	if len(r.cuts) > 0 {
		end = min(end, r.cuts[0])
	}
	n := copy(p, r.input[r.at:end])
	r.at += n
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}
