package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tailrace/tailrace/internal/problem"
)

// Bounds of the hook.
const (
	minHookSecret = 24               // bytes, as Standard Webhooks has it
	maxHookAnswer = 64 << 10         // bytes
	maxHookCalls  = 256              // at once; more wait, and fail when the time-out is over
	maxHookCached = 10_000           // answers
	hookHolds     = time.Minute      // how long an answer holds that does not say
	hookAtLeast   = time.Second      // or streams would be asked about without rest
	hookAtMost    = 10 * time.Minute // how late a change of mind may be noticed
	refusalHolds  = 5 * time.Second  // so that a client that tries again and again costs one call
)

// hookRules ask a webhook whether a request may be done. The configuration's
// part is not changed; the rest is made by start.
type hookRules struct {
	url          string
	secret       []byte
	headers      []string // canonical, sorted
	publish      bool
	timeout      time.Duration
	allowPrivate bool

	client  *http.Client
	workers *workers
	onHook  func(time.Duration, error)
	slots   chan struct{}

	mu     sync.Mutex
	answer map[[sha256.Size]byte]*hookCall
}

// hookCall is one question, under way or answered.
type hookCall struct {
	done   chan struct{}
	answer hookAnswer
	err    error
	until  time.Time // while it holds; set before done is closed
}

// hookAnswer is what the hook says.
type hookAnswer struct {
	status    int // 200: allowed; 401 or 403: refused
	principal string
	rights    rights
	granted   bool // rights has grants
}

// hookOpinion is what an open stream keeps of the answer.
type hookOpinion struct {
	alone    bool // the hook alone decides; the credential grants nothing
	question []byte
	answer   hookAnswer
	until    time.Time
}

// start makes h ready to ask.
func (h *hookRules) start(a *Authenticator) {
	u, err := checkURL(h.url)
	if err != nil {
		panic(err) // compile has checked it
	}
	h.client = newClient(u, h.allowPrivate, h.timeout, a.opts.Transport)
	h.workers, h.onHook = a.workers, a.opts.OnHook
	h.slots = make(chan struct{}, maxHookCalls)
	h.answer = map[[sha256.Size]byte]*hookCall{}
}

// sameAs reports whether g, which may be nil, is of the same configuration.
func (h *hookRules) sameAs(g *hookRules) bool {
	return g != nil && h.url == g.url && bytes.Equal(h.secret, g.secret) && slices.Equal(h.headers, g.headers) &&
		h.publish == g.publish && h.timeout == g.timeout && h.allowPrivate == g.allowPrivate
}

// asks reports whether the hook is asked about an action.
func (h *hookRules) asks(do Action) bool {
	return do == Subscribe || do == Publish && h.publish
}

// hookSecret reads a secret: text, or base64 after whsec_.
func hookSecret(text []byte) ([]byte, error) {
	if encoded, ok := bytes.CutPrefix(text, []byte("whsec_")); ok {
		secret, err := base64.StdEncoding.DecodeString(string(encoded))
		if err != nil {
			return nil, errors.New("is not base64 after whsec_")
		}
		text = secret
	}
	if len(text) < minHookSecret {
		return nil, fmt.Errorf("has %d bytes and needs %d: it proves to the hook who asks; make one with: openssl rand -base64 32", len(text), minHookSecret)
	}
	return text, nil
}

// decide asks about a request of p. A principal whose credential grants
// something has passed that already, and the hook can only refuse it, or
// filter what it reads. For one whose credential grants nothing the hook alone
// decides; to an anonymous one it may give a name.
func (h *hookRules) decide(ctx context.Context, t *trail, r *http.Request, p *Principal, do Action, topics []string) (*Principal, *problem.Problem) {
	question, err := h.question(r, p, do, topics)
	if err != nil {
		return nil, t.no("hook", unavailable("the hook cannot be asked"))
	}
	answer, until, err := h.ask(ctx, question)
	if err != nil {
		return nil, t.no("hook", unavailable("the hook did not answer as it should"))
	}
	if refusal := answer.refusal(p, do, topics); refusal != nil {
		return nil, t.no("hook", refusal)
	}
	q := *p
	q.Filters = append(slices.Clip(p.Filters), answer.rights.filters...)
	if answer.rights.payload != nil {
		q.Payload = answer.rights.payload
	}
	q.hook = &hookOpinion{question: question, answer: answer, until: until}
	if p.Grants.IsZero() {
		q.hook.alone = true
		q.Grants = answer.rights.grants
		if !answer.granted {
			q.Grants = grantsFor(do, topics)
		}
		if missing := q.Grants.Missing(do, topics); len(missing) > 0 {
			return nil, t.no("hook", refuse("forbidden", "the hook grants not all of what was asked for").With("action", do).With("topics", missing))
		}
		if answer.principal != "" && p.IsAnonymous() {
			q.Name, q.Method = "hook:"+answer.principal, ByHook
		}
	}
	t.yes("hook", "the hook allows it, until %s", until.UTC().Format(time.RFC3339))
	return &q, nil
}

// grantsFor returns the grants for just these topics.
func grantsFor(do Action, topics []string) Grants {
	if do == Subscribe {
		return narrowed(topics)
	}
	return Grants{Publish: topics}
}

// refusal returns the problem of an answer that refuses, nil if it allows.
func (a *hookAnswer) refusal(p *Principal, do Action, topics []string) *problem.Problem {
	switch {
	case a.status == http.StatusOK:
		return nil
	case a.status == http.StatusForbidden:
		return refuse("forbidden", "the hook refuses it").With("action", do).With("topics", topics)
	case p.IsAnonymous():
		return refuse("unauthenticated", "the hook wants a credential")
	}
	return refuse("invalid-token", "the hook refuses the credential")
}

// question returns what the hook is asked: the same bytes for the same request.
func (h *hookRules) question(r *http.Request, p *Principal, do Action, topics []string) ([]byte, error) {
	headers := map[string]string{}
	for _, name := range h.headers {
		if values := r.Header.Values(name); len(values) > 0 {
			headers[name] = strings.Join(values, ", ")
		}
	}
	sorted := slices.Sorted(slices.Values(topics))
	return json.Marshal(struct {
		Action    Action            `json:"action"`
		Topics    []string          `json:"topics"`
		Principal string            `json:"principal"`
		IP        string            `json:"ip"`
		Headers   map[string]string `json:"headers"`
	}{do, append([]string{}, sorted...), p.Name, clientAddr(r).String(), headers})
}

// ask returns the hook's answer and until when it holds. All who ask the same
// at once share one call.
func (h *hookRules) ask(ctx context.Context, question []byte) (hookAnswer, time.Time, error) {
	id := sha256.Sum256(question)
	h.mu.Lock()
	call := h.answer[id]
	if call == nil || !call.until.IsZero() && !time.Now().Before(call.until) {
		call = &hookCall{done: make(chan struct{})}
		if !h.workers.do(func(ctx context.Context) { h.call(ctx, id, call, question) }) {
			h.mu.Unlock()
			return hookAnswer{}, time.Time{}, errClosed
		}
		h.makeRoom()
		h.answer[id] = call
	}
	h.mu.Unlock()
	if err := await(ctx, call.done); err != nil {
		return hookAnswer{}, time.Time{}, err
	}
	return call.answer, call.until, call.err
}

// makeRoom forgets answers that do not hold any more when there are many, and
// then any that is there. h.mu is held.
func (h *hookRules) makeRoom() {
	if len(h.answer) < maxHookCached {
		return
	}
	now := time.Now()
	for id, call := range h.answer {
		if !call.until.IsZero() && !now.Before(call.until) {
			delete(h.answer, id)
		}
	}
	for id := range h.answer {
		if len(h.answer) < maxHookCached {
			return
		}
		delete(h.answer, id) // one under way goes on for those who wait for it
	}
}

// call asks and keeps the answer. A failure is kept by nobody but those who
// wait for it.
func (h *hookRules) call(ctx context.Context, id [sha256.Size]byte, call *hookCall, question []byte) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, h.timeout)
	defer cancel()
	answer, holds, err := h.post(ctx, question)
	h.mu.Lock()
	call.answer, call.err, call.until = answer, err, time.Now().Add(holds)
	if err != nil && h.answer[id] == call {
		delete(h.answer, id)
	}
	h.mu.Unlock()
	close(call.done)
	h.onHook(time.Since(begin), err)
}

// post makes one call (https://www.standardwebhooks.com has the signature).
func (h *hookRules) post(ctx context.Context, question []byte) (hookAnswer, time.Duration, error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return hookAnswer{}, 0, fmt.Errorf("auth: hook: %d calls are under way: %w", maxHookCalls, ctx.Err())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(question))
	if err != nil {
		return hookAnswer{}, 0, fmt.Errorf("auth: hook: %w", err)
	}
	id, at := "msg_"+rand.Text(), strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", "v1,"+sign(h.secret, id, at, question))
	resp, err := h.client.Do(req)
	if err != nil {
		return hookAnswer{}, 0, fmt.Errorf("auth: hook: %w", err)
	}
	defer resp.Body.Close()
	body, err := readBody(resp.Body, maxHookAnswer)
	switch {
	case err != nil:
		return hookAnswer{}, 0, fmt.Errorf("auth: hook: %w", err)
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return hookAnswer{status: resp.StatusCode}, refusalHolds, nil
	case resp.StatusCode != http.StatusOK:
		return hookAnswer{}, 0, fmt.Errorf("auth: hook: the answer is %s", resp.Status)
	}
	answer, holds, err := parseHookAnswer(body)
	if err != nil {
		return hookAnswer{}, 0, fmt.Errorf("auth: hook: the answer %w", err)
	}
	return answer, holds, nil
}

func sign(secret []byte, id, at string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.", id, at)
	mac.Write(body)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// parseHookAnswer reads the body of an answer with status 200. What it does
// not know is an error: a filter that is misspelt must not be lost in silence.
func parseHookAnswer(body []byte) (hookAnswer, time.Duration, error) {
	answer, holds := hookAnswer{status: http.StatusOK}, hookHolds
	object, err := decodeStrict(body)
	if err != nil {
		return answer, 0, err
	}
	allow, ok := object["allow"].(bool)
	if !ok {
		return answer, 0, errors.New("has no allow that is true or false")
	}
	for name, v := range object {
		var err error
		switch name {
		case "allow":
		case "principal":
			answer.principal, ok = v.(string)
			if !ok || !isPlainText(answer.principal, 256) {
				err = errors.New("has a principal that is no plain text of up to 256 bytes")
			}
		case "grants":
			grants, isObject := v.(map[string]any)
			if _, ok := grants["payload"]; ok || !isObject || grants["filter"] != nil {
				return answer, 0, errors.New("has grants that are no lists of topics")
			}
			var r rights
			r, err = parseRights(grants)
			answer.rights.grants, answer.granted = r.grants, true
		case "filter":
			if v != nil && v != "" {
				answer.rights.filters, err = parseFilter(v)
			}
		case "payload":
			if v != nil {
				answer.rights.payload, err = encodePayload(v)
			}
		case "expires":
			text, _ := v.(string)
			if holds, err = time.ParseDuration(text); err != nil {
				err = errors.New(`has an expires that is no duration such as "60s"`)
			}
		default:
			err = unknownMember(name, []string{"allow", "principal", "grants", "filter", "payload", "expires"})
		}
		if err != nil {
			return answer, 0, err
		}
	}
	if !allow {
		return hookAnswer{status: http.StatusForbidden}, refusalHolds, nil
	}
	return answer, min(max(holds, hookAtLeast), hookAtMost), nil
}

func isPlainText(s string, limit int) bool {
	return len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || 0x7f <= r && r <= 0x9f })
}

// sameRights reports whether two answers let the same stream go on unchanged.
func (a *hookAnswer) sameRights(b *hookAnswer) bool {
	return a.status == b.status && a.principal == b.principal && slices.Equal(a.rights.filters, b.rights.filters) &&
		bytes.Equal(a.rights.payload, b.rights.payload)
}
