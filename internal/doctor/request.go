package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer is how much of a plain answer is read.
const maxAnswer = 1 << 20

// request prepares one to a path on the server.
func (x *exam) request(ctx context.Context, method, path string, query url.Values, body string) *http.Request {
	u := x.base.JoinPath(path)
	u.RawQuery = query.Encode()
	req := (&http.Request{Method: method, URL: u, Header: http.Header{}}).WithContext(ctx)
	if body != "" {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	req.Header.Set("User-Agent", x.opts.UserAgent)
	req.Header.Set("Tailrace-Client", x.opts.UserAgent) // refusals come with their true status
	if x.opts.Token != "" {
		req.Header.Set("Authorization", "Bearer "+x.opts.Token)
	}
	return req
}

// events is where the topic is read and written. The name stands in the query,
// where no proxy rewrites it.
func (x *exam) events(ctx context.Context, method string, query url.Values, body string) *http.Request {
	if query == nil {
		query = url.Values{}
	}
	query.Set("topic", x.opts.Topic)
	return x.request(ctx, method, "/v1/events", query, body)
}

// answer is a complete one.
type answer struct {
	*http.Response
	body []byte
}

// do sends req and reads the whole answer, within answerTime.
func (x *exam) do(req *http.Request) (*answer, error) {
	ctx, cancel := context.WithTimeout(req.Context(), answerTime)
	defer cancel()
	resp, err := x.client.Do(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	return &answer{resp, body}, nil
}

// refusal says in a few words what an unexpected answer is: a problem with its
// detail, or the status and type of a proxy's page.
func refusal(resp *http.Response, body []byte) string {
	var problem struct{ Type, Title, Detail string }
	if json.Unmarshal(body, &problem) == nil && problem.Type != "" {
		text := problem.Detail
		if text == "" {
			text = problem.Title
		}
		return fmt.Sprintf("%d %s: %s", resp.StatusCode, problem.Type[strings.LastIndexByte(problem.Type, '/')+1:], text)
	}
	text := resp.Status
	if t := resp.Header.Get("Content-Type"); t != "" {
		text += " of type " + t
	}
	return text
}
