package auth

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// MaxPayload bounds what a token has presence show of its bearer.
const MaxPayload = 1 << 10

// Method is how a principal proved who it is.
type Method string

// The methods.
const (
	ByNothing Method = "anonymous"
	ByKey     Method = "key"
	ByJWT     Method = "jwt"
	ByHook    Method = "hook"
)

// Carrier is what brought the credential.
type Carrier string

// The carriers, in the order in which they are looked for. The first that is
// present decides alone.
const (
	InNothing Carrier = ""
	InHeader  Carrier = "bearer"
	InTicket  Carrier = "ticket"
	InCookie  Carrier = "cookie"
)

// Principal is who asks. It is not changed once made, and may be shared.
type Principal struct {
	Name    string // key:<name>, jwt:<iss>|<sub>, hook:<principal> or anon:<address>
	Method  Method
	Carrier Carrier
	Grants  Grants
	Filters []string        // texts that each event must pass, all of them; bound to Claims
	Payload json.RawMessage // what presence shows; JSON of at most MaxPayload bytes, or nil
	Expires time.Time       // end of the credential, or of what the hook said; zero is never

	id       identity
	own      Grants // what the credential itself grants, before the configuration's part
	claims   json.RawMessage
	ticketID string
	reopens  bool         // the ticket does
	hook     *hookOpinion // nil if no hook was asked
}

// identity is what revocations and reloads look at.
type identity struct {
	Key      string `json:"key,omitempty"` // name
	Print    string `json:"print,omitempty"`
	Issuer   string `json:"iss,omitempty"`
	Subject  string `json:"sub,omitempty"`
	JTI      string `json:"jti,omitempty"`
	IssuedAt int64  `json:"iat,omitempty"` // seconds; 0 is unknown
}

// Claims returns the claims of the token, for filters; nil if there are none.
// Numbers are float64. Each call decodes them anew: a stream keeps the text.
func (p *Principal) Claims() map[string]any {
	if len(p.claims) == 0 {
		return nil
	}
	var claims map[string]any
	if json.Unmarshal(p.claims, &claims) != nil {
		return nil // not reached: they were decoded before
	}
	return claims
}

// Subject returns the subject of a token, and the issuer that vouches for it.
func (p *Principal) Subject() (issuer, subject string) { return p.id.Issuer, p.id.Subject }

// Key returns the name of the API key, "" if it is none.
func (p *Principal) Key() string { return p.id.Key }

// IsAnonymous reports whether nothing was presented.
func (p *Principal) IsAnonymous() bool { return p.Method == ByNothing }

// SameAs reports whether q may take p's place on an open stream: the same
// key, or the same subject of the same issuer.
func (p *Principal) SameAs(q *Principal) bool {
	return p.Method == q.Method && p.Name == q.Name && p.Method != ByNothing && (p.Method != ByJWT || p.id.Subject != "")
}

func (p *Principal) String() string { return p.Name }

// anonymous returns the principal of a request without credential.
func anonymous(r *http.Request, grants Grants) *Principal {
	return &Principal{Name: "anon:" + group(clientAddr(r)), Method: ByNothing, Grants: grants}
}

// clientAddr returns where the request comes from; invalid for a RemoteAddr
// that is no address, as a Unix socket has.
func clientAddr(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr, _ := netip.ParseAddr(host)
	return addr.Unmap().WithZone("")
}

// group names the address, and of IPv6 its /64, which is what one subscriber
// line gets.
func group(addr netip.Addr) string {
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	if !addr.IsValid() {
		return "local"
	}
	return addr.String()
}

// earliest returns the earlier of two ends, of which zero is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// checkPayload reports a payload that is too large.
func checkPayload(payload json.RawMessage) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("payload has %d bytes, the limit is %d", len(payload), MaxPayload)
	}
	return nil
}
