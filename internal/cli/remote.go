package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace/sse"
)

// defaultServer is where serve --dev listens.
const defaultServer = "http://127.0.0.1:8080"

// serverFlag adds --server to a command that talks to a server.
func (a *app) serverFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.server, "server", "", "URL of the server (TAILRACE_SERVER; default "+defaultServer+")")
}

// url returns the URL of a path on the server. The path is escaped already.
func (a *app) url(path string, query url.Values) (string, error) {
	base := a.server
	if base == "" {
		base = a.getenv("TAILRACE_SERVER")
	}
	if base == "" {
		base = defaultServer
	}
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", exit(exitUsage, fmt.Errorf("%q is not the URL of a server; write for example %s", base, defaultServer))
	}
	full := strings.TrimRight(base, "/") + path
	if len(query) > 0 {
		full += "?" + query.Encode()
	}
	return full, nil
}

// topicPath is the path of a topic; the whole name is one escaped text, since
// a name may have segments that clients and proxies would rewrite.
func topicPath(topic string) string { return "/v1/topics/" + url.PathEscape(topic) }

// refusal is an answer of the server that is an error: a problem of RFC 9457,
// or whatever a proxy in front has sent.
type refusal struct {
	status int
	header http.Header
	name   string // of the problem's type, such as too-large
	detail string
}

func (r *refusal) Error() string {
	switch {
	case r.name != "":
		return r.name + ": " + r.detail
	case r.detail != "":
		return fmt.Sprintf("the server answers %d %s: %s", r.status, http.StatusText(r.status), r.detail)
	}
	return fmt.Sprintf("the server answers %d %s", r.status, http.StatusText(r.status))
}

// readRefusal makes a refusal of an answer's status, header and body.
func readRefusal(status int, header http.Header, body []byte) *refusal {
	r := &refusal{status: status, header: header}
	var problem struct {
		Type, Detail string
		Errors       []struct{ Type, Detail string } // of a batch
	}
	if json.Unmarshal(body, &problem) == nil && problem.Type != "" {
		if len(problem.Errors) == 1 {
			problem.Type, problem.Detail = problem.Errors[0].Type, problem.Errors[0].Detail
		}
		r.name = problem.Type[strings.LastIndexByte(problem.Type, '/')+1:]
		r.detail = problem.Detail
		return r
	}
	r.detail, _, _ = strings.Cut(strings.TrimSpace(string(body)), "\n")
	if strings.HasPrefix(r.detail, "<") {
		r.detail = "" // a proxy's page
	}
	return r
}

// isPassing says whether the same request may succeed later: nothing answers,
// or what answers is busy, full or broken.
func isPassing(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return sse.DefaultShouldRetry(&http.Response{StatusCode: r.status}, nil)
	}
	return sse.DefaultShouldRetry(nil, err)
}

// failure gives an error of a request its exit code.
func failure(err error) error {
	var r *refusal
	var u *url.Error
	switch {
	case errors.As(err, &r) && (r.status == http.StatusUnauthorized || r.status == http.StatusForbidden):
		return exit(exitRefused, err)
	case errors.As(err, &u):
		return exit(exitUnreachable, unreachable(err))
	}
	return exit(exitFailed, err)
}

// unreachable says in plain words that no server answers.
func unreachable(err error) error {
	var u *url.Error
	if !errors.As(err, &u) {
		return err
	}
	server := u.URL
	if p, perr := url.Parse(u.URL); perr == nil {
		server = p.Scheme + "://" + p.Host
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("nothing listens at %s (start it with: tailrace serve --dev)", server)
	}
	return fmt.Errorf("cannot reach %s: %w", server, u.Err)
}

// do sends req and returns the body of a 2xx answer; any other is a refusal.
func do(req *http.Request) ([]byte, error) {
	req.Header.Set("User-Agent", userAgent())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, &url.Error{Op: req.Method, URL: req.URL.String(), Err: err}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, readRefusal(resp.StatusCode, resp.Header, body)
	}
	return body, nil
}
