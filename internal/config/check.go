package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/tailrace/tailrace"
)

// check looks for what no single key shows: contradictions, addresses,
// origins.
func (l *loader) check(dev bool) {
	c := l.config
	if err := checkListen(c.Listen.HTTP, dev); err != nil {
		l.problem("listen.http", "%v", err)
	}
	if (c.Listen.TLS.CertFile == "") != (c.Listen.TLS.KeyFile == "") {
		l.problem("listen.tls", "cert_file and key_file belong together; one is missing")
	}
	if c.Listen.H2C && c.Listen.TLS.CertFile != "" {
		l.problem("listen.h2c", "is HTTP/2 without TLS, but listen.tls is set, which has HTTP/2 already; remove one")
	}
	for _, network := range c.Listen.TrustedProxies {
		if _, err := parseNetwork(network); err != nil {
			l.problem("listen.trusted_proxies", "%q %v", network, err)
		}
	}
	if c.Log.Engine == "pebble" && c.Log.Dir == "" {
		l.problem("log.dir", "is empty; name the directory of the log")
	}
	if c.Log.Engine == "memory" {
		for _, key := range []string{"log.dir", "log.cursor_life", "log.max_disk", "log.min_free"} {
			if from, ok := c.origins[key]; ok {
				l.problem(from.Place, "%s has no meaning with log.engine memory; remove one", key)
			}
		}
	}
	if c.Drain.Max < c.Drain.Delay+c.Drain.Window {
		l.problem("drain.max", "%v is less than drain.delay and drain.window together (%v); streams would be cut", c.Drain.Max, c.Drain.Delay+c.Drain.Window)
	}
	for _, origin := range c.CORS.Origins {
		if err := checkOrigin(origin); err != nil {
			l.problem("cors.origins", "%q %v", origin, err)
		}
	}
	for i, p := range c.Policies {
		if p.MaxEvent > c.Memory.Ring {
			l.problem(fmt.Sprintf("policies[%d].max_event", i), "%v is more than memory.ring (%v)", p.MaxEvent, c.Memory.Ring)
		}
	}
}

func (p *Policy) check() error {
	if p.Pattern == "" {
		return errors.New("needs a pattern, such as orders/**")
	}
	if err := tailrace.CheckPattern(p.Pattern); err != nil {
		return err
	}
	policy := p.policy()
	return policy.Check()
}

func checkListen(addr string, dev bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not an address; write host:port, such as 127.0.0.1:8080", addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q has no port of TCP", addr)
	}
	if dev && !isLoopback(host) {
		return fmt.Errorf("%q is open to other machines, which --dev never is: there is no auth in it; use 127.0.0.1:%s", addr, port)
	}
	return nil
}

// parseNetwork reads a network, or one address.
func parseNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if addr, aerr := netip.ParseAddr(text); aerr == nil {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		if addr.Zone() != "" {
			err = errors.New("zone")
		}
	}
	switch {
	case err != nil:
		return p, errors.New("is not a network; write one such as 10.0.0.0/8 or 2001:db8::/32, or one address")
	case p.Addr().Is4In6():
		return p, errors.New("is IPv4 written as IPv6; write it as IPv4")
	case p.Bits() == 0:
		return p, errors.New("is everybody, so that everybody could claim any address; name the proxies")
	case p != p.Masked():
		return p, fmt.Errorf("has bits behind the network's; write %v", p.Masked())
	}
	return p, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func checkOrigin(origin string) error {
	if origin == "*" || origin == "null" {
		return errors.New("would admit everybody; name the origins")
	}
	u, err := url.Parse(origin)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("is not an origin; write scheme and host, such as https://app.example.com")
	case u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(origin, "#"):
		return errors.New("has more than scheme, host and port; browsers send no more in Origin")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("is plain http off this machine, which anybody on the way can fake; use https")
	}
	rest, wild := strings.CutPrefix(u.Host, "*.")
	if strings.Contains(rest, "*") || wild && strings.Count(rest, ".") == 0 {
		return errors.New("has a wildcard that is too wide; * stands for the first label, before a domain of your own")
	}
	return nil
}
