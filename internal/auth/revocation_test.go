package auth

import (
	"fmt"
	"testing"
	"time"
)

func TestRevocationsThatAreNone(t *testing.T) {
	for _, text := range []string{
		"", "{}", "[]", "null", `{"jti":""}`, `{"jti":7}`, `{"iss":"x"}`, `{"sub":"x"}`, `{"issued_before":1}`, `{"jti":"a","key":"b"}`,
		`{"iss":"x","sub":"y","issued_before":1}`, `{"iss":"x","issued_before":"1"}`, `{"iss":"x","issued_before":0}`, `{"jti":"a","jti":"b"}`, `{"jit":"a"}`,
	} {
		if r, err := ParseRevocation([]byte(text)); err == nil {
			t.Errorf("%s is the revocation %+v", text, r)
		}
	}
	a := newAuth(t, Config{}, nil)
	if err := a.Revoke(Revocation{}, time.Now()); err == nil {
		t.Error("nothing can be revoked")
	}
}

func TestRevocationsAreForgottenInTime(t *testing.T) {
	var set revocations
	begin := time.Now()
	set.add(Revocation{JTI: "old"}, begin, time.Hour)
	set.add(Revocation{Key: "k"}, begin, time.Hour)
	for i := range 3000 {
		set.add(Revocation{JTI: fmt.Sprint(i)}, begin.Add(2*time.Hour), time.Hour)
	}
	if set.has(&identity{Issuer: "x", JTI: "old"}) || !set.has(&identity{Issuer: "x", JTI: "7"}) || !set.has(&identity{Key: "k"}) {
		t.Errorf("%d are kept, and not the right ones", len(set.list()))
	}
}

func TestWiderRevocationStays(t *testing.T) {
	var set revocations
	set.add(Revocation{Issuer: "x", IssuedBefore: 100}, time.Now(), time.Hour)
	set.add(Revocation{Issuer: "x", IssuedBefore: 50}, time.Now(), time.Hour)
	if !set.has(&identity{Issuer: "x", IssuedAt: 99}) || set.has(&identity{Issuer: "x", IssuedAt: 100}) {
		t.Error("a narrower revocation took the place of a wider one")
	}
}
