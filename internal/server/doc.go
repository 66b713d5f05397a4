// Package server is the native HTTP API: it puts a [tailrace.Hub] on a
// listener, with the routes under /v1, health, metrics, the pages that explain
// its errors, and its own description as OpenAPI.
//
// Every answer carries Tailrace-Request-Id; every error is
// application/problem+json. The table of endpoints in routes.go is the one
// place where routes, methods, parameters and problem types are listed: the
// router runs from it, unknown parameters are refused by it, and a test holds
// the OpenAPI document to it.
//
// The router works on the escaped path, does not clean it, and never
// redirects: a topic's name is everything behind the prefix, decoded once.
//
// Every request is decided by package auth, as its endpoint says: before a body
// is read, and about exactly the topics that are served. Streams, uploads and
// long-polls are watched, and end when their principal may not go on. In dev
// mode nobody is asked: the server is on loopback, everything is granted, and
// it is closed to pages of other origins and to names that are rebound to
// loopback.
package server
