package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
)

// capabilities are the parts of the contract that the client has. It has no
// "event-type-listeners": it reports events of all types.
var capabilities = []string{
	"bom", "comments", "headers", "last-event-id", "post", "read-timeout", "report", "restart",
	"server-directed-shutdown-request",
}

// maxBody is the largest request, in bytes; its longest part is the body of a stream's request.
const maxBody = 16 << 20

// A service answers a harness. newService makes it.
type service struct {
	mux    *http.ServeMux
	stop   func() // ends the program
	logger *slog.Logger
	http   *http.Client // of all instances

	mu        sync.Mutex // guards what follows
	lastID    int
	instances map[string]*instance
}

func newService(stop func(), logger *slog.Logger) *service {
	s := &service{
		mux:       http.NewServeMux(),
		stop:      stop,
		logger:    logger,
		http:      &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()},
		instances: map[string]*instance{},
	}
	s.mux.HandleFunc("GET /{$}", s.status)
	s.mux.HandleFunc("DELETE /{$}", s.quit)
	s.mux.HandleFunc("POST /{$}", s.create)
	s.mux.HandleFunc("POST /clients/{id}", s.command)
	s.mux.HandleFunc("DELETE /clients/{id}", s.remove)
	return s
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.mux.ServeHTTP(w, r)
}

// close ends all instances and waits for them.
func (s *service) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, in := range s.instances {
		in.close()
		delete(s.instances, id)
	}
	s.http.CloseIdleConnections()
}

func (s *service) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"name": "tailrace", "capabilities": capabilities})
}

func (s *service) quit(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNoContent)
	s.stop()
}

func (s *service) create(w http.ResponseWriter, r *http.Request) {
	var p params
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := p.check(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.lastID++
	id := strconv.Itoa(s.lastID)
	in, err := startInstance(&p, s.http, s.logger.With("client", id, "tag", p.Tag))
	if err == nil {
		s.instances[id] = in
	}
	s.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Location", "/clients/"+id)
	w.WriteHeader(http.StatusCreated)
}

func (s *service) command(w http.ResponseWriter, r *http.Request) {
	in := s.instance(r, false)
	if in == nil {
		http.NotFound(w, r)
		return
	}
	var c struct {
		Command string
		Listen  *struct{ Type string }
	}
	err := json.NewDecoder(r.Body).Decode(&c)
	switch {
	case err != nil:
	case c.Command == "listen" && c.Listen != nil: // events of all types are reported
	case c.Command == "restart":
		in.restart()
	default:
		err = fmt.Errorf("unknown command %q", c.Command)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *service) remove(w http.ResponseWriter, r *http.Request) {
	in := s.instance(r, true)
	if in == nil {
		http.NotFound(w, r)
		return
	}
	in.close()
	w.WriteHeader(http.StatusNoContent)
}

// instance returns the instance that r is about, or nil, and removes it from the list if told so.
func (s *service) instance(r *http.Request, remove bool) *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.PathValue("id")
	in := s.instances[id]
	if remove {
		delete(s.instances, id)
	}
	return in
}

// params is how a harness wants a client.
type params struct {
	StreamURL      string            `json:"streamUrl"`
	CallbackURL    string            `json:"callbackUrl"`
	Tag            string            `json:"tag"`
	InitialDelayMS *int64            `json:"initialDelayMs"`
	ReadTimeoutMS  *int64            `json:"readTimeoutMs"`
	LastEventID    string            `json:"lastEventId"`
	Headers        map[string]string `json:"headers"`
	Method         string            `json:"method"`
	Body           *string           `json:"body"`
}

func (p *params) check() error {
	for name, value := range map[string]string{"streamUrl": p.StreamURL, "callbackUrl": p.CallbackURL} {
		if u, err := url.Parse(value); err != nil || u.Host == "" {
			return fmt.Errorf("%s: %q is no absolute URL", name, value)
		}
	}
	const longest = 1 << 40 // ms, so that a time.Duration holds it
	for _, ms := range []*int64{p.InitialDelayMS, p.ReadTimeoutMS} {
		if ms != nil && (*ms < 0 || *ms > longest) {
			return errors.New("initialDelayMs or readTimeoutMs is out of range")
		}
	}
	return nil
}
