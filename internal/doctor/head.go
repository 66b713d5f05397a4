package doctor

import (
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// isEventStream says whether an answer is what an EventSource takes (WHATWG
// HTML 9.2.2, the fetch and its processResponse).
func isEventStream(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return resp.StatusCode == http.StatusOK && err == nil && kind == "text/event-stream"
}

// head judges the head of a stream, and says whether it is one. other is that
// of a second stream, or nil.
func (x *exam) head(resp, other *http.Response) bool {
	switch {
	case resp.StatusCode != http.StatusOK:
		f := Finding{
			Check: checkStream, Level: Fault,
			What:   fmt.Sprintf("an EventSource stops for good at this answer to a stream: %s", resp.Status),
			Change: "see the log of what answers there; a page of the same topic is answered with 200",
		}
		switch {
		case resp.StatusCode == http.StatusNoContent:
			f.Change = "204 says that a topic is closed for good: take one that is open, or find who else answers 204"
		case resp.StatusCode >= 300 && resp.StatusCode < 400:
			f.What = "streams are redirected, which costs each reconnection a round trip"
			f.How = "to " + resp.Header.Get("Location")
			f.Change = "give clients the address where the redirect leads"
		}
		x.add(f)
		return false
	case !isEventStream(resp):
		x.add(Finding{
			Check: checkStream, Level: Fault,
			What:   "the type of a stream is rewritten, and an EventSource stops for good at any but text/event-stream",
			How:    fmt.Sprintf("Content-Type is %q", resp.Header.Get("Content-Type")),
			Change: "let the proxy leave Content-Type as it is, and not answer in the server's place",
			Config: x.config(checkHeaders),
		})
		return false
	}
	x.add(Finding{Check: checkStream, Level: OK, What: "a stream opens, 200 and text/event-stream"})
	faults := x.headers(resp, other)
	for _, f := range faults {
		f.Check = checkHeaders
		f.Config = x.config(checkHeaders)
		x.add(f)
	}
	if len(faults) == 0 {
		x.add(Finding{Check: checkHeaders, Level: OK, What: "headers arrive as they were sent"})
	}
	return true
}

// single are headers of which there must be one at most: of two, each reader
// takes another one.
var single = []string{"Content-Type", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Date", "Cache-Control"}

// headers finds what was changed in the head of a stream.
func (x *exam) headers(resp, other *http.Response) []Finding {
	var faults []Finding
	h := resp.Header
	control := strings.ToLower(strings.Join(h.Values("Cache-Control"), ", "))
	var directives []string
	for d := range strings.SplitSeq(control, ",") {
		directives = append(directives, strings.TrimSpace(d))
	}
	has := func(directive string) bool { return slices.Contains(directives, directive) }
	switch {
	case !has("no-cache") && !has("no-store"):
		faults = append(faults, Finding{
			Level: Fault, What: "Cache-Control is rewritten, so that caches may keep a stream and play it to others",
			How:    fmt.Sprintf("it is %q, and left the server as \"no-cache, no-transform\"", control),
			Change: "let the proxy leave Cache-Control as it is",
		})
	case !has("no-transform"):
		faults = append(faults, Finding{
			Level: Advice, What: "Cache-Control is rewritten, so that what follows on the way may compress streams",
			How:    fmt.Sprintf("it is %q, and left the server as \"no-cache, no-transform\"", control),
			Change: "let the proxy leave Cache-Control as it is",
		})
	}
	for _, name := range single {
		if values := h.Values(name); len(values) > 1 {
			level := Advice
			if strings.HasPrefix(name, "Access-Control-") || name == "Content-Type" {
				level = Fault
			}
			faults = append(faults, Finding{
				Level: level, What: name + " comes " + times(len(values)) + ": the proxy adds what the server has set already",
				How: strings.Join(values, "; "), Change: "set it in one place only, the server",
			})
		}
	}
	if h.Get("Tailrace-Connection") == "" {
		faults = append(faults, Finding{
			Level: Advice, What: "headers of the server are removed, which its clients read and which tell one stream from another",
			How: "Tailrace-Connection is missing", Change: "let the proxy pass on the headers that begin with Tailrace-",
		})
	} else if other != nil && h.Get("Tailrace-Connection") == other.Header.Get("Tailrace-Connection") || h.Get("Age") != "" {
		faults = append(faults, Finding{
			Level: Fault, What: "a cache plays one stream to several clients",
			How:    "two requests got the stream " + h.Get("Tailrace-Connection") + ", or one has an Age",
			Change: "switch the cache off for text/event-stream",
		})
	}
	return faults
}

func times(n int) string {
	if n == 2 {
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}
