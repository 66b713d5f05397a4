package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// maxQueryBody bounds the parameters of QUERY.
const maxQueryBody = 64 << 10

// pathTopics returns the topic in the path, or nil: then topic= names them.
func pathTopics(c *call) []string {
	if c.name == "" {
		return nil
	}
	return []string{c.name}
}

// publish decides about the topics of the path or query before the body is
// read, and about those that the lines of a batch name before any is stored.
func (s *Server) publish(w http.ResponseWriter, c *call) error {
	topics := append(pathTopics(c), c.query["topic"]...)
	if c.name == "" {
		do := auth.Publish
		if len(topics) == 0 {
			do = auth.Open // the lines name them, or nothing is published
		}
		if err := s.decide(c, do, topics); err != nil {
			return err
		}
	}
	for _, topic := range topics {
		if err := checkWritable(topic); err != nil {
			return err
		}
	}
	if c.name == "" && s.auth != nil && isBatch(c.Header) {
		lines, err := s.readLineTopics(w, c)
		if err != nil {
			return err
		}
		if len(lines) > 0 {
			if err := s.decide(c, auth.Publish, lines); err != nil {
				return err
			}
		}
	}
	inPath := pathTopics(c)
	if isUpload(c.Header) && len(topics) > 0 {
		defer s.watchRequest(c, auth.Publish, topics)()
	}
	s.hub.ServePublish(w, c.Request, inPath)
	return nil
}

// subscribe answers GET, HEAD and QUERY: with a stream, a page, or a topic's
// description. It decides about exactly the selection that is served.
func (s *Server) subscribe(w http.ResponseWriter, c *call) error {
	if c.Method == "QUERY" {
		if err := s.authenticate(c); err != nil {
			return err
		}
		body, err := s.readBody(w, c.Request, maxQueryBody)
		if err != nil {
			return err
		}
		c.Body = io.NopCloser(bytes.NewReader(body))
	}
	sub, err := tailrace.ParseSubscription(withoutTicket(c.Request), s.opts.MaxSelectors, pathTopics(c)...)
	if err != nil {
		return err
	}
	topics := slices.Concat(sub.Select.Topics, sub.Select.Patterns)
	if sub.JSON && c.query.Has("ticket") {
		return problem.New("forbidden", "a ticket opens streams and nothing else")
	}
	if err := s.decide(c, auth.Subscribe, topics); err != nil {
		if sendBusy(w, c.Request, sub, err) {
			return nil
		}
		return err
	}
	c.Request = withoutTicket(c.Request)
	sub.Principal = c.principal.Name
	if err := s.setFilter(sub, c.principal); err != nil {
		return err
	}
	if !sub.JSON && c.Method != http.MethodHead {
		s.serveStream(w, c, sub, topics)
		return nil
	}
	if sub.Wait > 0 {
		defer s.watchRequest(c, auth.Subscribe, topics)()
	}
	s.hub.Serve(w, c.Request, sub)
	// A page whose wait was cut is not written: the hub takes its reader for gone.
	var refusal *problem.Problem
	if rec, _ := w.(*response); rec != nil && rec.status == 0 && errors.As(context.Cause(c.Context()), &refusal) {
		return refusal
	}
	return nil
}

// selects reports whether a stream's selection has one of the topics; without
// topics every stream does.
func selects(s tailrace.Selector, topics []string) bool {
	for _, t := range topics {
		if s.Match(t) {
			return true
		}
	}
	return len(topics) == 0
}
