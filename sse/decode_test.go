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
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unsafe"
	"weak"
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
	buffer int // size of the Decoder's first buffer; 0 leaves it alone
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
	if r.buffer > 0 {
		d.buf = make([]byte, r.buffer)
	}
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
			run("buffer of 8 bytes", &cutReader{size: 3, buffer: 8}, false)
			for i := range 8 {
				cuts := randomCuts(rnd, len(g.input))
				run(fmt.Sprintf("random cuts %d %v", i, cuts), &cutReader{cuts: cuts}, false)
			}
			for at := range min(len(g.input), 100) {
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

func TestSizeLimit(t *testing.T) {
	const limit = 16
	for _, c := range []struct {
		name, input string
		events      int
		tooLong     bool
	}{
		{"line of the limit", "data: 0123456789\n\n", 1, false},
		{"line above", "data: 01234567890\n\n", 0, true},
		{"line above that ends with CR", "data: 01234567890\r\r", 0, true},
		{"line above that does not end", "data: 01234567890", 0, true},
		{"line of the limit that does not end", "data: 0123456789", 0, false},
		{"event before it is out", "data: a\n\ndata: 01234567890\n\n", 1, true},
		{"id", "id: 0123456789abc\ndata\n\n", 0, true},
		{"type", "event: 0123456789\ndata\n\n", 0, true},
		{"comment of the limit", ":0123456789abcde\ndata\n\n", 1, false},
		{"comment above", ":0123456789abcdef\ndata\n\n", 0, true},
		{"unknown field of the limit", "0123456789abcdef\ndata\n\n", 1, false},
		{"unknown field above", "0123456789abcdefg\ndata\n\n", 0, true},
		{"data of the limit in lines", "data:01234567\ndata:8901234\n\n", 1, false},
		{"data above in lines", "data:01234567\ndata:89012345\n\n", 0, true},
		{"data above in empty lines", strings.Repeat("data\n", 18) + "\n", 0, true},
		{"data of the limit in empty lines", strings.Repeat("data\n", 17) + "\n", 1, false},
		{"each event counts alone", strings.Repeat("data:0123456789\n\n", 5), 5, false},
		{"a byte order mark does not count", "\ufeffdata: 0123456789\n\n", 1, false},
		{"line ends do not count", "data: 0123456789\r\n\r\n", 1, false},
		{"U+FFFD counts as three bytes", "data: \xff\xff\xff\xff\n\n", 0, true},
		{"U+FFFD within", "data: \xff\xff\xff\n\n", 1, false},
		{"U+FFFD in a skipped line", ":\xff\xff\xff\xff\xff\ndata\n\n", 1, false},
		{"U+FFFD in a skipped line above", ":\xff\xff\xff\xff\xffa\ndata\n\n", 0, true},
		{"cut sequence in a skipped line above", ":\xf0\x9f\xf0\x9f\xf0\x9f\xf0\x9f\xf0\x9fa\ndata\n\n", 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			input := []byte(c.input)
			want := reference(input, "", limit)
			for how, r := range map[string]*cutReader{
				"whole":        {},
				"with EOF":     {joined: true},
				"byte by byte": {size: 1},
				"in threes":    {size: 3},
			} {
				r.data = input
				got := decodeAll(r, "", limit)
				var tooLong *TooLongError
				if errors.As(got.err, &tooLong) != c.tooLong || c.tooLong && tooLong.Limit != limit {
					t.Errorf("%s: error %v", how, got.err)
				}
				if len(got.events) != c.events {
					t.Errorf("%s: %d events, want %d", how, len(got.events), c.events)
				}
				if d := diff(got, want, false); d != "" {
					t.Errorf("%s differs from the reference:\n%s", how, d)
				}
			}
		})
	}
}

func TestTooLongEndsTheDecoder(t *testing.T) {
	for name, input := range map[string]string{
		"line":  "data: 01234567890\n\ndata: a\n\n",
		"lines": "data:01234567\ndata:89012345\n\ndata: a\n\n",
	} {
		d := NewDecoder(strings.NewReader(input), &DecoderOptions{MaxEventSize: 16})
		var ev Event
		first := d.Decode(&ev)
		if first == nil {
			t.Fatalf("%s: no error", name)
		}
		if err := d.Decode(&ev); err != first {
			t.Errorf("%s: %s and error %v after %v", name, show(ev), err, first)
		}
	}
}

// endless delivers head and then fill for ever, in reads as large as asked for.
type endless struct {
	head string
	fill byte
	read int
}

func (r *endless) Read(p []byte) (int, error) {
	n := copy(p, r.head)
	r.head = r.head[n:]
	for i := n; i < len(p); i++ {
		p[i] = r.fill
	}
	r.read += len(p)
	return len(p), nil
}

func TestEndlessInputIsBounded(t *testing.T) {
	const limit = 1 << 20
	for name, c := range map[string]struct {
		r     *endless
		bytes int // that the buffers may take
	}{
		"data line":     {&endless{head: "data: ", fill: 'x'}, 2 * limit},
		"id line":       {&endless{head: "id: ", fill: 'x'}, 2 * limit},
		"no field":      {&endless{fill: 'x'}, readSize},
		"comment":       {&endless{head: ":", fill: 'x'}, readSize},
		"unknown field": {&endless{head: "other: ", fill: 'x'}, readSize},
		"bad UTF-8":     {&endless{head: ":", fill: 0xff}, readSize},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder(c.r, &DecoderOptions{MaxEventSize: limit})
			var ev Event
			err := d.Decode(&ev)
			var tooLong *TooLongError
			if !errors.As(err, &tooLong) || tooLong.Limit != limit {
				t.Fatalf("error %v, want a TooLongError", err)
			}
			if got := cap(d.buf) + cap(d.joined); got > c.bytes {
				t.Errorf("buffers of %d bytes, want at most %d", got, c.bytes)
			}
			read := c.r.read
			if read > 2*limit {
				t.Errorf("read %d bytes of a line that may have %d", read, limit)
			}
			if again := d.Decode(&ev); again != err || c.r.read != read {
				t.Errorf("second call: error %v, read %d bytes more", again, c.r.read-read)
			}
		})
	}
}

// What is allocated for an event of the limit stays under four times the limit,
// the buffers that doubling has left behind not counted.
func TestMemoryStaysUnderFourTimesTheLimit(t *testing.T) {
	const limit = 1 << 20
	id := "id: " + strings.Repeat("i", limit-4) + "\n"
	line := "data: " + strings.Repeat("x", limit-6) + "\n"
	lines := strings.Repeat("data: 0123456789abcde\n", limit/16)
	for name, input := range map[string]string{
		"one line":      line + "\n",
		"many lines":    lines + "\n",
		"id and data":   id + line + "\n",
		"id and lines":  id + lines + "\n",
		"invalid UTF-8": "data: " + strings.Repeat("\xff", limit/3-2) + "\n\n",
	} {
		d := NewDecoder(strings.NewReader(input), &DecoderOptions{MaxEventSize: limit})
		var ev Event
		if err := d.Decode(&ev); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := cap(d.buf) + cap(d.joined) + len(d.id); got >= 4*limit {
			t.Errorf("%s: %d bytes held, want under %d", name, got, 4*limit)
		}
	}
}

func TestLargeBuffersAreLetGo(t *testing.T) {
	oneLine := "data: " + strings.Repeat("x", 1<<20) + "\n\n"
	manyLines := strings.Repeat("data: 0123456789\n", 20000) + "\n"
	for _, large := range []string{oneLine, manyLines} {
		for _, small := range []string{"data: small\n\n", "data: sm\ndata: all\n\n"} {
			d := NewDecoder(io.MultiReader(strings.NewReader(large), strings.NewReader(small)), nil)
			var ev Event
			if err := d.Decode(&ev); err != nil {
				t.Fatal(err)
			}
			var held []weak.Pointer[byte]
			for _, b := range [][]byte{d.buf, d.joined} {
				if cap(b) > keptBufferSize {
					held = append(held, weak.Make(&b[0]))
				}
			}
			if len(held) == 0 {
				t.Fatalf("no large buffer after %.20q", large)
			}
			if err := d.Decode(&ev); err != nil || len(ev.Data) > len(small) {
				t.Fatalf("%s, error %v", show(ev), err)
			}
			if err := d.Decode(&ev); err != io.EOF {
				t.Fatal(err)
			}
			runtime.GC()
			for _, p := range held {
				if p.Value() != nil {
					t.Errorf("a large buffer is held after %.20q and %q", large, small)
				}
			}
			runtime.KeepAlive(d)
		}
	}
}

func TestBufferGrowsForAFastReader(t *testing.T) {
	input := bytes.Repeat([]byte("data: a token of some length\n\n"), 40000)
	reads := 0
	r := bytes.NewReader(input)
	d := NewDecoder(readerFunc(func(p []byte) (int, error) {
		reads++
		return r.Read(p)
	}), nil)
	var ev Event
	for d.Decode(&ev) == nil {
	}
	if most := len(input)/readSize + 10; reads > most {
		t.Errorf("%d reads of %d bytes, want at most %d", reads, len(input), most)
	}
	if len(d.buf) > readSize {
		t.Errorf("read buffer of %d bytes for short lines", len(d.buf))
	}
}

// Lines that are skipped, and those that are kept, are as long as they are in
// characters that the reads cut.
func TestCutCharactersInLongLines(t *testing.T) {
	text := strings.Repeat("世界é💩", 3000)
	input := []byte("\ufeff:" + text + "\nother: " + text + "\ndata: " + text + "\n\n:" + text + "\ndata: b\n\n")
	for _, size := range []int{1, 3, 1000, 4095, 4096, 4097, 1 << 20} {
		d := NewDecoder(&cutReader{data: input, size: size}, &DecoderOptions{MaxEventSize: len(text) + 7})
		var ev Event
		for _, want := range []string{text, "b"} {
			if err := d.Decode(&ev); err != nil || string(ev.Data) != want {
				t.Fatalf("reads of %d: %s, error %v", size, show(ev), err)
			}
		}
	}
}

func TestLinesOfAnySizeAtAnyCut(t *testing.T) {
	for _, size := range []int{4000, 4088, 4089, 4090, 4091, 4096, 8192, 32768, 65530, 65536, 131072, 2 << 20} {
		data := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		input := []byte("\ufeffdata: " + data + "\nid: 1\n\nevent: t\ndata: " + data + "\ndata: b\n\ndata: c\n\n")
		want := result{
			events: []Event{
				{ID: "1", Data: []byte(data)},
				{ID: "1", Type: "t", Data: []byte(data + "\nb")},
				{ID: "1", Data: []byte("c")},
			},
			lastEventID: "1",
			err:         io.EOF,
		}
		rnd := rand.New(rand.NewPCG(uint64(size), 3))
		for how, r := range map[string]*cutReader{
			"whole":         {},
			"reads of 4095": {size: 4095},
			"reads of 1000": {size: 1000},
			"random cuts":   {cuts: []int{rnd.IntN(len(input)), len(input) - 1}},
			"before the LF": {cuts: []int{9 + size, 10 + size, 16 + size, 17 + size}},
		} {
			r.data = input
			if d := diff(decodeAll(r, "", 0), want, false); d != "" {
				t.Errorf("%d bytes, %s:\n%s", size, how, d)
			}
		}
	}
}

func TestDecodeBorrows(t *testing.T) {
	r := &cutReader{data: []byte("data: one\n\ndata: two\n\ndata: a\ndata: b\n\ndata: end\n\n")}
	d := NewDecoder(r, nil)
	var ev Event
	if err := d.Decode(&ev); err != nil {
		t.Fatal(err)
	}
	if &ev.Data[0] != &d.buf[len("data: ")] {
		t.Error("a single data line was copied out of the read buffer")
	}
	_ = append(ev.Data, "XXXXXXXX"...) // must not reach the next event
	for _, want := range []string{"two", "a\nb", "end"} {
		if err := d.Decode(&ev); err != nil || string(ev.Data) != want {
			t.Fatalf("%s, error %v, want %q", show(ev), err, want)
		}
		_ = append(ev.Data, "XXXXXXXX"...)
	}
}

func TestDataLineSurvivesASlowBlankLine(t *testing.T) {
	// The data line is in the buffer, and the reads that follow it move or
	// replace the buffer before the blank line comes.
	comment := ":" + strings.Repeat("c", 5000) + "\n"
	input := []byte("data: kept\n" + strings.Repeat(comment, 40) + "data: too\n\n")
	for _, size := range []int{1, 100, 3000, 1 << 20} {
		got := decodeAll(&cutReader{data: input, size: size}, "", 0)
		if len(got.events) != 1 || string(got.events[0].Data) != "kept\ntoo" {
			t.Errorf("reads of %d: %v", size, got.events)
		}
	}
}

func TestEventsOwn(t *testing.T) {
	var input, want []byte
	sizes := []int{0, 1, 10, 100, smallData - 1, smallData, smallData + 1, 5000, 3}
	for i, n := range sizes {
		ev := Event{Data: bytes.Repeat([]byte{'a' + byte(i)}, n)}
		input, _ = ev.AppendText(input)
		want = append(want, ev.Data...)
	}
	var kept [][]byte
	for ev, err := range Events(bytes.NewReader(input)) {
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, ev.Data)
	}
	if got := bytes.Join(kept, nil); !bytes.Equal(got, want) {
		t.Fatal("kept data has changed")
	}
	for i := range kept {
		_ = append(kept[i], "overflow"...)
	}
	if got := bytes.Join(kept, nil); !bytes.Equal(got, want) {
		t.Fatal("appending to an event's data has changed another's")
	}
	for i := range kept {
		for j := range kept[i] {
			kept[i][j] = '!'
		}
	}
	for i, n := range sizes {
		if !bytes.Equal(kept[i], bytes.Repeat([]byte("!"), n)) {
			t.Errorf("event %d was changed through another", i)
		}
	}
}

func TestEventsYieldsTheErrorOnceAndLast(t *testing.T) {
	failure := errors.New("reset")
	r := &cutReader{data: []byte("data: a\n\ndata: b\n\ndata: half"), err: failure, joined: true}
	var got []string
	for ev, err := range Events(r) {
		if err != nil && !reflect.DeepEqual(ev, Event{}) {
			t.Errorf("error with %s", show(ev))
		}
		got = append(got, fmt.Sprint(string(ev.Data), err))
	}
	if want := []string{"a<nil>", "b<nil>", "reset"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEventsGoesOnAfterBreak(t *testing.T) {
	d := NewDecoder(strings.NewReader("data: a\n\ndata: b\n\ndata: c\n\n"), nil)
	var got []string
	for ev := range d.Events() {
		got = append(got, string(ev.Data))
		break
	}
	for ev := range d.Events() {
		got = append(got, string(ev.Data))
	}
	if want := []string{"a", "b", "c"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFirstErrorStays(t *testing.T) {
	failure := errors.New("reset")
	r := io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(failure))
	d := NewDecoder(r, nil)
	ev := Event{ID: "stale"}
	if err := d.Decode(&ev); err != nil || string(ev.Data) != "a" {
		t.Fatalf("%s, error %v", show(ev), err)
	}
	for range 3 {
		if err := d.Decode(&ev); err != failure {
			t.Fatalf("error %v, want %v", err, failure)
		}
		if !reflect.DeepEqual(ev, Event{}) {
			t.Errorf("%s beside an error", show(ev))
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestBadReadersEndInAnError(t *testing.T) {
	for name, c := range map[string]struct {
		r    io.Reader
		want error
	}{
		"nothing, no error": {readerFunc(func(p []byte) (int, error) { return 0, nil }), io.ErrNoProgress},
		"negative count":    {readerFunc(func(p []byte) (int, error) { return -1, nil }), errInvalidRead},
		"count too large":   {readerFunc(func(p []byte) (int, error) { return len(p) + 1, nil }), errInvalidRead},
	} {
		var ev Event
		if err := NewDecoder(c.r, nil).Decode(&ev); err != c.want {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

func TestEmptyReadsAreNotTheEnd(t *testing.T) {
	in := strings.NewReader("\ufeffdata: a\r\n\r\n")
	turn := 0
	d := NewDecoder(readerFunc(func(p []byte) (int, error) {
		if turn++; turn%3 != 0 {
			return 0, nil
		}
		return in.Read(p[:1])
	}), nil)
	var ev Event
	if err := d.Decode(&ev); err != nil || string(ev.Data) != "a" {
		t.Fatalf("%s, error %v", show(ev), err)
	}
}

func TestResetIsTheNextConnection(t *testing.T) {
	d := NewDecoder(strings.NewReader("id: 1\nretry: 7\ndata: a\n\nid: 2\nevent: t\nretry: 8\ndata: lost\r"), &DecoderOptions{LastEventID: "0"})
	if d.LastEventID() != "0" {
		t.Errorf("last event id %q at the start", d.LastEventID())
	}
	if _, ok := d.Retry(); ok {
		t.Error("a reconnection time at the start")
	}
	var ev Event
	if err := d.Decode(&ev); err != nil {
		t.Fatal(err)
	}
	if err := d.Decode(&ev); err != io.EOF {
		t.Fatal(err)
	}
	buf := &d.buf[0]

	// A first LF is not the second half of the last CR, and a byte order mark
	// is dropped again.
	d.Reset(strings.NewReader("\n\ufeffx\ndata: b\n\n"))
	if err := d.Decode(&ev); err != nil || show(ev) != show(Event{ID: "1", Data: []byte("b")}) {
		t.Errorf("%s, error %v", show(ev), err)
	}
	d.Reset(strings.NewReader("\ufeffdata: c\n\n"))
	if err := d.Decode(&ev); err != nil || show(ev) != show(Event{ID: "1", Data: []byte("c")}) {
		t.Errorf("%s, error %v", show(ev), err)
	}
	if retry, ok := d.Retry(); !ok || retry != 8*time.Millisecond {
		t.Errorf("retry %v, %v", retry, ok)
	}
	if d.LastEventID() != "1" || &d.buf[0] != buf {
		t.Errorf("last event id %q, same buffer %v", d.LastEventID(), &d.buf[0] == buf)
	}

	d = NewDecoder(strings.NewReader("data: much too long\n\n"), &DecoderOptions{MaxEventSize: 8})
	if err := d.Decode(&ev); err == nil {
		t.Fatal("no error")
	}
	d.Reset(strings.NewReader("data: a\n\n"))
	if err := d.Decode(&ev); err != nil || string(ev.Data) != "a" {
		t.Errorf("after a TooLongError: %s, error %v", show(ev), err)
	}
}

func TestCommentComesWithItsLine(t *testing.T) {
	var got []string
	r := io.MultiReader(strings.NewReader("data: a\n: one\r"), readerFunc(func(p []byte) (int, error) {
		if want := []string{" one"}; !reflect.DeepEqual(got, want) {
			t.Errorf("comments %q when the Decoder reads on, want %q", got, want)
		}
		return 0, io.EOF
	}))
	d := NewDecoder(r, &DecoderOptions{OnComment: func(text []byte) { got = append(got, string(text)) }})
	var ev Event
	if err := d.Decode(&ev); err != io.EOF {
		t.Fatal(err)
	}
}

// The counts are per event, so that a slab or a table that is filled now and
// then shows as a fraction.
func TestDecodeAllocations(t *testing.T) {
	stream := func(events int, event func(i int) Event) []byte {
		var b []byte
		for i := range events {
			ev := event(i)
			b, _ = ev.AppendText(b)
		}
		return b
	}
	token := bytes.Repeat([]byte("0123456789"), 14)
	large := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	types := []string{"start", "delta", "ping", "stop"}
	for _, c := range []struct {
		name   string
		limit  float64
		events int
		event  func(i int) Event
	}{
		{"tokens", 0, 2000, func(int) Event { return Event{Data: token} }},
		{"one id", 0, 2000, func(int) Event { return Event{ID: "7", Data: token} }},
		{"few types", 0, 2000, func(i int) Event { return Event{Type: types[i%len(types)], Data: token} }},
		{"data of two lines", 0, 2000, func(int) Event { return Event{Data: []byte("a\nb")} }},
		{"not ASCII", 0, 2000, func(int) Event { return Event{Data: []byte("größe 世界")} }},
		{"invalid UTF-8", 0, 2000, func(int) Event { return Event{Data: []byte("a\xffb")} }},
		{"new ids", 0.05, 2000, func(i int) Event { return Event{ID: fmt.Sprintf("k3x9-%08d", i), Data: token} }},
		{"64 KiB", 0.1, 64, func(int) Event { return Event{Data: large} }},
	} {
		input := stream(c.events, c.event)
		r := bytes.NewReader(nil)
		d := NewDecoder(r, nil)
		var ev Event
		got := testing.AllocsPerRun(5, func() {
			r.Reset(input)
			d.Reset(r)
			for range c.events {
				if err := d.Decode(&ev); err != nil {
					t.Fatal(c.name, err)
				}
			}
		}) / float64(c.events)
		if got > c.limit {
			t.Errorf("%s: %v allocations per event, want at most %v", c.name, got, c.limit)
		}
	}

	const events = 2000
	input := stream(events, func(int) Event { return Event{Data: token} })
	r := bytes.NewReader(nil)
	got := testing.AllocsPerRun(5, func() {
		r.Reset(input)
		for range Events(r) {
		}
	}) / events
	if got > 0.1 {
		t.Errorf("owned: %v allocations per event, want at most 0.1", got)
	}
}

func TestStringsAreShared(t *testing.T) {
	d := NewDecoder(strings.NewReader("id: 1\nevent: t\ndata\n\nid: 1\nevent: t\ndata\n\nid: 2\nid: 1\nevent: t\ndata\n\n"), nil)
	var first, ev Event
	if err := d.Decode(&first); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Decode(&ev); err != nil {
			t.Fatal(err)
		}
		if unsafe.StringData(ev.ID) != unsafe.StringData(first.ID) || unsafe.StringData(ev.Type) != unsafe.StringData(first.Type) {
			t.Error("an unchanged id or type is another string")
		}
	}
}
