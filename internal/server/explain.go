package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/problem"
)

// explainsPerMinute is what one address gets: people ask, not programs.
const explainsPerMinute = 10

var explainActions = []auth.Action{auth.Subscribe, auth.Publish, auth.Presence, auth.Admin, auth.Gateway}

// explanation is what would be decided, and the rule of the topic.
type explanation struct {
	*auth.Explanation
	Policy *sourcedPolicy `json:"policy,omitempty"` // where one topic was named
}

// explain judges the credential that the request presents.
func (s *Server) explain(w http.ResponseWriter, c *call) error {
	do, topics, err := explained(c.query.Get("action"), c.query["topic"])
	if err != nil {
		return err
	}
	if err := s.quotas.take("explanations", addressGroup(c.RemoteAddr), explainsPerMinute); err != nil {
		return err
	}
	if s.auth == nil {
		return writeJSON(w, s.explanation(&auth.Explanation{
			Allow: true, Status: http.StatusOK, Principal: "anon:" + hostOf(c.RemoteAddr),
			Steps: []auth.Step{{Check: "dev", OK: true, Detail: "in dev mode everyone may do everything"}},
		}, do, topics))
	}
	return writeJSON(w, s.explanation(s.auth.Explain(c.Request, do, topics), do, topics))
}

// explainRequest is the body that asks about another's credential.
type explainRequest struct {
	Token  string `json:"token"`
	Action string `json:"action"`
	Topic  string `json:"topic"`
}

func (s *Server) explainToken(w http.ResponseWriter, c *call) error {
	if s.auth == nil {
		return errDevAuth()
	}
	var req explainRequest
	if err := s.readJSON(w, c.Request, &req, []string{"token", "action", "topic"}); err != nil {
		return err
	}
	if req.Token == "" {
		return problem.New("invalid-request", `the body is {"token":"…","action":"subscribe","topic":"…"}`)
	}
	var names []string
	if req.Topic != "" {
		names = []string{req.Topic}
	}
	do, topics, err := explained(req.Action, names)
	if err != nil {
		return err
	}
	if err := s.quotas.take("explanations", addressGroup(c.RemoteAddr), explainsPerMinute); err != nil {
		return err
	}
	return writeJSON(w, s.explanation(s.auth.ExplainToken(c.Request, req.Token, do, topics), do, topics))
}

// explained checks what is asked about.
func explained(action string, topics []string) (auth.Action, []string, error) {
	do := auth.Action(action)
	if action == "" {
		do = auth.Subscribe
	}
	if !slices.Contains(explainActions, do) {
		return "", nil, problem.New("invalid-parameter", "action is %q, and must be subscribe, publish, presence, admin or gateway", action).With("parameter", "action")
	}
	if len(topics) == 0 && do != auth.Admin {
		return "", nil, problem.New("no-topic", "name a topic, for example /v1/explain?action=%s&topic=orders/*", do)
	}
	if do == auth.Gateway {
		return do, topics, nil // its topics are models
	}
	for _, t := range topics {
		if err := checkSelector(t); err != nil {
			return "", nil, err
		}
	}
	return do, topics, nil
}

func (s *Server) explanation(e *auth.Explanation, do auth.Action, topics []string) explanation {
	if do == auth.Gateway || len(topics) != 1 || checkTopic(topics[0]) != nil {
		return explanation{e, nil}
	}
	pattern, source := s.policies.source(topics[0])
	p := policyOf(s.hub.Rule(topics[0]))
	p.Pattern = pattern
	return explanation{e, &sourcedPolicy{p, source}}
}

// addressGroup is the address, and of IPv6 its /64, which is what one
// subscriber line gets.
func addressGroup(remote string) string {
	addr, ok := parseHop(remote)
	if !ok {
		return strings.Clone(hostOf(remote))
	}
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}
