package auth

import "time"

// Defaults of the configuration.
const (
	DefaultMaxLifetime = 24 * time.Hour   // of a token: how long a revocation has to be remembered
	DefaultHookTimeout = 2 * time.Second  // a page waits for it
	DefaultTicketTTL   = 30 * time.Second // from the page's request to the EventSource's
	MaxTicketTTL       = time.Minute      // a ticket may stand in a log of somebody's proxy
)

// Config is the section auth of the configuration. Zero durations are the
// defaults. Of a secret and its file at most one is set.
type Config struct {
	Anonymous AnonymousConfig `config:"anonymous"`
	Keys      []KeyConfig     `config:"keys" help:"API keys, as tailrace keys new prints them; a YAML list of"`
	Issuers   []IssuerConfig  `config:"issuers" help:"issuers of JSON Web Tokens; a YAML list of"`
	Cookie    CookieConfig    `config:"cookie"`
	Hook      HookConfig      `config:"hook"`
	Tickets   TicketConfig    `config:"tickets"`
}

// AnonymousConfig is what requests without credential may do.
type AnonymousConfig struct {
	Subscribe []string `config:"subscribe" help:"topics and patterns that everybody may read"`
	Publish   []string `config:"publish" help:"topics and patterns that everybody may publish to"`
}

// KeyConfig is one API key.
type KeyConfig struct {
	Name     string   `config:"name"`
	Hash     string   `config:"hash"` // sha256:<hex> of the whole key
	Grants   Grants   `config:"grants"`
	Expires  string   `config:"expires"`  // RFC 3339; "" is never
	Networks []string `config:"networks"` // where it may come from; none is everywhere
}

// IssuerConfig is who signs tokens, with what, and what their bearers may do
// besides what the tokens say. One of JWKSURL, KeyFile and the secret is set.
type IssuerConfig struct {
	Issuer       string        `config:"iss"`
	Audience     []string      `config:"aud"`
	Algorithms   []string      `config:"algs"`
	JWKSURL      string        `config:"jwks_url"`
	KeyFile      string        `config:"key_file"` // public key in PEM, or a JSON Web Key Set
	Secret       string        `config:"secret" secret:"yes"`
	SecretFile   string        `config:"secret_file"`
	Profile      string        `config:"profile" oneof:"rfc9068"`
	MaxLifetime  time.Duration `config:"max_lifetime"`
	AllowPrivate bool          `config:"allow_private"` // jwks_url may be in a private network
	Grants       Grants        `config:"grants"`
}

// CookieConfig is the session cookie of browsers.
type CookieConfig struct {
	Enabled bool     `config:"enabled" help:"POST /v1/session puts a token into a cookie"`
	Origins []string `config:"origins" help:"origins, besides the server's own, whose pages may use the cookie; also in cors.origins"`
}

// HookConfig is the webhook that is asked for decisions.
type HookConfig struct {
	URL          string        `config:"url" help:"https URL that is asked whether a request may be done; empty asks nobody"`
	Secret       string        `config:"secret" help:"signs the questions; 24 bytes at least" secret:"yes"`
	SecretFile   string        `config:"secret_file" help:"file with the secret"`
	Headers      []string      `config:"headers" help:"header fields of the request that the question repeats"`
	Publish      bool          `config:"publish" help:"ask on publishing too, not only on subscribing"`
	Timeout      time.Duration `config:"timeout" help:"how long an answer may take" min:"100ms" max:"30s"`
	AllowPrivate bool          `config:"allow_private" help:"the URL may be in a private network"`
}

// TicketConfig is one-time tickets for a bare EventSource.
type TicketConfig struct {
	Key     string        `config:"key" help:"seals tickets, the same on all nodes; 32 bytes at least; empty takes a random one, so that tickets end with the process" secret:"yes"`
	KeyFile string        `config:"key_file" help:"file with the key"`
	TTL     time.Duration `config:"ttl" help:"life of a ticket that asks for none" min:"1s" max:"60s"`
}

// DefaultConfig returns the section with each key at its default.
func DefaultConfig() Config {
	return Config{Hook: HookConfig{Timeout: DefaultHookTimeout}, Tickets: TicketConfig{TTL: DefaultTicketTTL}}
}

// IsZero reports whether nothing is set that could let anybody in. A server
// that is not in development must not start with it.
func (c *Config) IsZero() bool {
	return len(c.Keys)+len(c.Issuers)+len(c.Anonymous.Subscribe)+len(c.Anonymous.Publish) == 0 && c.Hook.URL == ""
}
