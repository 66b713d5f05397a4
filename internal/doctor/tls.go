package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// expirySoon is when a certificate should have been renewed: automatic
// renewal begins a month before the end.
const expirySoon = 14 * 24 * time.Hour

// tls judges the connection of an answer.
func (x *exam) tls(ctx context.Context, state *tls.ConnectionState) {
	if state == nil {
		return
	}
	f := Finding{Check: checkTLS, Level: OK, What: tls.VersionName(state.Version) + ", the certificate is good"}
	if end := state.PeerCertificates[0].NotAfter; time.Until(end) < expirySoon {
		f.Level = Advice
		f.What = "the certificate expires soon, and nothing seems to renew it"
		f.How = "it is valid until " + end.UTC().Format(time.DateTime)
		f.Change = "renew it, and look why that did not happen by itself"
	} else if _, err := x.handshake(ctx, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		f.Level = Advice
		f.What = "old versions of TLS are still accepted, which no browser uses any more (RFC 8996)"
		f.How = "a handshake with TLS 1.1 at most succeeds"
		f.Change = "accept TLS 1.2 and 1.3 only"
		f.Config = x.config(checkTLS)
	}
	x.add(f)
}

// tlsFault explains an error of a request if it is one of TLS. It looks at the
// certificates in a handshake of its own, which carries no request and so no
// token.
func (x *exam) tlsFault(ctx context.Context, err error) (Finding, bool) {
	f := Finding{Check: checkTLS, Level: Fault, How: reason(err), Config: x.config(checkTLS)}
	var verification *tls.CertificateVerificationError
	var op *net.OpError // an alert is one, of a type that has no name outside crypto/tls
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &verification):
		f.What, f.Change = chainFault(verification)
		return f, true
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		f.What, f.Change = "the other side does not speak TLS", "write http:// in the URL, or switch TLS on there"
		return f, true
	case errors.As(err, &op) && op.Op == "remote error", strings.HasPrefix(reason(err), "tls: "):
		f.What, f.Change = "the TLS handshake fails", "look at the other side's log for its reason"
		old := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true}
		if state, err := x.handshake(ctx, old); err == nil {
			f.What = "only versions of TLS are accepted that browsers have given up (RFC 8996)"
			f.How += "; " + tls.VersionName(state.Version) + " succeeds"
			f.Change = "accept TLS 1.2 and 1.3"
		}
		return f, true
	}
	return f, false
}

// chainFault says what is wrong with a chain of certificates, and what to do.
func chainFault(err *tls.CertificateVerificationError) (what, change string) {
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	chain := err.UnverifiedCertificates
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate is expired, or not yet valid", "renew it, or set the clock"
	case errors.As(err, &host):
		return "the certificate is for another name", "add the name to the certificate, or use one that it has in the URL"
	case errors.As(err, &unknown) && len(chain) == 1 && chain[0].Issuer.String() == chain[0].Subject.String():
		return "the certificate is signed by itself, so that no browser trusts it",
			"use one of a public authority; to examine this one, name its file in SSL_CERT_FILE"
	case errors.As(err, &unknown) && len(chain) == 1:
		return "the certificate comes alone, and no authority that is known here has signed it",
			fmt.Sprintf("serve the full chain, with the certificate of its issuer, %q", chain[0].Issuer.CommonName)
	case errors.As(err, &unknown):
		return "no authority that is known here has signed the chain",
			"use a public authority; to examine this one, name its file in SSL_CERT_FILE"
	}
	return "the certificate is not trusted", "see the reason"
}

// handshake connects with a configuration and closes again.
func (x *exam) handshake(ctx context.Context, config *tls.Config) (*tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	config.RootCAs = x.roots
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", x.hostPort())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	state := conn.(*tls.Conn).ConnectionState()
	return &state, nil
}
