package server

import (
	"bytes"
	"io"
	"net/http"

	"github.com/tailrace/tailrace"
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

func (s *Server) publish(w http.ResponseWriter, c *call) error {
	for _, topic := range append(pathTopics(c), c.query["topic"]...) {
		if err := checkWritable(topic); err != nil {
			return err
		}
	}
	s.hub.ServePublish(w, c.Request, pathTopics(c))
	return nil
}

// subscribe answers GET, HEAD and QUERY: with a stream, a page, or a topic's
// description.
func (s *Server) subscribe(w http.ResponseWriter, c *call) error {
	if c.Method == "QUERY" {
		body, err := s.readBody(w, c.Request, maxQueryBody)
		if err != nil {
			return err
		}
		c.Body = io.NopCloser(bytes.NewReader(body))
	}
	sub, err := tailrace.ParseSubscription(c.Request, s.opts.MaxSelectors, pathTopics(c)...)
	if err != nil {
		return err
	}
	sub.Principal = c.principal
	if err := s.setFilter(sub); err != nil {
		return err
	}
	s.hub.Serve(w, c.Request, sub)
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
