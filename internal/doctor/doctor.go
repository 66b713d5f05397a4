// Package doctor examines a live server from where its clients are, through
// whatever lies between, and says what is wrong with the way: what holds events
// back, cuts silent streams, or drops what resuming needs.
//
// It sees only what a client can see: heads, bytes and when they arrive. Where
// it may publish, it publishes five small events to a topic and reads them
// back; that is all that it writes.
package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

var (
	// ErrUnreachable is the error of an examination that no server answered.
	ErrUnreachable = errors.New("doctor: cannot reach the server")
	// ErrRefused is the error of an examination whose token may not subscribe.
	ErrRefused = errors.New("doctor: the server refuses to show the topic")
)

// Options say what to examine.
type Options struct {
	// URL is the server as its clients write it, with the prefix that a proxy
	// serves it under, if any, and without /v1.
	URL string
	// Token is sent as bearer token. Default: none.
	Token string
	// Topic is published to and subscribed to. Default: a new one under
	// doctor/, which is deleted afterwards where the token may.
	Topic string
	// ReadOnly publishes nothing; buffering then shows only at the opening of a
	// stream and at its heartbeats.
	ReadOnly bool
	// Origin is that of the pages that will subscribe, such as
	// https://app.example.com. Default: none, and CORS is hardly looked at.
	Origin string
	// Wait is how long a silent stream is watched. Default: until its first
	// heartbeat, at most 30 s.
	Wait time.Duration
	// Streams is how many streams are opened at once; negative is none.
	// Default: 8, since browsers themselves open at most 6 over HTTP/1.1.
	Streams int
	// UserAgent is sent with each request. Default: tailrace-doctor.
	UserAgent string
}

const (
	defaultStreams = 8
	// defaultWait bounds the watch of a server whose heartbeats are rare or
	// do not come.
	defaultWait = 30 * time.Second
	// patience is how long something may take that takes a moment. What comes
	// later was held back, and did not meet a slow network or a busy machine.
	patience = 2 * time.Second
	// answerTime is how long a plain answer may take.
	answerTime = 15 * time.Second
)

// Examine looks at a server, for a second or two and then for as long as
// Options.Wait says. The report is never nil, and has what was seen until the
// error: ErrUnreachable, ErrRefused, that of ctx, or one of the options.
func Examine(ctx context.Context, opts Options) (*Report, error) {
	x, err := newExam(opts)
	if err != nil {
		return &Report{URL: opts.URL}, err
	}
	defer x.client.CloseIdleConnections()
	err = x.run(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	x.report.sort()
	return &x.report, err
}

// exam is one examination. Its checks run at the same time.
type exam struct {
	opts   Options
	base   *url.URL // its path ends with a slash
	client *http.Client
	roots  *x509.CertPool // trusted authorities; nil are those of the system
	name   string         // of this examination, unlike that of any other
	made   bool           // the topic is a new one
	proxy  proxy          // set by the first check
	cursor string         // of the end of the topic before anything was published
	held   bool           // what streams carry is held back until they end; set by stream

	mu     sync.Mutex
	report Report
}

func newExam(opts Options) (*exam, error) {
	if !strings.Contains(opts.URL, "://") {
		opts.URL = "http://" + opts.URL
	}
	base, err := url.Parse(opts.URL)
	switch {
	case err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https":
		return nil, fmt.Errorf("doctor: %q is not the URL of a server; write for example https://events.example.com", opts.URL)
	case base.RawQuery != "" || strings.HasSuffix(base.Path, "/v1") || strings.Contains(base.Path, "/v1/"):
		return nil, fmt.Errorf("doctor: %q is more than the URL of a server: leave out /v1 and what follows", opts.URL)
	}
	base.User, base.Fragment = nil, ""
	base.Path = strings.TrimRight(base.Path, "/") + "/"
	if o, err := url.Parse(opts.Origin); opts.Origin != "" && (err != nil || o.Scheme+"://"+o.Host != opts.Origin) {
		return nil, fmt.Errorf("doctor: %q is no origin: write scheme and host, such as https://app.example.com", opts.Origin)
	}
	name := strings.ToLower(rand.Text()[:12])
	made := opts.Topic == ""
	if made {
		opts.Topic = "doctor/" + name
	}
	if opts.Streams == 0 {
		opts.Streams = defaultStreams
	}
	opts.UserAgent = cmp.Or(opts.UserAgent, "tailrace-doctor")
	return &exam{
		opts:   opts,
		base:   base,
		name:   name,
		made:   made,
		report: Report{URL: base.String(), Topic: opts.Topic},
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				ForceAttemptHTTP2:   true,
				DisableCompression:  true, // what is compressed is what is looked at
				TLSHandshakeTimeout: answerTime,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// run makes the checks. The silent stream is watched meanwhile; the many
// streams come last, since the limits that they meet would spoil the others.
func (x *exam) run(ctx context.Context) error {
	if more, err := x.reach(ctx); !more {
		return err
	}
	outer := ctx
	ctx, cancel := context.WithCancel(outer)
	var watch sync.WaitGroup
	watch.Go(func() { x.watch(ctx) })
	defer watch.Wait()
	if !x.stream(ctx) {
		cancel() // there are no streams to watch
		return nil
	}
	defer cancel()
	if x.held && x.opts.Wait <= 0 {
		cancel() // heartbeats are held back as well, and nobody asked to wait for them
	}
	x.cors(outer)
	x.many(outer)
	watch.Wait()
	return nil
}

// add files one finding.
func (x *exam) add(f Finding) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.report.Findings = append(x.report.Findings, f)
}
