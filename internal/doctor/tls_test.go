package doctor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tailrace/tailrace"
)

// certificate makes one for 127.0.0.1, changed by change, and signed by issuer;
// without one, by itself.
func certificate(t *testing.T, issuer *tls.Certificate, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tested"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		BasicConstraintsValid: true, IsCA: issuer == nil,
	}
	if change != nil {
		change(leaf)
	}
	parent, signer := leaf, any(key)
	if issuer != nil {
		parent, signer = issuer.Leaf, issuer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestTLSIsJudged: what is wrong with a handshake is explained, and nothing is
// asked over one that fails: the token would go to nobody knows whom.
func TestTLSIsJudged(t *testing.T) {
	t.Parallel()
	authority := certificate(t, nil, func(c *x509.Certificate) { c.Subject.CommonName = "authority" })
	tests := []struct {
		name    string
		config  *tls.Config
		trusted bool
		http1   bool
		faults  string
		advice  string
		says    string
	}{
		{name: "good", config: &tls.Config{Certificates: []tls.Certificate{certificate(t, &authority, nil)}}, trusted: true, says: "ok http HTTP/2.0"},
		{name: "without HTTP/2", config: &tls.Config{Certificates: []tls.Certificate{certificate(t, &authority, nil)}}, trusted: true, http1: true,
			faults: "http", says: "six connections"},
		{name: "expires soon", config: &tls.Config{Certificates: []tls.Certificate{
			certificate(t, &authority, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(72 * time.Hour) })}}, trusted: true,
			advice: "tls", says: "expires soon"},
		{name: "old versions too", config: &tls.Config{MinVersion: tls.VersionTLS10, Certificates: []tls.Certificate{certificate(t, &authority, nil)}}, trusted: true,
			advice: "tls", says: "TLS 1.1 at most succeeds"},
		{name: "old versions only", config: &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
			Certificates: []tls.Certificate{certificate(t, &authority, nil)}}, trusted: true,
			faults: "tls", says: "TLS 1.1 succeeds"},
		{name: "expired", config: &tls.Config{Certificates: []tls.Certificate{
			certificate(t, &authority, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })}}, trusted: true,
			faults: "tls", says: "expired"},
		{name: "another name", config: &tls.Config{Certificates: []tls.Certificate{
			certificate(t, &authority, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"example.com"} })}}, trusted: true,
			faults: "tls", says: "for another name"},
		{name: "signed by itself", config: &tls.Config{Certificates: []tls.Certificate{certificate(t, nil, nil)}},
			faults: "tls", says: "signed by itself"},
		{name: "without its issuer", config: &tls.Config{Certificates: []tls.Certificate{certificate(t, &authority, nil)}},
			faults: "tls", says: `with the certificate of its issuer, "authority"`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			hub, err := tailrace.New(&tailrace.Options{Heartbeat: time.Second, DrainWindow: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer hub.Shutdown(t.Context())
			var asked atomic.Bool
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Store(true)
				hub.ServeHTTP(w, r)
			}))
			s.EnableHTTP2 = !tc.http1
			s.TLS = tc.config
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.StartTLS()
			defer s.Close()

			x, err := newExam(Options{URL: s.URL, Token: "secret", ReadOnly: true, Wait: time.Millisecond, Streams: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer x.client.CloseIdleConnections()
			x.roots = x509.NewCertPool()
			if tc.trusted {
				x.roots.AddCert(authority.Leaf)
			}
			x.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: x.roots}
			err = x.run(t.Context())
			r := &x.report
			r.sort()
			if err != nil || found(r, Fault) != tc.faults || found(r, Advice) != tc.advice || !strings.Contains(tell(r), tc.says) {
				t.Errorf("%v, faults %q, want %q, advice %q, want %q; it should say %q:\n%s",
					err, found(r, Fault), tc.faults, found(r, Advice), tc.advice, tc.says, tell(r))
			}
			if asked.Load() && tc.faults == "tls" {
				t.Error("a request was made")
			}
		})
	}

	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	r, err := Examine(t.Context(), Options{URL: strings.Replace(plain.URL, "http:", "https:", 1)})
	if err != nil || found(r, Fault) != "tls" || !strings.Contains(tell(r), "does not speak TLS") {
		t.Errorf("%v\n%s", err, tell(r))
	}
}
