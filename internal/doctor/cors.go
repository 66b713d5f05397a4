package doctor

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// foreignOrigin is one that no server has a reason to allow.
const foreignOrigin = "https://doctor.invalid"

// cors asks as a browser does for a page of another origin (Fetch, "CORS
// protocol"): a preflight, and then a request.
func (x *exam) cors(ctx context.Context) {
	origin := x.opts.Origin
	if origin == "" {
		x.foreign(ctx)
		return
	}
	var faults []Finding
	resp, err := x.do(x.preflight(ctx, origin))
	if err != nil {
		faults = append(faults, Finding{What: "a preflight is not answered", How: reason(err)})
	} else {
		faults = preflightFaults(resp.Response, origin)
	}
	resp, err = x.do(x.from(ctx, origin))
	if err != nil {
		faults = append(faults, Finding{What: "a request of another origin is not answered", How: reason(err)})
	} else if len(faults) == 0 {
		faults = requestFaults(resp.Response, origin)
	}
	for _, f := range faults {
		f.Check = checkCORS
		f.Level = Fault
		if f.Change == "" {
			f.Change = "let the proxy pass on OPTIONS and leave Access-Control headers to the server"
			f.Config = x.config(checkCORS)
		}
		x.add(f)
	}
	if len(faults) == 0 {
		x.add(Finding{Check: checkCORS, Level: OK, What: "pages of " + origin + " may subscribe and resume"})
	}
}

// foreign looks at what a page that nobody has allowed gets to read.
func (x *exam) foreign(ctx context.Context) {
	f := Finding{Check: checkCORS, Level: Unseen, What: "not looked at", Change: "give the --origin of the pages that subscribe, such as https://app.example.com"}
	resp, err := x.do(x.from(ctx, foreignOrigin))
	if err == nil {
		switch allowed := resp.Header.Values("Access-Control-Allow-Origin"); {
		case len(allowed) > 1:
			f = Finding{
				Check: checkCORS, Level: Fault, What: "Access-Control-Allow-Origin comes " + times(len(allowed)) + ", and browsers refuse that",
				How: strings.Join(allowed, "; "), Change: "leave Access-Control headers to the server", Config: x.config(checkCORS),
			}
		case len(allowed) == 1 && resp.Header.Get("Access-Control-Allow-Credentials") == "true" && allowed[0] == foreignOrigin:
			f = Finding{
				Check: checkCORS, Level: Fault, What: "any page may read with the cookies of its visitor",
				How: "an origin that does not exist is allowed, with credentials", Change: "name the origins that may: cors.origins",
			}
		case len(allowed) == 1:
			f = Finding{
				Check: checkCORS, Level: Advice, What: "any page may read what needs no token",
				How: fmt.Sprintf("Access-Control-Allow-Origin is %q for %s", allowed[0], foreignOrigin), Change: "name the origins that may: cors.origins",
			}
		}
	}
	x.add(f)
}

func (x *exam) preflight(ctx context.Context, origin string) *http.Request {
	req := x.events(ctx, http.MethodOptions, nil, "")
	req.Header.Del("Authorization") // a browser sends none here
	req.Header.Set("Origin", origin)
	req.Header.Set("Access-Control-Request-Method", http.MethodGet)
	req.Header.Set("Access-Control-Request-Headers", "authorization,last-event-id")
	return req
}

func (x *exam) from(ctx context.Context, origin string) *http.Request {
	req := x.events(ctx, http.MethodGet, url.Values{"format": {"json"}, "from": {"last:1"}, "limit": {"1"}}, "")
	req.Header.Set("Origin", origin)
	return req
}

// preflightFaults judges the answer to a preflight.
func preflightFaults(resp *http.Response, origin string) []Finding {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return []Finding{{What: "preflights are refused, and with them requests that have a token or a long Last-Event-ID", How: "OPTIONS is answered " + resp.Status}}
	}
	faults := originFaults(resp, origin)
	allowed := list(resp.Header, "Access-Control-Allow-Headers")
	for _, name := range []string{"last-event-id", "authorization"} {
		// A star stands for any header but Authorization.
		if !slices.Contains(allowed, name) && (name == "authorization" || !slices.Contains(allowed, "*")) {
			faults = append(faults, Finding{
				What: "browsers may not send " + name + " from this origin",
				How:  fmt.Sprintf("Access-Control-Allow-Headers is %q", strings.Join(allowed, ", ")),
			})
		}
	}
	return faults
}

// requestFaults judges the answer to the request after it.
func requestFaults(resp *http.Response, origin string) []Finding {
	faults := originFaults(resp, origin)
	exposed := list(resp.Header, "Access-Control-Expose-Headers")
	if !slices.Contains(exposed, "tailrace-heartbeat") && !slices.Contains(exposed, "*") {
		faults = append(faults, Finding{
			What: "pages may not read the server's headers, such as Retry-After and Tailrace-Heartbeat",
			How:  fmt.Sprintf("Access-Control-Expose-Headers is %q", strings.Join(exposed, ", ")),
		})
	}
	if allowed := resp.Header.Get("Access-Control-Allow-Origin"); allowed != "*" && allowed != "" && !slices.Contains(list(resp.Header, "Vary"), "origin") {
		faults = append(faults, Finding{
			What: "caches may give the answer for one origin to another", How: "Vary does not name Origin",
		})
	}
	return faults
}

func originFaults(resp *http.Response, origin string) []Finding {
	switch allowed := resp.Header.Values("Access-Control-Allow-Origin"); {
	case len(allowed) > 1:
		return []Finding{{
			What: "Access-Control-Allow-Origin comes " + times(len(allowed)) + ", and browsers refuse that",
			How:  strings.Join(allowed, "; "),
		}}
	case len(allowed) == 0:
		return []Finding{{
			What: "pages of " + origin + " may not read: the origin is not allowed", How: "there is no Access-Control-Allow-Origin",
			Change: "add it to cors.origins of the server, or find who removes the header",
		}}
	case allowed[0] != origin && allowed[0] != "*":
		return []Finding{{
			What: "pages of " + origin + " may not read: another origin is allowed", How: "Access-Control-Allow-Origin is " + allowed[0],
		}}
	}
	return nil
}

// list returns the members of a header that is a list, in lower case.
func list(h http.Header, name string) []string {
	var members []string
	for _, value := range h.Values(name) {
		for m := range strings.SplitSeq(value, ",") {
			if m = strings.ToLower(strings.TrimSpace(m)); m != "" {
				members = append(members, m)
			}
		}
	}
	return members
}
