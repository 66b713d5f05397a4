package doctor

import (
	"net/http"
	"strings"
)

// proxy is who answers in front of the server.
type proxy struct {
	kind string // nginx, haproxy, caddy, traefik, envoy, cloudflare; "" is unknown
	name string // as it calls itself
}

// marks are what tells a proxy: a header that only it sends, or a word in
// Server or Via.
var marks = []struct{ kind, header, word string }{
	{"cloudflare", "Cf-Ray", "cloudflare"},
	{"envoy", "X-Envoy-Upstream-Service-Time", "envoy"},
	{"nginx", "", "nginx"},
	{"nginx", "", "openresty"},
	{"caddy", "", "caddy"},
	{"haproxy", "", "haproxy"},
	{"traefik", "", "traefik"},
}

// proxyOf reads who answers out of an answer's head. HAProxy and Traefik say
// nothing unless told to.
func proxyOf(h http.Header) proxy {
	said := strings.Join(append(h.Values("Server"), h.Values("Via")...), ", ")
	for _, m := range marks {
		if m.header != "" && h.Get(m.header) != "" || strings.Contains(strings.ToLower(said), m.word) {
			if said == "" {
				said = m.kind
			}
			return proxy{m.kind, said}
		}
	}
	return proxy{"", said}
}

// lines are what to write in whose configuration against a fault.
var lines = map[string][]Config{
	checkTLS: {
		{"nginx", "ssl_certificate /path/fullchain.pem; ssl_protocols TLSv1.2 TLSv1.3;"},
		{"haproxy", "bind :443 ssl crt /path/chain-and-key.pem ssl-min-ver TLSv1.2"},
		{"caddy", "tls /path/fullchain.pem /path/key.pem"},
	},
	checkHTTP: {
		{"nginx", "listen 443 ssl http2;"},
		{"haproxy", "bind :443 ssl crt /path/chain-and-key.pem alpn h2,http/1.1"},
		{"caddy", "servers { protocols h1 h2 h3 }"},
	},
	checkUpstream: {
		{"nginx", `proxy_http_version 1.1; proxy_set_header Connection "";`},
	},
	checkBuffering: {
		{"nginx", "proxy_buffering off; (and no proxy_ignore_headers X-Accel-Buffering)"},
		{"haproxy", "option http-no-delay (and no http-response wait-for-body)"},
		{"caddy", "reverse_proxy … { flush_interval -1 }"},
	},
	checkCompression: {
		{"nginx", "gzip_types without text/event-stream, or gzip off; in the location"},
		{"haproxy", "compression type without text/event-stream"},
		{"caddy", "encode @plain gzip, with: @plain not path /v1/*"},
	},
	checkIdle: {
		{"nginx", "proxy_read_timeout 1h; proxy_send_timeout 1h;"},
		{"haproxy", "timeout server 1h, and timeout client 1h"},
		{"caddy", "transport http { read_timeout 0 }, and no write timeout under servers"},
	},
	checkResume: {
		{"nginx", "proxy_set_header Last-Event-ID $http_last_event_id;"},
		{"haproxy", "no http-request del-header Last-Event-ID"},
		{"caddy", "no header_up -Last-Event-ID"},
	},
	checkCORS: {
		{"nginx", "no add_header Access-Control-…, and no answer to OPTIONS of its own"},
		{"haproxy", "no http-response add-header or set-header Access-Control-…"},
		{"caddy", "no header Access-Control-…"},
	},
	checkHeaders: {
		{"nginx", "no expires, add_header Cache-Control, proxy_hide_header or proxy_cache in the location"},
		{"haproxy", "no http-response set-header, add-header or del-header of these, and no cache-use"},
		{"caddy", "no header or header_down of these"},
	},
	checkStreams: {
		{"nginx", "a higher limit_conn, worker_connections and worker_rlimit_nofile"},
		{"haproxy", "a higher maxconn, in global, frontend and server"},
	},
}

// config returns the lines against a check's fault.
func (x *exam) config(check string) []Config {
	if x.proxy.kind == "" {
		return lines[check]
	}
	for _, l := range lines[check] {
		if l.Proxy == x.proxy.kind {
			return []Config{l}
		}
	}
	return nil
}
