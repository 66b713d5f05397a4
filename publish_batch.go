package tailrace

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/tailrace/tailrace/internal/problem"
)

// maxBatchErrors is how many wrong items an answer names.
const maxBatchErrors = 20

// itemNames are the members of an item of a batch; the last two only where the
// path names no topic.
var itemNames = []string{"event", "id", "key", "retry", "remove", "data", "topic", "topics"}

// item is one event of a batch. Data lies in the request's body.
type item struct {
	line   int
	event  Event
	topics []string // nil: those of the call
}

// itemError says which item of a batch is wrong.
type itemError struct {
	Line   int    `json:"line"`
	Type   string `json:"type"`
	Detail string `json:"detail"`
}

// batchErrors collects the wrong items of a batch.
type batchErrors struct {
	list  []itemError
	count int
}

func (e *batchErrors) add(line int, err error) {
	e.count++
	if len(e.list) == maxBatchErrors {
		return
	}
	ie := itemError{Line: line, Type: problem.TypePrefix + "invalid-batch", Detail: err.Error()}
	var prob *problem.Problem
	if errors.As(err, &prob) {
		ie.Type, ie.Detail = problem.TypePrefix+prob.Name, prob.Detail
	}
	e.list = append(e.list, ie)
}

// problem returns nil if no item is wrong. name is the problem's type, unit
// what a line is called.
func (e *batchErrors) problem(name, unit string) error {
	if e.count == 0 {
		return nil
	}
	first := e.list[0]
	p := problem.New(name, "%s %d: %s", unit, first.Line, first.Detail).With("errors", e.list)
	if e.count > 1 {
		p.Detail += fmt.Sprintf("; %d are wrong in all", e.count)
	}
	return p
}

// batch publishes a body of JSON lines.
func (p *publication) batch() error {
	if err := p.params.only("a batch", paramTopic, paramIfHead, paramClose); err != nil {
		return err
	}
	body, err := p.readBody(maxBatchBytes)
	if err != nil {
		return err
	}
	if err := checkUTF8(body); err != nil {
		return err
	}
	var wrong batchErrors
	items, err := parseBatch(body, !p.inPath, &wrong)
	if err != nil {
		return err
	}
	events := p.expand(items, &wrong)
	if err := wrong.problem("invalid-batch", "line"); err != nil {
		return err
	}
	return p.publishBatch(events)
}

// parseBatch reads the items of body, valid UTF-8. An item that is wrong is
// added to wrong; the error is that of the whole.
func parseBatch(body []byte, withTopics bool, wrong *batchErrors) ([]item, error) {
	var items []item
	for line := 1; len(body) > 0; line++ {
		text, rest, _ := bytes.Cut(body, []byte{'\n'})
		body = rest
		if skipSpace(text, 0) == len(text) {
			continue
		}
		if len(items)+wrong.count == maxBatchItems {
			return nil, tooLarge(maxBatchItems, "the batch has more than %d events", maxBatchItems)
		}
		it := item{line: line}
		if err := it.parse(text, withTopics); err != nil {
			wrong.add(line, err)
			continue
		}
		items = append(items, it)
	}
	return items, nil
}

func (it *item) parse(text []byte, withTopics bool) error {
	if err := checkJSON(text); err != nil {
		return problem.New("invalid-json", "%v", err)
	}
	if text[skipSpace(text, 0)] != '{' {
		return problem.New("invalid-json", "the line is %s, not an object", jsonKind(text[skipSpace(text, 0):]))
	}
	known := itemNames
	if !withTopics {
		known = known[:len(known)-2]
	}
	var seen uint
	for name, value := range jsonMembers(text) {
		i := 0
		for i < len(known) && known[i] != name {
			i++
		}
		if i == len(known) {
			return problem.UnknownName("member", name, known)
		}
		if seen&(1<<i) != 0 {
			return problem.New("conflicting-parameter", "%s is given twice", name)
		}
		seen |= 1 << i
		if err := it.set(name, value); err != nil {
			return err
		}
	}
	if seen&(1<<6) != 0 && seen&(1<<7) != 0 {
		return problem.New("conflicting-parameter", "both topic and topics are given")
	}
	if it.event.Remove && it.event.Key == "" {
		return badParameter("remove", "needs a key")
	}
	return nil
}

func (it *item) set(name string, value []byte) error {
	ev := &it.event
	var err error
	switch name {
	case "data":
		// A copy of its own: the log keeps it, and must not keep the whole body.
		if s, ok := jsonString(value); ok {
			ev.Data = []byte(s)
		} else {
			ev.Data = bytes.Clone(value)
		}
	case "event":
		if ev.Type, err = stringMember(name, value); err == nil {
			err = checkType(ev.Type)
		}
	case "id":
		if ev.ID, err = stringMember(name, value); err == nil {
			err = asParameter(checkOwnID(ev.ID))
		}
	case "key":
		if ev.Key, err = stringMember(name, value); err == nil {
			if ev.Key == "" {
				return badParameter("key", "is empty")
			}
			err = asParameter(checkText("key", ev.Key, MaxKey))
		}
	case "retry":
		ev.Retry, err = parseRetry(string(value))
	case "remove":
		if ev.Remove = value[0] == 't'; !ev.Remove && value[0] != 'f' {
			return badParameter(name, "is %s, not true or false", jsonKind(value))
		}
	case "topic":
		var t string
		if t, err = stringMember(name, value); err == nil {
			it.topics = []string{t}
		}
	case "topics":
		if value[0] != '[' {
			return badParameter(name, "is %s, not an array of names", jsonKind(value))
		}
		it.topics = []string{}
		for v := range jsonElements(value) {
			t, err := stringMember(name, v)
			if err != nil {
				return err
			}
			if it.topics = append(it.topics, t); len(it.topics) > maxPublishTopics {
				return badParameter(name, "has more than %d names", maxPublishTopics)
			}
		}
		if len(it.topics) == 0 {
			return badParameter(name, "is empty")
		}
	}
	return err
}

func stringMember(name string, value []byte) (string, error) {
	s, ok := jsonString(value)
	if !ok {
		return "", badParameter(name, "is %s, not a string", jsonKind(value))
	}
	return s, nil
}

// expand makes one event of each item and topic, in the items' order, and
// checks each against the policy of its topic.
func (p *publication) expand(items []item, wrong *batchErrors) []Event {
	events := make([]Event, 0, len(items)*max(1, len(p.topics)))
	policies := map[string]*Policy{}
	for _, t := range p.topics {
		rule := p.hub.Rule(t)
		policies[t] = &rule.Policy
	}
	for i := range items {
		it := &items[i]
		topics := p.topics
		var err error
		if it.topics != nil {
			topics, err = p.hub.checkPublishTopics(it.topics)
		} else if len(topics) == 0 {
			err = problem.New("no-topic", "neither the line nor the call names a topic")
		}
		for _, t := range topics {
			if err != nil {
				break
			}
			policy := policies[t]
			if policy == nil {
				if len(policies) == maxPublishTopics {
					err = badParameter("topic", "is one more than the %d topics that one publish may name", maxPublishTopics)
					break
				}
				rule := p.hub.Rule(t)
				policy = &rule.Policy
				policies[t] = policy
			}
			ev := it.event
			ev.Topic = t
			if err = ev.Check(policy); err != nil {
				err = publishProblem(err, t, nil, p.hub)
				break
			}
			if len(events) < maxBatchEvents+1 {
				events = append(events, ev)
			}
		}
		if err != nil {
			wrong.add(it.line, err)
		}
	}
	return events
}

// publishBatch appends the checked events of a batch, with what the call says
// of the whole, and answers.
func (p *publication) publishBatch(events []Event) error {
	if len(events) > maxBatchEvents {
		return tooLarge(maxBatchEvents, "the batch makes more than %d events in all its topics", maxBatchEvents)
	}
	q := &p.params
	if len(events) == 0 {
		if q.ifHead != nil || q.close {
			return problem.New("invalid-batch", "if_head and close need an event").With("errors", []itemError{})
		}
		p.answerBatch(nil, nil)
		return nil
	}
	if q.ifHead != nil {
		if !oneTopic(events) {
			return badParameter("if_head", "names the last event of one topic, and there are several")
		}
		events[0].IfHead = q.ifHead
	}
	if q.close {
		last := map[string]int{}
		for i := range events {
			last[events[i].Topic] = i
		}
		for t, i := range last {
			if !p.hub.Rule(t).Closable {
				return publishProblem(ErrNotClosable, t, nil, p.hub)
			}
			events[i].Close = true
		}
	}
	receipts, err := p.append(events)
	if err != nil {
		return p.notAll(events, receipts, err)
	}
	p.answerBatch(events, receipts)
	return nil
}
