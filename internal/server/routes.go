package server

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
	withTopic := func(params []string) []string { return append([]string{"topic"}, params...) }
	table := []endpoint{
		{method: "POST", path: "/v1/topics/{topic}", do: publish, params: publishParams, body: true, problems: publishProblems, serve: s.publish},
		{method: "GET", path: "/v1/topics/{topic}", do: subscribe, params: subscribeParams, stream: true, problems: readProblems, serve: s.subscribe},
		{method: "HEAD", path: "/v1/topics/{topic}", do: subscribe, params: subscribeParams, problems: []string{"invalid-topic", "not-acceptable", "topic-not-found", "topic-retired", "unavailable"}, serve: s.subscribe},
		{method: "DELETE", path: "/v1/topics/{topic}", do: admin, params: []string{"retire"}, problems: []string{"invalid-topic", "reserved-topic", "log-full", "unavailable", "outcome-unknown", "stale", "too-large"}, serve: s.deleteTopic},

		{method: "GET", path: "/v1/events", do: subscribe, params: withTopic(subscribeParams), stream: true, problems: readProblems, serve: s.subscribe},
		{method: "QUERY", path: "/v1/events", do: subscribe, params: withTopic(subscribeParams), body: true, problems: append([]string{"body-timeout", "too-large", "unsupported-encoding", "unsupported-type"}, readProblems...), serve: s.subscribe},
		{method: "POST", path: "/v1/events", do: publish, params: withTopic(publishParams), body: true, problems: append([]string{"partial-publish"}, publishProblems...), serve: s.publish},

		{method: "GET", path: "/v1/topics", do: subscribe, params: []string{"pattern", "after", "limit"}, problems: []string{"invalid-topic", "unavailable"}, serve: s.listTopics},
		{method: "GET", path: "/v1/stat/{topic}", do: subscribe, problems: []string{"invalid-topic", "topic-not-found", "unavailable"}, serve: s.statTopic},
		{method: "GET", path: "/v1/policy/{topic}", do: admin, problems: []string{"invalid-topic"}, serve: s.topicPolicy},
		{method: "GET", path: "/v1/policies", do: admin, serve: s.listPolicies},
		{method: "PUT", path: "/v1/policies", do: admin, body: true, problems: []string{"body-timeout", "invalid-json", "invalid-topic", "log-full", "outcome-unknown", "precondition-required", "stale", "too-large", "unavailable", "unsupported-encoding"}, serve: s.putPolicies},
		{method: "POST", path: "/v1/trim/{topic}", do: admin, body: true, problems: []string{"body-timeout", "invalid-json", "invalid-topic", "reserved-topic", "too-large", "topic-not-found", "unavailable", "unsupported-encoding"}, serve: s.trimTopic},
		{method: "POST", path: "/v1/close/{topic}", do: admin, problems: []string{"invalid-topic", "log-full", "not-closable", "outcome-unknown", "reserved-topic", "topic-retired", "unavailable"}, serve: s.closeTopic},

		{method: "GET", path: "/v1/connections", do: admin, params: []string{"topic", "principal", "node", "after", "limit", "count"}, problems: []string{"invalid-topic"}, serve: s.listConnections},
		{method: "DELETE", path: "/v1/connections", do: admin, params: []string{"topic", "principal", "node", "reason"}, problems: []string{"invalid-topic"}, serve: s.disconnectMany},
		{method: "GET", path: "/v1/connections/{id}", do: admin, problems: []string{"connection-not-found"}, serve: s.showConnection},
		{method: "DELETE", path: "/v1/connections/{id}", do: admin, params: []string{"reason"}, problems: []string{"connection-not-found"}, serve: s.disconnect},
		{method: "POST", path: "/v1/connections/{id}/events", do: admin, params: []string{"event", "retry"}, body: true, problems: append([]string{"connection-not-found", "connection-slow"}, controlProblems...), serve: s.sendToOne},
		{method: "POST", path: "/v1/broadcast", do: admin, params: []string{"topic", "event", "retry"}, body: true, problems: append([]string{"invalid-topic"}, controlProblems...), serve: s.broadcast},

		{method: "GET", path: "/livez", serve: s.livez},
		{method: "GET", path: "/readyz", params: []string{"verbose"}, problems: []string{"draining", "unavailable"}, serve: s.readyz},
		{method: "GET", path: "/healthz", params: []string{"verbose"}, problems: []string{"draining", "unavailable"}, serve: s.readyz},
		{method: "GET", path: "/docs/problems", serve: s.problemIndex},
		{method: "GET", path: "/docs/problems/{name}", serve: s.problemPage},
		{method: "GET", path: "/openapi.yaml", serve: s.openapiYAML},
		{method: "GET", path: "/openapi.json", serve: s.openapiJSON},
	}
	if !s.opts.NoMetrics {
		table = append(table, endpoint{method: "GET", path: "/metrics", do: admin, serve: s.serveMetrics})
	}
	return table
}
