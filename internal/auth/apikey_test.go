package auth

import (
	"strings"
	"testing"
	"time"
)

func TestAPIKeys(t *testing.T) {
	key, hash, err := NewKey("shop")
	if err != nil {
		t.Fatal(err)
	}
	odd, oddHash, err := NewKey("a_b-c.d_")
	if err != nil {
		t.Fatal(err)
	}
	old, oldHash, _ := NewKey("old")
	near, nearHash, _ := NewKey("near")
	g := Grants{Publish: []string{"orders/**"}}
	a := newAuth(t, Config{Keys: []KeyConfig{
		{Name: "shop", Hash: hash, Grants: g, Expires: time.Now().Add(time.Hour).Format(time.RFC3339)},
		{Name: "a_b-c.d_", Hash: oddHash, Grants: g},
		{Name: "old", Hash: oldHash, Grants: g, Expires: "2020-01-01T00:00:00Z"},
		{Name: "near", Hash: nearHash, Grants: g, Networks: []string{"10.0.0.0/8", "2001:db8::/32", "192.0.2.7"}},
	}}, nil)
	other, _, _ := NewKey("shop")
	unknown, _, _ := NewKey("nobody")
	for _, tc := range []struct {
		name, key, from, problem, detail string
	}{
		{"good", key, "192.0.2.7:1", "", ""},
		{"a name with underscores", odd, "192.0.2.7:1", "", ""},
		{"another secret", other, "192.0.2.7:1", "invalid-token", "unknown or wrong"},
		{"an unknown name", unknown, "192.0.2.7:1", "invalid-token", "unknown or wrong"},
		{"one letter more", key + "A", "192.0.2.7:1", "invalid-token", "unknown or wrong"},
		{"one letter less", key[:len(key)-1], "192.0.2.7:1", "invalid-token", "unknown or wrong"},
		{"the prefix alone", "tr_", "192.0.2.7:1", "invalid-token", "unknown or wrong"},
		{"no name", "tr__" + key[len(key)-43:], "192.0.2.7:1", "invalid-token", "unknown or wrong"},
		{"the hash", hash, "192.0.2.7:1", "invalid-token", "no JWT"},
		{"expired", old, "192.0.2.7:1", "token-expired", "expired at 2020"},
		{"from its address", near, "192.0.2.7:1", "", ""},
		{"from its network", near, "10.2.3.4:1", "", ""},
		{"from its network as IPv6 writes it", near, "[::ffff:10.2.3.4]:1", "", ""},
		{"from its IPv6 network", near, "[2001:db8::1%eth0]:1", "", ""},
		{"from elsewhere", near, "192.0.2.8:1", "invalid-token", "network"},
		{"from nowhere", near, "@", "invalid-token", "network"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a.failures = failures{}
			r := withToken(tc.key)
			r.RemoteAddr = tc.from
			p, refusal := a.Authenticate(r)
			wantProblem(t, refusal, tc.problem, tc.detail)
			if refusal == nil && (p.Method != ByKey || p.Name != "key:"+p.Key() || p.Grants.Publish[0] != "orders/**") {
				t.Errorf("it is %+v", p)
			}
			if refusal != nil && strings.Contains(refusal.Detail, tc.key[len(tc.key)/2:]) && tc.key != "tr_" {
				t.Errorf("the detail shows the key: %s", refusal.Detail)
			}
		})
	}
}

func TestNewKey(t *testing.T) {
	a, _, _ := NewKey("x")
	b, hash, _ := NewKey("x")
	if a == b || len(a) != len("tr_x_")+43 || HashKey(b) != hash {
		t.Errorf("keys %s and %s, hash %s", a, b, hash)
	}
	for _, name := range []string{"", "a b", "_a", "a/b", "ä", strings.Repeat("x", 65)} {
		if _, _, err := NewKey(name); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
}
