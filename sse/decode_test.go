package sse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// cutReader delivers data in pieces: up to each of the offsets in cuts, then
// the rest. With size > 0 it delivers that many bytes at a time instead. After
// the last byte it returns err (nil is io.EOF), together with that byte if
// joined is set.
type cutReader struct {
	data   []byte
	cuts   []int
	size   int
	err    error
	joined bool
	read   int // bytes delivered so far
}

func (r *cutReader) Read(p []byte) (int, error) {
	err := r.err
	if err == nil {
		err = io.EOF
	}
	if r.read == len(r.data) {
		return 0, err
	}
	stop := len(r.data)
	if r.size > 0 {
		stop = min(stop, r.read+r.size)
	}
	for len(r.cuts) > 0 && r.cuts[0] <= r.read {
		r.cuts = r.cuts[1:]
	}
	if len(r.cuts) > 0 {
		stop = min(stop, r.cuts[0])
	}
	n := copy(p, r.data[r.read:stop])
	r.read += n
	if r.joined && r.read == len(r.data) {
		return n, err
	}
	return n, nil
}

// randomCuts returns a few to many offsets into n bytes, in order.
func randomCuts(rnd *rand.Rand, n int) []int {
	var cuts []int
	for at := 0; ; {
		at += 1 + rnd.IntN(1+rnd.IntN(12))
		if at >= n {
			return cuts
		}
		cuts = append(cuts, at)
	}
}

// decodeAll runs the Decoder over r. at is the reader's count when each event
// came out.
func decodeAll(r *cutReader, lastEventID string, limit int) result {
	var res result
	d := NewDecoder(r, &DecoderOptions{
		MaxEventSize: limit,
		LastEventID:  lastEventID,
		OnComment:    func(text []byte) { res.comments = append(res.comments, string(text)) },
	})
	var ev Event
	for {
		if res.err = d.Decode(&ev); res.err != nil {
			break
		}
		ev.Data = bytes.Clone(ev.Data)
		res.events = append(res.events, ev)
		res.at = append(res.at, r.read)
	}
	res.lastEventID = d.LastEventID()
	res.retry, res.hasRetry = d.Retry()
	return res
}

// diff tells how got differs from want, or returns "". at is compared only
// where exact says that the reader delivered single bytes.
func diff(got, want result, exact bool) string {
	var sb strings.Builder
	if len(got.events) != len(want.events) {
		fmt.Fprintf(&sb, "%d events, want %d\n", len(got.events), len(want.events))
	}
	for i := range min(len(got.events), len(want.events)) {
		g, w := got.events[i], want.events[i]
		if g.ID != w.ID || g.Type != w.Type || !bytes.Equal(g.Data, w.Data) || g.Retry != w.Retry {
			fmt.Fprintf(&sb, "event %d: %s, want %s\n", i, show(g), show(w))
		}
		if exact && got.at[i] != want.at[i] {
			fmt.Fprintf(&sb, "event %d after %d bytes, want %d\n", i, got.at[i], want.at[i])
		}
	}
	if !reflect.DeepEqual(got.comments, want.comments) {
		fmt.Fprintf(&sb, "comments %q, want %q\n", got.comments, want.comments)
	}
	if got.lastEventID != want.lastEventID {
		fmt.Fprintf(&sb, "last event id %q, want %q\n", got.lastEventID, want.lastEventID)
	}
	if got.retry != want.retry || got.hasRetry != want.hasRetry {
		fmt.Fprintf(&sb, "retry %v %v, want %v %v\n", got.retry, got.hasRetry, want.retry, want.hasRetry)
	}
	if fmt.Sprint(got.err) != fmt.Sprint(want.err) {
		fmt.Fprintf(&sb, "error %v, want %v\n", got.err, want.err)
	}
	return sb.String()
}

func show(ev Event) string {
	if len(ev.Data) > 200 {
		return fmt.Sprintf("{id %q type %q %d bytes %.100q retry %v}", ev.ID, ev.Type, len(ev.Data), ev.Data, ev.Retry)
	}
	return fmt.Sprintf("{id %q type %q data %q retry %v}", ev.ID, ev.Type, ev.Data, ev.Retry)
}

type goldenStream struct {
	name  string
	input []byte
	start string // the last event id with which it begins
	want  result
	cuts  []int
}

func goldenStreams(t testing.TB) []goldenStream {
	dir := os.DirFS("../testdata/streams")
	names, err := fs.Glob(dir, "*.sse")
	if err != nil {
		t.Fatal(err)
	}
	var all []goldenStream
	for _, name := range names {
		name = strings.TrimSuffix(name, ".sse")
		input, err := fs.ReadFile(dir, name+".sse")
		if err != nil {
			t.Fatal(err)
		}
		text, err := fs.ReadFile(dir, name+".json")
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Section     string
			LastEventID string
			Events      []struct {
				Type, Data, ID string
				Retry          int64
				At             int
			}
			Comments []string
			Final    struct {
				LastEventID string
				Retry       *int64
			}
			Cuts []int
		}
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&doc); err != nil {
			t.Fatalf("%s.json: %v", name, err)
		}
		want := result{lastEventID: doc.Final.LastEventID, err: io.EOF}
		if len(doc.Comments) > 0 {
			want.comments = doc.Comments
		}
		for _, e := range doc.Events {
			want.events = append(want.events, Event{
				ID: e.ID, Type: e.Type, Data: []byte(e.Data),
				Retry: time.Duration(e.Retry) * time.Millisecond,
			})
			want.at = append(want.at, e.At)
		}
		if doc.Final.Retry != nil {
			want.retry, want.hasRetry = time.Duration(*doc.Final.Retry)*time.Millisecond, true
		}
		all = append(all, goldenStream{name, input, doc.LastEventID, want, doc.Cuts})
	}
	return all
}

func TestGoldenStreams(t *testing.T) {
	streams := goldenStreams(t)
	if len(streams) < 120 {
		t.Fatalf("%d golden streams, want at least 120", len(streams))
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, g := range streams {
		t.Run(g.name, func(t *testing.T) {
			check := func(how string, got result, exact bool) {
				if d := diff(got, g.want, exact); d != "" {
					t.Errorf("%s:\n%s", how, d)
				}
			}
			check("reference", reference(g.input, g.start, 0), true)
			run := func(how string, r *cutReader, exact bool) {
				r.data = g.input
				check(how, decodeAll(r, g.start, 0), exact)
			}
			run("whole", &cutReader{}, false)
			run("whole, with EOF", &cutReader{joined: true}, false)
			run("byte by byte", &cutReader{size: 1}, true)
			run("byte by byte, with EOF", &cutReader{size: 1, joined: true}, true)
			run("in pairs", &cutReader{size: 2}, false)
			run("at cuts", &cutReader{cuts: g.cuts}, false)
			for i := range 8 {
				cuts := randomCuts(rnd, len(g.input))
				run(fmt.Sprintf("random cuts %d %v", i, cuts), &cutReader{cuts: cuts}, false)
			}
			for at := range min(len(g.input), 200) {
				run(fmt.Sprintf("cut at %d", at), &cutReader{cuts: []int{at}}, false)
			}
		})
	}
}

// An event must be out when its last byte is in: a Decoder that reads once more
// would wait for the next event.
func TestEventIsOutWithItsLastByte(t *testing.T) {
	for _, g := range goldenStreams(t) {
		for i, at := range g.want.at {
			input := g.input[:at]
			r := io.MultiReader(bytes.NewReader(input), iotest.ErrReader(errors.New("read past the event")))
			d := NewDecoder(r, &DecoderOptions{LastEventID: g.start})
			var ev Event
			for n := range i + 1 {
				if err := d.Decode(&ev); err != nil {
					t.Fatalf("%s: event %d of %d: %v", g.name, n, i+1, err)
				}
			}
			if !bytes.Equal(ev.Data, g.want.events[i].Data) {
				t.Errorf("%s: event %d: %s", g.name, i, show(ev))
			}
			if i > 20 {
				break
			}
		}
	}
}
