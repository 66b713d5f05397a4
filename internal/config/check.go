package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/tailrace/tailrace"
)

// check looks for what no single key shows: contradictions, addresses,
// origins.
func (l *loader) check(dev bool) {
	c := l.config
	if err := c.Listen.check(dev); err != nil {
		l.problem("listen.http", "%v", err)
	}
	l.checkTLS()
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
	if info, err := os.Stat(c.Log.Dir); c.Log.Engine == "pebble" && err == nil && !info.IsDir() {
		l.problem("log.dir", "%s is no directory; name one that only this server uses", c.Log.Dir)
	}
	if c.Log.Engine == "memory" {
		for _, key := range []string{"log.dir", "log.cursor_life", "log.max_disk", "log.min_free"} {
			if from, ok := c.origins[key]; ok {
				l.problem(from.Place, "%s has no meaning with log.engine memory; remove one", key)
			}
		}
	}
	if c.Drain.Max < c.Drain.Delay+c.Drain.Window {
		l.problem("drain.max", "%v is less than drain.delay and drain.window together (%v), so that streams would be cut; raise it, or lower those", c.Drain.Max, c.Drain.Delay+c.Drain.Window)
	}
	for _, origin := range c.CORS.Origins {
		if err := checkOrigin(origin); err != nil {
			l.problem("cors.origins", "%q %v", origin, err)
		}
	}
	l.checkPolicies()
	l.checkAuth(dev)
}

// checkAuth asks the section itself, and looks for what it cannot know.
func (l *loader) checkAuth(dev bool) {
	c := l.config
	for _, f := range c.Auth.Check() {
		if place := l.placeOf(f.Key); place != "" {
			l.problem(place, "%s: %s", f.Key, f.Reason)
		} else {
			l.problem(f.Key, "%s", f.Reason)
		}
	}
	for _, origin := range c.Auth.Cookie.Origins {
		if !slices.Contains(c.CORS.Origins, origin) {
			l.problem("auth.cookie.origins", "%q is not in cors.origins, so that its pages may not read any answer; add it there", origin)
		}
	}
	if dev {
		return
	}
	if c.Auth.IsZero() {
		l.problem("auth", "is not set, so that nobody could do anything; list an API key in auth.keys or who signs tokens in auth.issuers, "+
			"or set auth.hook.url, or what needs no credentials in auth.anonymous. For this machine only there is --dev")
	}
	if c.Auth.Cookie.Enabled && c.Listen.TLS.CertFile == "" && len(c.Listen.TrustedProxies) == 0 {
		l.problem("auth.cookie.enabled", "needs HTTPS, since browsers send the cookie nowhere else; set listen.tls, or name the proxies that end TLS in listen.trusted_proxies")
	}
}

// placeOf returns where the value of key, or of what it is in, was given; "" if
// nowhere.
func (l *loader) placeOf(key string) string {
	for key != "" {
		if from, ok := l.config.origins[key]; ok {
			return from.Place
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return ""
}

// checkTLS looks at the files as the server will.
func (l *loader) checkTLS() {
	cert, key := l.config.Listen.TLS.CertFile, l.config.Listen.TLS.KeyFile
	if (cert == "") != (key == "") {
		l.problem("listen.tls", "cert_file and key_file belong together; one is missing")
	}
	if cert == "" || key == "" {
		return
	}
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
		l.problem("listen.tls", "%v; cert_file and key_file need a certificate and its key, in PEM", err)
	}
	if err := checkSecretFile(key); err != nil {
		l.problem("listen.tls.key_file", "%v", err)
	}
}

// checkSecretFile refuses a file that everybody on this machine may read. One
// that is missing is for its reader to report. Windows has no such bits.
func checkSecretFile(path string) error {
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" || info.Mode().Perm()&0o004 == 0 {
		return nil
	}
	return fmt.Errorf("%s can be read by everybody on this machine; take that away: chmod o= %s", path, path)
}

// checkPolicies looks for policies that cannot be kept, or never count.
func (l *loader) checkPolicies() {
	first := map[string]int{}
	for i, p := range l.config.Policies {
		name := fmt.Sprintf("policies[%d]", i)
		if p.MaxEvent > l.config.Memory.Ring {
			l.problem(name+".max_event", "%v is more than memory.ring (%v); raise that, or lower this", p.MaxEvent, l.config.Memory.Ring)
		}
		before, found := first[p.Pattern]
		if all, ok := first["**"]; !found && ok && !strings.HasPrefix(p.Pattern, "$") { // names with $ need a pattern with $
			before, found = all, true
		}
		if found {
			l.problem(name, "never counts, because policies[%d] matches the same topics first; remove one, or put it before", before)
			continue
		}
		first[p.Pattern] = i
	}
}

// Check reports a pattern or a value that no policy can have.
func (p *Policy) Check() error {
	if p.Pattern == "" {
		return errors.New("needs a pattern, such as orders/**")
	}
	if err := tailrace.CheckPattern(p.Pattern); err != nil {
		return err
	}
	policy := p.policy()
	return policy.Check()
}

// check refuses an address that is none, and one that would carry credentials
// in the clear over a network.
func (c *Listen) check(dev bool) error {
	host, port, err := net.SplitHostPort(c.HTTP)
	if err != nil {
		return fmt.Errorf("%q is not an address; write host:port, such as 127.0.0.1:8080", c.HTTP)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q has no port of TCP; write a number from 0 to 65535", c.HTTP)
	}
	switch open := !isLoopback(host); {
	case open && dev:
		return fmt.Errorf("%q is open to other machines, which --dev never is: there is no auth in it; use 127.0.0.1:%s", c.HTTP, port)
	case open && c.TLS.CertFile == "" && !c.H2C && len(c.TrustedProxies) == 0:
		return fmt.Errorf("%q is plain HTTP to other machines, so that anybody on the way can read tokens and events; "+
			"set listen.tls, or name the proxies that end TLS in listen.trusted_proxies, or listen on 127.0.0.1:%s", c.HTTP, port)
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
	if strings.Contains(rest, "*") || wild && isPublicSuffix(strings.ToLower(rest)) {
		return errors.New("has a wildcard that is too wide; * stands for the first label, before a domain of your own")
	}
	return nil
}

// isPublicSuffix says whether anybody may have a name under host, so that a
// wildcard there would trust strangers. The full list (publicsuffix.org) grows
// each week; this knows the forms that most of it has, and the well-known
// hosters of other people's pages.
func isPublicSuffix(host string) bool {
	host, _, _ = strings.Cut(host, ":")
	first, rest, more := strings.Cut(strings.TrimSuffix(host, "."), ".")
	if !more {
		return true // com, uk, and names of one label
	}
	if len(rest) == 2 && slices.Contains(secondLevels, first) {
		return true
	}
	return slices.Contains(hosters, host)
}

var (
	// Registries of countries sell names below these: co.uk, com.au, ne.jp.
	secondLevels = []string{"ac", "asso", "co", "com", "edu", "gob", "gouv", "gov", "gv", "id", "ltd", "me", "mil", "ne", "net", "nom", "or", "org", "plc", "sch"}

	hosters = []string{
		"appspot.com", "azurewebsites.net", "blogspot.com", "cloudfront.net", "firebaseapp.com", "fly.dev", "github.io", "gitlab.io",
		"herokuapp.com", "netlify.app", "ngrok.app", "ngrok.io", "onrender.com", "pages.dev", "railway.app", "run.app", "surge.sh", "vercel.app",
		"web.app", "workers.dev",
	}
)
