package server

import "github.com/tailrace/tailrace/internal/auth"

// Parameters of the hub's own handlers, which check their values.
var (
	subscribeParams = []string{
		"last_event_id", "lastEventId", "from", "snapshot", "on_gap", "event", "filter", "meta", "ids", "hello", "heartbeat", "limit", "wait", "format",
	}
	publishParams = []string{
		"event", "id", "key", "remove", "retry", "if_head", "close", "encode", "upload", "upload_from", "skip_gaps",
	}
)

// Problem types of the hub's own handlers.
var (
	readProblems = []string{"invalid-filter", "filter-too-expensive", "invalid-topic", "no-topic", "not-acceptable", "topic-retired", "at-capacity", "too-many-connections", "draining", "unavailable"}

	publishProblems = []string{
		"body-timeout", "draining", "head-mismatch", "invalid-batch", "invalid-cloudevent", "invalid-json", "invalid-topic",
		"log-full", "no-topic", "not-closable", "not-text", "outcome-unknown", "reserved-topic", "reserved-type", "too-large",
		"topic-closed", "topic-retired", "unavailable", "unsupported-charset", "unsupported-encoding", "unsupported-type",
		"upload-idle", "upstream-gap",
	}
)

// table lists every endpoint. HEAD of a GET that is no stream and OPTIONS are
// not listed: every path has them.
func (s *Server) table() []endpoint {
	withTicket := func(params []string) []string { return append([]string{"ticket"}, params...) }
	withTopic := func(params []string) []string { return append([]string{"topic"}, params...) }
	table := []endpoint{
		{method: "POST", path: "/v1/topics/{topic}", do: auth.Publish, params: publishParams, body: true, problems: publishProblems, serve: s.publish},
		{method: "GET", path: "/v1/topics/{topic}", do: auth.Subscribe, decides: true, params: withTicket(subscribeParams), stream: true, problems: readProblems, serve: s.subscribe},
		{method: "HEAD", path: "/v1/topics/{topic}", do: auth.Subscribe, decides: true, params: subscribeParams, problems: []string{"invalid-topic", "not-acceptable", "topic-not-found", "topic-retired", "unavailable"}, serve: s.subscribe},
		{method: "DELETE", path: "/v1/topics/{topic}", do: auth.Admin, params: []string{"retire"}, problems: []string{"invalid-topic", "reserved-topic", "log-full", "unavailable", "outcome-unknown", "stale", "too-large"}, serve: s.deleteTopic},

		{method: "GET", path: "/v1/events", do: auth.Subscribe, decides: true, params: withTicket(withTopic(subscribeParams)), stream: true, problems: readProblems, serve: s.subscribe},
		{method: "QUERY", path: "/v1/events", do: auth.Subscribe, decides: true, params: withTopic(subscribeParams), body: true, problems: append([]string{"body-timeout", "too-large", "unsupported-encoding", "unsupported-type"}, readProblems...), serve: s.subscribe},
		{method: "POST", path: "/v1/events", do: auth.Publish, decides: true, params: withTopic(publishParams), body: true, problems: append([]string{"partial-publish"}, publishProblems...), serve: s.publish},

		{method: "GET", path: "/v1/topics", do: auth.Subscribe, decides: true, params: []string{"pattern", "after", "limit"}, problems: []string{"invalid-topic", "unavailable"}, serve: s.listTopics},
		{method: "GET", path: "/v1/stat/{topic}", do: auth.Subscribe, problems: []string{"invalid-topic", "topic-not-found", "unavailable"}, serve: s.statTopic},
		{method: "GET", path: "/v1/policy/{topic}", do: auth.Admin, problems: []string{"invalid-topic"}, serve: s.topicPolicy},
		{method: "GET", path: "/v1/policies", do: auth.Admin, serve: s.listPolicies},
		{method: "PUT", path: "/v1/policies", do: auth.Admin, body: true, problems: []string{"body-timeout", "invalid-json", "invalid-topic", "log-full", "outcome-unknown", "precondition-required", "stale", "too-large", "unavailable", "unsupported-encoding"}, serve: s.putPolicies},
		{method: "POST", path: "/v1/trim/{topic}", do: auth.Admin, body: true, problems: []string{"body-timeout", "invalid-json", "invalid-topic", "reserved-topic", "too-large", "topic-not-found", "unavailable", "unsupported-encoding"}, serve: s.trimTopic},
		{method: "POST", path: "/v1/close/{topic}", do: auth.Admin, problems: []string{"invalid-topic", "log-full", "not-closable", "outcome-unknown", "reserved-topic", "topic-retired", "unavailable"}, serve: s.closeTopic},

		{method: "GET", path: "/v1/connections", do: auth.Admin, whole: true, params: []string{"topic", "principal", "node", "after", "limit", "count"}, problems: []string{"invalid-topic"}, serve: s.listConnections},
		{method: "DELETE", path: "/v1/connections", do: auth.Admin, whole: true, params: []string{"topic", "principal", "node", "reason"}, problems: []string{"invalid-topic"}, serve: s.disconnectMany},
		{method: "GET", path: "/v1/connections/{id}", do: auth.Admin, whole: true, problems: []string{"connection-not-found"}, serve: s.showConnection},
		{method: "DELETE", path: "/v1/connections/{id}", do: auth.Admin, whole: true, params: []string{"reason"}, problems: []string{"connection-not-found"}, serve: s.disconnect},
		{method: "PATCH", path: "/v1/connections/{id}", do: auth.Subscribe, decides: true, body: true, problems: []string{"body-timeout", "connection-not-found", "connection-slow", "invalid-json", "invalid-topic", "patch-timeout", "principal-mismatch", "too-large", "unsupported-encoding"}, serve: s.changeTopics},
		{method: "POST", path: "/v1/connections/{id}/events", do: auth.Admin, whole: true, params: []string{"event", "retry"}, body: true, problems: append([]string{"connection-not-found", "connection-slow"}, controlProblems...), serve: s.sendToOne},
		{method: "POST", path: "/v1/broadcast", do: auth.Admin, params: []string{"topic", "event", "retry"}, body: true, problems: append([]string{"invalid-topic"}, controlProblems...), serve: s.broadcast},
		{method: "POST", path: "/v1/connections/{id}/token", do: auth.Subscribe, decides: true, problems: []string{"connection-not-found", "not-supported", "principal-mismatch"}, serve: s.refreshToken},

		{method: "POST", path: "/v1/session", decides: true, problems: []string{"not-supported", "too-large"}, serve: s.beginSession},
		{method: "DELETE", path: "/v1/session", decides: true, problems: []string{"not-supported"}, serve: s.endSession},
		{method: "POST", path: "/v1/tickets", decides: true, body: true, problems: []string{"body-timeout", "invalid-filter", "invalid-json", "invalid-topic", "no-topic", "not-supported", "too-large", "unsupported-encoding"}, serve: s.issueTicket},
		{method: "GET", path: "/v1/revocations", do: auth.Admin, whole: true, params: []string{"after", "limit"}, problems: []string{"not-supported"}, serve: s.listRevocations},
		{method: "POST", path: "/v1/revocations", do: auth.Admin, whole: true, body: true, problems: []string{"body-timeout", "invalid-json", "log-full", "not-supported", "outcome-unknown", "too-large", "unavailable", "unsupported-encoding"}, serve: s.revoke},
		{method: "DELETE", path: "/v1/revocations", do: auth.Admin, whole: true, params: []string{"id"}, problems: []string{"log-full", "not-supported", "outcome-unknown", "unavailable"}, serve: s.reinstate},
		{method: "GET", path: "/v1/explain", decides: true, params: []string{"action", "topic"}, problems: []string{"invalid-topic", "no-topic"}, serve: s.explain},
		{method: "POST", path: "/v1/explain", do: auth.Admin, whole: true, body: true, problems: []string{"body-timeout", "invalid-json", "invalid-topic", "no-topic", "not-supported", "too-large", "unsupported-encoding"}, serve: s.explainToken},

		{method: "GET", path: "/livez", serve: s.livez},
		{method: "GET", path: "/readyz", params: []string{"verbose"}, problems: []string{"draining", "unavailable"}, serve: s.readyz},
		{method: "GET", path: "/healthz", params: []string{"verbose"}, problems: []string{"draining", "unavailable"}, serve: s.readyz},
		{method: "GET", path: "/docs/problems", serve: s.problemIndex},
		{method: "GET", path: "/docs/problems/{name}", serve: s.problemPage},
		{method: "GET", path: "/openapi.yaml", serve: s.openapiYAML},
		{method: "GET", path: "/openapi.json", serve: s.openapiJSON},
	}
	if !s.opts.NoMetrics {
		table = append(table, endpoint{method: "GET", path: "/metrics", do: auth.Admin, serve: s.serveMetrics})
	}
	return table
}
