package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// Bounds of keys.
const (
	minRSABits  = 2048
	maxRSABits  = 8192 // beyond it one check of a signature takes milliseconds
	maxJWKSKeys = 100
	maxJWKSSize = 512 << 10
)

// algorithms are all that an issuer may use. There is no "none" in it.
var algorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
}

// verifyKey checks signatures. It is used with the algorithms it lists and no
// other, whatever a token says of itself (RFC 8725, 3.1).
type verifyKey struct {
	kid    string
	anyKid bool // a key from a file has no name, and fits them all
	algs   []string
	key    any    // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	print  string // its fingerprint, so that a reload can tell whether it is still in force
}

func fingerprint(key any) string {
	der, ok := key.([]byte)
	if !ok {
		der, _ = x509.MarshalPKIXPublicKey(key) // a key of a known kind can be written
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8])
}

// newVerifyKey binds a key to those of algs that its kind can have.
func newVerifyKey(key any, algs []string) (verifyKey, error) {
	prefixes, err := kindOf(key)
	if err != nil {
		return verifyKey{}, err
	}
	k := verifyKey{key: key, print: fingerprint(key)}
	for _, alg := range algs {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(alg, p) }) {
			k.algs = append(k.algs, alg)
		}
	}
	return k, nil
}

// kindOf returns the prefixes of the algorithms that a key can have, and
// refuses weak ones.
func kindOf(key any) ([]string, error) {
	switch k := key.(type) {
	case []byte:
		return []string{"HS"}, nil
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); {
		case bits < minRSABits:
			return nil, fmt.Errorf("is an RSA key of %d bits; take one of at least %d", bits, minRSABits)
		case bits > maxRSABits:
			return nil, fmt.Errorf("is an RSA key of %d bits; the limit is %d", bits, maxRSABits)
		case k.E < 3 || k.E%2 == 0:
			return nil, fmt.Errorf("is an RSA key with the exponent %d", k.E)
		}
		return []string{"RS", "PS"}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []string{"ES256"}, nil
		case elliptic.P384():
			return []string{"ES384"}, nil
		case elliptic.P521():
			return []string{"ES512"}, nil
		}
		return nil, errors.New("is on a curve that has no algorithm; take P-256, P-384 or P-521")
	case ed25519.PublicKey:
		return []string{"EdDSA"}, nil
	}
	return nil, fmt.Errorf("is of a kind that signs no tokens (%T)", key)
}

// secretKey returns the key of HMAC algorithms.
func secretKey(secret []byte, algs []string) (verifyKey, error) {
	for _, alg := range algs {
		// A secret shorter than the hash weakens it (RFC 7518, 3.2).
		if need := map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}[alg]; len(secret) < need {
			return verifyKey{}, fmt.Errorf("has %d bytes, and %s needs %d; make one with: openssl rand -base64 %d", len(secret), alg, need, need)
		}
	}
	k, err := newVerifyKey(secret, algs)
	k.anyKid = true
	return k, err
}

// parseKeyFile reads a public key in PEM, or a JSON Web Key Set.
func parseKeyFile(data []byte, algs []string) ([]verifyKey, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return parseJWKS(data, algs)
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("is neither PEM nor a JSON Web Key Set")
	case strings.Contains(block.Type, "PRIVATE"):
		return nil, errors.New("holds a private key; keep that with the issuer, and give the server the public one: openssl pkey -in FILE -pubout")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("holds more than one PEM block; put several keys into a JSON Web Key Set, where they have names")
	}
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	default:
		return nil, fmt.Errorf("holds %q, which is no public key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	k, err := newVerifyKey(key, algs)
	if err != nil {
		return nil, err
	}
	k.anyKid = true
	return []verifyKey{k}, nil
}

// jwk is a key of a JSON Web Key Set (RFC 7517), as far as it concerns us.
type jwk struct {
	Kty    string   `json:"kty"`
	Kid    string   `json:"kid"`
	Alg    string   `json:"alg"`
	Use    string   `json:"use"`
	KeyOps []string `json:"key_ops"`
	Crv    string   `json:"crv"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
}

// parseJWKS reads a JSON Web Key Set. Keys that cannot be used here, by kind,
// strength, purpose or algorithm, are left out; a set without any other is an
// error. Symmetric keys are never taken from a set: it is public.
func parseJWKS(data []byte, algs []string) ([]verifyKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil || set.Keys == nil {
		return nil, errors.New("is not a JSON Web Key Set")
	}
	if len(set.Keys) > maxJWKSKeys {
		return nil, fmt.Errorf("has %d keys, the limit is %d", len(set.Keys), maxJWKSKeys)
	}
	var keys []verifyKey
	for _, raw := range set.Keys {
		var j jwk
		if json.Unmarshal(raw, &j) != nil || j.Use != "" && j.Use != "sig" || j.KeyOps != nil && !slices.Contains(j.KeyOps, "verify") {
			continue
		}
		public, err := j.public()
		if err != nil {
			continue
		}
		admitted := algs
		if j.Alg != "" {
			admitted = nil
			if slices.Contains(algs, j.Alg) {
				admitted = []string{j.Alg}
			}
		}
		if k, err := newVerifyKey(public, admitted); err == nil && len(k.algs) > 0 {
			k.kid = j.Kid
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("has no key for %s", strings.Join(algs, ", "))
	}
	return keys, nil
}

var errJWK = errors.New("auth: unusable key")

func (j *jwk) public() (any, error) {
	x, errX := base64.RawURLEncoding.DecodeString(j.X)
	y, errY := base64.RawURLEncoding.DecodeString(j.Y)
	n, errN := base64.RawURLEncoding.DecodeString(j.N)
	e, errE := base64.RawURLEncoding.DecodeString(j.E)
	if errX != nil || errY != nil || errN != nil || errE != nil {
		return nil, errJWK
	}
	switch j.Kty {
	case "RSA":
		if len(e) == 0 || len(e) > 4 || len(n) > maxRSABits/8+1 {
			return nil, errJWK
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
	case "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
		if curve == nil {
			return nil, errJWK
		}
		size := (curve.Params().BitSize + 7) / 8
		if len(x) != size || len(y) != size {
			return nil, errJWK
		}
		// The point is checked to be on the curve.
		return ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	case "OKP":
		if j.Crv != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return nil, errJWK
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, errJWK
}
