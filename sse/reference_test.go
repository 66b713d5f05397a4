package sse

import (
	"io"
	"math"
	"strings"
	"time"
)

// reference decodes a whole stream as the standards say it, step by step and
// without a thought for speed: UTF-8 decode (Encoding Standard), then WHATWG
// HTML 9.2.5 and 9.2.6. The tests hold the Decoder against it. It knows the
// two rules that are not in the standards: the id buffer starts as the last
// event id, and sizes are bounded.

type result struct {
	events      []Event
	at          []int // input bytes after which events[i] is known
	comments    []string
	lastEventID string
	retry       time.Duration
	hasRetry    bool
	err         error
}

// A codePoint is one character of the decoded stream, and how many bytes of
// the input it takes to know it.
type codePoint struct {
	r   rune
	end int
}

// utf8Decode is "UTF-8 decode": it drops one byte order mark and runs the UTF-8
// decoder of the Encoding Standard, whose variables have the same names here.
func utf8Decode(input []byte) []codePoint {
	i := 0
	if len(input) >= 3 && input[0] == 0xEF && input[1] == 0xBB && input[2] == 0xBF {
		i = 3
	}
	var out []codePoint
	var point rune
	seen, needed, lower, upper := 0, 0, byte(0x80), byte(0xBF)
	for ; i < len(input); i++ {
		b := input[i]
		if needed == 0 {
			switch {
			case b <= 0x7F:
				out = append(out, codePoint{rune(b), i + 1})
			case b >= 0xC2 && b <= 0xDF:
				needed, point = 1, rune(b&0x1F)
			case b >= 0xE0 && b <= 0xEF:
				if b == 0xE0 {
					lower = 0xA0
				}
				if b == 0xED {
					upper = 0x9F
				}
				needed, point = 2, rune(b&0xF)
			case b >= 0xF0 && b <= 0xF4:
				if b == 0xF0 {
					lower = 0x90
				}
				if b == 0xF4 {
					upper = 0x8F
				}
				needed, point = 3, rune(b&0x7)
			default:
				out = append(out, codePoint{0xFFFD, i + 1})
			}
			continue
		}
		if b < lower || b > upper {
			point, needed, seen, lower, upper = 0, 0, 0, 0x80, 0xBF
			out = append(out, codePoint{0xFFFD, i + 1})
			i-- // "restore byte to ioQueue"
			continue
		}
		lower, upper = 0x80, 0xBF
		point = point<<6 | rune(b&0x3F)
		if seen++; seen == needed {
			out = append(out, codePoint{point, i + 1})
			point, needed, seen = 0, 0, 0
		}
	}
	if needed != 0 {
		out = append(out, codePoint{0xFFFD, len(input)})
	}
	return out
}

func reference(input []byte, lastEventID string, limit int) result {
	switch {
	case limit == 0:
		limit = defaultMaxEventSize
	case limit < 0:
		limit = math.MaxInt
	}
	var (
		res                  = result{lastEventID: lastEventID, err: io.EOF}
		data, eventType      string
		id                   = lastEventID
		retry                time.Duration
		line                 strings.Builder
		afterCR, dataTooLong bool
	)
	dispatch := func(at int) {
		res.lastEventID = id
		if data != "" {
			data = strings.TrimSuffix(data, "\n")
			res.events = append(res.events, Event{ID: id, Type: eventType, Data: []byte(data), Retry: retry})
			res.at = append(res.at, at)
		}
		data, eventType, retry = "", "", 0
	}
	process := func(field, value string) {
		switch field {
		case "event":
			eventType = value
		case "data":
			data += value + "\n"
			dataTooLong = len(data)-1 > limit
		case "id":
			if !strings.Contains(value, "\x00") {
				id = value
			}
		case "retry":
			if value == "" || strings.Trim(value, "0123456789") != "" {
				return
			}
			ms := 0
			for _, c := range value {
				ms = min(ms*10+int(c-'0'), 2147483647)
			}
			retry = time.Duration(ms) * time.Millisecond
			res.retry, res.hasRetry = retry, true
		}
	}
	endLine := func(at int) {
		text := line.String()
		line.Reset()
		if text == "" {
			dispatch(at)
			return
		}
		field, value, found := strings.Cut(text, ":")
		if found && field == "" {
			res.comments = append(res.comments, value)
			return
		}
		process(field, strings.TrimPrefix(value, " "))
	}
	for _, c := range utf8Decode(input) {
		switch {
		case c.r == '\n' && afterCR:
			afterCR = false
		case c.r == '\n' || c.r == '\r':
			afterCR = c.r == '\r'
			endLine(c.end)
			if dataTooLong {
				res.err = &TooLongError{Limit: limit}
				return res
			}
		default:
			afterCR = false
			if line.WriteRune(c.r); line.Len() > limit {
				res.err = &TooLongError{Limit: limit}
				return res
			}
		}
	}
	return res
}
