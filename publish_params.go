package tailrace

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// maxEventRetry bounds the reconnection time that a publisher gives to subscribers:
// an hour, since a longer one is a mistake in the unit.
const maxEventRetry = time.Hour

// The parameters of a publish, in the order of publishNames.
const (
	paramEvent = iota
	paramID
	paramKey
	paramRemove
	paramRetry
	paramIfHead
	paramClose
	paramEncode
	paramUpload
	paramUploadFrom
	paramSkipGaps
	paramTopic // only where the path names no topic
	paramCount
)

var publishNames = []string{
	"event", "id", "key", "remove", "retry", "if_head", "close", "encode",
	"upload", "upload_from", "skip_gaps", "topic",
}

// publishHeaders are the headers that stand for a parameter, in the form in
// which net/http keys them.
var publishHeaders = [...]struct {
	param  int
	header string
}{
	{paramEvent, "Tailrace-Event"},
	{paramID, "Tailrace-Id"},
	{paramID, "Idempotency-Key"},
	{paramKey, "Tailrace-Key"},
	{paramRemove, "Tailrace-Remove"},
	{paramRetry, "Tailrace-Retry"},
	{paramIfHead, "Tailrace-If-Head"},
	{paramClose, "Tailrace-Close"},
}

// publishParams are the parameters of one publish, from query and headers.
type publishParams struct {
	given uint // 1<<paramX for each that was there, empty ones too

	event, id, key string
	ifHead         *Cursor
	retry          time.Duration
	remove, close  bool
	base64         bool

	upload     string
	uploadFrom int64
	skipGaps   bool

	topics []string
}

func (p *publishParams) has(param int) bool { return p.given&(1<<param) != 0 }

// only refuses parameters other than those listed: what does not apply is an
// error and not ignored.
func (p *publishParams) only(what string, allowed ...int) error {
	rest := p.given
	for _, a := range allowed {
		rest &^= 1 << a
	}
	for i := range paramCount {
		if rest&(1<<i) != 0 {
			return badParameter(publishNames[i], "does not go with %s", what)
		}
	}
	return nil
}

// readPublishParams reads and checks the parameters of r. topicsInPath says
// that topic= is not one of them.
func readPublishParams(r *http.Request, topicsInPath bool) (publishParams, error) {
	var p publishParams
	var values [paramCount]string
	if r.URL.RawQuery != "" {
		if err := p.readQuery(r.URL.RawQuery, &values, topicsInPath); err != nil {
			return p, err
		}
	}
	for _, h := range publishHeaders {
		for _, v := range r.Header[h.header] {
			if h.header == "Idempotency-Key" {
				v = unquoted(v)
			}
			if err := p.set(&values, h.param, v); err != nil {
				return p, err
			}
		}
	}
	if p.given == 0 {
		return p, nil
	}
	return p, p.convert(&values)
}

func (p *publishParams) readQuery(query string, values *[paramCount]string, topicsInPath bool) error {
	known := publishNames
	if topicsInPath {
		known = known[:paramTopic]
	}
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return problem.New("invalid-request", "the query cannot be decoded at %q", clip(rawName))
		}
		if strings.HasPrefix(name, "_") {
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return problem.New("invalid-request", "the query's value of %s cannot be decoded: %q", clip(name), clip(rawValue))
		}
		param := 0
		for param < len(known) && known[param] != name {
			param++
		}
		switch param {
		case len(known):
			return problem.UnknownName("parameter", name, known)
		case paramTopic:
			p.given |= 1 << paramTopic
			p.topics = append(p.topics, value)
		default:
			if err := p.set(values, param, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *publishParams) set(values *[paramCount]string, param int, v string) error {
	if p.has(param) && values[param] != v {
		return problem.New("conflicting-parameter", "%s is given twice: %q and %q", publishNames[param], clip(values[param]), clip(v))
	}
	p.given |= 1 << param
	values[param] = v
	return nil
}

func (p *publishParams) convert(values *[paramCount]string) error {
	var err error
	flag := func(param int) bool {
		switch v := values[param]; {
		case !p.has(param) || v == "0":
			return false
		case v == "1":
			return true
		case err == nil:
			err = badParameter(publishNames[param], "is %q, not 1 or 0", clip(v))
		}
		return false
	}
	p.remove, p.close, p.skipGaps = flag(paramRemove), flag(paramClose), flag(paramSkipGaps)
	if err != nil {
		return err
	}
	p.event, p.id, p.key = values[paramEvent], values[paramID], values[paramKey]
	if err := checkType(p.event); err != nil {
		return err
	}
	if p.has(paramID) {
		if err := checkOwnID(p.id); err != nil {
			return asParameter(err)
		}
	}
	if p.has(paramKey) {
		if p.key == "" {
			return badParameter("key", "is empty")
		}
		if err := checkText("key", p.key, MaxKey); err != nil {
			return asParameter(err)
		}
	}
	if p.remove && p.key == "" {
		return badParameter("remove", "needs a key")
	}
	if p.has(paramRetry) {
		if p.retry, err = parseRetry(values[paramRetry]); err != nil {
			return err
		}
	}
	if p.has(paramIfHead) {
		p.ifHead = new(Cursor)
		if v := values[paramIfHead]; v != "none" {
			if *p.ifHead, err = ParseCursor(v); err != nil {
				return badParameter("if_head", "is %q, neither a cursor nor none", clip(v))
			}
		}
	}
	if p.has(paramEncode) {
		if values[paramEncode] != "base64" {
			return badParameter("encode", "is %q; the only encoding is base64", clip(values[paramEncode]))
		}
		p.base64 = true
	}
	return p.convertUpload(values)
}

func (p *publishParams) convertUpload(values *[paramCount]string) error {
	if p.has(paramUpload) {
		p.upload = values[paramUpload]
		if err := checkUploadName(p.upload); err != nil {
			return asParameter(err)
		}
	}
	if p.has(paramUploadFrom) {
		if p.upload == "" {
			return badParameter("upload_from", "needs upload")
		}
		n, ok := parseDecimal(values[paramUploadFrom], maxUploadFrom)
		if !ok {
			return badParameter("upload_from", "is %q, not a number of events", clip(values[paramUploadFrom]))
		}
		p.uploadFrom = n
	}
	return nil
}

// unquoted takes off the quotes of an Idempotency-Key, which is a string of
// structured fields where clients follow the draft, and bare text where not.
func unquoted(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// checkType refuses an event type that a publisher may not give.
func checkType(typ string) error {
	if strings.HasPrefix(typ, ReservedTypePrefix) {
		return problem.New("reserved-type", "the event type %q begins with %s", clip(typ), ReservedTypePrefix)
	}
	return asParameter(checkText("event", typ, MaxType))
}

// checkOwnID refuses an own id that would not come back in a Last-Event-ID
// header as it was: HTTP takes white space off both ends. The error is an
// [*InvalidError].
func checkOwnID(id string) error {
	if id == "" {
		return &InvalidError{Field: "id", Reason: "is empty"}
	}
	if strings.TrimSpace(id) != id {
		return &InvalidError{Field: "id", Reason: "begins or ends with white space"}
	}
	return checkText("id", id, MaxID)
}

// parseRetry reads a reconnection time in milliseconds.
func parseRetry(s string) (time.Duration, error) {
	ms, ok := parseDecimal(s, maxEventRetry.Milliseconds())
	if !ok {
		return 0, badParameter("retry", "is %q, not 0 to %d milliseconds", clip(s), maxEventRetry.Milliseconds())
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// parseDecimal reads a number from 0 to limit, digits only.
func parseDecimal(s string, limit int64) (int64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n <= limit
}

// badParameter says what is wrong with the parameter or member name.
func badParameter(name, format string, args ...any) *problem.Problem {
	p := problem.New("invalid-parameter", format, args...).With("parameter", name)
	p.Detail = name + " " + p.Detail
	return p
}

// asParameter turns an InvalidError about a text into a problem; nil stays
// nil.
func asParameter(err error) error {
	var invalid *InvalidError
	if errors.As(err, &invalid) {
		field := invalid.Field
		if field == "type" {
			field = "event"
		}
		if invalid.Offset == 0 {
			return badParameter(field, "%s", invalid.Reason)
		}
		return badParameter(field, "%s (at byte %d)", invalid.Reason, invalid.Offset)
	}
	return err
}

// clip shortens a client's text for a message.
func clip(s string) string {
	const most = 64 // bytes
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
