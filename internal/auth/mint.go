package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// SigningKey signs tokens: for tests and for issuers that are a shell script.
type SigningKey struct {
	key any
	alg string
}

// NewSecretKey returns a key of HMAC. alg "" is HS256.
func NewSecretKey(secret []byte, alg string) (*SigningKey, error) {
	if alg == "" {
		alg = "HS256"
	}
	if !strings.HasPrefix(alg, "HS") || !slices.Contains(algorithms, alg) {
		return nil, fmt.Errorf("auth: %q does not sign with a secret", alg)
	}
	if _, err := secretKey(secret, []string{alg}); err != nil {
		return nil, fmt.Errorf("auth: the secret %w", err)
	}
	return &SigningKey{secret, alg}, nil
}

// ParseSigningKey reads a private key in PEM. alg "" is the usual one of its
// kind: RS256, ES256 to ES512 by its curve, or EdDSA.
func ParseSigningKey(data []byte, alg string) (*SigningKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("auth: the key is not PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("auth: the file holds %q, which is no private key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("auth: the key cannot be read: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("auth: a key of this kind signs nothing (%T)", key)
	}
	public := signer.Public()
	fits, err := newVerifyKey(public, algorithms)
	switch {
	case err != nil:
		return nil, fmt.Errorf("auth: the key %w", err)
	case alg == "":
		alg = fits.algs[0]
	case !slices.Contains(fits.algs, alg):
		return nil, fmt.Errorf("auth: the key is for %s, not for %q", strings.Join(fits.algs, ", "), alg)
	}
	switch signer.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		return &SigningKey{key, alg}, nil
	}
	return nil, fmt.Errorf("auth: a key of this kind signs no tokens (%T)", key)
}

// SigningKey returns the issuer's key, if the configuration has it: a secret
// signs and checks, a public key only checks.
func (c *IssuerConfig) SigningKey() (*SigningKey, error) {
	secret := []byte(c.Secret)
	switch {
	case c.SecretFile != "":
		var err error
		if secret, err = ReadSecret(c.SecretFile); err != nil {
			return nil, err
		}
	case len(secret) == 0:
		return nil, fmt.Errorf("auth: the configuration has only the public key of %s", c.Issuer)
	}
	alg := ""
	if len(c.Algorithms) > 0 {
		alg = c.Algorithms[0]
	}
	return NewSecretKey(secret, alg)
}

// Algorithm returns what the key signs with.
func (k *SigningKey) Algorithm() string { return k.alg }

// Sign returns a token. Members of header are added to alg and typ.
func (k *SigningKey) Sign(header, claims map[string]any) (string, error) {
	token := jwt.NewWithClaims(jwt.GetSigningMethod(k.alg), jwt.MapClaims(claims))
	for name, v := range header {
		token.Header[name] = v
	}
	text, err := token.SignedString(k.key)
	if err != nil {
		return "", fmt.Errorf("auth: sign: %w", err)
	}
	return text, nil
}

// CheckRights reports what is wrong with a claim tailrace.
func CheckRights(claim map[string]any) error {
	if _, err := parseRights(claim); err != nil {
		return fmt.Errorf("auth: the claim tailrace %w", err)
	}
	return nil
}

// Inspect decodes a token without checking anything: what it says may be a lie.
func Inspect(token string) (header, claims map[string]any, err error) {
	if header, claims, _, err = decodeToken(token); err != nil {
		return nil, nil, fmt.Errorf("auth: %w", err)
	}
	return header, claims, nil
}
