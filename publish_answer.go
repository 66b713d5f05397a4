package tailrace

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tailrace/tailrace/internal/problem"
)

// retryAfter is when to come back to a log that is stopped or a hub that
// drains: a restart takes about so long.
const retryAfter = 5 * time.Second

func errDraining() *problem.Problem {
	p := problem.New("draining", "the hub is about to stop")
	p.RetryAfter = retryAfter
	return p
}

// publishProblem says why an event of topic was not published. The receipt may
// be nil.
func publishProblem(err error, topic string, r *Receipt, h *Hub) *problem.Problem {
	var known *problem.Problem
	var invalid *InvalidError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &invalid):
		return invalidProblem(invalid, topic)
	case errors.Is(err, ErrTooLarge):
		return tooLarge(h.Rule(topic).MaxEvent, "an event of %s may have %d bytes of data", topic, h.Rule(topic).MaxEvent)
	case errors.Is(err, ErrNotClosable):
		return problem.New("not-closable", "the policy of %s does not allow closing it", topic).With("topic", topic)
	case errors.Is(err, ErrRetired):
		return problem.New("topic-retired", "%s was deleted for good", topic).With("topic", topic)
	case errors.Is(err, ErrReserved):
		return problem.New("reserved-topic", "%v", err).With("topic", topic)
	case errors.Is(err, ErrClosed):
		p := problem.New("topic-closed", "%s is closed", topic).With("topic", topic)
		if r != nil && !r.Cursor.IsZero() {
			p = p.With("final", r.Cursor.String())
		}
		return p
	case errors.Is(err, ErrHead):
		head := "none"
		if r != nil && !r.Cursor.IsZero() {
			head = r.Cursor.String()
		}
		return problem.New("head-mismatch", "the last event of %s is %s", topic, head).With("head", head)
	case errors.Is(err, ErrFull):
		return problem.New("log-full", "the disk or its quota is full")
	case errors.Is(err, ErrStopped):
		p := problem.New("unavailable", "the log is stopped")
		p.RetryAfter = retryAfter
		return p
	}
	return nil
}

// unknownOutcome says that the log has not answered; id is the event's own id
// or "". What the log said instead is for the operator.
func (h *Hub) unknownOutcome(err error, id string) *problem.Problem {
	if !errors.Is(err, context.DeadlineExceeded) {
		h.opts.Logger.Error("tailrace: appending to the log failed", "err", err)
	}
	p := problem.New("outcome-unknown", "the log did not answer; the event may or may not be stored, and it has no id to repeat it with")
	if id != "" {
		p.Detail = "the log did not answer; repeat the request with the same id, and the event is stored once"
		p = p.With("id", id)
	}
	p.RetryAfter = time.Second
	return p
}

func invalidProblem(e *InvalidError, topic string) *problem.Problem {
	switch e.Field {
	case "topic", "pattern":
		return problem.New("invalid-topic", "the topic's name %s (at byte %d)", e.Reason, e.Offset).With("offset", e.Offset)
	case "data":
		return notText(e.Offset)
	}
	p := asParameter(e).(*problem.Problem)
	if topic != "" {
		p = p.With("topic", topic)
	}
	return p
}

func notText(offset int) *problem.Problem {
	return problem.New("not-text", "the body is not UTF-8 at byte %d; with encode=base64 its base64 is stored", offset).With("offset", offset)
}

// checkUTF8 refuses a body that is not UTF-8.
func checkUTF8(data []byte) error {
	if utf8.Valid(data) {
		return nil
	}
	return notText(invalidUTF8(string(data)))
}

// notAll says what became of events when Publish returned err: nothing, not
// everything, or nobody knows. It always returns a problem.
func (p *publication) notAll(events []Event, receipts []Receipt, err error) error {
	if oneTopic(events) {
		var r *Receipt
		for i := range receipts {
			if receipts[i].Err != nil {
				r = &receipts[i]
				break
			}
		}
		if prob := publishProblem(err, events[0].Topic, r, p.hub); prob != nil {
			return prob
		}
		return p.hub.unknownOutcome(err, events[0].ID)
	}
	if len(receipts) != len(events) {
		if prob := publishProblem(err, events[0].Topic, nil, p.hub); prob != nil {
			return prob // the whole call was refused
		}
		receipts = make([]Receipt, len(events))
		for i := range receipts {
			receipts[i] = Receipt{ID: events[i].ID, Err: err}
		}
	}
	return p.partial(events, receipts)
}

func oneTopic(events []Event) bool {
	for i := range events {
		if events[i].Topic != events[0].Topic {
			return false
		}
	}
	return true
}

// result is the answer about one event of a call that was not stored whole.
type result struct {
	Topic     string `json:"topic"`
	Cursor    string `json:"cursor,omitempty"`
	ID        string `json:"id,omitempty"`
	Duplicate bool   `json:"duplicate,omitempty"`
	Type      string `json:"type,omitempty"` // of the problem
	Detail    string `json:"detail,omitempty"`
}

// partial is the problem of a call to several topics of which some failed.
func (p *publication) partial(events []Event, receipts []Receipt) *problem.Problem {
	results := make([]result, len(events))
	stored, unknown := 0, 0
	var first *problem.Problem
	for i := range events {
		r, ev := &receipts[i], &events[i]
		results[i] = result{Topic: ev.Topic, ID: r.ID, Duplicate: r.Duplicate}
		if r.Err == nil {
			results[i].Cursor = r.Cursor.String()
			stored++
			continue
		}
		prob := publishProblem(r.Err, ev.Topic, r, p.hub)
		if prob == nil {
			prob = p.hub.unknownOutcome(r.Err, ev.ID)
			unknown++
		}
		if first == nil {
			first = prob
		}
		results[i].Type, results[i].Detail = problem.TypePrefix+prob.Name, prob.Detail
	}
	// What stops the whole log concerns no topic, and nothing is stored.
	if stored == 0 && (first.Name == "log-full" || first.Name == "unavailable") {
		return first.With("results", results)
	}
	prob := problem.New("partial-publish", "%d of %d events are stored", stored, len(events)).With("results", results)
	if unknown > 0 {
		prob.Status = http.StatusServiceUnavailable
		prob.RetryAfter = time.Second
		prob.Detail += "; of some it is not known"
	}
	return prob
}

// refuse answers with err.
func (p *publication) refuse(err error) {
	var prob *problem.Problem
	if !errors.As(err, &prob) {
		prob = publishProblem(err, "", nil, p.hub)
		if prob == nil {
			prob = p.hub.unknownOutcome(err, p.params.id)
		}
	}
	if prob.Name == "unsupported-encoding" {
		p.w.Header().Set("Accept-Encoding", "gzip")
	}
	p.leaveBody()
	problem.Write(p.w, prob)
	p.hangUp()
}

// Header values that every answer shares; net/http does not change them.
var jsonType = []string{"application/json"}

// answer writes a JSON body.
func (p *publication) answer(b []byte) {
	h := p.w.Header()
	h["Content-Type"] = jsonType
	h["Cache-Control"] = noStore
	p.w.Write(b)
}

var noStore = []string{"no-store"}

func (p *publication) setCursor(c Cursor) {
	p.cursor[0] = c.String()
	p.w.Header()["Tailrace-Cursor"] = p.cursor[:]
}

// answerReceipt answers the publish of one event to the topic of the path.
func (p *publication) answerReceipt(r *Receipt) {
	b := make([]byte, 0, 192+len(r.ID))
	b = append(b, '{')
	b = appendReceipt(b, r)
	b = append(b, '}', '\n')
	p.setCursor(r.Cursor)
	p.answer(b)
}

// answerResults answers the publish of one event to each of several topics.
func (p *publication) answerResults(events []Event, receipts []Receipt) {
	b := append(make([]byte, 0, 32+192*len(events)), `{"results":[`...)
	b = appendResults(b, events, receipts, true)
	b = append(b, ']', '}', '\n')
	if len(receipts) == 1 {
		p.setCursor(receipts[0].Cursor)
	}
	p.answer(b)
}

// answerBatch answers a batch. Tailrace-Cursor is the last event's, as of one
// event alone.
func (p *publication) answerBatch(events []Event, receipts []Receipt) {
	duplicates := 0
	for i := range receipts {
		if receipts[i].Duplicate {
			duplicates++
		}
	}
	b := append(make([]byte, 0, 64+192*len(events)), `{"stored":`...)
	b = strconv.AppendInt(b, int64(len(receipts)-duplicates), 10)
	b = append(b, `,"duplicates":`...)
	b = strconv.AppendInt(b, int64(duplicates), 10)
	b = append(b, `,"results":[`...)
	b = appendResults(b, events, receipts, !p.inPath)
	b = append(b, ']', '}', '\n')
	if p.inPath && len(receipts) > 0 {
		p.setCursor(receipts[len(receipts)-1].Cursor)
	}
	p.answer(b)
}

func appendResults(b []byte, events []Event, receipts []Receipt, topics bool) []byte {
	for i := range receipts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		if topics {
			b = append(b, `"topic":`...)
			b = appendJSONString(b, events[i].Topic)
			b = append(b, ',')
		}
		b = appendReceipt(b, &receipts[i])
		b = append(b, '}')
	}
	return b
}

// appendReceipt appends the members of r: cursor, id and time where there are
// any, duplicate.
func appendReceipt(b []byte, r *Receipt) []byte {
	b = append(b, `"cursor":"`...)
	b, _ = r.Cursor.AppendText(b)
	b = append(b, '"')
	if r.ID != "" {
		b = append(b, `,"id":`...)
		b = appendJSONString(b, r.ID)
	}
	if !r.Time.IsZero() && !r.Duplicate {
		b = append(b, `,"time":"`...)
		b = AppendTime(b, r.Time)
		b = append(b, '"')
	}
	if r.Duplicate {
		return append(b, `,"duplicate":true`...)
	}
	return append(b, `,"duplicate":false`...)
}
