package tailrace

import (
	"net/netip"
	"strings"

	"github.com/tailrace/tailrace/internal/problem"
)

// places counts the open streams, and those about to be, against the limits of
// Options; a negative limit is none. Its counts are guarded by Hub.streamsMu: to
// open a stream costs a hundred times what counting it does.
type places struct {
	max, perPrincipal, perAddr int

	taken      int
	principals map[string]int
	addrs      map[netip.Addr]int
	connects   throttle
}

// newPlaces returns the places that o and the process's open files allow.
func newPlaces(o *Options) places {
	p := places{
		max: o.MaxStreams, perPrincipal: o.MaxStreamsPerPrincipal, perAddr: o.MaxStreamsPerAddr,
		principals: map[string]int{}, addrs: map[netip.Addr]int{},
		connects: newThrottle(o.ConnectRate, o.ConnectBurst),
	}
	files, ok := fileLimit()
	if most := streamsFor(files); ok && (p.max < 0 || p.max > most) {
		if p.max > 0 && p.max != DefaultMaxStreams {
			o.Logger.Warn("tailrace: fewer streams than MaxStreams, for want of open files (ulimit -n)",
				"streams", most, "wanted", p.max, "files", files)
		}
		p.max = most
	}
	return p
}

// streamsFor returns how many streams a process may have that may open so many
// files: the log, publishers and clients that are refused need some too.
func streamsFor(files uint64) int {
	const others = 256
	n := files - files/10
	if n <= others {
		return 1
	}
	return int(min(n-others, 1<<31-1))
}

// take takes a place, or says which limit is in the way.
func (p *places) take(principal, addr string) (rejectReason, *problem.Problem) {
	from, counted := network(addr)
	switch {
	case reached(p.taken, p.max):
		return rejectCapacity, problem.New("at-capacity", "the limit of %d open streams is reached", p.max)
	case principal != "" && reached(p.principals[principal], p.perPrincipal):
		return rejectPrincipal, problem.New("too-many-connections", "the limit of %d open streams for one principal is reached", p.perPrincipal)
	case counted && reached(p.addrs[from], p.perAddr):
		return rejectAddress, problem.New("too-many-connections", "the limit of %d open streams for one address is reached", p.perAddr)
	case !p.connects.pass(): // last: the others cost no token
		return rejectRate, problem.New("at-capacity", "the limit of %.0f new streams a second is reached", p.connects.rate)
	}
	p.taken++
	if principal != "" {
		if _, ok := p.principals[principal]; !ok {
			principal = strings.Clone(principal) // it may be a part of the request's header
		}
		p.principals[principal]++
	}
	if counted {
		p.addrs[from]++
	}
	return 0, nil
}

// giveBack gives back a place that was taken with the same arguments.
func (p *places) giveBack(principal, addr string) {
	p.taken--
	if principal != "" {
		p.principals = less(p.principals, principal)
	}
	if from, counted := network(addr); counted {
		p.addrs = less(p.addrs, from)
	}
}

func reached(n, limit int) bool { return limit >= 0 && n >= limit }

// less counts one down. A key without a count goes, and an empty map gives its
// memory back, which deleting does not.
func less[K comparable](counts map[K]int, key K) map[K]int {
	if counts[key]--; counts[key] > 0 {
		return counts
	}
	delete(counts, key)
	if len(counts) == 0 {
		return map[K]int{}
	}
	return counts
}

// network returns what of an address counts as one client: IPv4 as it is, of
// IPv6 the /64, which one host may have to itself. What is no address, such as
// the peer of a Unix socket, counts as none.
func network(addr string) (from netip.Addr, ok bool) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.Addr{}, false
	}
	if a = a.Unmap(); a.Is4() {
		return a, true
	}
	return netip.PrefixFrom(a, 64).Masked().Addr(), true
}
