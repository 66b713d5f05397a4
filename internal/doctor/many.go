package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// many opens several streams at once, as the tabs of a browser and the users
// behind one address do.
func (x *exam) many(ctx context.Context) {
	if x.opts.Streams <= 0 {
		return
	}
	if x.held {
		x.add(Finding{Check: checkStreams, Level: Unseen, What: "how many can be open at once does not show while their heads are held back"})
		return
	}
	ears := make([]*ear, x.opts.Streams)
	for i := range ears {
		ears[i] = x.listen(ctx, url.Values{"event": {probeType + "-none"}}, nil)
		defer ears[i].close()
	}
	deadline := time.Now().Add(2 * patience)
	open, why := 0, ""
	connection := ""
	for _, e := range ears {
		e.await(ctx, deadline, func() bool { return e.resp != nil })
		e.mu.Lock()
		if e.isStream() {
			open++
			connection = e.resp.Header.Get("Tailrace-Connection")
		} else {
			why = "of another one: " + e.failure()
		}
		e.mu.Unlock()
	}
	f := Finding{Check: checkStreams, Level: OK, What: fmt.Sprintf("%d streams are open at once", open)}
	if open < len(ears) {
		f = Finding{
			Check: checkStreams, Level: Fault, What: fmt.Sprintf("only %d of %d streams open at once", open, len(ears)),
			How: why, Change: "raise the limit of connections, in the proxy or limits.streams_per_address of the server (and name the proxy in listen.trusted_proxies)",
			Config: x.config(checkStreams),
		}
	}
	x.add(f)
	x.upstream(ctx, connection)
}

// upstream asks the server how a stream came to it, if the token may know.
func (x *exam) upstream(ctx context.Context, connection string) {
	if connection == "" {
		return
	}
	resp, err := x.do(x.request(ctx, http.MethodGet, "/v1/connections/"+url.PathEscape(connection), nil, ""))
	var c struct{ Protocol string }
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(resp.body, &c) != nil || c.Protocol == "" {
		return
	}
	f := Finding{Check: checkUpstream, Level: OK, What: "the server is spoken to in " + c.Protocol}
	if c.Protocol == "HTTP/1.0" {
		f.Level = Advice
		f.What = "the proxy speaks HTTP/1.0 to the server: each request is a new connection, and a stream that broke looks complete"
		f.How = "so the server says of its connection " + connection
		f.Change = "let it speak HTTP/1.1"
		f.Config = x.config(checkUpstream)
	}
	x.add(f)
}
