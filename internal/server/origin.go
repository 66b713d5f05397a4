package server

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// isLoopbackHost reports whether host, without port, can only mean this
// machine. Other names that resolve to loopback do not count: that is what DNS
// rebinding does.
func isLoopbackHost(host string) bool {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// isLoopbackOrigin reports whether an Origin header names a page on this
// machine.
func isLoopbackOrigin(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Scheme+"://"+u.Host == origin && isLoopbackHost(u.Hostname())
}

// originAllowed reports whether one of the configured patterns matches origin.
func originAllowed(patterns []string, origin string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if p == origin {
			return true
		}
		before, after, ok := strings.Cut(p, "*")
		if !ok || len(origin) <= len(before)+len(after) || !strings.HasPrefix(origin, before) || !strings.HasSuffix(origin, after) {
			return false
		}
		return !strings.ContainsAny(origin[len(before):len(origin)-len(after)], "./:@")
	})
}

// checkOriginPattern reports what cannot be an allowed origin, or must not be.
func checkOriginPattern(p string, dev bool) error {
	if p == "*" || p == "null" {
		return fmt.Errorf("%q admits everybody: name the origins", p)
	}
	u, err := url.Parse(strings.Replace(p, "://*.", "://any.", 1))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%q is no origin: write scheme and host, such as https://example.com", p)
	case u.Scheme+"://"+u.Host != strings.Replace(p, "://*.", "://any.", 1):
		return fmt.Errorf("%q has more than an origin: leave out the path", p)
	case strings.Contains(u.Host, "*"):
		return fmt.Errorf("%q: a star stands for one label, the first, as in https://*.example.com", p)
	case strings.HasPrefix(u.Host, "any.") && strings.Contains(p, "*") && strings.Count(u.Hostname(), ".") < 2:
		return fmt.Errorf("%q covers names of other owners", p)
	case u.Scheme == "http" && !dev && !isLoopbackHost(u.Hostname()):
		return fmt.Errorf("%q is plain http: anyone on the way can be this origin", p)
	}
	return nil
}
