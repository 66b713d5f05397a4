package tailrace

import (
	"sort"
	"sync"
	"time"
)

// Bounds of pages of the log, in bytes of data, and in events, whose framing
// counts too.
const (
	minPage    = 1 << 10
	maxOwnPage = 16 << 10 // of one stream: a stalled portable one holds it
	maxPage    = 64 << 10 // of all streams that are at one place
	minCut     = 16 << 10 // least size of a page that is cut by its content
	pageEvents = 1024

	maxPageCache = 8 << 20
)

// wirePage is a page of the log as the blocks of one form. It does not change.
type wirePage struct {
	wire  []byte     // chunks, one for each event, or plain blocks
	marks []blockEnd // one for each event
	next  Cursor
	told  uint64
	more  bool
	ended bool
	reset *Reset

	pooled *[]byte // wire's buffer, if it is one stream's own
}

// pageBuffers are those of pages of one stream.
var pageBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, maxOwnPage+maxOwnPage/2) // a stalled portable stream holds one
	return &b
}}

// newPage encodes what is wanted of what was read. It keeps nothing of read's
// events.
func newPage(read *Page, fm form, chunked bool, wants *choice) *wirePage {
	p := &wirePage{next: read.Next, told: read.Told, more: read.More, ended: read.Ended, reset: read.Reset}
	p.pooled = pageBuffers.Get().(*[]byte)
	p.wire = (*p.pooled)[:0]
	p.encode(read.Events, fm, chunked, wants)
	return p
}

func (p *wirePage) encode(events []Event, fm form, chunked bool, wants *choice) {
	if len(events) > 0 {
		p.marks = make([]blockEnd, 0, len(events))
	}
	for i := range events {
		ev := &events[i]
		if !wants.wants(ev) {
			continue
		}
		if !chunked {
			p.wire = appendFrame(p.wire, ev, fm)
		} else {
			p.wire = appendChunk(p.wire, ev, fm)
		}
		p.marks = append(p.marks, blockEnd{ev.Cursor.Pos, len(p.wire)})
	}
}

// release gives back a buffer that nobody else has.
func (p *wirePage) release() {
	if p.pooled != nil && cap(p.wire) <= 8*maxOwnPage {
		*p.pooled = p.wire[:0]
		pageBuffers.Put(p.pooled)
	}
	p.pooled, p.wire = nil, nil
}

// upTo counts the events at or below pos.
func (p *wirePage) upTo(pos uint64) int {
	return sort.Search(len(p.marks), func(i int) bool { return p.marks[i].pos > pos })
}

// pageBytes shares ReplayBytes among the streams that are behind.
func (h *Hub) pageBytes() int {
	n := h.opts.ReplayBytes / max(1, h.behind.Load())
	return int(min(max(n, minPage), maxOwnPage))
}

// pageKey says what a shared page is of.
type pageKey struct {
	feed    *feed
	form    form
	chunked bool
	filter  Filter
	after   Cursor
	told    uint64
}

// pageLife is how long a page is shared after it was read. A trim or delete is
// heeded so much later by streams that are behind; those in memory do not
// forget at once either.
const pageLife = time.Second

// pageCache shares pages among streams that are behind at one place, so that a
// storm of returning clients reads and encodes history once. Readers that come
// from different places soon meet, because pages are cut by their content.
type pageCache struct {
	mu    sync.Mutex
	pages map[pageKey]*pageEntry
	order []*pageEntry // of those that are kept, oldest first
	bytes int
}

type pageEntry struct {
	key  pageKey
	done chan struct{} // closed once page or err is set
	page *wirePage
	err  error
	made time.Time
}

// get returns the page of key: one that is kept, one that somebody is reading
// now, or a new one. A page of the end of the log is right if it goes up to the
// position upTo at least.
func (c *pageCache) get(h *Hub, key pageKey, upTo uint64) (*wirePage, error) {
	c.mu.Lock()
	if e := c.pages[key]; e != nil {
		c.mu.Unlock()
		<-e.done
		if e.err != nil || e.page.more || e.page.next.Pos >= upTo {
			h.counters.replayPage(replayCache)
			return e.page.share(), e.err
		}
		c.mu.Lock()
		if c.pages[key] == e {
			delete(c.pages, key) // the log has gone on
		}
	}
	e := &pageEntry{key: key, err: errUnread, done: make(chan struct{})}
	if c.pages == nil {
		c.pages = map[pageKey]*pageEntry{}
	}
	c.pages[key] = e
	c.mu.Unlock()

	defer c.finish(h, e)
	e.page, e.err = h.readPage(key)
	h.counters.replayPage(replayLog)
	return e.page.share(), e.err
}

// finish lets go who waits for e and keeps its page.
func (c *pageCache) finish(h *Hub, e *pageEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(e.done)
	if e.err != nil {
		if c.pages[e.key] == e {
			delete(c.pages, e.key)
		}
		return
	}
	e.made = time.Now()
	c.order = append(c.order, e)
	c.bytes += e.page.size()
	c.trim(h.pageRoom)
}

// errUnread is what waiters get whose reader panicked.
var errUnread = errEnd("error")

// share returns p for one reader more, who may release it as its own.
func (p *wirePage) share() *wirePage {
	if p == nil {
		return nil
	}
	shared := *p
	return &shared
}

// readPage reads a page to be shared. If several streams are behind it is cut
// by its content.
func (h *Hub) readPage(key pageKey) (*wirePage, error) {
	if key.filter != nil {
		h.filters <- struct{}{}
		defer func() { <-h.filters }()
	}
	read, err := h.readLog(h.ctx, Query{
		Select: key.feed.sel, After: key.after, Told: key.told, Limit: pageEvents, MaxBytes: maxPage,
	})
	if err != nil {
		return nil, err
	}
	if h.behind.Load() > 1 {
		cutByContent(&read)
	}
	size := 0
	for i := range read.Events {
		size += len(read.Events[i].Data) + len(read.Events[i].Type) + len(read.Events[i].ID) + 64
	}
	p := &wirePage{next: read.Next, told: read.Told, more: read.More, ended: read.Ended, reset: read.Reset, wire: make([]byte, 0, size)}
	p.encode(read.Events, key.form, key.chunked, &choice{filter: key.filter})
	return p, nil
}

// cutByContent ends a page after an event whose position says so.
func cutByContent(read *Page) {
	size := 0
	for i := range read.Events {
		size += len(read.Events[i].Data)
		pos := read.Events[i].Cursor.Pos
		if size >= minCut && pos*0x9E3779B97F4A7C15>>57 == 0 && i+1 < len(read.Events) {
			read.Events = read.Events[:i+1]
			read.Next.Pos, read.More, read.Ended = pos, true, false
			return
		}
	}
}

// trim forgets the oldest pages until the rest has at most so many bytes and
// none is too old. Called with mu held.
func (c *pageCache) trim(most int) {
	old := time.Now().Add(-pageLife)
	for len(c.order) > 0 && (c.bytes > most || c.order[0].made.Before(old)) {
		e := c.order[0]
		if c.pages[e.key] == e {
			delete(c.pages, e.key)
		}
		c.bytes -= e.page.size()
		c.order[0] = nil
		c.order = c.order[1:]
	}
	if len(c.order) == 0 {
		c.order = nil
	}
}

// tidy forgets pages that are too old.
func (c *pageCache) tidy(most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trim(most)
}

// size is what p holds, in bytes.
func (p *wirePage) size() int { return len(p.wire) + 16*len(p.marks) + 256 }

// size is what the pages that are kept hold, in bytes.
func (c *pageCache) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(c.bytes)
}
