package tailrace

import (
	"context"
	"time"
)

// Log is one totally ordered sequence of events over all its topics, and the
// only part of Tailrace that keeps history. Package logtest tests that an
// implementation keeps what is promised here. All methods are safe for
// concurrent use.
//
// Order. For one topic, order of position is order of commit and order of
// every reader; within one sequence the same holds over all topics. Events of
// one Append and one topic have no other event of that topic between them and
// are stored all or none, duplicates aside.
//
// Visibility. No Read returns an event before it is as durable as its topic's
// policy says. When Append returns, any later Read sees its events.
//
// Completeness. A Read without Reset returns every event of the selection
// between its start and Next, in order. If something of the selection is
// missing there, the page is a Reset and nothing else. A topic that is idle
// never causes one: a cursor is complete as long as no event of its own
// selection after it was removed.
//
// Ids. An own id is unique in its topic as long as its event is kept.
// Appending it again stores nothing and returns the first cursor.
type Log interface {
	// Append stores events and returns one receipt for each, in order. It
	// returns when they are as durable as their topics' policies say. The
	// returned error is that of the first event whose receipt has one. Events
	// are checked first ([Event.Check]); an invalid one refuses the whole call
	// and nothing is stored. An error that is none of this package's, a
	// cancelled context included, is an unknown outcome: repeating with the
	// same own ids is right.
	//
	// The caller keeps the slice, the log keeps Data.
	Append(ctx context.Context, events []Event) ([]Receipt, error)

	// Read returns a page of the selection. It never waits for events.
	Read(ctx context.Context, q Query) (Page, error)

	// Watch calls wake at least once after any commit that matches s and that
	// a Read begun before may not have shown. Calls may be merged, spurious,
	// concurrent, and come after stop began; wake must not block. It is a hint
	// to read again; correctness never rests on it.
	Watch(s Selector, wake func()) (stop func(), err error)

	// Trim removes the events of topic up to and with upTo. A topic or a
	// position that is not there is no error.
	Trim(ctx context.Context, topic string, upTo Cursor) error

	// Delete removes all events, keys and ids of topic and opens it again if
	// it was closed. Deleting twice is no error.
	Delete(ctx context.Context, topic string) error

	// Stat describes a topic, or the whole log if topic is "". An unknown
	// topic is no error: Info.Exists is false.
	Stat(ctx context.Context, topic string) (Info, error)

	// List returns up to n names of the selection in byte order, those after
	// the name after.
	List(ctx context.Context, s Selector, after string, n int) ([]string, error)

	// Close writes what is not on disk yet and stops the log. Calls in
	// progress and later ones return ErrStopped. Closing twice is no error.
	Close() error
}

// RuleSetter is a Log whose policies can be changed while it runs.
type RuleSetter interface {
	SetRules([]Rule) error
}

// Receipt answers the append of one event.
type Receipt struct {
	Cursor    Cursor    // with ErrHead and ErrClosed: of the topic's last event, zero if that is not kept
	Time      time.Time // zero with Duplicate
	ID        string    // the own id as it is stored: one that looks like a cursor of this log has "=" before it
	Duplicate bool      // ID was there already: Cursor is the first one's, nothing was stored
	Err       error     // the same for all events of one topic in the call
}

// Limits and defaults of a Query.
const (
	DefaultReadLimit = 256
	DefaultReadBytes = 1 << 20
	MaxLast          = 1000
)

// Query says where to start and how much to return. At most one of LastID,
// After, Head, Since and Last is set; with none it starts at the oldest event
// kept.
type Query struct {
	Select Selector
	LastID string    // a wire id as the client sent it: a cursor of this log first, an own id of the selection second
	After  Cursor    // after this cursor
	Head   bool      // no events; Next is the head
	Since  time.Time // from the first event of this time or later
	Last   int       // the newest n events of the selection, at most 1000
	Latest bool      // instead of a run: the newest event of each topic and key as of one cut
	Mark   string    // with Latest: Page.Mark of the page before, After being its Next

	Told     uint64 // Page.Told of the page before; 0 on a resume, and once the reader has been at the head
	Limit    int    // events; 0 is 256
	MaxBytes int    // of data; 0 is 1 MiB; one event is always returned
}

// Check reports what no log can answer, as an ErrInvalid: two starts, a negative
// Last, an invalid selector. Every Read begins with it.
func (q *Query) Check() error {
	starts := 0
	for _, set := range [...]bool{q.LastID != "", !q.After.IsZero(), q.Head, !q.Since.IsZero(), q.Last != 0} {
		if set {
			starts++
		}
	}
	switch {
	case starts > 1:
		return &InvalidError{Field: "query", Reason: "has more than one start"}
	case q.Last < 0:
		return &InvalidError{Field: "query", Reason: "has a negative last"}
	}
	return q.Select.Check()
}

// Page is an answer of Read. Events are shared: see Event.
type Page struct {
	Events []Event
	Next   Cursor // the next After; it moves past foreign events too
	Told   uint64 // for the next Query
	Mark   string // with Latest: there are more pages
	More   bool   // another Read now would return or skip something
	Ended  bool   // exact topics only: all are closed and read to the end
	Reset  *Reset // history after the start is not complete; Events is empty
}

// Reason says why history is not complete.
type Reason string

const (
	Trimmed  Reason = "trimmed"  // retention or a trim removed events after the start
	Deleted  Reason = "deleted"  // a delete did, of every topic that is affected
	EpochGap Reason = "epoch"    // the cursor is of an epoch whose rest is lost or unknown
	Ahead    Reason = "ahead"    // the cursor is beyond the end
	Unknown  Reason = "unknown"  // the id is neither a cursor nor an own id of the selection
	Overflow Reason = "overflow" // never of a log: the topic's overflow policy skipped events
)

// Reset replaces an incomplete answer.
type Reset struct {
	Reason    Reason
	Requested string   // as asked
	Oldest    Cursor   // nothing of the selection can be read at or below it
	Topics    []string // affected, at most 100; nil means any of the selection
}

// Info is an answer of Stat.
type Info struct {
	Exists, Closed bool
	Head, Floor    Cursor // last event, also if it is removed; newest removed event
	Count, Bytes   int64  // Bytes is -1 where the engine cannot know
	Topics         int64  // of the whole log only
	Policy         Policy // with defaults; zero for the whole log
}
