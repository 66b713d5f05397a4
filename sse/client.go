package sse

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// DefaultHeadTimeout is how long a [Client] waits for a response head. It is long because some
// servers hold the head back until the first event.
const DefaultHeadTimeout = 30 * time.Second

const (
	maxRedirects = 10

	// maxErrorBody and errorBodyTimeout bound what is read of a refusal, which may be endless.
	maxErrorBody     = 4 << 10
	errorBodyTimeout = 5 * time.Second
)

var (
	// ErrIdle says that a connection brought no byte for the idle timeout. It leads to a
	// new request, if the request may be sent again.
	ErrIdle = errors.New("sse: no byte within the idle timeout")

	errNeedsGetBody = errors.New("sse: a request that may be sent again needs GetBody for its body")
)

// A ResponseError is a response that opens no stream.
type ResponseError struct {
	StatusCode int
	Header     http.Header
	Body       []byte // at most the first 4 KiB
}

func (e *ResponseError) Error() string {
	if e.StatusCode == http.StatusOK {
		return fmt.Sprintf("sse: the response is no event stream but %q", e.Header.Get("Content-Type"))
	}
	return fmt.Sprintf("sse: unexpected response: %d %s", e.StatusCode, http.StatusText(e.StatusCode))
}

// A Client opens event streams and keeps them open over failures. Its zero value works. It is
// safe for concurrent use and must not be changed after the first Do.
//
// What it does with a response:
//
//   - 200 with the type text/event-stream is open.
//   - 204 is the end, without an error.
//   - Another type, another 2xx and a 3xx that cannot be followed are final, as is an event
//     over MaxEventSize.
//   - 401 and 403 lead to one more request at once if there is Prepare, and are final otherwise.
//   - 408, 425, 429 and 5xx but for 501 and 505 are retried, not before their Retry-After; other
//     4xx and 5xx are final. So are failures of the network retried; a certificate that is
//     not trusted and a request that cannot be sent are final. ShouldRetry may say otherwise.
//   - When an open stream ends, breaks or is idle, it is requested again with the last event id.
//
// A final error is a *ResponseError, *TooLongError or *FieldError, or what the HTTPClient returned.
// Requests whose method is neither safe nor idempotent, POST above all, are sent once: then a
// clean end of the body is the end, and every failure is final. Resend or an Idempotency-Key
// header is the consent to send them again.
//
// It follows section 9.2.3 of the HTML standard, and retries more than that: a browser gives up
// on every status but 200.
type Client struct {
	// HTTPClient sends the requests. It is used as a copy whose Timeout is 0, because that
	// would cut the stream. Nil is http.DefaultClient.
	HTTPClient *http.Client

	// MaxEventSize is as in DecoderOptions, in bytes: 0 is 16 MiB, negative is no limit.
	MaxEventSize int

	// HeadTimeout is the time from a request to its response head. 0 is DefaultHeadTimeout,
	// negative is no limit, for models that think before they answer.
	HeadTimeout time.Duration

	// IdleTimeout is the time without a byte after which a connection is given up with
	// ErrIdle. It runs only while the client waits for bytes. 0 is three times the
	// Tailrace-Heartbeat of the response, and off if the response has none; negative is off.
	IdleTimeout time.Duration

	// Backoff bounds the delay before the next request.
	Backoff Backoff

	// MaxAttempts is how many requests in a row may fail before the client gives up. A
	// request fails that opens no stream, or one that ends before Backoff.Reset and without
	// an event. 0 is no limit.
	MaxAttempts int

	// Resend is the consent to send a request again whose method is not idempotent.
	Resend bool

	// Prepare, if not nil, is called before each request with a clone that it may change: to
	// sign it, to refresh a token. last is the refusal that led to this request, if one did.
	// An error that is a net.Error is a failed request; any other is final.
	Prepare func(req *http.Request, last *ResponseError) error

	// ShouldRetry decides on refusals with a 4xx or 5xx other than 401 and 403, given as
	// resp, whose Body is at most 4 KiB, and on failures of the network and idle connections,
	// given as err. Nil is DefaultShouldRetry.
	ShouldRetry func(resp *http.Response, err error) bool

	// OnOpen is called when a stream is open, before its first event. The body of resp is
	// the client's.
	OnOpen func(resp *http.Response)

	// OnRetry is called before each delay with the reason, which is io.EOF after a clean end
	// of the body, and the time to the next request.
	OnRetry func(err error, delay time.Duration)

	// OnComment is called for each comment line, as in DecoderOptions. The text is borrowed
	// until it returns.
	OnComment func(text []byte)
}

// Do sends req and returns when a stream is open or the server has said 204, which gives a Conn
// that ends at once. What may be retried is retried, within req.Context() and MaxAttempts;
// another error is final. The Conn ends with req.Context(). Hooks run on the goroutine that
// called Do, and later on the one that reads from the Conn.
//
// Accept and Cache-Control are set if req has none; a Last-Event-ID of req is where the stream
// starts. Each request goes to the URL of req, whatever redirects came before.
// req is not changed and must not be changed while the Conn is in use.
func (c *Client) Do(req *http.Request) (*Conn, error) {
	conn := newConn(c, req)
	if conn.resend && hasBody(req) && req.GetBody == nil {
		req.Body.Close()
		conn.Close()
		return nil, errNeedsGetBody
	}
	conn.connect(nil)
	if _, err := conn.end(); err != nil {
		return nil, err
	}
	return conn, nil
}

// DefaultShouldRetry is what a Client does without ShouldRetry. Exactly one argument is not nil.
// Of responses it retries 408, 425, 429 and 5xx but for 501 and 505. Of errors it retries all but
// an untrusted certificate, a request that cannot be sent and what no repetition can change.
func DefaultShouldRetry(resp *http.Response, err error) bool {
	if resp != nil {
		switch resp.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
			return true
		case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
			return false
		}
		return resp.StatusCode >= 500
	}
	var (
		certificate *tls.CertificateVerificationError
		invalid     *requestError
		tooLong     *TooLongError
		field       *FieldError
		response    *ResponseError
	)
	return err != nil && !errors.As(err, &certificate) && !errors.As(err, &invalid) &&
		!errors.As(err, &tooLong) && !errors.As(err, &field) && !errors.As(err, &response)
}

// A requestError is the failure of a request that cannot be sent as it is: its URL, method or
// header is invalid.
type requestError struct{ err error }

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// A finalError is one that ShouldRetry is not asked about.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

// A tripper is the transport of one Conn. It tells failures of the network from those of a
// request that cannot be sent and from those of the http.Client's redirects.
type tripper struct {
	base   http.RoundTripper
	failed bool // the last round trip failed
}

// RoundTrip implements [http.RoundTripper].
func (t *tripper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	t.failed = err != nil
	if err != nil && !sendable(req) {
		err = &requestError{err}
	}
	return resp, err
}

// httpClient returns a copy of the client's http.Client for one Conn.
func (c *Client) httpClient() (*http.Client, *tripper) {
	var hc http.Client
	if c.HTTPClient != nil {
		hc = *c.HTTPClient
	} else {
		hc = *http.DefaultClient
	}
	t := &tripper{base: hc.Transport}
	if t.base == nil {
		t.base = http.DefaultTransport
	}
	hc.Timeout = 0
	hc.Transport = t
	check := hc.CheckRedirect
	hc.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if hasBody(via[0]) && !hasBody(req) {
			return http.ErrUseLastResponse // it would become another request
		}
		if check != nil {
			return check(req, via)
		}
		if len(via) > maxRedirects {
			return fmt.Errorf("sse: more than %d redirects", maxRedirects)
		}
		return nil
	}
	return &hc, t
}

// shouldRetry applies ShouldRetry.
func (c *Client) shouldRetry(resp *http.Response, err error) bool {
	if c.ShouldRetry != nil {
		return c.ShouldRetry(resp, err)
	}
	return DefaultShouldRetry(resp, err)
}

// maySendAgain says whether req may be sent more than once without asking.
func maySendAgain(req *http.Request) bool {
	switch req.Method {
	case "", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY", "REPORT":
		return true
	}
	return req.Header.Get("Idempotency-Key") != ""
}

func hasBody(req *http.Request) bool {
	return req.Body != nil && req.Body != http.NoBody
}

// isEventStream says whether a Content-Type names an event stream. Parameters do not count.
func isEventStream(field string) bool {
	mediaType, _, _ := strings.Cut(field, ";")
	return strings.EqualFold(strings.TrimSpace(mediaType), contentType)
}

// sendable says whether URL, method and header of req are ones that HTTP can carry.
func sendable(req *http.Request) bool {
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
		return false
	}
	if req.Method != "" && !isToken(req.Method) {
		return false
	}
	for name, values := range req.Header {
		if !isToken(name) {
			return false
		}
		for _, v := range values {
			if !isFieldValue(v) {
				return false
			}
		}
	}
	return true
}

// isToken says whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// isFieldValue says whether HTTP can carry s in a field: it has no control character but tabs.
func isFieldValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
