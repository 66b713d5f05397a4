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
	Anonymous AnonymousConfig `config:"anonymous" help:"what needs no credentials"`
	Keys      []KeyConfig     `config:"keys" help:"API keys, as tailrace keys new prints them" example:"{name: shop, hash: \"sha256:…\", grants: {publish: [\"orders/**\"]}}"`
	Issuers   []IssuerConfig  `config:"issuers" help:"issuers of JSON Web Tokens" example:"{iss: \"https://id.example.com\", aud: [tailrace], algs: [ES256], jwks_url: \"https://id.example.com/jwks.json\"}"`
	Cookie    CookieConfig    `config:"cookie" help:"the session cookie of browsers"`
	Hook      HookConfig      `config:"hook" help:"a webhook that is asked for decisions"`
	Tickets   TicketConfig    `config:"tickets" help:"one-time tickets for a bare EventSource"`
}

// AnonymousConfig is what requests without credential may do.
type AnonymousConfig struct {
	Subscribe []string `config:"subscribe" help:"topics and patterns that everybody may read"`
	Publish   []string `config:"publish" help:"topics and patterns that everybody may publish to"`
}

// KeyConfig is one API key.
type KeyConfig struct {
	Name     string   `config:"name" help:"1 to 64 letters, digits, dots, dashes and underscores"`
	Hash     string   `config:"hash" help:"sha256: and the hash of the whole key, in hexadecimal digits"`
	Grants   Grants   `config:"grants" help:"what its bearer may do"`
	Expires  string   `config:"expires" help:"when it ends, such as 2027-01-31T00:00:00Z; empty is never"`
	Networks []string `config:"networks" help:"networks and addresses that it may come from; empty is everywhere"`
}

// IssuerConfig is who signs tokens, with what, and what their bearers may do
// besides what the tokens say. One of JWKSURL, KeyFile and the secret is set.
type IssuerConfig struct {
	Issuer       string        `config:"iss" help:"what the tokens have as iss"`
	Audience     []string      `config:"aud" help:"what the tokens have as aud when they are for this server; one of these"`
	Algorithms   []string      `config:"algs" help:"algorithms that it signs with, of one kind of key"`
	JWKSURL      string        `config:"jwks_url" help:"https URL of its JSON Web Key Set; this, key_file or a secret"`
	KeyFile      string        `config:"key_file" help:"file with its public key in PEM, or with a JSON Web Key Set"`
	Secret       string        `config:"secret" help:"the secret that it signs with (HS256, HS384, HS512), as long as the hash at least" secret:"yes"`
	SecretFile   string        `config:"secret_file" help:"file with the secret"`
	Profile      string        `config:"profile" help:"empty, or what RFC 9068 demands of access tokens" oneof:"rfc9068"`
	MaxLifetime  time.Duration `config:"max_lifetime" help:"longest life of a token, from its beginning to its end" default:"24h"`
	AllowPrivate bool          `config:"allow_private" help:"jwks_url may be in a private network"`
	Grants       Grants        `config:"grants" help:"what its bearer may do"`
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
