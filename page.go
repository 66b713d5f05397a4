package tailrace

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// Bounds of one page.
const (
	maxPageBytes  = 4 << 20 // of data
	maxPageScan   = 10_000  // events looked at, so that a filter cannot make a page expensive
	maxStateSize  = 10_000  // events of a snapshot, which is one page or none
	minGzip       = 512     // bytes; less is not worth it
	pageCacheable = "max-age=60"
)

// ServePage answers with a page of sub's events as JSON: {"events", "next",
// "more", "ended"} and "gap" where history is not complete. Next is the last
// event id of the next call. With sub.Wait an empty page waits for its first
// event. HEAD describes a topic in headers. The response is always written.
func (h *Hub) ServePage(w http.ResponseWriter, r *http.Request, sub *Subscription) {
	if t, ok := sub.Select.Single(); ok && h.Rule(t).Retired {
		problem.Write(w, problem.New("topic-retired", "topic %q was deleted for good", t))
		return
	}
	if r.Method == http.MethodHead {
		h.serveHead(w, r, sub)
		return
	}
	w.Header().Set("Vary", "Accept, Accept-Encoding, Origin, Authorization, Cookie")
	p := pager{hub: h, sub: sub, wants: choice{sub.typeSet(), sub.Filter}, limit: min(sub.Limit, maxPageLimit)}
	if p.limit <= 0 {
		p.limit = defaultLimit
	}
	if err := p.read(r.Context()); err != nil {
		if r.Context().Err() != nil {
			return // nobody is there
		}
		var prob *problem.Problem
		if !errors.As(err, &prob) {
			err = h.readProblem(err)
		}
		writeProblem(w, err)
		return
	}
	p.write(w, r)
}

// pager makes one page.
type pager struct {
	hub   *Hub
	sub   *Subscription
	wants choice
	limit int

	events  []Event
	size    int // of their data, in bytes
	scanned int
	next    Cursor
	told    uint64
	more    bool
	ended   bool
	gap     *Reset
	state   bool // events are a snapshot
}

// read fills the page, waiting for a first event if that is asked for.
func (p *pager) read(ctx context.Context) error {
	if p.sub.Snapshot && p.sub.LastID == "" {
		return p.readState(ctx)
	}
	q := p.sub.query()
	if err := p.scan(ctx, q); err != nil {
		return err
	}
	if p.sub.Wait <= 0 || !p.idle() {
		return nil
	}
	return p.wait(ctx)
}

// idle reports whether the page says nothing, and there is nothing more to
// read now.
func (p *pager) idle() bool {
	return len(p.events) == 0 && !p.more && !p.ended && p.gap == nil
}

// scan reads from q until the page is full, the scan is long enough or nothing
// more is there.
func (p *pager) scan(ctx context.Context, q Query) error {
	for {
		q.Limit, q.MaxBytes = p.limit-len(p.events), maxPageBytes-p.size
		if !p.wants.isAll() {
			q.Limit = min(DefaultReadLimit, maxPageScan-p.scanned)
		}
		page, err := p.hub.log.Read(ctx, q)
		if err != nil {
			return err
		}
		if page.Reset != nil {
			if p.gap != nil || len(p.events) > 0 {
				// The page ends before the loss. The next call will be told.
				p.more = true
				return nil
			}
			done, err := p.lost(ctx, &page)
			if done || err != nil {
				return err
			}
		} else if !p.take(&page) {
			p.more = true
			return nil
		}
		if !page.More && page.Reset == nil {
			return nil
		}
		q = Query{Select: p.sub.Select, After: p.next, Told: p.told}
	}
}

// take adds the events of a page of the log and reports whether there is room
// for more. Where an event has no room, the page ends before it.
func (p *pager) take(page *Page) bool {
	for i := range page.Events {
		ev := &page.Events[i]
		if ev.Type == TypeEnd || !p.wants.wants(ev) {
			p.next = ev.Cursor
			continue
		}
		if len(p.events) == p.limit || len(p.events) > 0 && p.size+len(ev.Data) > maxPageBytes {
			return false
		}
		p.events = append(p.events, *ev)
		p.size += len(ev.Data)
		p.next = ev.Cursor
	}
	p.scanned += len(page.Events)
	p.next, p.told, p.more, p.ended = page.Next, page.Told, page.More, page.Ended
	return !p.more || len(p.events) < p.limit && p.size < maxPageBytes && p.scanned < maxPageScan
}

// lost notes that history is not complete. done says that the page ends there.
func (p *pager) lost(ctx context.Context, page *Page) (done bool, err error) {
	p.hub.counters.gap(page.Reset.Reason)
	p.gap, p.next, p.told = page.Reset, page.Next, page.Told
	switch {
	case p.sub.Snapshot:
		return true, p.readState(ctx)
	case p.sub.OnGapNew:
		head, err := p.hub.log.Read(ctx, Query{Select: p.sub.Select, Head: true})
		if err != nil {
			return true, err
		}
		p.next, p.ended = head.Next, head.Ended
		return true, nil
	}
	return false, nil
}

// readState fills the page with the newest event of each key as of one cut.
func (p *pager) readState(ctx context.Context) error {
	p.state = true
	p.hub.counters.snapshots.Add(1)
	q := Query{Select: p.sub.Select, Latest: true, Limit: DefaultReadLimit}
	for {
		page, err := p.hub.log.Read(ctx, q)
		if err != nil {
			return err
		}
		for i := range page.Events {
			ev := &page.Events[i]
			if !p.wants.wants(ev) {
				continue
			}
			p.events = append(p.events, *ev)
			p.size += len(ev.Data)
		}
		if len(p.events) > maxStateSize || p.size > maxPageBytes {
			return problem.New("too-large", "the state has more than %d keys or %d bytes; read it as a stream, with snapshot=1 and Accept: text/event-stream", maxStateSize, maxPageBytes).
				With("limit", maxPageBytes)
		}
		if page.Mark == "" {
			p.next = page.Next
			return nil
		}
		q.Mark, q.After = page.Mark, page.Next
	}
}

// wait reads again at each hint until the page says something or its time is
// up. Who drains answers at once: the client goes on at another node.
func (p *pager) wait(ctx context.Context) error {
	wake := make(chan struct{}, 1)
	stop, err := p.hub.log.Watch(p.sub.Select, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer stop()
	end := time.NewTimer(p.sub.Wait)
	defer end.Stop()
	drain := time.NewTicker(drainCheckTime)
	defer drain.Stop()
	for {
		// The watch began after the read before: read before waiting.
		if err := p.scan(ctx, Query{Select: p.sub.Select, After: p.next}); err != nil || !p.idle() {
			return err
		}
		p.scanned = 0
		for again := false; !again; {
			select {
			case <-wake:
				again = true
			case <-drain.C:
				if p.hub.Draining() {
					return nil
				}
			case <-end.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// write sends the page.
func (p *pager) write(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	zip := acceptsGzip(r.Header["Accept-Encoding"])
	// Between its start and its end a page that is not the last one can only
	// change by retention, so it may be kept for a while.
	if p.more && p.sub.LastID != "" && p.sub.Wait == 0 && p.gap == nil && !p.state && p.sub.Filter == nil {
		header.Set("Cache-Control", "private, "+pageCacheable)
		if p.public() {
			header.Set("Cache-Control", "public, "+pageCacheable+", stale-while-revalidate=300")
		}
		tag := p.tag(r, zip)
		header.Set("Etag", tag)
		if matchesTag(r.Header["If-None-Match"], tag) {
			header.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	b := p.append(make([]byte, 0, p.size+p.size/8+160*len(p.events)+256))
	if zip && len(b) >= minGzip {
		header.Set("Content-Encoding", "gzip")
		var buf bytes.Buffer
		buf.Grow(len(b) / 2)
		z, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
		z.Write(b)
		z.Close()
		b = buf.Bytes()
	}
	header.Set("Content-Length", strconv.Itoa(len(b)))
	w.Write(b)
}

// append appends the page's JSON to b.
func (p *pager) append(b []byte) []byte {
	b = append(b, `{"events":[`...)
	for i := range p.events {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendEnvelope(b, &p.events[i])
	}
	b = append(b, `],"next":"`...)
	b, _ = p.next.AppendText(b)
	b = append(b, `","more":`...)
	b = strconv.AppendBool(b, p.more)
	b = append(b, `,"ended":`...)
	b = strconv.AppendBool(b, p.ended)
	if p.gap != nil {
		b = append(b, `,"gap":`...)
		text, _ := json.Marshal(NewGap(p.gap)) // strings alone cannot fail
		b = append(b, text...)
	}
	return append(b, '}', '\n')
}

// public reports whether the whole selection may be read by everybody.
func (p *pager) public() bool {
	for _, t := range p.sub.Select.Topics {
		if !p.hub.Rule(t).Public {
			return false
		}
	}
	return len(p.sub.Select.Patterns) == 0 && len(p.sub.Select.Topics) > 0
}

// tag is the page's strong validator: a hash of what it depends on, its form
// included.
func (p *pager) tag(r *http.Request, zip bool) string {
	f := fnv.New128a()
	fmt.Fprintf(f, "%q %q %q %d %t %s", p.sub.Select, p.sub.LastID, p.sub.Types, p.limit, zip, p.next)
	return `"` + fmt.Sprintf("%x", f.Sum(nil)) + `"`
}

// matchesTag reads If-None-Match (RFC 9110, section 13.1.2), with the weak
// comparison.
func matchesTag(lines []string, tag string) bool {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			if item = strings.TrimSpace(item); item == "*" || strings.TrimPrefix(item, "W/") == tag {
				return true
			}
		}
	}
	return false
}

// acceptsGzip reads Accept-Encoding (RFC 9110, section 12.5.3).
func acceptsGzip(lines []string) bool {
	any := false
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(item, ";")
			name = strings.ToLower(strings.TrimSpace(name))
			if name != "gzip" && name != "x-gzip" && name != "*" {
				continue
			}
			k, v, _ := strings.Cut(params, "=")
			q, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			ok := !strings.EqualFold(strings.TrimSpace(k), "q") || err != nil || q > 0
			if name != "*" {
				return ok
			}
			any = ok
		}
	}
	return any
}
