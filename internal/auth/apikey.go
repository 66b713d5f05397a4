package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// An API key is tr_<name>_<secret>, where the secret is 256 random bits in
// base64url. Against so much entropy a fast hash is enough.
const (
	keyPrefix  = "tr_"
	secretText = 43 // characters of 32 bytes in base64url
	hashPrefix = "sha256:"
)

var keyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// NewKey makes an API key and the hash of it that the configuration holds.
func NewKey(name string) (key, hash string, err error) {
	if !keyName.MatchString(name) {
		return "", "", fmt.Errorf("auth: %q is no name of a key: use 1 to 64 letters, digits, dots, dashes and underscores", name)
	}
	var secret [32]byte
	rand.Read(secret[:])
	key = keyPrefix + name + "_" + base64.RawURLEncoding.EncodeToString(secret[:])
	return key, HashKey(key), nil
}

// HashKey returns the hash of a key as the configuration holds it.
func HashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// parseKey returns the name in a text that looks like an API key.
func parseKey(text string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	at := len(rest) - secretText - 1 // the secret may hold underscores itself
	if !ok || at < 1 || rest[at] != '_' || !keyName.MatchString(rest[:at]) {
		return "", false
	}
	return rest[:at], true
}

func parseHash(text string) (sum [sha256.Size]byte, err error) {
	digits, ok := strings.CutPrefix(text, hashPrefix)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != len(sum) {
		return sum, errors.New("is not sha256: and 64 hexadecimal digits; make a key with tailrace keys new")
	}
	return [sha256.Size]byte(b), nil
}

// apiKey is a key of the configuration.
type apiKey struct {
	name     string
	hash     [sha256.Size]byte
	grants   Grants
	expires  time.Time // zero is never
	networks []netip.Prefix
}

func (k *apiKey) print() string { return hex.EncodeToString(k.hash[:8]) }

// authenticate returns the principal of an API key. An unknown name takes the
// time that a wrong secret takes, and has the same answer.
func (rs *rules) authenticateKey(t *trail, text string, addr netip.Addr, now time.Time) (*Principal, *problem.Problem) {
	name, ok := parseKey(text)
	key := rs.keys[name]
	var want [sha256.Size]byte // a dummy, that no text has
	if key != nil {
		want = key.hash
	}
	have := sha256.Sum256([]byte(text))
	same := subtle.ConstantTimeCompare(have[:], want[:]) == 1
	if !ok || key == nil || !same {
		return nil, t.no("key", refuse("invalid-token", "the API key is unknown or wrong"))
	}
	t.yes("key", "the API key is %s", name)
	if !key.expires.IsZero() && !now.Before(key.expires) {
		return nil, t.no("expires", refuse("token-expired", "the API key %s expired at %s", name, key.expires.Format(time.RFC3339)))
	}
	if len(key.networks) > 0 && !slices.ContainsFunc(key.networks, func(n netip.Prefix) bool { return n.Contains(addr) }) {
		return nil, t.no("network", refuse("invalid-token", "the API key %s is not for the network of %s", name, group(addr)))
	}
	return &Principal{
		Name: "key:" + name, Method: ByKey, Carrier: InHeader, Grants: key.grants, Expires: key.expires,
		id: identity{Key: name, Print: key.print()},
	}, nil
}
