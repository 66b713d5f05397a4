package tailrace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/tailrace/tailrace/sse"
)

// Bounds of one append of an upload: what arrives together is one append, up
// to here.
const (
	maxUploadEvents = 1000
	maxUploadBytes  = 1 << 20
)

// maxUploadName bounds an upload's name, in bytes, so that an id made of it
// and an ordinal is no longer than an own id may be.
const maxUploadName = 128

// maxUploadFrom leaves room to count on from any ordinal.
const maxUploadFrom = 1 << 62

// ErrUpstreamGap says that an uploaded stream told of a gap in itself. What
// came before is stored; copying past it would hide a loss.
var ErrUpstreamGap = errors.New("tailrace: the uploaded stream has a gap")

// UploadOptions of PublishStream; nil is the defaults.
type UploadOptions struct {
	// Name makes repetition safe: an event without an id gets the own id
	// NAME.n, n being its ordinal in the upload. One source of events has one
	// name, of 1 to 128 bytes of [0-9A-Za-z._-]; "" gives no ids.
	Name string

	// From is the ordinal of the first event of the stream. Default 0.
	From int64

	// SkipGaps carries on past a gap that the stream tells of.
	SkipGaps bool

	// OnAppend, if not nil, is called after each append, by the goroutine that
	// runs PublishStream, before it reads on.
	OnAppend func(Upload)
}

// Upload says how far an upload has come. Everything up to its last event is
// stored and nothing after it.
type Upload struct {
	Accepted   int64  // events stored or known to be, duplicates included: the next event's ordinal is From + Accepted
	Duplicates int64  // of them, those that were there already
	Skipped    int64  // tailrace. events of the source, which are not copied
	LastID     string // the last id that an accepted event came with, as it came
	LastCursor Cursor // of the last accepted event
	Incomplete bool   // the stream ended within an event, which was dropped
}

// PublishStream decodes r as an event stream and publishes each event to topic
// as it arrives: what arrives together is one append, and no more is read
// before that is stored. A block's event, id and retry become the event's; an
// id counts for its own block alone, though to a subscriber it lives on in
// later ones. Types that begin with tailrace. are skipped.
//
// It returns at the end of r with a nil error. Any error, ErrUpstreamGap among
// them, ends the upload, and Upload says what is stored: with an error that is
// neither this package's nor the reader's, the events that follow may be too.
// When ctx ends, PublishStream returns its cause before the next read; it
// cannot interrupt one.
func (h *Hub) PublishStream(ctx context.Context, topic string, r io.Reader, opts *UploadOptions) (Upload, error) {
	if opts == nil {
		opts = &UploadOptions{}
	}
	err := opts.check(topic)
	if err == nil {
		err = h.mayPublish(&Event{Topic: topic})
	}
	if err != nil {
		return Upload{}, err
	}
	u := &uploader{hub: h, ctx: ctx, topic: topic, opts: opts, policy: h.Rule(topic).Policy, next: opts.From}
	err = u.run(r)
	return u.done, err
}

func (o *UploadOptions) check(topic string) error {
	if o.Name != "" {
		if err := checkUploadName(o.Name); err != nil {
			return err
		}
	}
	switch {
	case o.From < 0 || o.From > maxUploadFrom:
		return &InvalidError{Field: "upload_from", Reason: "is out of range"}
	case IsPattern(topic):
		return &InvalidError{Field: "topic", Reason: "is a pattern"}
	}
	return CheckTopic(topic)
}

// checkUploadName refuses what is no upload's name.
func checkUploadName(name string) error {
	if name == "" || len(name) > maxUploadName {
		return &InvalidError{Field: "upload", Reason: fmt.Sprintf("has %d bytes, not 1 to %d", len(name), maxUploadName)}
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return &InvalidError{Field: "upload", Offset: i, Reason: "has a character other than 0-9, A-Z, a-z, dot, underscore and hyphen"}
		}
	}
	return nil
}

// uploader runs one upload.
type uploader struct {
	hub    *Hub
	ctx    context.Context
	topic  string
	opts   *UploadOptions
	policy Policy

	next    int64 // ordinal of the next event
	pending []Event
	size    int    // of the pending data, in bytes
	lastID  string // the last id that came, of a pending event too
	done    Upload
}

func (u *uploader) run(r io.Reader) error {
	blocks := &blockReader{src: r, before: u.beforeRead}
	dec := sse.NewDecoder(blocks, &sse.DecoderOptions{MaxEventSize: max(u.policy.MaxEvent, leastLine) + fieldSpace})
	var ev sse.Event
	var err error
	for err == nil {
		if err = dec.Decode(&ev); err == nil {
			err = u.add(&ev)
		}
	}
	// What came before the end, or before what is wrong, is published.
	if ferr := u.flush(); ferr != nil {
		return ferr
	}
	if err == io.EOF {
		u.done.Incomplete = blocks.unfinished()
		return nil
	}
	var long *sse.TooLongError
	if errors.As(err, &long) {
		return u.wrong(fmt.Errorf("%w: more than %d bytes", ErrTooLarge, u.policy.MaxEvent))
	}
	return err
}

// The decoder bounds lines, the policy data. A line of data is longer than its
// data, and other lines have little to do with how large an event may be.
const (
	fieldSpace = 64       // bytes
	leastLine  = 64 << 10 // bytes
)

// beforeRead runs when all that has arrived is decoded.
func (u *uploader) beforeRead() error {
	if err := u.flush(); err != nil {
		return err
	}
	return context.Cause(u.ctx)
}

// add takes one event of the stream.
func (u *uploader) add(ev *sse.Event) error {
	if strings.HasPrefix(ev.Type, ReservedTypePrefix) {
		if ev.Type == TypeGap && !u.opts.SkipGaps {
			return ErrUpstreamGap
		}
		u.done.Skipped++
		return nil
	}
	e := Event{Topic: u.topic, Type: ev.Type, ID: ev.ID, Retry: min(ev.Retry, maxEventRetry)}
	if e.ID != "" {
		if err := checkOwnID(e.ID); err != nil {
			return u.wrong(err)
		}
	} else if u.opts.Name != "" {
		e.ID = u.opts.Name + "." + strconv.FormatInt(u.next, 10)
	}
	e.Data = ev.Data
	if err := e.Check(&u.policy); err != nil {
		return u.wrong(err)
	}
	e.Data = bytes.Clone(ev.Data) // the decoder's own is borrowed
	if ev.ID != "" {
		u.lastID = ev.ID
	}
	u.next++
	u.size += len(e.Data)
	if u.pending = append(u.pending, e); len(u.pending) >= maxUploadEvents || u.size >= maxUploadBytes {
		return u.flush()
	}
	return nil
}

// wrong says which event err is about.
func (u *uploader) wrong(err error) error { return &eventError{u.next, err} }

// eventError says which event of an upload cannot be published.
type eventError struct {
	ordinal int64
	err     error
}

func (e *eventError) Error() string {
	return fmt.Sprintf("tailrace: event %d of the upload: %v", e.ordinal, e.err)
}
func (e *eventError) Unwrap() error { return e.err }

// flush appends what is pending.
func (u *uploader) flush() error {
	if len(u.pending) == 0 {
		return nil
	}
	// What has arrived is stored, whatever has become of its sender.
	receipts, err := u.hub.Publish(context.WithoutCancel(u.ctx), u.pending...)
	if err != nil {
		id := u.pending[0].ID
		u.pending = nil // it is not to be tried again, and the log may still have it
		return &appendError{err: err, receipts: receipts, id: id}
	}
	for i := range receipts {
		if receipts[i].Duplicate {
			u.done.Duplicates++
		}
	}
	u.done.Accepted += int64(len(receipts))
	u.done.LastID = u.lastID
	u.done.LastCursor = receipts[len(receipts)-1].Cursor
	clear(u.pending)
	u.pending, u.size = u.pending[:0], 0
	if u.opts.OnAppend != nil {
		u.opts.OnAppend(u.done)
	}
	return nil
}

// appendError is a failed append of an upload.
type appendError struct {
	err      error
	receipts []Receipt
	id       string // of the first event that was in it
}

func (e *appendError) Error() string { return "tailrace: uploading: " + e.err.Error() }
func (e *appendError) Unwrap() error { return e.err }
