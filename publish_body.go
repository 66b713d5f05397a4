package tailrace

import (
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

const (
	promptBody   = 64 << 10 // bytes; memory up to here is set aside on the word of Content-Length
	leftoverBody = 64 << 10 // bytes; a refused body up to this size is read, so that the connection can be used again
	leftoverTime = time.Second

	gzipFree  = 1 << 20 // decoded bytes from which the ratio counts
	gzipRatio = 100     // decoded bytes for each one received; text rarely reaches 20
)

// bodyKind is what a publish's body means.
type bodyKind uint8

const (
	kindRaw bodyKind = iota
	kindJSON
	kindBatch
	kindUpload
	kindCloudEvent
	kindCloudEvents
	kindCloudBinary
)

// kindOf reads Content-Type. mediaType is in lower case, without parameters.
func kindOf(h http.Header) (kind bodyKind, mediaType string, err error) {
	ct := h.Get("Content-Type")
	switch {
	case strings.IndexByte(ct, ';') < 0:
		mediaType = strings.ToLower(strings.TrimSpace(ct))
	default:
		var params map[string]string
		// A media type with malformed parameters still says what the body is.
		mediaType, params, _ = mime.ParseMediaType(ct)
		if c := params["charset"]; c != "" && !strings.EqualFold(c, "utf-8") && !strings.EqualFold(c, "us-ascii") {
			return 0, "", problem.New("unsupported-charset", "the charset is %q", c)
		}
	}
	switch mediaType {
	case "application/cloudevents+json":
		return kindCloudEvent, mediaType, nil
	case "application/cloudevents-batch+json":
		return kindCloudEvents, mediaType, nil
	}
	if len(h["Ce-Specversion"]) > 0 {
		return kindCloudBinary, mediaType, nil
	}
	switch mediaType {
	case "", "application/x-www-form-urlencoded", "text/plain":
		return kindRaw, mediaType, nil
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return kindBatch, mediaType, nil
	case "text/event-stream":
		return kindUpload, mediaType, nil
	}
	switch {
	case isJSONType(mediaType):
		return kindJSON, mediaType, nil
	case strings.HasPrefix(mediaType, "multipart/"), strings.HasPrefix(mediaType, "application/cloudevents"):
		return 0, "", problem.New("unsupported-type", "%s cannot be published", mediaType)
	}
	return kindRaw, mediaType, nil
}

func isJSONType(mediaType string) bool {
	return mediaType == "application/json" ||
		strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
}

// isGzip reads Content-Encoding.
func isGzip(h http.Header) (bool, error) {
	values := h["Content-Encoding"]
	if len(values) == 0 {
		return false, nil
	}
	switch v := strings.ToLower(strings.TrimSpace(strings.Join(values, ","))); v {
	case "", "identity":
		return false, nil
	case "gzip", "x-gzip":
		return true, nil
	default:
		return false, problem.New("unsupported-encoding", "the body's Content-Encoding is %q", v)
	}
}

// readBody returns the whole decoded body of at most limit bytes. It has
// times.body to arrive; where the server has no deadlines, the server's own
// apply.
func (p *publication) readBody(limit int) ([]byte, error) {
	zipped, err := isGzip(p.r.Header)
	if err != nil {
		return nil, err
	}
	size := p.r.ContentLength
	if size == 0 || p.body == http.NoBody {
		p.bodyRead = true
		if zipped {
			return nil, problem.New("invalid-request", "the body is empty, and that is not gzip")
		}
		return nil, nil
	}
	if size > int64(limit) && !zipped {
		return nil, tooLarge(limit, "the body has %d bytes", size)
	}
	rc := http.NewResponseController(p.w)
	rc.SetReadDeadline(time.Now().Add(p.times.body))
	var body []byte
	switch {
	case zipped:
		body, err = readUnknown(&gunzip{src: counted{r: p.body}}, limit)
	case size > 0:
		body, err = readKnown(p.body, int(size))
		if err == nil && p.r.ProtoMajor != 1 {
			// HTTP/1.1 knows the end with the last byte. Elsewhere it has to
			// be read, or it looks as if the rest was not wanted.
			_, err = io.Copy(io.Discard, p.body)
		}
	default:
		body, err = readUnknown(p.body, limit)
	}
	if err != nil {
		p.bodyBroken = true
		return nil, bodyProblem(err, p.times.body)
	}
	// Past the end of the body the server watches the connection for the
	// client's leaving, and a deadline would look like that.
	rc.SetReadDeadline(time.Time{})
	p.bodyRead = true
	return body, nil
}

// readKnown reads exactly size bytes. Memory beyond promptBody follows the
// bytes that have arrived, not the promise.
func readKnown(r io.Reader, size int) ([]byte, error) {
	b := make([]byte, min(size, promptBody))
	n := 0
	for {
		m, err := io.ReadFull(r, b[n:])
		n += m
		if err != nil {
			return nil, err
		}
		if n == size {
			return b, nil
		}
		grown := make([]byte, min(size, 2*n))
		copy(grown, b)
		b = grown
	}
}

// readUnknown reads to the end, at most limit bytes.
func readUnknown(r io.Reader, limit int) ([]byte, error) {
	b := make([]byte, 0, 1024)
	for {
		n, err := r.Read(b[len(b):min(cap(b), limit+1)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return nil, tooLarge(limit, "the body is longer than its limit")
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		case len(b) == cap(b):
			grown := make([]byte, len(b), 2*len(b))
			copy(grown, b)
			b = grown
		}
	}
}

// bodyProblem says why a body could not be read.
func bodyProblem(err error, within time.Duration) error {
	var known *problem.Problem
	var limited *http.MaxBytesError // the server's own limit, where it has one
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &limited):
		return tooLarge(int(limited.Limit), "the body is longer than its limit")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem.New("body-timeout", "the body did not arrive within %v", within)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return problem.New("invalid-request", "the body is not gzip as its Content-Encoding says")
	}
	return problem.New("invalid-request", "the body broke off: %v", err)
}

func tooLarge(limit int, format string, args ...any) *problem.Problem {
	return problem.New("too-large", format, args...).With("limit", limit)
}

// gunzip decodes a gzip body and gives up on one that swells without end.
type gunzip struct {
	src counted
	z   *gzip.Reader
	out int64
}

func (g *gunzip) Read(p []byte) (int, error) {
	if g.z == nil {
		z, err := gzip.NewReader(&g.src)
		if err != nil {
			if err == io.EOF { // nothing at all is not gzip either
				err = gzip.ErrHeader
			}
			return 0, err
		}
		g.z = z
	}
	n, err := g.z.Read(p)
	g.out += int64(n)
	if g.out > gzipFree && g.out > gzipRatio*g.src.n {
		return 0, tooLarge(gzipFree, "the compressed body grows to more than %d times its size", gzipRatio)
	}
	return n, err
}

// counted counts the bytes that were read through it.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// leaveBody deals with what a refused request has not sent yet: a short rest
// is read off, else the connection is closed after the answer.
func (p *publication) leaveBody() {
	if p.bodyRead || p.r.ProtoMajor != 1 {
		return
	}
	if n := p.r.ContentLength; n >= 0 && n <= leftoverBody && !p.bodyBroken && p.r.Header.Get("Expect") == "" {
		rc := http.NewResponseController(p.w)
		rc.SetReadDeadline(time.Now().Add(leftoverTime))
		if _, err := io.Copy(io.Discard, p.body); err == nil {
			rc.SetReadDeadline(time.Time{})
			return
		}
	}
	p.w.Header().Set("Connection", "close")
}

// hangUp ends the wait for a body that nobody wants: net/http reads up to
// 256 KiB of it before it closes the connection, however slowly it comes.
func (p *publication) hangUp() {
	if !p.bodyRead && p.r.ProtoMajor == 1 && p.w.Header().Get("Connection") == "close" {
		http.NewResponseController(p.w).SetReadDeadline(time.Unix(1, 0))
	}
}
