package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tailrace/tailrace/internal/nearest"
	"github.com/tailrace/tailrace/internal/problem"
)

const (
	maxToken = 8 << 10          // bytes
	leeway   = 30 * time.Second // of nbf and iat, for clocks that differ; exp has none
)

// issuer is an issuer of the configuration.
type issuer struct {
	name        string
	audience    []string
	algs        []string
	static      []verifyKey // or
	jwks        *jwksCache
	rfc9068     bool
	maxLifetime time.Duration
	grants      Grants
}

// segments decodes the parts of a token. Header and claims are read and checked
// here, not by the parser: it takes a member that is there twice, and its
// leeway would be that of exp too.
var segments = jwt.NewParser(jwt.WithStrictDecoding())

// authenticateToken returns the principal of a JSON Web Token. Before its
// signature is checked nothing of it is used, but to choose the key.
func (rs *rules) authenticateToken(ctx context.Context, t *trail, text string, now time.Time) (*Principal, *problem.Problem) {
	if len(text) > maxToken {
		return nil, t.no("size", refuse("invalid-token", "the token has %d bytes, the limit is %d", len(text), maxToken))
	}
	header, claims, raw, err := decodeToken(text)
	if err != nil {
		return nil, t.no("form", refuse("invalid-token", "%v", err))
	}
	t.yes("form", "the token is a signed JWT of %d bytes", len(text))

	name, _ := claims["iss"].(string)
	is := rs.issuers[name]
	if is == nil {
		return nil, t.no("issuer", refuse("invalid-token", "the token's issuer %.200q is not one of this server's", name))
	}
	t.yes("issuer", "the issuer is %s", name)
	if err := is.checkHeader(header); err != nil {
		return nil, t.no("header", refuse("invalid-token", "%v", err))
	}
	alg, _ := header["alg"].(string)
	t.yes("header", "alg is %s, which the issuer uses", alg)

	key, p := is.key(ctx, header)
	if p != nil {
		return nil, t.no("key", p)
	}
	t.yes("key", "the issuer has the key")
	if verify(text, alg, key.key) != nil {
		return nil, t.no("signature", refuse("invalid-token", "the token's signature is wrong"))
	}
	t.yes("signature", "the signature is right")
	return is.principal(t, claims, raw, key.print, now)
}

// decodeToken decodes header and claims of a token whose signature is yet
// unchecked.
func decodeToken(text string) (header, claims map[string]any, raw []byte, err error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, nil, nil, errors.New("this is no JWT: it does not have three parts")
	}
	head, err := segments.DecodeSegment(parts[0])
	if err == nil {
		raw, err = segments.DecodeSegment(parts[1])
	}
	if err != nil {
		return nil, nil, nil, errors.New("this is no JWT: a part is not base64url")
	}
	if header, err = decodeStrict(head); err != nil {
		return nil, nil, nil, fmt.Errorf("the token's header %w", err)
	}
	if claims, err = decodeStrict(raw); err != nil {
		return nil, nil, nil, fmt.Errorf("the token's claims: JSON %w", err)
	}
	return header, claims, raw, nil
}

// verify checks the signature of a token by a key that is for alg.
func verify(text, alg string, key any) error {
	at := strings.LastIndexByte(text, '.')
	signature, err := segments.DecodeSegment(text[at+1:])
	if err != nil {
		return err
	}
	return jwt.GetSigningMethod(alg).Verify(text[:at], signature, key)
}

// checkHeader checks what the header says of the token. Members that name keys
// (jku, jwk, x5u, x5c) are ignored: the configuration alone does.
func (is *issuer) checkHeader(header map[string]any) error {
	alg, _ := header["alg"].(string)
	if !slices.Contains(is.algs, alg) {
		return fmt.Errorf("the token's algorithm %.20q is not one of the issuer's, %s", alg, strings.Join(is.algs, ", "))
	}
	if _, ok := header["crit"]; ok {
		return errors.New("the token's header has crit, and no extension is known here")
	}
	typ, isText := header["typ"].(string)
	_, present := header["typ"]
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/") // RFC 7515, 4.1.9
	switch {
	case present && !isText, present && typ != "jwt" && typ != "at+jwt":
		return errors.New("the token's typ is neither JWT nor at+jwt: it was made for something else")
	case is.rfc9068 && typ != "at+jwt":
		return errors.New("the token's typ is not at+jwt, which the issuer's profile rfc9068 demands")
	}
	if kid, ok := header["kid"]; ok {
		if _, isText := kid.(string); !isText {
			return errors.New("the token's kid is not a string")
		}
	}
	return nil
}

// key chooses the key that the header names, or the only one that fits.
func (is *issuer) key(ctx context.Context, header map[string]any) (*verifyKey, *problem.Problem) {
	alg, _ := header["alg"].(string)
	kid, _ := header["kid"].(string)
	if is.jwks != nil {
		return is.jwks.key(ctx, kid, alg)
	}
	k, err := choose(is.static, kid, alg)
	if err != nil {
		return nil, refuse("invalid-token", "%v", err)
	}
	return k, nil
}

var (
	errNoKey    = errors.New("the issuer has no key of the token's kid and algorithm")
	errManyKeys = errors.New("the token has no kid, and several keys of the issuer fit")
)

// choose returns the one key that fits.
func choose(keys []verifyKey, kid, alg string) (*verifyKey, error) {
	var found *verifyKey
	for i := range keys {
		k := &keys[i]
		if !slices.Contains(k.algs, alg) || kid != "" && k.kid != kid && !k.anyKid {
			continue
		}
		if found != nil {
			return nil, errManyKeys
		}
		found = k
	}
	if found == nil {
		return nil, errNoKey
	}
	return found, nil
}

// principal checks the claims of a token whose signature is right.
func (is *issuer) principal(t *trail, claims map[string]any, raw []byte, print string, now time.Time) (*Principal, *problem.Problem) {
	if err := is.checkAudience(claims["aud"]); err != nil {
		return nil, t.no("audience", refuse("invalid-token", "%v", err))
	}
	t.yes("audience", "the token is for this server")
	expires, issued, p := is.checkTimes(claims, now)
	if p != nil {
		return nil, t.no("time", p)
	}
	t.yes("time", "the token is valid until %s", expires.UTC().Format(time.RFC3339))
	if is.rfc9068 {
		for _, name := range []string{"sub", "client_id", "iat", "jti"} {
			text, isText := claims[name].(string)
			if _, ok := claims[name]; !ok || name != "iat" && (!isText || text == "") {
				return nil, t.no("profile", refuse("invalid-token", "the token has no %s, which the issuer's profile rfc9068 demands", name))
			}
		}
		t.yes("profile", "the token is an access token of RFC 9068")
	}
	id := identity{Issuer: is.name, Print: print}
	if !issued.IsZero() {
		id.IssuedAt = issued.Unix()
	}
	for name, to := range map[string]*string{"sub": &id.Subject, "jti": &id.JTI} {
		text, isText := claims[name].(string)
		if _, ok := claims[name]; ok && !isText {
			return nil, t.no("claims", refuse("invalid-token", "the token's %s is not a string", name))
		}
		*to = text
	}
	rights, err := parseRights(claims["tailrace"])
	if _, ok := claims["tailrace"]; ok && err != nil {
		return nil, t.no("claims", refuse("invalid-token", "the token's claim tailrace %v", err))
	}
	own := rights.grants.resolve(claims)
	t.yes("claims", "the subject is %q", id.Subject)
	return &Principal{
		Name: "jwt:" + is.name + "|" + id.Subject, Method: ByJWT, Carrier: InHeader,
		Grants: own.join(is.grants.resolve(claims)), Filters: rights.filters, Payload: rights.payload, Expires: expires,
		id: id, own: own, claims: raw,
	}, nil
}

func (is *issuer) checkAudience(aud any) error {
	list, ok := stringList(aud)
	if text, one := aud.(string); one {
		list, ok = []string{text}, true
	}
	switch {
	case !ok:
		return errors.New("the token has no aud")
	case !slices.ContainsFunc(list, func(a string) bool { return slices.Contains(is.audience, a) }):
		return errors.New("the token's aud is another's: it was not made for this server")
	}
	return nil
}

// checkTimes checks exp, nbf, iat and the token's life.
func (is *issuer) checkTimes(claims map[string]any, now time.Time) (expires, issued time.Time, p *problem.Problem) {
	var times [3]time.Time
	for i, name := range []string{"exp", "nbf", "iat"} {
		v, ok := claims[name]
		if !ok {
			continue
		}
		if times[i], ok = numericDate(v); !ok {
			return expires, issued, refuse("invalid-token", "the token's %s is not a time in seconds", name)
		}
	}
	expires, notBefore, issued := times[0], times[1], times[2]
	born := now
	if !issued.IsZero() {
		born = issued
	}
	switch {
	case expires.IsZero():
		return expires, issued, refuse("invalid-token", "the token has no exp")
	case !now.Before(expires):
		return expires, issued, refuse("token-expired", "the token expired at %s", expires.UTC().Format(time.RFC3339))
	case notBefore.After(now.Add(leeway)):
		return expires, issued, refuse("invalid-token", "the token is not valid before %s", notBefore.UTC().Format(time.RFC3339))
	case issued.After(now.Add(leeway)):
		return expires, issued, refuse("invalid-token", "the token was issued in the future, at %s", issued.UTC().Format(time.RFC3339))
	case expires.Sub(born) > is.maxLifetime:
		return expires, issued, refuse("invalid-token", "the token lives longer than the issuer's max_lifetime, %v", is.maxLifetime)
	}
	return expires, issued, nil
}

// numericDate reads a NumericDate (RFC 7519, 2) up to the year 9999.
func numericDate(v any) (time.Time, bool) {
	seconds, ok := v.(float64)
	if !ok || math.IsNaN(seconds) || seconds < 1 || seconds > 253402300799 {
		return time.Time{}, false
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true
}

// rights are what the claim tailrace, or a hook, gives.
type rights struct {
	grants  Grants
	filters []string
	payload json.RawMessage
}

// parseRights reads the claim tailrace. A wrong shape or an unknown member is
// an error: a right or a filter that is misspelt must not be lost in silence.
func parseRights(v any) (rights, error) {
	var out rights
	object, ok := v.(map[string]any)
	if !ok {
		return out, errors.New("is not an object")
	}
	members := []string{"payload", "filter"}
	lists := out.grants.lists()
	for _, l := range lists {
		members = append(members, string(l.action))
	}
	for name, value := range object {
		at := slices.IndexFunc(lists, func(l grantList) bool { return string(l.action) == name })
		var err error
		switch {
		case name == "payload":
			out.payload, err = encodePayload(value)
		case name == "filter":
			out.filters, err = parseFilter(value)
		case at < 0:
			err = unknownMember(name, members)
		default:
			*lists[at].list, err = parseSelectors(lists[at].action, value)
		}
		if err != nil {
			return rights{}, err
		}
	}
	return out, nil
}

func unknownMember(name string, members []string) error {
	hint := ""
	if near := nearest.Name(name, members); near != "" {
		hint = "; did they mean " + near + "?"
	}
	return fmt.Errorf("has the unknown member %.40q%s", name, hint)
}

func parseSelectors(do Action, v any) ([]string, error) {
	list, ok := stringList(v)
	if !ok {
		return nil, fmt.Errorf("has a %s that is not a list of strings", do)
	}
	for _, selector := range list {
		if do == Gateway {
			continue
		}
		if err := checkSelector(selector); err != nil {
			return nil, fmt.Errorf("has a selector in %s that is none: %w", do, err)
		}
	}
	return list, nil
}

func parseFilter(v any) ([]string, error) {
	text, ok := v.(string)
	if !ok || strings.TrimSpace(text) == "" {
		return nil, errors.New("has a filter that is not a text")
	}
	return []string{text}, nil
}

func encodePayload(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	payload := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	if err := checkPayload(payload); err != nil {
		return nil, fmt.Errorf("has a %w", err)
	}
	return payload, nil
}
