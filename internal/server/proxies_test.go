package server

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/tailrace/tailrace"
)

var proxyNetworks = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("2001:db8:ff::/48"),
}

func TestAddressBehindProxies(t *testing.T) {
	const proxy = "10.0.0.1:4711"
	for _, tt := range []struct {
		name    string
		peer    string
		headers []string // name: value
		want    string   // RemoteAddr
	}{
		{"no proxy", "192.0.2.1:5", nil, "192.0.2.1:5"},
		{"a claim of somebody else", "192.0.2.1:5", []string{"X-Forwarded-For: 198.51.100.1", "Forwarded: for=198.51.100.1"}, "192.0.2.1:5"},
		{"a proxy that says nothing", proxy, nil, "10.0.0.1"},
		{"one hop", proxy, []string{"X-Forwarded-For: 192.0.2.1"}, "192.0.2.1"},
		{"two hops", proxy, []string{"X-Forwarded-For: 192.0.2.1, 10.9.9.9"}, "192.0.2.1"},
		{"two header lines", proxy, []string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 10.9.9.9"}, "192.0.2.1"},
		{"a client that claims an address", proxy, []string{"X-Forwarded-For: 198.51.100.1, 192.0.2.1"}, "192.0.2.1"},
		{"a client that claims to be a proxy", proxy, []string{"X-Forwarded-For: 198.51.100.1, 10.1.1.1, 192.0.2.1, 10.9.9.9"}, "192.0.2.1"},
		{"a claim on a line of its own", proxy, []string{"X-Forwarded-For: 198.51.100.1", "X-Forwarded-For: 192.0.2.1"}, "192.0.2.1"},
		{"only proxies", proxy, []string{"X-Forwarded-For: 10.1.1.1, 10.2.2.2"}, "10.1.1.1"},
		{"IPv6", "[2001:db8:ff::1]:80", []string{"X-Forwarded-For: 2001:db8:1::7"}, "2001:db8:1::7"},
		{"IPv6 in brackets", proxy, []string{"X-Forwarded-For: [2001:db8:1::7]"}, "2001:db8:1::7"},
		{"ports", proxy, []string{"X-Forwarded-For: [2001:db8:1::7]:443, 10.9.9.9:80"}, "2001:db8:1::7"},
		{"a port of IPv4", proxy, []string{"X-Forwarded-For: 192.0.2.1:65535"}, "192.0.2.1"},
		{"IPv4 as IPv6", proxy, []string{"X-Forwarded-For: ::ffff:192.0.2.1, ::ffff:10.9.9.9"}, "192.0.2.1"},
		{"a proxy's IPv4 as IPv6", "[::ffff:10.0.0.1]:80", []string{"X-Forwarded-For: 192.0.2.1"}, "192.0.2.1"},
		{"a proxy off the network", "10.0.0.1", []string{"X-Forwarded-For: 192.0.2.1"}, "192.0.2.1"},

		{"no address", proxy, []string{"X-Forwarded-For: 192.0.2.1, unknown"}, "10.0.0.1"},
		{"no address on the way", proxy, []string{"X-Forwarded-For: 192.0.2.1, junk, 10.9.9.9"}, "10.9.9.9"},
		{"a name", proxy, []string{"X-Forwarded-For: localhost"}, "10.0.0.1"},
		{"an empty claim", proxy, []string{"X-Forwarded-For: "}, "10.0.0.1"},
		{"commas alone", proxy, []string{"X-Forwarded-For: ,,,"}, "10.0.0.1"},
		{"a zone", proxy, []string{"X-Forwarded-For: fe80::1%eth0"}, "10.0.0.1"},
		{"a long zone", proxy, []string{"X-Forwarded-For: fe80::1%" + strings.Repeat("x", 10_000)}, "10.0.0.1"},
		{"numbers that are none", proxy, []string{"X-Forwarded-For: 192.0.2.256"}, "10.0.0.1"},
		{"octal", proxy, []string{"X-Forwarded-For: 192.0.02.1"}, "10.0.0.1"},
		{"a network", proxy, []string{"X-Forwarded-For: 192.0.2.0/24"}, "10.0.0.1"},
		{"a port that is none", proxy, []string{"X-Forwarded-For: 192.0.2.1:99999"}, "10.0.0.1"},
		{"half a bracket", proxy, []string{"X-Forwarded-For: [2001:db8:1::7"}, "10.0.0.1"},
		{"bytes", proxy, []string{"X-Forwarded-For: \xff\x00192.0.2.1"}, "10.0.0.1"},
		{"many hops", proxy, []string{"X-Forwarded-For: 192.0.2.1" + strings.Repeat(",10.9.9.9", 5_000)}, "192.0.2.1"},

		{"Forwarded", proxy, []string{"Forwarded: for=192.0.2.1;proto=https;by=10.0.0.1"}, "192.0.2.1"},
		{"Forwarded in other words", proxy, []string{`Forwarded: proto=https ; FOR="192.0.2.1:80" , for=10.9.9.9`}, "192.0.2.1"},
		{"Forwarded with IPv6", proxy, []string{`Forwarded: for="[2001:db8:1::7]:4711"`}, "2001:db8:1::7"},
		{"Forwarded with a claim", proxy, []string{"Forwarded: for=198.51.100.1", "Forwarded: for=192.0.2.1"}, "192.0.2.1"},
		{"Forwarded with an open quote", proxy, []string{`Forwarded: for=", for=192.0.2.1`}, "192.0.2.1"},
		{"Forwarded with a name", proxy, []string{"Forwarded: for=192.0.2.1, for=_hidden"}, "10.0.0.1"},
		{"Forwarded without for", proxy, []string{"Forwarded: for=192.0.2.1, proto=https"}, "10.0.0.1"},
		{"Forwarded with two", proxy, []string{"Forwarded: for=192.0.2.1;for=192.0.2.2"}, "10.0.0.1"},
		{"Forwarded with a comma in quotes", proxy, []string{`Forwarded: for=192.0.2.1;x="a,b"`}, "10.0.0.1"},
		{"both", proxy, []string{"Forwarded: for=198.51.100.1", "X-Forwarded-For: 192.0.2.1"}, "192.0.2.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = tt.peer
			for _, header := range tt.headers {
				name, value, _ := strings.Cut(header, ": ")
				r.Header.Add(name, value)
			}
			if got := behindProxies(r, proxyNetworks); got.RemoteAddr != tt.want || r.RemoteAddr != tt.peer {
				t.Errorf("RemoteAddr is %q, want %q; the server's own request has %q", got.RemoteAddr, tt.want, r.RemoteAddr)
			}
			if got := behindProxies(r, nil); got != r {
				t.Errorf("with no proxies RemoteAddr became %q", got.RemoteAddr)
			}
		})
	}
}

// FuzzAddressBehindProxies: whatever stands to the left, the client is who
// spoke to the first proxy that is trusted.
func FuzzAddressBehindProxies(f *testing.F) {
	for _, seed := range []string{"", "198.51.100.1", `for="`, `for="[::1]:1", for=_x`, ",,", "10.0.0.2, 10.0.0.3"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, claim, forwarded string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.0.0.1:80"
		r.Header["X-Forwarded-For"] = []string{claim, claim + ",192.0.2.1 , 10.9.9.9"}
		r.Header["Forwarded"] = []string{forwarded}
		if got := behindProxies(r, proxyNetworks).RemoteAddr; got != "192.0.2.1" {
			t.Errorf("X-Forwarded-For %q gave %q", claim, got)
		}
		delete(r.Header, "X-Forwarded-For")
		r.Header["Forwarded"] = []string{forwarded, forwarded + ",for=192.0.2.1;proto=http , for=10.9.9.9"}
		if got := behindProxies(r, proxyNetworks).RemoteAddr; got != "192.0.2.1" {
			t.Errorf("Forwarded %q gave %q", forwarded, got)
		}
	})
}

// Limits, the connection manager and principals go by the client's address.
func TestLimitsCountTheAddressBehindProxies(t *testing.T) {
	h := start(t, &tailrace.Options{MaxStreamsPerAddr: 1, DrainWindow: -1},
		&Options{DrainDelay: -1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	h.open("/v1/topics/demo", "X-Forwarded-For", "192.0.2.1")
	h.open("/v1/topics/demo", "X-Forwarded-For", "192.0.2.2")
	h.do("GET", "/v1/topics/demo", "", "X-Forwarded-For", "198.51.100.1, 192.0.2.1").wantStatus(t, http.StatusTooManyRequests).wantProblem(t, "too-many-connections")
	h.open("/v1/topics/demo", "X-Forwarded-For", "2001:db8:0:1::1")
	h.do("GET", "/v1/topics/demo", "", "X-Forwarded-For", "2001:db8:0:1::2").wantProblem(t, "too-many-connections")
	body := h.do("GET", "/v1/connections", "").wantStatus(t, 200).body
	for _, want := range []string{`"ip":"192.0.2.1"`, `"ip":"192.0.2.2"`, `"principal":"anon:192.0.2.2"`, `"ip":"2001:db8:0:1::1"`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}

	direct := start(t, &tailrace.Options{MaxStreamsPerAddr: 1, DrainWindow: -1}, nil)
	direct.open("/v1/topics/demo", "X-Forwarded-For", "192.0.2.1")
	direct.do("GET", "/v1/topics/demo", "", "X-Forwarded-For", "192.0.2.2").wantProblem(t, "too-many-connections")
}
