package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// checkURL admits https, and http on this machine.
func checkURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "":
		return nil, errors.New("is not a URL; write one such as https://example.com/path")
	case u.User != nil:
		return nil, errors.New("has a user name in it, which would end in logs")
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		return nil, errors.New("is not https; plain http is for this machine only")
	}
	return u, nil
}

// isLoopback reports whether a host can only mean this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// newClient returns a client for a URL of the configuration. It follows no
// redirects, uses no proxy, and looks at the address when it dials, after the
// name was resolved: else whoever owns the name's zone could have it reach
// inner services. transport stands in for the network; nil is the network.
func newClient(u *url.URL, allowPrivate bool, timeout time.Duration, transport http.RoundTripper) *http.Client {
	if transport == nil {
		loopback := isLoopback(u.Hostname())
		dialer := &net.Dialer{Timeout: timeout, Control: func(_, address string, _ syscall.RawConn) error {
			return checkDial(address, loopback, allowPrivate)
		}}
		transport = &http.Transport{
			DialContext:           dialer.DialContext,
			ForceAttemptHTTP2:     true,
			TLSHandshakeTimeout:   timeout,
			ResponseHeaderTimeout: timeout,
			MaxIdleConnsPerHost:   16,
			IdleConnTimeout:       time.Minute,
			// Of a header that does not end.
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

var (
	nat64  = netip.MustParsePrefix("64:ff9b::/96")  // IPv4 behind a translator (RFC 6052)
	sixTo4 = netip.MustParsePrefix("2002::/16")     // IPv4 in bytes 2 to 5 (RFC 3056)
	cgnat  = netip.MustParsePrefix("100.64.0.0/10") // shared between customers (RFC 6598)
	thisIP = netip.MustParsePrefix("0.0.0.0/8")
	future = netip.MustParsePrefix("240.0.0.0/4")
)

// checkDial refuses addresses that a URL of the configuration must not lead to.
func checkDial(address string, loopback, allowPrivate bool) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("auth: %q is not an address", address)
	}
	addr := ap.Addr().Unmap()
	switch b := addr.As16(); {
	case nat64.Contains(addr):
		addr = netip.AddrFrom4([4]byte(b[12:16]))
	case sixTo4.Contains(addr):
		addr = netip.AddrFrom4([4]byte(b[2:6]))
	}
	switch {
	case addr.IsLoopback():
		if loopback {
			return nil
		}
		return fmt.Errorf("auth: %v is this machine, which the URL does not say", addr)
	case !addr.IsValid(), addr.IsUnspecified(), addr.IsMulticast(), addr.IsLinkLocalUnicast(), thisIP.Contains(addr), future.Contains(addr):
		return fmt.Errorf("auth: %v is no address of a service", addr)
	case (addr.IsPrivate() || cgnat.Contains(addr)) && !allowPrivate:
		return fmt.Errorf("auth: %v is in a private network; set allow_private if that is meant", addr)
	}
	return nil
}

// readBody reads at most limit bytes; more is an error.
func readBody(r io.Reader, limit int) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err == nil && len(body) > limit {
		err = fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return body, err
}

// fetch gets a document.
func fetch(ctx context.Context, client *http.Client, url string, limit int) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	return readBody(resp.Body, limit)
}
