package tailrace

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// Limits of one publishing request. The limit of a single body is that of its
// topic's events ([Policy.MaxEvent]).
const (
	maxBatchBytes    = 8 << 20
	maxBatchItems    = 1000
	maxBatchEvents   = 10_000 // items times topics, when one call publishes to many
	maxPublishTopics = 100

	bodyTimeout = 60 * time.Second // for a whole body, uploads excepted
	uploadIdle  = 60 * time.Second // for the next byte of an upload
	ackInterval = 50 * time.Millisecond
)

// publishTimes are the waits of a publishing request.
type publishTimes struct {
	body, idle, ack time.Duration
}

// PublishHandler returns the handler of POST for publishers who name topics
// with topic= parameters. Authorisation is the caller's middleware.
//
// A body is one event, a batch of JSON lines, CloudEvents, or, as
// text/event-stream, an upload whose events are published as they arrive; its
// Content-Type decides. Every error is an application/problem+json answer.
func (h *Hub) PublishHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			problem.Write(w, problem.New("method-not-allowed", "publish with POST, not %s", r.Method))
			return
		}
		h.ServePublish(w, r, nil)
	})
}

// ServePublish answers the publishing request r. With topics it publishes to
// those, which the path has named and the caller has decoded; with nil to
// those of the topic= parameters. The response is always written.
func (h *Hub) ServePublish(w http.ResponseWriter, r *http.Request, topics []string) {
	h.servePublish(w, r, topics, publishTimes{body: bodyTimeout, idle: uploadIdle, ack: ackInterval})
}

func (h *Hub) servePublish(w http.ResponseWriter, r *http.Request, topics []string, times publishTimes) {
	p := publication{hub: h, w: w, r: r, body: r.Body, topics: topics, inPath: topics != nil, times: times}
	if p.body == nil { // of a request that no server made
		p.body = http.NoBody
	}
	if err := p.serve(); err != nil {
		p.refuse(err)
	}
}

// publication is one publishing request.
type publication struct {
	hub    *Hub
	w      http.ResponseWriter
	r      *http.Request
	body   io.Reader
	inPath bool     // the path names the topic: one result, and no topic members
	topics []string // without doubles
	params publishParams
	times  publishTimes

	bodyRead   bool // to its end
	bodyBroken bool // no more of it can be read
	one        [1]Event
	cursor     [1]string // the value of Tailrace-Cursor
}

// serve does the whole request. What it returns has not been answered yet.
func (p *publication) serve() error {
	if p.hub.Draining() {
		return errDraining()
	}
	var err error
	if p.params, err = readPublishParams(p.r, p.inPath); err != nil {
		return err
	}
	if !p.inPath {
		p.topics = p.params.topics
	}
	kind, mediaType, err := kindOf(p.r.Header)
	if err != nil {
		return err
	}
	if len(p.topics) == 0 && kind != kindBatch {
		return problem.New("no-topic", "name a topic to publish to, for example ?topic=orders/eu")
	}
	if p.topics, err = p.hub.checkPublishTopics(p.topics); err != nil {
		return err
	}
	if p.params.ifHead != nil && len(p.topics) > 1 {
		return badParameter("if_head", "names the last event of one topic, and there are %d", len(p.topics))
	}
	if kind != kindUpload {
		for _, param := range []int{paramUpload, paramUploadFrom, paramSkipGaps} {
			if p.params.has(param) {
				return badParameter(publishNames[param], "is for text/event-stream bodies")
			}
		}
	}
	switch kind {
	case kindRaw, kindJSON:
		return p.single(kind)
	case kindBatch:
		return p.batch()
	case kindUpload:
		return p.upload()
	default:
		return p.cloudEvents(kind, mediaType)
	}
}

// checkPublishTopics refuses names that cannot be published to and returns the
// others without doubles.
func (h *Hub) checkPublishTopics(topics []string) ([]string, error) {
	for _, t := range topics {
		if err := h.checkPublishTopic(t); err != nil {
			return nil, err
		}
	}
	if len(topics) > 1 {
		topics = slices.Clone(topics)
		for i := len(topics) - 1; i > 0; i-- {
			if slices.Contains(topics[:i], topics[i]) {
				topics = slices.Delete(topics, i, i+1)
			}
		}
	}
	if len(topics) > maxPublishTopics {
		return nil, badParameter("topic", "names %d topics, the limit of one publish is %d", len(topics), maxPublishTopics)
	}
	return topics, nil
}

func (h *Hub) checkPublishTopic(topic string) error {
	if err := CheckTopic(topic); err != nil {
		return publishProblem(err, topic, nil, h)
	}
	switch {
	case IsPattern(topic):
		return problem.New("invalid-topic", "%q is a pattern; events are published to exact names", topic).With("topic", topic)
	case strings.HasPrefix(topic, "$"):
		return problem.New("reserved-topic", "%q begins with $", topic).With("topic", topic)
	case h.Rule(topic).Retired:
		return problem.New("topic-retired", "%q was deleted for good", topic).With("topic", topic)
	}
	return nil
}

// maxEvent is the largest event that any of the topics takes.
func (p *publication) maxEvent() int {
	limit := 0
	for _, t := range p.topics {
		limit = max(limit, p.hub.Rule(t).MaxEvent)
	}
	return limit
}

// single publishes the body as one event to each topic.
func (p *publication) single(kind bodyKind) error {
	limit := p.maxEvent()
	if p.params.base64 {
		limit = base64.StdEncoding.DecodedLen(limit)
	}
	data, err := p.readBody(limit)
	if err != nil {
		return err
	}
	if p.params.base64 {
		data = base64.StdEncoding.AppendEncode(make([]byte, 0, base64.StdEncoding.EncodedLen(len(data))), data)
	} else if kind == kindJSON {
		if err := checkUTF8(data); err != nil {
			return err
		}
		if err := checkJSON(data); err != nil {
			return problem.New("invalid-json", "%v", err).With("offset", err.offset)
		}
	}
	q := &p.params
	return p.publishOne(Event{
		Type: q.event, ID: q.id, Key: q.key, Remove: q.remove, Retry: q.retry,
		IfHead: q.ifHead, Close: q.close, Data: data,
	})
}

// publishOne appends ev to each topic and answers.
func (p *publication) publishOne(ev Event) error {
	events := p.one[:]
	if len(p.topics) == 1 {
		ev.Topic = p.topics[0]
		p.one[0] = ev
	} else {
		events = make([]Event, len(p.topics))
		for i, t := range p.topics {
			events[i] = ev
			events[i].Topic = t
			rule := p.hub.Rule(t)
			if err := events[i].Check(&rule.Policy); err != nil {
				return publishProblem(err, t, nil, p.hub)
			}
		}
	}
	receipts, err := p.append(events)
	if err != nil {
		return p.notAll(events, receipts, err)
	}
	if p.inPath {
		p.answerReceipt(&receipts[0])
	} else {
		p.answerResults(events, receipts)
	}
	return nil
}

// append publishes events. What has arrived whole is published even when its
// sender has left meanwhile.
func (p *publication) append(events []Event) ([]Receipt, error) {
	return p.hub.Publish(context.WithoutCancel(p.r.Context()), events...)
}
