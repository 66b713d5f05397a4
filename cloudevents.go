package tailrace

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tailrace/tailrace/internal/problem"
)

// cloudEventVersion is the specversion that is understood (CloudEvents 1.0.x).
const cloudEventVersion = "1.0"

// cloudEvents publishes a body in one of the three modes of the CloudEvents
// HTTP binding. Data is always the structured JSON form: that of structured
// input byte for byte.
func (p *publication) cloudEvents(kind bodyKind, mediaType string) error {
	if err := p.params.only("CloudEvents, which have their own", paramTopic, paramIfHead, paramClose); err != nil {
		return err
	}
	limit := p.maxEvent()
	if kind == kindCloudEvents {
		limit = maxBatchBytes
	}
	body, err := p.readBody(limit)
	if err != nil {
		return err
	}
	switch kind {
	case kindCloudBinary:
		attrs, err := binaryAttributes(p.r.Header)
		if err != nil {
			return err
		}
		body, err = wrapCloudEvent(attrs, p.r.Header.Get("Content-Type"), mediaType, body)
		if err != nil {
			return err
		}
	default:
		if err := checkUTF8(body); err != nil {
			return err
		}
		if err := checkJSON(body); err != nil {
			return problem.New("invalid-json", "%v", err).With("offset", err.offset)
		}
	}
	if kind == kindCloudEvents {
		return p.cloudEventBatch(body)
	}
	ev, err := parseCloudEvent(body)
	if err != nil {
		return err
	}
	ev.IfHead, ev.Close = p.params.ifHead, p.params.close
	return p.publishOne(ev)
}

func (p *publication) cloudEventBatch(body []byte) error {
	if i := skipSpace(body, 0); body[i] != '[' {
		return badCloudEvent("the body is %s, not an array of events", jsonKind(body[i:]))
	}
	var items []item
	var wrong batchErrors
	n := 0
	for text := range jsonElements(body) {
		if n++; n > maxBatchItems {
			return tooLarge(maxBatchItems, "the batch has more than %d events", maxBatchItems)
		}
		ev, err := parseCloudEvent(slices.Clone(text))
		if err != nil {
			wrong.add(n, err)
			continue
		}
		items = append(items, item{line: n, event: ev})
	}
	events := p.expand(items, &wrong)
	if err := wrong.problem("invalid-cloudevent", "number"); err != nil {
		return err
	}
	return p.publishBatch(events)
}

// parseCloudEvent makes an event of text, a CloudEvent in its JSON form and
// valid JSON. The event keeps text.
func parseCloudEvent(text []byte) (Event, error) {
	i := skipSpace(text, 0)
	if text[i] != '{' {
		return Event{}, badCloudEvent("it is %s, not an object", jsonKind(text[i:]))
	}
	attrs := map[string]string{}
	for name, value := range jsonMembers(text) {
		switch name {
		case "specversion", "id", "source", "type", "partitionkey":
		default:
			continue
		}
		if _, twice := attrs[name]; twice {
			return Event{}, badCloudEvent("%s is given twice", name)
		}
		s, ok := jsonString(value)
		if !ok {
			return Event{}, badCloudEvent("%s is %s, not a string", name, jsonKind(value))
		}
		attrs[name] = s
	}
	ev := Event{Data: text}
	return ev, ev.setAttributes(attrs)
}

// setAttributes takes type, key and own id from the attributes.
func (e *Event) setAttributes(attrs map[string]string) error {
	if v := attrs["specversion"]; v != cloudEventVersion {
		if v == "" {
			return badCloudEvent("specversion is missing")
		}
		return badCloudEvent("specversion is %q, not %s", clip(v), cloudEventVersion)
	}
	for _, name := range []string{"id", "source", "type"} {
		if attrs[name] == "" {
			return badCloudEvent("%s is missing or empty", name)
		}
	}
	key, keyed := attrs["partitionkey"]
	if keyed && key == "" {
		return badCloudEvent("partitionkey is empty")
	}
	e.Type, e.Key, e.ID = attrs["type"], key, cloudEventID(attrs["source"], attrs["id"])
	if strings.HasPrefix(e.Type, ReservedTypePrefix) {
		return checkType(e.Type)
	}
	for _, err := range []error{checkType(e.Type), asParameter(checkText("partitionkey", e.Key, MaxKey)), asParameter(checkOwnID(e.ID))} {
		if prob, ok := err.(*problem.Problem); ok {
			return badCloudEvent("%s", prob.Detail)
		}
	}
	return nil
}

// cloudEventID returns the own id of the event that source and id identify: in
// plain text where it fits, else its hash.
func cloudEventID(source, id string) string {
	s := source + "|" + id
	if len(s) <= MaxID {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "ce-" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// binaryAttributes reads the attributes from the ce- headers. Their values are
// percent-encoded (CloudEvents HTTP binding, 3.1.3.2).
func binaryAttributes(h map[string][]string) (map[string]string, error) {
	attrs := map[string]string{}
	for name, values := range h {
		name, ok := strings.CutPrefix(name, "Ce-")
		if !ok {
			continue
		}
		name = strings.ToLower(name)
		if name == "data" || name == "datacontenttype" || name == "data_base64" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return nil, badCloudEvent("the header ce-%s is no attribute", name)
		}
		if len(values) > 1 {
			return nil, badCloudEvent("the header ce-%s is given twice", name)
		}
		v := values[0]
		if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
			v = unquotedPair(v[1 : len(v)-1])
		}
		v, err := url.PathUnescape(v)
		if err != nil || !utf8.ValidString(v) {
			return nil, badCloudEvent("the header ce-%s is not percent-encoded UTF-8", name)
		}
		attrs[name] = v
	}
	return attrs, nil
}

// unquotedPair resolves the backslashes of a quoted string.
func unquotedPair(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// wrapCloudEvent returns the structured form of an event in binary mode: a
// JSON body as it is, text as a string, anything else in base64.
func wrapCloudEvent(attrs map[string]string, contentType, mediaType string, body []byte) ([]byte, error) {
	b := make([]byte, 0, len(body)+len(body)/8+256)
	b = append(b, '{')
	first := []string{"specversion", "id", "source", "type"}
	for _, name := range first {
		if v, ok := attrs[name]; ok {
			b = appendMember(b, name, v)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		if !slices.Contains(first, name) {
			b = appendMember(b, name, attrs[name])
		}
	}
	if contentType != "" {
		if !utf8.ValidString(contentType) {
			return nil, badCloudEvent("the Content-Type is not UTF-8")
		}
		b = appendMember(b, "datacontenttype", contentType)
	}
	switch {
	case len(body) == 0:
	case isJSONType(mediaType):
		if err := checkUTF8(body); err != nil {
			return nil, err
		}
		if err := checkJSON(body); err != nil {
			return nil, problem.New("invalid-json", "%v", err).With("offset", err.offset)
		}
		b = append(b, `,"data":`...)
		b = append(b, body...)
	case isTextType(mediaType) && utf8.Valid(body):
		b = append(b, `,"data":`...)
		b = appendJSONString(b, body)
	default:
		b = append(b, `,"data_base64":"`...)
		b = base64.StdEncoding.AppendEncode(b, body)
		b = append(b, '"')
	}
	return append(b, '}'), nil
}

func isTextType(mediaType string) bool {
	return mediaType == "" || strings.HasPrefix(mediaType, "text/") ||
		mediaType == "application/xml" || strings.HasSuffix(mediaType, "+xml") ||
		mediaType == "application/x-www-form-urlencoded"
}

func appendMember(b []byte, name, value string) []byte {
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = appendJSONString(b, name)
	b = append(b, ':')
	return appendJSONString(b, value)
}

func badCloudEvent(format string, args ...any) *problem.Problem {
	return problem.New("invalid-cloudevent", format, args...)
}
