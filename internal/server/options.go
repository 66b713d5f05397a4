package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
)

// Limits of requests. They are far above what clients of this API send, and
// far below what hurts.
const (
	maxURL          = 16 << 10
	maxHeaderBytes  = 32 << 10
	maxHeaderFields = 100
	maxAdminBody    = 1 << 20
)

// Defaults of Options.
const (
	DefaultAddr       = "127.0.0.1:8080"
	DefaultDrainDelay = 5 * time.Second // time for a balancer to see /readyz fail
	DefaultDrainMax   = 2 * time.Minute
	DefaultCORSMaxAge = 2 * time.Hour // what Chromium caps it at
)

// Options are the options of [New]. Nil is an error, because Auth or
// Dev has to be said; all other fields have defaults.
type Options struct {
	Addr string // host:port to listen on; port 0 takes a free one. Default 127.0.0.1:8080

	// Dev grants everything to everyone, on loopback only; Auth does not count
	// then. One of the two has to be set.
	Dev bool

	// Auth says who may do what. Default nobody anything, which is an error.
	Auth auth.Config

	H2C      bool   // HTTP/2 without TLS, by prior knowledge. Default off
	CertFile string // TLS certificate chain, PEM; with KeyFile. Default none: plain HTTP
	KeyFile  string

	// TrustedProxies are the networks of the proxies in front: what they say in
	// X-Forwarded-For, or in Forwarded, of where a request comes from is
	// believed. Default none: a request comes from its peer.
	TrustedProxies []netip.Prefix

	CORSOrigins []string      // exact origins, or https://*.example.com for one label. Default none; in dev loopback origins always may
	CORSMaxAge  time.Duration // how long a browser may keep a preflight's answer. Default 2 h

	// Rules are the topic rules of the configuration, as the hub has them. The
	// list that the API owns is matched before them.
	Rules []tailrace.TopicRule

	MaxSelectors int           // parts of one subscription. Default 128
	DrainDelay   time.Duration // from the signal to the first stream ended. Default 5 s, negative none
	DrainMax     time.Duration // from the signal until whatever is still open is cut. Default 2 min
	Node         string        // this node's name in the connection manager. Default "local"
	Version      string        // of tailrace_build_info and /openapi. Default "dev"
	NoMetrics    bool          // /metrics is 404

	Pages  http.Handler // the start page: answers / and what is under /start/. Default none: 404
	Logger *slog.Logger // Default slog.Default
}

// withDefaults returns a checked copy of o in which zero fields are defaults
// and negative durations 0.
func (o *Options) withDefaults() (Options, error) {
	if o == nil || !o.Dev && o.Auth.IsZero() {
		return Options{}, errors.New("server: nothing says who may do what: set Auth, or Dev for this machine only")
	}
	opts := *o
	if opts.Addr == "" {
		opts.Addr = DefaultAddr
	}
	if (opts.CertFile == "") != (opts.KeyFile == "") {
		return Options{}, errors.New("server: CertFile and KeyFile are needed together")
	}
	for _, origin := range opts.CORSOrigins {
		if err := checkOriginPattern(origin, opts.Dev); err != nil {
			return Options{}, fmt.Errorf("server: CORSOrigins: %w", err)
		}
	}
	if opts.CORSMaxAge == 0 {
		opts.CORSMaxAge = DefaultCORSMaxAge
	}
	if opts.MaxSelectors == 0 {
		opts.MaxSelectors = 128
	}
	opts.DrainDelay = durationOr(opts.DrainDelay, DefaultDrainDelay)
	opts.DrainMax = durationOr(opts.DrainMax, DefaultDrainMax)
	if opts.Node == "" {
		opts.Node = "local"
	}
	if opts.Version == "" {
		opts.Version = "dev"
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	return opts, nil
}

// durationOr returns d, the default for 0, and 0 for a negative d.
func durationOr(d, byDefault time.Duration) time.Duration {
	if d == 0 {
		return byDefault
	}
	return max(d, 0)
}
