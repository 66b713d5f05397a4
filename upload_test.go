package tailrace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tailrace/tailrace/sse"
)

// newUploadHub returns a hub over log, or over a memory log, that ends with the
// test.
func newUploadHub(t testing.TB, log Log, rules ...TopicRule) *Hub {
	t.Helper()
	h, err := New(&Options{Log: log, Rules: rules, DrainWindow: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Shutdown(context.Background()) })
	return h
}

func topicEvents(t testing.TB, h *Hub, topic string) []Event {
	t.Helper()
	page, err := h.log.Read(t.Context(), Query{Select: Selector{Topics: []string{topic}}, Limit: 100_000, MaxBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return page.Events
}

// summary is the events' type, own id and data, for comparison.
func summary(events []Event) string {
	var b strings.Builder
	for _, ev := range events {
		fmt.Fprintf(&b, "%s#%s=%s;", ev.Type, ev.ID, ev.Data)
	}
	return b.String()
}

func TestUploadPublishesBlocks(t *testing.T) {
	for _, tt := range []struct {
		name, stream, want string
		incomplete         bool
		skipped            int64
		lastID             string
	}{
		{name: "empty"},
		{name: "one", stream: "data: a\n\n", want: "#=a;"},
		{name: "fields", stream: "event: e\nid: 7\nretry: 1500\ndata: a\ndata: b\n\n", want: "e#7=a\nb;", lastID: "7"},
		{name: "an id is for its own block", stream: "id: 1\ndata: a\n\ndata: b\n\ndata: c\n\n", want: "#1=a;#=b;#=c;", lastID: "1"},
		{name: "the same id again is an id", stream: "id: 1\ndata: a\n\nid: 1\ndata: b\n\n", want: "#1=a;", lastID: "1"},
		{name: "an id without data goes nowhere", stream: "id: 1\n\ndata: b\n\n", want: "#=b;"},
		{name: "an empty id is none", stream: "id: 1\nid:\ndata: b\n\nid\ndata: c\n\n", want: "#=b;#=c;"},
		{name: "an id with NUL is none", stream: "id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", want: "#1=a;#=b;", lastID: "1"},
		{name: "the last id of a block", stream: "id: 1\nid: 2\ndata: b\n\n", want: "#2=b;", lastID: "2"},
		{name: "id after data", stream: "data: b\nid: 2\n\ndata: c\n\n", want: "#2=b;#=c;", lastID: "2"},
		{name: "CRLF", stream: "id: 1\r\ndata: a\r\n\r\ndata: b\r\n\r\n", want: "#1=a;#=b;", lastID: "1"},
		{name: "CR", stream: "id: 1\rdata: a\r\rdata: b\r\r", want: "#1=a;#=b;", lastID: "1"},
		{name: "mixed ends", stream: "id: 1\rdata: a\n\r\ndata: b\r\n\ndata: c\n\r", want: "#1=a;#=b;#=c;", lastID: "1"},
		{name: "more blank lines", stream: "\n\n\ndata: a\n\n\n\r\n\ndata: b\n\n\n", want: "#=a;#=b;"},
		{name: "BOM", stream: "\ufeffid: 1\ndata: a\n\n\ufeffdata: b\n\ndata: c\n\n", want: "#1=a;#=c;", lastID: "1"},
		{name: "comments", stream: ":\n: hi\ndata: a\n:x\n\n:\n", want: "#=a;"},
		{name: "no data", stream: "event: e\n\ndata: b\n\n", want: "#=b;"},
		{name: "empty data", stream: "data\n\ndata:\n\n", want: "#=;#=;"},
		{name: "unknown fields", stream: "ids: 4\ndata: b\nidentity\n\n", want: "#=b;"},
		{name: "bad UTF-8 is replaced", stream: "data: \xff\n\n", want: "#=\ufffd;"},
		{name: "NUL in data", stream: "data: a\x00b\n\n", want: "#=a\x00b;"},
		{name: "untyped and message", stream: "event: message\ndata: b\n\n", want: "message#=b;"},
		{name: "reserved are skipped", stream: "event: tailrace.hello\nid: 1\ndata: {}\n\ndata: b\n\nevent: tailrace.live\ndata: {}\n\n", want: "#=b;", skipped: 2},

		{name: "cut in the data", stream: "data: a\n\ndata: b", want: "#=a;", incomplete: true},
		{name: "cut before the blank line", stream: "data: a\n\ndata: b\n", want: "#=a;", incomplete: true},
		{name: "cut in a name", stream: "data: a\n\nda", want: "#=a;", incomplete: true},
		{name: "cut after an id", stream: "data: a\n\nid: 9\n", want: "#=a;", incomplete: true},
		{name: "ends with a comment", stream: "data: a\n\n: bye", want: "#=a;"},
		{name: "ends with a reconnection time", stream: "retry: 3\ndata: a\n\nretry: 500\n", want: "#=a;"},
		{name: "cut in a reconnection time", stream: "data: a\n\nretry: 5", want: "#=a;", incomplete: true},
		{name: "BOM alone", stream: "\ufeff"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for cuts, r := range map[string]io.Reader{
				"whole":       strings.NewReader(tt.stream),
				"byte wise":   iotest.OneByteReader(strings.NewReader(tt.stream)),
				"with an end": iotest.DataErrReader(strings.NewReader(tt.stream)),
			} {
				h := newUploadHub(t, nil)
				up, err := h.PublishStream(t.Context(), "demo", r, nil)
				if err != nil {
					t.Fatalf("%s: %v", cuts, err)
				}
				events := topicEvents(t, h, "demo")
				if got := summary(events); got != tt.want {
					t.Errorf("%s: stored %q, want %q", cuts, got, tt.want)
				}
				want := Upload{Accepted: up.Accepted, Duplicates: up.Accepted - int64(len(events)), Skipped: tt.skipped,
					LastID: tt.lastID, LastCursor: up.LastCursor, Incomplete: tt.incomplete}
				if up != want {
					t.Errorf("%s: got %+v, want %+v", cuts, up, want)
				}
				if len(events) > 0 && up.LastCursor != events[len(events)-1].Cursor {
					t.Errorf("%s: last cursor %v, want %v", cuts, up.LastCursor, events[len(events)-1].Cursor)
				}
			}
		})
	}
}

func TestUploadTakesRetry(t *testing.T) {
	h := newUploadHub(t, nil)
	if _, err := h.PublishStream(t.Context(), "demo", strings.NewReader("retry: 1500\ndata: a\n\ndata: b\n\nretry: 99999999\ndata: c\n\n"), nil); err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, ev := range topicEvents(t, h, "demo") {
		got = append(got, ev.Retry.Milliseconds())
	}
	if !slices.Equal(got, []int64{1500, 0, 3_600_000}) {
		t.Errorf("got %v", got)
	}
}

// appends counts the appends of a log and what each held.
type appends struct {
	Log
	sizes []int
}

func (l *appends) Append(ctx context.Context, events []Event) ([]Receipt, error) {
	l.sizes = append(l.sizes, len(events))
	return l.Log.Append(ctx, events)
}

func TestWhatArrivesTogetherIsOneAppend(t *testing.T) {
	log := &appends{Log: NewMemoryLog(nil)}
	h := newUploadHub(t, log)
	body := chunks{"data: 1\n\ndata: 2\n\ndata: 3", "\n\n", ":\n", "data: 4\n\ndata: 5\n\n"}
	var seen []int64
	up, err := h.PublishStream(t.Context(), "demo", &body, &UploadOptions{OnAppend: func(u Upload) { seen = append(seen, u.Accepted) }})
	if err != nil || up.Accepted != 5 {
		t.Fatalf("%+v %v", up, err)
	}
	if !slices.Equal(log.sizes, []int{2, 1, 2}) || !slices.Equal(seen, []int64{2, 3, 5}) {
		t.Errorf("appends of %v, seen %v", log.sizes, seen)
	}
	// A fast upload is cut into appends of bounded size.
	log.sizes = nil
	if _, err := h.PublishStream(t.Context(), "many", strings.NewReader(strings.Repeat("data\n\n", 20_000)), nil); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range log.sizes {
		total += n
		if n > maxUploadEvents {
			t.Errorf("an append of %d events", n)
		}
	}
	if total != 20_000 {
		t.Errorf("%d events appended", total)
	}
}

// An event is published when its last byte is in, not when more comes.
func TestUploadDoesNotWaitForTheNextBlock(t *testing.T) {
	h := newUploadHub(t, nil)
	r, w := io.Pipe()
	acked := make(chan Upload)
	done := make(chan error)
	go func() {
		_, err := h.PublishStream(t.Context(), "demo", r, &UploadOptions{OnAppend: func(u Upload) { acked <- u }})
		done <- err
	}()
	for i, end := range []string{"\n\n", "\r\r", "\r\n\r\n", "\n\r"} {
		io.WriteString(w, fmt.Sprintf("data: %d%s", i, end))
		if u := <-acked; u.Accepted != int64(i+1) {
			t.Errorf("got %+v", u)
		}
	}
	w.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGapOfTheSourceEndsAnUpload(t *testing.T) {
	stream := "data: 1\n\nevent: tailrace.gap\ndata: {}\n\ndata: 2\n\n"
	h := newUploadHub(t, nil)
	up, err := h.PublishStream(t.Context(), "demo", strings.NewReader(stream), nil)
	if !errors.Is(err, ErrUpstreamGap) || up.Accepted != 1 || summary(topicEvents(t, h, "demo")) != "#=1;" {
		t.Errorf("got %+v %v, stored %q", up, err, summary(topicEvents(t, h, "demo")))
	}
	up, err = h.PublishStream(t.Context(), "copy", strings.NewReader(stream), &UploadOptions{SkipGaps: true})
	if err != nil || up.Accepted != 2 || up.Skipped != 1 {
		t.Errorf("got %+v %v", up, err)
	}
}

func TestUploadStopsAtAWrongEvent(t *testing.T) {
	rules := TopicRule{Pattern: "**", Policy: Policy{MaxEvent: 100}}
	for _, tt := range []struct {
		name, block string
		want        error
	}{
		{"id too long", "id: " + strings.Repeat("i", 257), ErrInvalid},
		{"id with a space", "id:  x", ErrInvalid},
		{"id with a tab", "id: a\tb", ErrInvalid},
		{"type too long", "event: " + strings.Repeat("e", 129), ErrInvalid},
		{"type with a control character", "event: a\x01", ErrInvalid},
		{"data one over", "data: " + strings.Repeat("x", 101), ErrTooLarge},
		{"lines one over", "data: " + strings.Repeat("x", 50) + "\ndata: " + strings.Repeat("x", 50), ErrTooLarge},
		{"comment far over", ":" + strings.Repeat("x", 70_000), ErrTooLarge},
		{"data far over", strings.Repeat("data: "+strings.Repeat("x", 90)+"\n", 1000), ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newUploadHub(t, nil, rules)
			block := tt.block
			if !strings.Contains(block, "data") {
				block += "\ndata: x"
			}
			up, err := h.PublishStream(t.Context(), "demo", strings.NewReader("id: a\ndata: 1\n\n"+block+"\n\ndata: 2\n\n"), nil)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), "event 1 of the upload") {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if up.Accepted != 1 || up.LastID != "a" || summary(topicEvents(t, h, "demo")) != "#a=1;" {
				t.Errorf("got %+v, stored %q", up, summary(topicEvents(t, h, "demo")))
			}
		})
	}
	h := newUploadHub(t, nil, rules)
	exact := "data: " + strings.Repeat("x", 100) + "\n\n" + "data: " + strings.Repeat("x", 49) + "\ndata: " + strings.Repeat("x", 50) + "\n\n"
	if up, err := h.PublishStream(t.Context(), "demo", strings.NewReader(exact), nil); err != nil || up.Accepted != 2 {
		t.Errorf("exactly the limit: %+v %v", up, err)
	}
}

func TestUploadRefusesWhatItCannotServe(t *testing.T) {
	h := newUploadHub(t, nil, TopicRule{Pattern: "gone", Retired: true})
	for _, tt := range []struct {
		topic string
		opts  *UploadOptions
		want  error
	}{
		{"", nil, ErrInvalid},
		{"a/*", nil, ErrInvalid},
		{"$a", nil, ErrReserved},
		{"gone", nil, ErrRetired},
		{"a", &UploadOptions{Name: "a b"}, ErrInvalid},
		{"a", &UploadOptions{Name: strings.Repeat("a", 129)}, ErrInvalid},
		{"a", &UploadOptions{Name: "a", From: -1}, ErrInvalid},
	} {
		r := strings.NewReader("data: x\n\n")
		if _, err := h.PublishStream(t.Context(), tt.topic, r, tt.opts); !errors.Is(err, tt.want) || r.Len() != 9 {
			t.Errorf("%q %+v: %v, want %v; %d bytes left", tt.topic, tt.opts, err, tt.want, r.Len())
		}
	}
}

func TestUploadIsResumedByOrdinal(t *testing.T) {
	h := newUploadHub(t, nil)
	var stream strings.Builder
	for i := range 10 {
		if i == 4 {
			stream.WriteString("id: own\n")
		}
		fmt.Fprintf(&stream, "data: %d\n\n", i)
	}
	all := stream.String()
	broken := io.MultiReader(strings.NewReader(all[:strings.Index(all, "data: 6")+5]), iotest.ErrReader(io.ErrUnexpectedEOF))
	up, err := h.PublishStream(t.Context(), "demo", broken, &UploadOptions{Name: "src"})
	if err != io.ErrUnexpectedEOF || up.Accepted != 6 || up.LastID != "own" {
		t.Fatalf("got %+v %v", up, err)
	}
	// Behind what was accepted; then, to be sure, all of it again.
	rest := all[strings.Index(all, "data: 6"):]
	up, err = h.PublishStream(t.Context(), "demo", strings.NewReader(rest), &UploadOptions{Name: "src", From: up.Accepted})
	if err != nil || up.Accepted != 4 || up.Duplicates != 0 {
		t.Fatalf("got %+v %v", up, err)
	}
	up, err = h.PublishStream(t.Context(), "demo", strings.NewReader(all), &UploadOptions{Name: "src"})
	if err != nil || up.Accepted != 10 || up.Duplicates != 10 {
		t.Fatalf("got %+v %v", up, err)
	}
	want := "#src.0=0;#src.1=1;#src.2=2;#src.3=3;#own=4;#src.5=5;#src.6=6;#src.7=7;#src.8=8;#src.9=9;"
	if got := summary(topicEvents(t, h, "demo")); got != want {
		t.Errorf("stored %q", got)
	}
}

func TestFailedAppendIsNotTriedAgain(t *testing.T) {
	calls := 0
	log := &faultLog{Log: NewMemoryLog(nil), fail: func([]Event) error {
		if calls++; calls == 2 {
			return errDisk
		}
		return nil
	}}
	h := newUploadHub(t, log)
	body := chunks{"data: 1\n\n", "data: 2\n\n", "data: 3\n\n"}
	up, err := h.PublishStream(t.Context(), "demo", &body, nil)
	if !errors.Is(err, errDisk) || up.Accepted != 1 || calls != 2 || len(body) != 1 {
		t.Errorf("got %+v %v after %d appends, %d chunks unread", up, err, calls, len(body))
	}
	// The same where the append is due to its size.
	calls = 1
	up, err = h.PublishStream(t.Context(), "demo", strings.NewReader(strings.Repeat("data\n\n", 3000)), nil)
	if !errors.Is(err, errDisk) || up.Accepted != 0 || calls != 2 {
		t.Errorf("got %+v %v after %d appends", up, err, calls)
	}
}

func TestUploadEndsWithItsContext(t *testing.T) {
	h := newUploadHub(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	body := chunks{"data: 1\n\n", "data: 2\n\n"}
	up, err := h.PublishStream(ctx, "demo", &body, &UploadOptions{OnAppend: func(Upload) { cancel(why) }})
	if err != why || up.Accepted != 1 || len(body) != 1 {
		t.Errorf("got %+v %v", up, err)
	}
}

// The line that is put before a block must change nothing else of what a
// decoder sees.
func FuzzBlockReader(f *testing.F) {
	for _, seed := range []string{
		"", "data: a\n\n", "id: 1\ndata: a\n\ndata: b\n\n", "id: 1\r\ndata: a\r\n\r\ndata: b\r\n\r\n", "\ufeffid:1\n\ndata:x\n\n",
		"data\r\rdata\n\r\ndata\r\n\n", "\n\n\nid\n\n\r\r", "\xef\xbbdata: a\n\n", "retry: 5\n\nid: 1\x00\ndata\n\n",
	} {
		f.Add([]byte(seed), 1)
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		if cut < 1 || cut > 1000 {
			cut = 7
		}
		var body chunks
		for rest := stream; len(rest) > 0; {
			n := min(cut, len(rest))
			body = append(body, string(rest[:n]))
			rest = rest[n:]
		}
		blocks := &blockReader{src: &body, before: func() error { return nil }}
		got := sse.NewDecoder(blocks, nil)
		want := sse.NewDecoder(strings.NewReader(string(stream)), nil)
		for {
			var a, b sse.Event
			errA, errB := got.Decode(&a), want.Decode(&b)
			if errA != errB || a.Type != b.Type || string(a.Data) != string(b.Data) || a.Retry != b.Retry {
				t.Fatalf("got %+v %v, want %+v %v", a, errA, b, errB)
			}
			if a.ID != "" && a.ID != b.ID {
				t.Fatalf("id %q, the decoder alone has %q", a.ID, b.ID)
			}
			if errA != nil {
				return
			}
		}
	})
}
