package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/filter"
)

// Time-outs of connections. There is none for writing: streams stay open, and
// each of their writes has its own.
const (
	headerTime   = 10 * time.Second
	idleTime     = 120 * time.Second
	lastRequests = 5 * time.Second
)

// http2Streams bounds the requests at once on one HTTP/2 connection.
const http2Streams = 250

// Server serves a hub over HTTP. It is made by [New]. As an http.Handler it
// answers without a listener of its own.
type Server struct {
	hub         *tailrace.Hub
	opts        Options
	auth        *auth.Authenticator // nil in dev mode
	cookie      atomic.Pointer[auth.CookieConfig]
	watches     watches
	quotas      quotas
	routes      []*route
	policies    *policies
	revocations revocations
	filters     *filter.Set
	metrics     *metrics
	openapi     json.RawMessage
	http        *http.Server
	unused      newConns
	draining    atomic.Bool

	bodyTime, restTime, changeTime time.Duration // the constants, shorter in tests

	reloading sync.Mutex // orders reloads

	mu       sync.Mutex
	listener net.Listener // nil until Listen
}

// New returns a server of hub, which goes on belonging to the caller until
// Run. It puts the policies that were set over the API in force.
func New(hub *tailrace.Hub, opts *Options) (*Server, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{hub: hub, opts: o, filters: filter.NewSet(nil), policies: &policies{hub: hub, file: o.Rules, system: systemRules(auth.DefaultMaxLifetime)}, bodyTime: bodyTime, restTime: restTime, changeTime: changeTime}
	if s.auth, err = s.newAccess(); err != nil {
		return nil, err
	}
	s.cookie.Store(&auth.CookieConfig{})
	if s.auth != nil {
		s.cookie.Store(&o.Auth.Cookie)
		s.policies.system = systemRules(s.auth.MaxLifetime())
		s.policies.applied = s.auth.Rejudge
		s.revocations.hub, s.revocations.auth = hub, s.auth
	}
	s.metrics = newMetrics(s)
	s.routes = newRoutes(s.table())
	if s.openapi, err = openapiDocument(); err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.policies.load(ctx); err != nil {
		return nil, err
	}
	if s.auth != nil {
		if err := s.revocations.load(ctx); err != nil {
			return nil, err
		}
	}

	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxURL + maxHeaderBytes, // beyond it net/http answers 431 itself, without reading on
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: http2Streams},
		Protocols:         new(http.Protocols),
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	s.http.ConnState = s.unused.track
	s.http.RegisterOnShutdown(s.unused.close)
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(true)
	s.http.Protocols.SetUnencryptedHTTP2(o.H2C)
	if o.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("server: TLS: %w", err)
		}
		s.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	return s, nil
}

// Listen binds the address and returns it, with the port that port 0 became.
// Nothing is answered before Run. Calling it again returns the same address.
func (s *Server) Listen() (net.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return s.listener.Addr(), nil
	}
	l, err := net.Listen("tcp", s.opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if s.opts.Dev && !isLoopbackHost(hostOf(l.Addr().String())) {
		l.Close()
		return nil, fmt.Errorf("server: %s is not loopback, and in dev mode everyone who can connect may do everything: listen on 127.0.0.1", s.opts.Addr)
	}
	s.listener = tailrace.NewListener(&patientListener{Listener: l, logger: s.opts.Logger})
	return l.Addr(), nil
}

// Run serves until ctx ends, then stops without loss: /readyz fails at once;
// DrainDelay later streams are told when to come back and end one by one, over
// the hub's DrainWindow; requests under way are finished; then the log is
// closed. What is still open at DrainMax is cut.
//
// It returns nil after such an end, and stops hub and log whatever happens. A
// server runs once.
func (s *Server) Run(ctx context.Context) error {
	if _, err := s.Listen(); err != nil {
		return errors.Join(err, s.shutdown(0))
	}
	follow, stop := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	workers.Go(func() { s.followPolicies(follow) })
	if s.auth != nil {
		workers.Go(func() {
			s.revocations.follow(follow, func(err error) {
				s.opts.Logger.Error("no credential is taken until the revocations can be read", "error", err)
			})
		})
	}
	defer workers.Wait()
	defer stop()

	served := make(chan error, 1)
	go func() {
		if s.http.TLSConfig != nil {
			served <- s.http.ServeTLS(s.listener, "", "")
		} else {
			served <- s.http.Serve(s.listener)
		}
	}()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("server: %w", err), s.shutdown(0))
	case <-ctx.Done():
	}
	err := s.shutdown(s.opts.DrainDelay)
	<-served
	return err
}

// shutdown ends everything but the policies' follower. delay is how long
// requests go on being served first, so that balancers notice; a developer's
// server without streams has nobody to wait for.
func (s *Server) shutdown(delay time.Duration) error {
	s.draining.Store(true)
	end := time.Now().Add(s.opts.DrainMax)
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	if streams := s.hub.Count(); delay > 0 && (streams > 0 || !s.opts.Dev) {
		s.opts.Logger.Info("draining", "streams", streams, "delay", delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
	}
	err := s.hub.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.opts.Logger.Warn("streams were cut", "after", s.opts.DrainMax)
		err = nil
	}

	// The streams are gone; what is left are short requests. They get a moment
	// even if the streams took all the time.
	if soonest := time.Now().Add(lastRequests); end.Before(soonest) {
		end = soonest
	}
	ctx, cancel = context.WithDeadline(context.Background(), end)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.opts.Logger.Warn("requests were cut", "after", s.opts.DrainMax)
		s.http.Close()
	}
	if s.auth != nil {
		s.auth.Close() // before the log, where tickets are spent
	}
	return errors.Join(err, s.hub.Log().Close())
}

// Reload puts another auth section and other topic rules of the configuration
// in force, both or neither. Streams that they do not allow any more end. In
// dev mode cfg does not count.
func (s *Server) Reload(cfg auth.Config, rules []tailrace.TopicRule) error {
	if s.auth != nil && cfg.IsZero() {
		return errors.New("server: nothing says who may do what: all stays as it was")
	}
	s.reloading.Lock()
	defer s.reloading.Unlock()
	before, err := s.policies.setFile(rules)
	if err != nil || s.auth == nil {
		return err
	}
	if err := s.auth.Reload(cfg); err != nil {
		_, back := s.policies.setFile(before)
		return errors.Join(err, back)
	}
	s.cookie.Store(&cfg.Cookie)
	return s.policies.setSystem(systemRules(s.auth.MaxLifetime()))
}

// systemRules are matched before all others.
func systemRules(maxLifetime time.Duration) []tailrace.TopicRule {
	return append([]tailrace.TopicRule{configRule}, accessRules(maxLifetime)...)
}

// followPolicies puts in force what other nodes, or others on this one, store
// as the API's list of policies, until ctx ends.
func (s *Server) followPolicies(ctx context.Context) {
	changed := make(chan struct{}, 1)
	stop, err := s.hub.Log().Watch(tailrace.Selector{Topics: []string{policiesTopic}}, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	if err != nil {
		s.opts.Logger.Error("policies that other nodes set are not followed", "error", err)
		return
	}
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		if err := s.policies.load(ctx); err != nil && ctx.Err() == nil {
			s.opts.Logger.Error("policies stay as they are", "error", err)
		}
	}
}
