package auth

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Revocation takes back credentials. Exactly one of JTI, Issuer with Subject,
// Key, and Issuer with IssuedBefore is set.
type Revocation struct {
	JTI          string // a token's id, whoever issued it
	Issuer       string
	Subject      string
	Key          string // an API key's name
	IssuedBefore int64  // seconds: all tokens of the issuer that are older, or do not say how old they are
}

// ParseRevocation reads a revocation from JSON: {"jti"}, {"iss","sub"},
// {"key"} or {"iss","issued_before"}.
func ParseRevocation(data []byte) (Revocation, error) {
	var r Revocation
	object, err := decodeStrict(data)
	if err != nil {
		return r, fmt.Errorf("auth: the revocation %w", err)
	}
	texts := map[string]*string{"jti": &r.JTI, "iss": &r.Issuer, "sub": &r.Subject, "key": &r.Key}
	for name, v := range object {
		var ok bool
		if to := texts[name]; to != nil {
			*to, ok = v.(string)
			ok = ok && *to != ""
		} else if name == "issued_before" {
			var at time.Time
			at, ok = numericDate(v)
			r.IssuedBefore = at.Unix()
		} else {
			return r, fmt.Errorf("auth: the revocation %w", unknownMember(name, []string{"jti", "iss", "sub", "key", "issued_before"}))
		}
		if !ok {
			return r, fmt.Errorf("auth: the revocation has a wrong %s", name)
		}
	}
	return r, r.check()
}

func (r Revocation) check() error {
	shape := ""
	for _, part := range []struct {
		name string
		set  bool
	}{{"jti ", r.JTI != ""}, {"iss ", r.Issuer != ""}, {"sub ", r.Subject != ""}, {"key ", r.Key != ""}, {"before ", r.IssuedBefore != 0}} {
		if part.set {
			shape += part.name
		}
	}
	switch shape {
	case "jti ", "iss sub ", "key ", "iss before ":
		return nil
	}
	return errors.New(`auth: a revocation is one of {"jti"}, {"iss","sub"}, {"key"} and {"iss","issued_before"}`)
}

// ID names what r revokes: a later revocation of the same ID takes its place.
// It is the event's key where revocations are kept as events.
func (r Revocation) ID() string {
	switch {
	case r.JTI != "":
		return "jti:" + r.JTI
	case r.Key != "":
		return "key:" + r.Key
	case r.Subject != "":
		return "sub:" + r.Issuer + "|" + r.Subject
	}
	return "iss:" + r.Issuer
}

// concerns reports whether r revokes a credential.
func (r Revocation) concerns(id *identity) bool {
	switch {
	case r.Key != "":
		return r.Key == id.Key
	case id.Issuer == "":
		return false
	case r.JTI != "":
		return r.JTI == id.JTI
	case r.Issuer != id.Issuer:
		return false
	case r.Subject != "":
		return r.Subject == id.Subject
	}
	return id.IssuedAt < r.IssuedBefore
}

// revocations is the set that is in force.
type revocations struct {
	mu   sync.RWMutex
	byID map[string]revoked
}

type revoked struct {
	Revocation
	at time.Time
}

// add puts r in force, as of at. Tokens that it can concern have expired after
// life; what is older is forgotten. That of a key stays until it is removed,
// as a key may have no end.
func (rs *revocations) add(r Revocation, at time.Time, life time.Duration) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.byID == nil {
		rs.byID = map[string]revoked{}
	}
	if old, ok := rs.byID[r.ID()]; ok && r.IssuedBefore < old.IssuedBefore {
		return // the wider one is in force
	}
	rs.byID[r.ID()] = revoked{r, at}
	if len(rs.byID)%1024 == 0 { // now and then is enough: they do no harm
		for id, old := range rs.byID {
			if old.Key == "" && at.Sub(old.at) > life {
				delete(rs.byID, id)
			}
		}
	}
}

func (rs *revocations) remove(id string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.byID, id)
}

// has reports whether a credential is revoked.
func (rs *revocations) has(id *identity) bool {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	if len(rs.byID) == 0 {
		return false
	}
	for _, r := range []Revocation{
		{Key: id.Key}, {JTI: id.JTI}, {Issuer: id.Issuer, Subject: id.Subject}, {Issuer: id.Issuer},
	} {
		if found, ok := rs.byID[r.ID()]; ok && found.concerns(id) {
			return true
		}
	}
	return false
}

// list returns the revocations in force, in no order.
func (rs *revocations) list() []Revocation {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	var list []Revocation
	for _, r := range rs.byID {
		list = append(list, r.Revocation)
	}
	return list
}
