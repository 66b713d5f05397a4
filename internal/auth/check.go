package auth

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/nearest"
)

// Fault is one thing that is wrong with a [Config].
type Fault struct {
	Key    string // such as auth.issuers[0].aud
	Reason string // what is wrong, and the cure
}

func (f Fault) Error() string { return f.Key + ": " + f.Reason }

// Check returns everything that is wrong with c, in the order of its keys. It
// reads the files that c names.
func (c *Config) Check() []Fault {
	_, faults := c.compile()
	return faults
}

// rules is a configuration made ready. It is not changed once made.
type rules struct {
	anonymous Grants
	keys      map[string]*apiKey
	issuers   map[string]*issuer
	cookie    CookieConfig
	hook      *hookRules // nil asks nobody
	ticketKey []byte     // nil takes the process's own
	ticketTTL time.Duration
}

// maxLifetime is the longest life that a token may have.
func (rs *rules) maxLifetime() time.Duration {
	longest := DefaultMaxLifetime
	for _, is := range rs.issuers {
		longest = max(longest, is.maxLifetime)
	}
	return longest
}

// checker gathers faults.
type checker struct{ faults []Fault }

func (c *checker) fault(key, format string, args ...any) {
	c.faults = append(c.faults, Fault{"auth." + key, fmt.Sprintf(format, args...)})
}

// compile checks c and makes it ready, but for the caches of key sets.
func (c *Config) compile() (*rules, []Fault) {
	check := &checker{}
	rs := &rules{
		anonymous: Grants{Subscribe: c.Anonymous.Subscribe, Publish: c.Anonymous.Publish},
		keys:      map[string]*apiKey{},
		issuers:   map[string]*issuer{},
		cookie:    c.Cookie,
		ticketTTL: c.Tickets.TTL,
	}
	check.grants("anonymous", rs.anonymous, false)
	for i := range c.Keys {
		check.key(rs, fmt.Sprintf("keys[%d]", i), &c.Keys[i])
	}
	for i := range c.Issuers {
		check.issuer(rs, fmt.Sprintf("issuers[%d]", i), &c.Issuers[i])
	}
	if len(c.Cookie.Origins) > 0 && !c.Cookie.Enabled {
		check.fault("cookie.origins", "has no meaning while cookie.enabled is false; set that or remove the origins")
	}
	rs.hook = check.hook(&c.Hook)
	switch {
	case rs.ticketTTL == 0:
		rs.ticketTTL = DefaultTicketTTL
	case rs.ticketTTL < time.Second || rs.ticketTTL > MaxTicketTTL:
		check.fault("tickets.ttl", "%v is not between 1s and %v", rs.ticketTTL, MaxTicketTTL)
	}
	if key, ok := check.secret("tickets", "key", c.Tickets.Key, c.Tickets.KeyFile); ok && key != nil {
		if len(key) < 32 {
			check.fault("tickets.key", "has %d bytes and needs 32; make one with: openssl rand -base64 32", len(key))
		}
		rs.ticketKey = key
	}
	return rs, check.faults
}

func (c *checker) key(rs *rules, at string, k *KeyConfig) {
	key := &apiKey{name: k.Name, grants: k.Grants}
	var err error
	switch {
	case !keyName.MatchString(k.Name):
		c.fault(at+".name", "%q is no name: use 1 to 64 letters, digits, dots, dashes and underscores", k.Name)
	case rs.keys[k.Name] != nil:
		c.fault(at+".name", "there is a key %q already; names must differ", k.Name)
	}
	if key.hash, err = parseHash(k.Hash); err != nil {
		c.fault(at+".hash", "%v", err) // not the value: it may be the key itself
	}
	c.grants(at+".grants", k.Grants, false)
	if k.Grants.IsZero() {
		c.fault(at+".grants", "grants nothing, so that the key is of no use; list topics under publish, subscribe, presence or admin")
	}
	if k.Expires != "" {
		if key.expires, err = time.Parse(time.RFC3339, k.Expires); err != nil {
			c.fault(at+".expires", "%q is not a time such as 2027-01-31T00:00:00Z", k.Expires)
		}
	}
	for _, text := range k.Networks {
		network, err := parseNetwork(text)
		if err != nil {
			c.fault(at+".networks", "%q is not a network such as 10.0.0.0/8, nor an address", text)
		}
		key.networks = append(key.networks, network)
	}
	rs.keys[k.Name] = key
}

func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.Unmap().WithZone("").Prefix(addr.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

func (c *checker) issuer(rs *rules, at string, cfg *IssuerConfig) {
	is := &issuer{
		name: cfg.Issuer, audience: cfg.Audience, algs: cfg.Algorithms,
		rfc9068: cfg.Profile == "rfc9068", maxLifetime: cfg.MaxLifetime, grants: cfg.Grants,
	}
	switch {
	case cfg.Issuer == "":
		c.fault(at+".iss", "is empty; write what the tokens have as iss")
	case strings.Contains(cfg.Issuer, "|"):
		c.fault(at+".iss", "has a |, which parts issuer and subject in the names of principals")
	case rs.issuers[cfg.Issuer] != nil:
		c.fault(at+".iss", "there is an issuer %q already; put its keys into one JSON Web Key Set", cfg.Issuer)
	}
	if len(cfg.Audience) == 0 || slices.Contains(cfg.Audience, "") {
		c.fault(at+".aud", "needs what the tokens have as aud when they are for this server: else one that was made for another service would be good here")
	}
	if cfg.Profile != "" && !is.rfc9068 {
		c.fault(at+".profile", "%q is not rfc9068", cfg.Profile)
	}
	switch {
	case is.maxLifetime == 0:
		is.maxLifetime = DefaultMaxLifetime
	case is.maxLifetime < 0:
		c.fault(at+".max_lifetime", "is negative")
	}
	c.grants(at+".grants", cfg.Grants, true)
	if c.algorithms(at+".algs", cfg.Algorithms) {
		c.keys(at, cfg, is)
	}
	rs.issuers[cfg.Issuer] = is
}

func (c *checker) algorithms(at string, algs []string) bool {
	if len(algs) == 0 {
		c.fault(at, "needs the algorithms that the issuer signs with, such as [ES256]: a token must not choose")
		return false
	}
	ok := true
	for _, alg := range algs {
		if slices.Contains(algorithms, alg) {
			continue
		}
		ok = false
		if strings.EqualFold(alg, "none") {
			c.fault(at, "none is no signature; anybody could write tokens")
			continue
		}
		hint := "known are " + strings.Join(algorithms, ", ")
		if near := nearest.Name(alg, algorithms); near != "" {
			hint = "did you mean " + near + "?"
		}
		c.fault(at, "there is no algorithm %q; %s", alg, hint)
	}
	return ok
}

// keys reads the keys of an issuer. A secret and a public key never share one:
// who knows a public key could sign with it as a secret (RFC 8725, 2.1).
func (c *checker) keys(at string, cfg *IssuerConfig, is *issuer) {
	hasSecret := cfg.Secret != "" || cfg.SecretFile != ""
	sources := 0
	for _, set := range []bool{cfg.JWKSURL != "", cfg.KeyFile != "", hasSecret} {
		if set {
			sources++
		}
	}
	symmetric := slices.ContainsFunc(cfg.Algorithms, func(alg string) bool { return strings.HasPrefix(alg, "HS") })
	asymmetric := slices.ContainsFunc(cfg.Algorithms, func(alg string) bool { return !strings.HasPrefix(alg, "HS") })
	switch {
	case sources == 0:
		c.fault(at, "needs a key: one of jwks_url, key_file and secret_file")
	case sources > 1:
		c.fault(at, "has more than one of jwks_url, key_file and secret; keep one")
	case symmetric && asymmetric:
		c.fault(at+".algs", "mixes secrets (HS…) and public keys; an issuer has one kind")
	case hasSecret && asymmetric:
		c.fault(at+".algs", "%s signs with a key pair, and a secret is given; set key_file or jwks_url", strings.Join(cfg.Algorithms, ", "))
	case !hasSecret && symmetric:
		c.fault(at+".algs", "%s signs with a secret, and a public key is given; set secret_file", strings.Join(cfg.Algorithms, ", "))
	case hasSecret:
		if secret, ok := c.secret(at, "secret", cfg.Secret, cfg.SecretFile); ok {
			k, err := secretKey(secret, cfg.Algorithms)
			if err != nil {
				c.fault(at+".secret", "%v", err)
			}
			is.static = []verifyKey{k}
		}
	case cfg.KeyFile != "":
		c.keyFile(at+".key_file", cfg, is)
	default:
		if _, err := checkURL(cfg.JWKSURL); err != nil {
			c.fault(at+".jwks_url", "%v", err)
		}
		is.jwks = &jwksCache{url: cfg.JWKSURL, algs: cfg.Algorithms, allowPrivate: cfg.AllowPrivate} // completed by the authenticator
	}
}

func (c *checker) keyFile(at string, cfg *IssuerConfig, is *issuer) {
	data, err := readFile(cfg.KeyFile)
	if err != nil {
		c.fault(at, "%v", err)
		return
	}
	if is.static, err = parseKeyFile(data, cfg.Algorithms); err != nil {
		c.fault(at, "%s %v", cfg.KeyFile, err)
		return
	}
	for _, alg := range cfg.Algorithms {
		if !slices.ContainsFunc(is.static, func(k verifyKey) bool { return slices.Contains(k.algs, alg) }) {
			c.fault(at, "%s has no key for %s, which algs lists; an issuer's algorithms fit its key", cfg.KeyFile, alg)
		}
	}
}

func (c *checker) hook(cfg *HookConfig) *hookRules {
	if cfg.URL == "" {
		if cfg.Secret != "" || cfg.SecretFile != "" || cfg.Publish || len(cfg.Headers) > 0 {
			c.fault("hook.url", "is empty, so that nobody is asked; set it, or remove the other keys of auth.hook")
		}
		return nil
	}
	h := &hookRules{url: cfg.URL, publish: cfg.Publish, timeout: cfg.Timeout, allowPrivate: cfg.AllowPrivate}
	if _, err := checkURL(cfg.URL); err != nil {
		c.fault("hook.url", "%v", err)
	}
	if h.timeout == 0 {
		h.timeout = DefaultHookTimeout
	}
	for _, name := range cfg.Headers {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
			c.fault("hook.headers", "%q is no name of a header field", name)
		}
		h.headers = append(h.headers, http.CanonicalHeaderKey(name))
	}
	slices.Sort(h.headers)
	secret, ok := c.secret("hook", "secret", cfg.Secret, cfg.SecretFile)
	if !ok {
		return h
	}
	var err error
	if h.secret, err = hookSecret(secret); err != nil {
		c.fault("hook.secret", "%v", err)
	}
	return h
}

// grants checks selectors. Only tokens have claims to put into them.
func (c *checker) grants(at string, g Grants, claims bool) {
	for _, l := range g.lists() {
		for _, selector := range *l.list {
			if l.action == Gateway {
				continue
			}
			if err := checkSelector(selector); err != nil {
				c.fault(at+"."+string(l.action), "%q is no topic and no pattern: %v", selector, err)
			}
			if _, _, _, ok := cutPlaceholder(selector); ok && !claims {
				c.fault(at+"."+string(l.action), "%q has a placeholder, and only tokens have claims to put there", selector)
			}
		}
	}
}

// secret returns the value of a secret from the configuration or its file; nil
// and true if neither is set.
func (c *checker) secret(at, name, inline, file string) ([]byte, bool) {
	switch {
	case inline != "" && file != "":
		c.fault(at+"."+name, "is set, and so is %s_file; keep one", name)
		return nil, false
	case file == "":
		if inline == "" {
			return nil, true
		}
		return []byte(inline), true
	}
	secret, err := ReadSecret(file)
	if err != nil {
		c.fault(at+"."+name+"_file", "%v", err)
		return nil, false
	}
	return secret, true
}

// ReadSecret reads a file that others on the machine must not read. Line ends
// at its end are no part of the secret.
func ReadSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o004 != 0 {
		return nil, fmt.Errorf("%s can be read by everybody on the machine; do: chmod o-r %s", path, path)
	}
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return []byte(text), nil
}

// readFile reads a small regular file, or a pipe.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readBody(f, maxJWKSSize)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// joined returns the faults as one error; nil if there are none.
func joined(faults []Fault) error {
	errs := make([]error, len(faults))
	for i, f := range faults {
		errs[i] = f
	}
	return errors.Join(errs...)
}
