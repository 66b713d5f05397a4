package server

import (
	"context"
	"errors"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/problem"
)

// problemOf is the answer to err. What it does not know is internal: its text
// goes to the log, not to the client.
func problemOf(err error) *problem.Problem {
	var p *problem.Problem
	var invalid *tailrace.InvalidError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &invalid):
		name := "invalid-parameter"
		if invalid.Field == "topic" || invalid.Field == "pattern" {
			name = "invalid-topic"
		}
		return problem.New(name, "%s %s", invalid.Field, invalid.Reason).With("offset", invalid.Offset)
	case errors.Is(err, tailrace.ErrReserved):
		return problem.New("reserved-topic", "names that begin with $ are the system's")
	case errors.Is(err, tailrace.ErrRetired):
		return problem.New("topic-retired", "the topic was deleted for good")
	case errors.Is(err, tailrace.ErrNotClosable):
		return problem.New("not-closable", "the topic's policy has no closable")
	case errors.Is(err, tailrace.ErrTooLarge):
		return problem.New("too-large", "%v", err)
	case errors.Is(err, tailrace.ErrFull):
		return problem.New("log-full", "the disk or its quota is full")
	case errors.Is(err, tailrace.ErrStopped):
		return &problem.Problem{Name: "unavailable", Detail: "the log is stopped", RetryAfter: 5 * time.Second}
	case errors.Is(err, tailrace.ErrNoConnection):
		return problem.New("connection-not-found", "no open stream has this id")
	case errors.Is(err, tailrace.ErrSlow):
		return &problem.Problem{Name: "connection-slow", Detail: "16 control events wait on this connection already", RetryAfter: time.Second}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &problem.Problem{Name: "unavailable", Detail: "the log did not answer in time", RetryAfter: time.Second}
	}
	return nil
}
