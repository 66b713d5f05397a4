package problem

import "sort"

// Type is a row of the table of problem types. It is part of the HTTP
// contract: rows are added, never changed.
type Type struct {
	Name   string
	Status int
	Title  string
	Help   string // what the reader of the answer can do
}

// Types returns the table, sorted by name.
func Types() []Type { return table }

// Find returns the type of that name.
func Find(name string) (Type, bool) {
	i := sort.Search(len(table), func(i int) bool { return table[i].Name >= name })
	if i < len(table) && table[i].Name == name {
		return table[i], true
	}
	return Type{}, false
}

var table = []Type{
	{"at-capacity", 503, "At capacity", "The node has as many open streams as it may have, or new ones come faster than they may. Come back after Retry-After, or raise limits.streams or limits.connect_rate."},
	{"auth-unavailable", 503, "Authorisation unavailable", "What decides about this request does not answer. Nothing was done; repeat after Retry-After."},
	{"body-timeout", 408, "Body too slow", "The request's body did not arrive in time. Send it faster, or in smaller requests."},
	{"conflicting-parameter", 400, "Conflicting parameter", "The same parameter was given twice with different values, for example in the query and as a header. Give it once."},
	{"connection-not-found", 404, "No such connection", "No open stream has this id. It may just have ended."},
	{"connection-slow", 429, "Connection is slow", "Too many control events wait on this connection already. Nothing was queued; try again later."},
	{"csrf", 403, "Cross-site request", "A request that writes by cookie must come from a page of this server, or of an origin in auth.cookie.origins."},
	{"draining", 503, "Draining", "The server is about to stop. Nothing was stored; repeat the request after Retry-After."},
	{"filter-too-expensive", 429, "Filter too expensive", "The filter takes too long for each event. Look at fewer fields, shorten regular expressions, or subscribe to fewer topics."},
	{"forbidden", 403, "Forbidden", "The credentials do not allow this action on every topic named."},
	{"head-mismatch", 412, "Head mismatch", "The topic's last event is not the one in if_head. Read on, then try again with the head in this answer."},
	{"headers-too-large", 431, "Header fields too large", "The request has too many or too long header fields."},
	{"internal", 500, "Internal error", "The server failed. Its log has the details under the request id."},
	{"invalid-batch", 400, "Invalid batch", "At least one line of the batch is wrong; errors names the lines. Nothing was stored."},
	{"invalid-cloudevent", 400, "Invalid CloudEvent", "The event lacks a required attribute or has another specversion. Nothing was stored."},
	{"invalid-filter", 400, "Invalid filter", "The filter is not an expression that yields true or false, or over its limits; line and column say where."},
	{"invalid-json", 400, "Invalid JSON", "The body is declared as JSON and is not. Send valid JSON, or another Content-Type. Nothing was stored."},
	{"invalid-parameter", 400, "Invalid parameter", "The value of a parameter is not allowed; detail says why."},
	{"invalid-request", 400, "Invalid request", "The request cannot be understood; detail says why."},
	{"invalid-token", 401, "Invalid credential", "The credential is not one of this server; detail says which check failed. GET /v1/explain shows them all."},
	{"invalid-topic", 400, "Invalid topic", "A topic's name is 1 to 512 bytes of UTF-8 without control characters; offset is the first bad byte. Percent-encode the whole name."},
	{"log-full", 507, "Log is full", "The disk or its quota is full. Nothing was stored; reading goes on."},
	{"method-not-allowed", 405, "Method not allowed", "This path does not have that method; Allow lists those it has."},
	{"no-topic", 400, "No topic", "Name at least one topic, for example /v1/events?topic=orders/*."},
	{"not-acceptable", 406, "Not acceptable", "The Accept header admits neither text/event-stream nor application/json."},
	{"not-closable", 409, "Not closable", "The topic's policy does not allow closing it. Set closable."},
	{"not-found", 404, "Not found", "There is nothing at this path."},
	{"not-supported", 501, "Not supported", "The server or its log cannot do this. Nothing was stored."},
	{"not-text", 415, "Not text", "The body is not UTF-8; offset is the first bad byte. Send text, or encode=base64."},
	{"origin-refused", 403, "Origin refused", "A page of another origin may not do this. In dev mode only pages on this machine may write."},
	{"outcome-unknown", 503, "Outcome unknown", "The log did not answer in time: the event may or may not be stored. With an id, repeat the request: it is stored once."},
	{"partial-publish", 409, "Partly published", "Some topics have the event and some do not; results has one entry for each."},
	{"patch-timeout", 504, "The stream takes too long", "The stream has not come to the change in time, because its reader is slow or far behind. The change may still happen: the stream says so with tailrace.topics."},
	{"precondition-required", 428, "Precondition required", "Send If-Match with the ETag of what you read, so that no change of others is lost."},
	{"principal-mismatch", 403, "Another principal", "A stream goes on only under a credential of whoever opened it. Open a new one."},
	{"rate-limited", 429, "Rate limited", "Too many requests. Come back after Retry-After."},
	{"reserved-topic", 403, "Reserved topic", "Names that begin with $ are the system's; they can be read and not written."},
	{"reserved-type", 400, "Reserved type", "Event types that begin with tailrace. are the server's own."},
	{"stale", 412, "Stale", "What you changed has changed meanwhile. Read it again."},
	{"ticket-spent", 401, "Ticket is spent", "The ticket was used before, or its time is over. Fetch another."},
	{"token-expired", 401, "Credential has expired", "The credential is past its end. Get a new one."},
	{"token-in-url", 400, "Token in the URL", "URLs end in logs and histories. Send the token as Authorization: Bearer, or fetch a ticket for an EventSource."},
	{"token-revoked", 401, "Credential was revoked", "The credential was taken back, or its key was removed. Get a new one."},
	{"too-large", 413, "Too large", "The event, batch or body is over its limit. Nothing was stored."},
	{"too-many-connections", 429, "Too many connections", "This principal or address has as many open streams as it may have. Close one, come back after Retry-After, or raise limits.streams_per_principal or limits.streams_per_address."},
	{"topic-closed", 409, "Topic is closed", "The topic has got its last event; final is its cursor."},
	{"topic-not-found", 404, "No such topic", "Nothing was ever published to this topic, or it was deleted or forgotten."},
	{"topic-retired", 410, "Topic is retired", "The topic was deleted for good."},
	{"unauthenticated", 401, "No credential", "This needs a credential. Send Authorization: Bearer and an API key or token."},
	{"unavailable", 503, "Unavailable", "The log cannot take this now. Nothing was stored; repeat after Retry-After."},
	{"unknown-parameter", 400, "Unknown parameter", "No such parameter; detail names the nearest. Parameters that begin with _ are ignored."},
	{"unsupported-charset", 415, "Unsupported charset", "Only utf-8 and us-ascii are taken."},
	{"unsupported-encoding", 415, "Unsupported encoding", "Only gzip is taken as Content-Encoding."},
	{"unsupported-type", 415, "Unsupported media type", "This media type cannot be published. Send the data itself."},
	{"upload-idle", 408, "Upload idle", "No byte arrived for too long. Everything up to last_cursor is stored; go on from there."},
	{"upstream-gap", 409, "Upstream gap", "The uploaded stream says that it has a gap. Everything up to last_cursor is stored; skip_gaps=1 carries on past it."},
	{"uri-too-long", 414, "URI too long", "The request's URL is too long. Use QUERY /v1/events with the parameters in the body."},
	{"wrong-host", 421, "Wrong host", "The Host header names a server that this is not."},
}
