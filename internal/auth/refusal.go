package auth

import (
	"net/http"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// status has the status of each refusal of this package, so that it does not
// hang on the table of problems.
var status = map[string]int{
	"invalid-request":  http.StatusBadRequest,
	"token-in-url":     http.StatusBadRequest,
	"too-large":        http.StatusRequestEntityTooLarge,
	"unauthenticated":  http.StatusUnauthorized,
	"invalid-token":    http.StatusUnauthorized,
	"token-expired":    http.StatusUnauthorized,
	"token-revoked":    http.StatusUnauthorized,
	"ticket-spent":     http.StatusUnauthorized,
	"forbidden":        http.StatusForbidden,
	"csrf":             http.StatusForbidden,
	"rate-limited":     http.StatusTooManyRequests,
	"auth-unavailable": http.StatusServiceUnavailable,
}

func refuse(name, format string, args ...any) *problem.Problem {
	p := problem.New(name, format, args...)
	p.Status = status[name]
	return p
}

// unavailable refuses because something that decides does not answer. The
// cause goes to the operator, by the functions in [Options].
func unavailable(format string, args ...any) *problem.Problem {
	p := refuse("auth-unavailable", format, args...)
	p.RetryAfter = 5 * time.Second
	return p
}

// Challenge returns the WWW-Authenticate field that belongs to a refusal (RFC
// 6750, 3), "" if none does: bare if nothing was presented, else with the
// error's code.
func Challenge(p *problem.Problem) string {
	switch p.StatusCode() {
	case http.StatusUnauthorized:
		if p.Name == "unauthenticated" {
			return "Bearer"
		}
		return `Bearer error="invalid_token", error_description="` + description(p.Detail) + `"`
	case http.StatusForbidden:
		if p.Name == "forbidden" {
			return `Bearer error="insufficient_scope"`
		}
	}
	return ""
}

// description keeps of a detail what error_description admits: printable ASCII
// without quote and backslash (RFC 6750, 3).
func description(detail string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < 0x20 || r > 0x7e:
			return '?'
		}
		return r
	}, detail)
}
