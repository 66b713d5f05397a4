// Package auth decides who asks and what they may do: API keys, JSON Web
// Tokens (RFC 7519, as RFC 8725 wants them used), cookies, one-time tickets,
// and a webhook, all ending in one [Principal] with its [Grants].
//
// An [Authenticator] is made from the configuration by [New]. The server asks
// it with [Authenticator.Decide] for each request, and keeps a [Watch] on the
// principal of each open stream, which tells within a second that the
// principal has expired, was revoked, or lost its right by a reload. The
// package keeps no state on disk: revocations are fed to it, and tickets are
// spent, through functions of its caller.
//
// Refusals are problems (RFC 9457) whose detail says which check failed. None
// holds a secret or a credential.
package auth
