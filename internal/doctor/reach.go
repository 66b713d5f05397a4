package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// reach asks for a page of the topic, which is a plain answer, and judges the
// way to the server by it. It says whether there is more to look at.
func (x *exam) reach(ctx context.Context) (bool, error) {
	begin := time.Now()
	resp, err := x.do(x.events(ctx, http.MethodGet, url.Values{"format": {"json"}, "from": {"last:1"}}, ""))
	took := time.Since(begin)
	if err != nil {
		return x.unreached(ctx, err)
	}
	x.proxy = proxyOf(resp.Header)
	x.report.Proxy, x.report.Protocol = x.proxy.name, resp.Proto
	x.tls(ctx, resp.TLS)
	x.version(resp.Response)

	var page struct {
		Next string `json:"next"`
	}
	switch status := resp.StatusCode; {
	case status == http.StatusOK && json.Unmarshal(resp.body, &page) == nil && page.Next != "":
		x.cursor = page.Next
		x.add(Finding{Check: checkReach, Level: OK, What: fmt.Sprintf("the server answers, in %v", round(took))})
		x.clock(resp.Header.Get("Date"), begin.Add(took/2), took)
		return true, nil
	case status >= 300 && status < 400:
		x.add(Finding{
			Check: checkReach, Level: Fault,
			What:   "requests are redirected, which makes a GET of a POST and costs each reconnection a round trip",
			How:    fmt.Sprintf("%s to %s", resp.Status, resp.Header.Get("Location")),
			Change: "give clients the address where the redirect leads, and examine that",
		})
		return false, nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		x.add(Finding{
			Check: checkReach, Level: Fault, What: "the topic may not be read, so that there is nothing to look at",
			How: refusal(resp.Response, resp.body), Change: "give a --token that may subscribe to " + x.opts.Topic + ", or a --topic that it may",
		})
		return false, ErrRefused
	case isGateway(status):
		x.add(Finding{
			Check: checkReach, Level: Fault, What: "the server itself does not answer, or not now",
			How: refusal(resp.Response, resp.body), Change: "look whether the server runs, and at the address that the proxy has of it",
		})
		return false, ErrUnreachable
	}
	x.add(Finding{
		Check: checkReach, Level: Fault, What: "this is not the API of a Tailrace server",
		How:    refusal(resp.Response, resp.body) + " at " + resp.Request.URL.Path,
		Change: "pass the path on unchanged, and give the prefix with the URL if the proxy has one",
	})
	return false, nil
}

// isGateway says whether a status is that of a proxy without its server, or of
// a server that is busy.
func isGateway(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// unreached files why there was no answer.
func (x *exam) unreached(ctx context.Context, err error) (bool, error) {
	if f, ok := x.tlsFault(ctx, err); ok {
		x.add(f)
		return false, nil
	}
	x.add(Finding{
		Check: checkReach, Level: Fault, What: "no server answers", How: reason(err),
		Change: "look whether it runs and listens there, and whether a firewall is between",
	})
	return false, fmt.Errorf("%w: %s", ErrUnreachable, reason(err))
}

// version judges the version of HTTP. A browser opens at most six connections
// to an origin over HTTP/1.1, and each stream takes one for as long as it is
// open: the seventh tab hangs.
func (x *exam) version(resp *http.Response) {
	f := Finding{Check: checkHTTP, Level: OK, What: resp.Proto}
	switch {
	case !resp.ProtoAtLeast(1, 1):
		f.Level = Fault
		f.What, f.How = "answers are HTTP/1.0, where the end of a stream and its loss look the same", "the status line says "+resp.Proto
		f.Change = "let whatever answers speak HTTP/1.1 at least"
	case resp.ProtoMajor == 1 && resp.TLS != nil:
		f.Level = Fault
		f.What = "over HTTP/1.1 a browser opens six connections to an origin in all its tabs, and the seventh stream hangs"
		f.How = "HTTP/2 was offered in the TLS handshake and not taken"
		f.Change = "switch HTTP/2 on"
	case resp.ProtoMajor == 1 && !isLoopback(x.base.Hostname()):
		f.Level = Advice
		f.What = "over HTTP/1.1 a browser opens six connections to an origin in all its tabs, and the seventh stream hangs"
		f.How = "the URL is plain http, where no browser speaks HTTP/2; others on the way can read along as well"
		f.Change = "serve https with HTTP/2"
	}
	if f.Level != OK {
		f.Config = x.config(checkHTTP)
	}
	x.add(f)
}

// Differences of clocks. A Date has whole seconds; the expiry of tokens has
// thirty seconds of leeway at most.
const (
	skewAdvice = 5 * time.Second
	skewFault  = 30 * time.Second
)

// clock compares a Date with the moment in which it was made.
func (x *exam) clock(date string, at time.Time, took time.Duration) {
	t, err := http.ParseTime(date)
	if err != nil {
		x.add(Finding{
			Check: checkClock, Level: Advice, What: "answers have no Date, which caches and clients reckon with",
			How: fmt.Sprintf("the header is %q", date), Change: "let the proxy leave Date as it is",
		})
		return
	}
	skew := max(t.Sub(at), at.Sub(t)-time.Second, 0) // the second that Date has cut off
	f := Finding{Check: checkClock, Level: OK, What: "the clocks agree"}
	if skew > skewAdvice+took {
		f.Level = Advice
		if skew > skewFault+took {
			f.Level = Fault
		}
		f.What = fmt.Sprintf("the clocks here and there differ by %v, so that tokens expire early, or are not yet valid", skew.Round(time.Second))
		f.How = fmt.Sprintf("Date says %s, this machine %s", t.UTC().Format(time.TimeOnly), at.UTC().Format(time.TimeOnly))
		f.Change = "let both set their clocks by NTP"
	}
	x.add(f)
}

// isLoopback says whether a host name means this machine.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// hostPort is what a TLS client dials.
func (x *exam) hostPort() string {
	port := x.base.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(x.base.Hostname(), port)
}

// reason is an error of a request without the request.
func reason(err error) string {
	if u, ok := err.(*url.Error); ok {
		err = u.Err
	}
	return err.Error()
}

// round cuts a duration to what a person wants to read.
func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	if d < 2*time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}
