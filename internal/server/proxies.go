package server

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// behindProxies returns r as the client's own, with the client's address and no
// port in RemoteAddr, if it came through trusted proxies; else r itself.
//
// Each proxy adds at the right end of a header who asked it, so a claim counts
// as far as every hop to its right is trusted. X-Forwarded-For is read, and
// Forwarded (RFC 7239) where that is missing: a proxy that sets only the second
// must take the first away from what it forwards. Behind a hop that is not
// understood nothing is believed.
func behindProxies(r *http.Request, trusted []netip.Prefix) *http.Request {
	if len(trusted) == 0 {
		return r
	}
	peer, ok := parseHop(r.RemoteAddr)
	if !ok || !contains(trusted, peer) {
		return r
	}
	hop := strings.TrimSpace
	chain := r.Header.Values("X-Forwarded-For")
	if len(chain) == 0 {
		chain, hop = r.Header.Values("Forwarded"), forwardedFor
	}
	client := peer
	for _, line := range slices.Backward(chain) {
		for more := true; more; {
			var last string
			if i := strings.LastIndexByte(line, ','); i >= 0 {
				line, last = line[:i], line[i+1:]
			} else {
				last, more = line, false
			}
			addr, ok := parseHop(hop(last))
			if ok {
				client = addr
			}
			if !ok || !contains(trusted, addr) {
				return withAddr(r, client)
			}
		}
	}
	return withAddr(r, client)
}

// withAddr returns a copy of r that comes from addr.
func withAddr(r *http.Request, addr netip.Addr) *http.Request {
	r = r.WithContext(r.Context())
	r.RemoteAddr = addr.String()
	return r
}

func contains(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// forwardedFor returns the node of an element's for parameter, or "" if there
// is not exactly one. An element that was cut at a comma within quotes has none
// that can be read, which is as good as no element.
func forwardedFor(element string) string {
	node, found := "", false
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if !strings.EqualFold(name, "for") {
			continue
		}
		if found {
			return ""
		}
		node, found = value, true
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			node = value[1 : len(value)-1]
		}
	}
	return node
}

// parseHop reads an address as proxies and net/http write it: bare, with a
// port, or in brackets with a port or without. Zones mean something on the
// proxy's machine only.
func parseHop(text string) (netip.Addr, bool) {
	bare := text
	if n := len(text); n > 2 && text[0] == '[' && text[n-1] == ']' {
		bare = text[1 : n-1]
	}
	addr, err := netip.ParseAddr(bare)
	if err != nil {
		var ap netip.AddrPort
		ap, err = netip.ParseAddrPort(text)
		addr = ap.Addr()
	}
	return addr.Unmap(), err == nil && addr.Zone() == ""
}
