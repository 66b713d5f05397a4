package server

import (
	"context"
	"net/http"
	"time"

	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// checkTime is how long the log may take to answer a health check.
const checkTime = time.Second

// check is one line of a verbose health answer.
type check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// livez says that the process answers.
func (s *Server) livez(w http.ResponseWriter, _ *call) error {
	return writeJSON(w, map[string]string{"status": "ok"})
}

// readyz says whether requests should come here.
func (s *Server) readyz(w http.ResponseWriter, c *call) error {
	verbose, err := flagParam(c.query, "verbose")
	if err != nil {
		return err
	}
	checks := []check{{Name: "serving", OK: true}, {Name: "log", OK: true}}
	var refusal *problem.Problem
	if s.auth != nil {
		checks = append(checks, check{Name: "revocations", OK: true})
		if s.revocations.unread.Load() {
			checks[2] = check{Name: "revocations", Detail: "cannot be read, so that no credential is taken"}
			refusal = &problem.Problem{Name: "unavailable", Detail: "the revocations cannot be read", RetryAfter: 5 * time.Second}
		}
	}
	if fault := s.checkLog(c.Context()); fault != "" {
		checks[1] = check{Name: "log", Detail: fault}
		refusal = &problem.Problem{Name: "unavailable", Detail: "the log is not in order", RetryAfter: 5 * time.Second}
	}
	if s.draining.Load() || s.hub.Draining() {
		checks[0] = check{Name: "serving", Detail: "draining"}
		refusal = &problem.Problem{Name: "draining", Detail: "the server is about to stop", RetryAfter: 5 * time.Second}
	}
	if verbose && s.auth != nil && s.decide(c, auth.Admin, nil) != nil {
		for i := range checks {
			checks[i].Detail = "" // errors of the log say where it is
		}
	}
	if refusal != nil {
		if verbose {
			refusal = refusal.With("checks", checks)
		}
		return refusal
	}
	if verbose {
		return writeJSON(w, map[string]any{"status": "ok", "checks": checks})
	}
	return writeJSON(w, map[string]string{"status": "ok"})
}

// checkLog says what keeps the log from taking events, or "".
func (s *Server) checkLog(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	if _, err := s.hub.Log().Stat(ctx, ""); err != nil {
		return err.Error()
	}
	if log, ok := s.hub.Log().(metricLog); ok {
		switch m := log.Metrics(); {
		case m.Stopped:
			return "stopped after a failed write or sync: see the log lines, and restart"
		case m.Full:
			return "full: publishing is refused, reading goes on"
		}
	}
	return ""
}
