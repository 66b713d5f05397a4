package tailrace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

const (
	ndjsonType     = "application/x-ndjson"
	ackTimeout     = 10 * time.Second // for a line to a client that does not read
	drainCheckTime = time.Second      // so late an upload learns of a drain
)

// upload publishes a text/event-stream body as it arrives.
func (p *publication) upload() error {
	if err := p.params.only("an upload, whose events have their own", paramTopic, paramUpload, paramUploadFrom, paramSkipGaps); err != nil {
		return err
	}
	if len(p.topics) > 1 {
		return badParameter("topic", "names %d topics; an upload goes to one", len(p.topics))
	}
	zipped, err := isGzip(p.r.Header)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(p.r.Context())
	defer cancel(nil)
	body := &uploadBody{ctx: ctx, rc: http.NewResponseController(p.w), body: p.body, idle: p.times.idle}
	finished, guarded := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(guarded)
		p.hub.guardUpload(ctx, cancel, body.rc, finished)
	}()

	opts := &UploadOptions{Name: p.params.upload, From: p.params.uploadFrom, SkipGaps: p.params.skipGaps}
	acks := p.startAcks()
	if acks != nil {
		opts.OnAppend = acks.put
	}
	var r io.Reader = body
	if zipped {
		r = &gunzip{src: counted{r: body}}
	}
	done, err := p.hub.PublishStream(ctx, p.topics[0], r, opts)
	close(finished)
	<-guarded
	if err == nil {
		body.rc.SetReadDeadline(time.Time{})
	}
	p.bodyRead, p.bodyBroken = err == nil, err != nil
	var prob *problem.Problem
	if err != nil {
		prob = p.uploadProblem(err, done)
	}
	switch {
	case acks != nil:
		acks.finish(done, prob)
		if prob != nil {
			body.rc.SetReadDeadline(time.Unix(1, 0))
		}
	case prob != nil:
		return prob
	default:
		if !done.LastCursor.IsZero() {
			p.setCursor(done.LastCursor)
		}
		p.answer(append(appendUpload(nil, &done, ""), '\n'))
	}
	return nil
}

// guardUpload ends an upload, after the blocks that have arrived, when the hub
// drains or ctx ends: it interrupts a read that waits. A read that has yet to
// begin sees the end of ctx for itself, after it has set its own deadline.
func (h *Hub) guardUpload(ctx context.Context, cancel context.CancelCauseFunc, rc *http.ResponseController, finished <-chan struct{}) {
	tick := time.NewTicker(drainCheckTime)
	defer tick.Stop()
	for {
		select {
		case <-finished:
			return
		case <-ctx.Done():
			rc.SetReadDeadline(time.Unix(1, 0))
			return
		case <-tick.C:
			if h.Draining() {
				cancel(errDraining())
			}
		}
	}
}

// uploadProblem says why an upload ended, and what of it is stored.
func (p *publication) uploadProblem(err error, done Upload) *problem.Problem {
	var prob *problem.Problem
	var failed *appendError
	var event *eventError
	switch {
	case errors.As(err, &failed):
		var r *Receipt
		if len(failed.receipts) > 0 {
			r = &failed.receipts[0]
		}
		if prob = publishProblem(failed.err, p.topics[0], r, p.hub); prob == nil {
			prob = p.hub.unknownOutcome(failed.err, failed.id)
		}
	case errors.As(err, &event):
		prob = publishProblem(event.err, p.topics[0], nil, p.hub)
		prob.Detail = fmt.Sprintf("event %d of the upload: %s", event.ordinal, prob.Detail)
	case errors.Is(err, ErrUpstreamGap):
		prob = problem.New("upstream-gap", "the uploaded stream says that it has a gap; skip_gaps=1 carries on past it")
	case errors.Is(err, os.ErrDeadlineExceeded):
		prob = problem.New("upload-idle", "no byte arrived for %v", p.times.idle)
	case errors.As(err, &prob): // of the decompression, or a drain
	default:
		prob = problem.New("invalid-request", "the body broke off: %v", err)
	}
	prob = prob.With("accepted", done.Accepted).With("duplicates", done.Duplicates).With("skipped", done.Skipped).
		With("last_id", done.LastID).With("last_cursor", "").With("incomplete", done.Incomplete)
	if !done.LastCursor.IsZero() {
		prob = prob.With("last_cursor", done.LastCursor.String())
	}
	prob.Detail += fmt.Sprintf("; accepted before: %d", done.Accepted)
	return prob
}

// appendUpload appends the answer about an upload as a JSON object; end, if
// not empty, is put before its closing brace.
func appendUpload(b []byte, u *Upload, end string) []byte {
	b = append(b, `{"accepted":`...)
	b = strconv.AppendInt(b, u.Accepted, 10)
	b = append(b, `,"duplicates":`...)
	b = strconv.AppendInt(b, u.Duplicates, 10)
	b = append(b, `,"skipped":`...)
	b = strconv.AppendInt(b, u.Skipped, 10)
	b = append(b, `,"last_id":`...)
	b = appendJSONString(b, u.LastID)
	b = append(b, `,"last_cursor":"`...)
	if !u.LastCursor.IsZero() {
		b, _ = u.LastCursor.AppendText(b)
	}
	b = append(b, `","incomplete":`...)
	b = strconv.AppendBool(b, u.Incomplete)
	b = append(b, end...)
	return append(b, '}')
}

// uploadBody reads an upload's body with a deadline for each read.
type uploadBody struct {
	ctx  context.Context
	rc   *http.ResponseController
	body io.Reader
	idle time.Duration
}

func (b *uploadBody) Read(p []byte) (int, error) {
	b.rc.SetReadDeadline(time.Now().Add(b.idle))
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	n, err := b.body.Read(p)
	switch {
	case err == io.EOF:
		// From here on the server watches for the client's leaving, and a
		// deadline would look like that.
		b.rc.SetReadDeadline(time.Time{})
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Of HTTP/1.1, net/http ends the request's context too: only a cause
		// of our own tells more than the deadline.
		var drain *problem.Problem
		if errors.As(context.Cause(b.ctx), &drain) {
			err = drain
		}
	}
	return n, err
}
