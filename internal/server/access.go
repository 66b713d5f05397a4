package server

import (
	"net"
	"net/http"
)

// action is what a request does, for who decides whether it may.
type action string

const (
	open      action = "" // needs no right
	subscribe action = "subscribe"
	publish   action = "publish"
	admin     action = "admin"
)

// authorise decides whether a request may do what it asks for to all the
// topics and patterns it names (none: to the server), and says who asks. The
// error is a *problem.Problem.
type authorise func(r *http.Request, do action, topics []string) (principal string, err error)

// grantAll is dev mode: everyone may do everything, under their address.
func grantAll(r *http.Request, _ action, _ []string) (string, error) {
	return "anon:" + hostOf(r.RemoteAddr), nil
}

// hostOf returns the host of a host:port, or all of it if it has no port.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
