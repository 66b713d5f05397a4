// Package config is the server's configuration. One struct, [Config], is the
// only source of its keys: flags, TAILRACE_ environment variables, the YAML
// file and the report of where each value came from are all made from it, and
// so are the JSON Schema, the page of reference and the file to start from.
//
// The key listen.http is the flag --listen.http, the variable
// TAILRACE_LISTEN_HTTP, and http under listen in the file. A flag wins over
// the environment, that over the file, that over the default.
package config

import (
	"net/netip"
	"time"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/auth"
)

// Config holds every key. The tags of a field are its key, a line of help,
// and what values it may have: oneof, or min and max. A list of structs, such
// as policies, has an example too, and its members a default where that is not
// their zero. A secret has the tag secret, is never shown, and has a sibling
// whose key ends in _file, for where it stands in a file of its own.
type Config struct {
	Listen    Listen      `config:"listen" help:"where the server listens"`
	Auth      auth.Config `config:"auth" help:"who may do what; without --dev at least one of keys, issuers, hook.url and anonymous is needed"`
	Log       Log         `config:"log" help:"where events are kept"`
	CORS      CORS        `config:"cors" help:"what pages of other origins may do"`
	Policies  []Policy    `config:"policies" help:"what is kept of topics, and how; the first whose pattern matches wins" example:"{pattern: \"orders/**\", age: 168h, keep_latest: true}"`
	Stream    Stream      `config:"stream" help:"how subscribers are treated"`
	Engine    string      `config:"engine" help:"auto lets plain HTTP/1.1 streams on Linux bypass net/http, portable never does" oneof:"auto portable"`
	Memory    Buffers     `config:"memory" help:"memory that all topics and streams share"`
	Drain     Drain       `config:"drain" help:"how the server stops"`
	Publish   Publish     `config:"publish" help:"how events are taken"`
	Limits    Limits      `config:"limits" help:"what the server bears"`
	Telemetry Telemetry   `config:"telemetry" help:"what the server tells of itself"`

	origins map[string]Origin
}

// Listen is where the server listens.
type Listen struct {
	HTTP string `config:"http" help:"address of the HTTP listener"`
	H2C  bool   `config:"h2c" help:"HTTP/2 without TLS, for a proxy in front"`
	TLS  struct {
		CertFile string `config:"cert_file" help:"PEM file with the certificate chain; makes the listener HTTPS"`
		KeyFile  string `config:"key_file" help:"PEM file with the certificate's key; not readable by everybody"`
	} `config:"tls" help:"HTTPS"`
	TrustedProxies []string `config:"trusted_proxies" help:"networks of the proxies in front, such as 10.0.0.0/8: what they say of a client's address is believed"`
}

// Log is where events are kept.
type Log struct {
	Engine     string        `config:"engine" help:"pebble keeps events on disk, memory until the process ends" oneof:"pebble memory"`
	Dir        string        `config:"dir" help:"directory of the log"`
	CursorLife time.Duration `config:"cursor_life" help:"how long a cursor can be resumed from on a topic without events" min:"1m"`
	MaxDisk    Size          `config:"max_disk" help:"disk space of the log, above which its oldest events go; 0 is no cap"`
	MinFree    Size          `config:"min_free" help:"free disk space below which publishing is refused; 0 is the larger of 1 GiB and 5 %"`
}

// CORS is what pages of other origins may do.
type CORS struct {
	Origins []string      `config:"origins" help:"origins whose pages may read and publish, such as https://app.example.com or https://*.example.com"`
	MaxAge  time.Duration `config:"max_age" help:"how long a browser remembers a preflight" max:"24h"`
}

// Policy says what is kept of the topics that match Pattern, and how. Zero
// fields are the defaults of [tailrace.Policy]; none is no limit.
type Policy struct {
	Pattern    string        `config:"pattern" help:"topics it is for: * is one segment, ** the rest"`
	Age        time.Duration `config:"age" help:"age of the oldest event that is kept" default:"24h" none:"yes"`
	Count      int           `config:"count" help:"events that are kept; 0 is no limit"`
	Bytes      Size          `config:"bytes" help:"data that is kept" default:"256MiB" none:"yes"`
	Durability string        `config:"durability" help:"where an event is when its publish is answered: on disk, on disk 50 ms later, or in memory" oneof:"fsync interval memory" default:"fsync"`
	KeepLatest bool          `config:"keep_latest" help:"keep the newest event of each key, whatever its age"`
	IdleDelete time.Duration `config:"idle_delete" help:"forget a topic that had no event for so long and has none left" default:"168h" none:"yes"`
	MaxEvent   Size          `config:"max_event" help:"data of one event" default:"1MiB"`
	Closable   bool          `config:"closable" help:"publishers may close the topic"`
	Overflow   string        `config:"overflow" help:"a subscriber that cannot keep up: resume from the log, conflate to the newest of each key, or skip with a gap event" oneof:"resume conflate gap" default:"resume"`
	Public     bool          `config:"public" help:"everybody may subscribe, without credentials"`
	Retired    bool          `config:"retired" help:"the topic is over for good: it answers 410"`
}

// Stream is how subscribers are treated.
type Stream struct {
	Heartbeat    time.Duration `config:"heartbeat" help:"silence after which a stream gets a heartbeat" min:"5s" max:"120s"`
	StallTimeout time.Duration `config:"stall_timeout" help:"how long a stream may take no byte before it is cut; it can resume" min:"1s"`
	MaxAge       time.Duration `config:"max_connection_age" help:"age at which a stream ends, less a random part of up to a fifth, and resumes elsewhere; 0 is never"`
}

// Buffers is the memory that all topics and streams share.
type Buffers struct {
	Ring   Size `config:"ring" help:"memory for the newest events of all topics, ready to send" min:"1MiB"`
	Replay Size `config:"replay" help:"memory for streams that read history" min:"1MiB"`
}

// Drain is how the server stops.
type Drain struct {
	Delay  time.Duration `config:"delay" help:"from the signal to the first stream that ends, so that balancers notice"`
	Window time.Duration `config:"window" help:"time over which the streams end, each at its own moment"`
	Max    time.Duration `config:"max" help:"after this the server ends whatever is still open"`
}

// Publish is how events are taken.
type Publish struct {
	Timeout time.Duration `config:"timeout" help:"how long the log may take to store an event" min:"100ms"`
}

// Limits are what one node bears.
type Limits struct {
	Streams             int `config:"streams" help:"open streams; never more than the process may have files open" min:"1" none:"yes"`
	StreamsPerPrincipal int `config:"streams_per_principal" help:"open streams of one principal" min:"1" none:"yes"`
	StreamsPerAddress   int `config:"streams_per_address" help:"open streams of one address; of IPv6, one /64" min:"1" none:"yes"`
	ConnectRate         int `config:"connect_rate" help:"new streams a second" min:"1" none:"yes"`
	ConnectBurst        int `config:"connect_burst" help:"new streams at once, after a rest" min:"1"`
	Selectors           int `config:"selectors" help:"topics and patterns of one stream" min:"1"`
}

// Telemetry is what the server tells of itself.
type Telemetry struct {
	Metrics bool `config:"metrics" help:"serve Prometheus metrics at /metrics"`
	Log     struct {
		Level  string `config:"level" help:"least level that is logged" oneof:"debug info warn error"`
		Format string `config:"format" help:"auto is text on a terminal, else JSON" oneof:"auto text json"`
	} `config:"log" help:"the log lines, on stderr"`
}

// None is what the word none means where a key has it: no limit.
const None = -1

// Default returns the configuration with every key at its default. In
// development nobody waits for balancers, so that Ctrl-C ends the server now.
func Default(dev bool) *Config {
	c := &Config{
		Listen:  Listen{HTTP: "127.0.0.1:8080"},
		Auth:    auth.DefaultConfig(),
		Log:     Log{Engine: "pebble", Dir: "./data", CursorLife: 7 * 24 * time.Hour},
		CORS:    CORS{MaxAge: 2 * time.Hour},
		Stream:  Stream{Heartbeat: 15 * time.Second, StallTimeout: 30 * time.Second},
		Engine:  "auto",
		Memory:  Buffers{Ring: 256 << 20, Replay: 64 << 20},
		Drain:   Drain{Delay: 5 * time.Second, Window: 30 * time.Second, Max: 2 * time.Minute},
		Publish: Publish{Timeout: 10 * time.Second},
		Limits: Limits{
			Streams: 100_000, StreamsPerPrincipal: 1_000, StreamsPerAddress: 500,
			ConnectRate: 2_000, ConnectBurst: 10_000, Selectors: 128,
		},
		origins: map[string]Origin{},
	}
	if dev {
		c.Limits.StreamsPerPrincipal, c.Limits.StreamsPerAddress = None, None // all come from this machine
		c.Drain = Drain{Window: 200 * time.Millisecond, Max: 5 * time.Second}
	}
	c.Telemetry.Metrics = true
	c.Telemetry.Log.Level = "info"
	c.Telemetry.Log.Format = "auto"
	return c
}

// Proxies returns the networks of TrustedProxies, which have been checked.
func (l *Listen) Proxies() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range l.TrustedProxies {
		if p, err := parseNetwork(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// Rules returns the policies as the hub takes them.
func (c *Config) Rules() []tailrace.TopicRule {
	rules := make([]tailrace.TopicRule, len(c.Policies))
	for i, p := range c.Policies {
		rules[i] = p.rule()
	}
	return rules
}

func (p *Policy) rule() tailrace.TopicRule {
	return tailrace.TopicRule{
		Pattern:  p.Pattern,
		Policy:   p.policy(),
		Overflow: tailrace.OverflowPolicy(p.Overflow),
		Public:   p.Public,
		Retired:  p.Retired,
	}
}

func (p *Policy) policy() tailrace.Policy {
	return tailrace.Policy{
		MaxAge:     p.Age,
		MaxCount:   int64(p.Count),
		MaxBytes:   int64(p.Bytes),
		Durability: tailrace.Durability(p.Durability),
		KeepLatest: p.KeepLatest,
		IdleDelete: p.IdleDelete,
		MaxEvent:   int(p.MaxEvent),
		Closable:   p.Closable,
	}
}
