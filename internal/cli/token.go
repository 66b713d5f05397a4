package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace/internal/auth"
	"github.com/tailrace/tailrace/internal/config"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make, show and check JSON Web Tokens", Args: cobra.NoArgs}
	cmd.AddCommand(a.mintCommand(), a.inspectCommand(), a.verifyCommand())
	return cmd
}

// mintOptions are the flags of token mint.
type mintOptions struct {
	config              string
	secretFile, keyFile string
	alg, kid, typ       string
	issuer, subject     string
	audience            []string
	ttl                 time.Duration
	grants              auth.Grants
	payload, filter     string
	claims              []string
}

func (a *app) mintCommand() *cobra.Command {
	var o mintOptions
	cmd := &cobra.Command{
		Use:   "mint",
		Short: "Sign a token",
		Long: `Signs a token and prints it. With --config the issuer, its audience and its
secret come from the configuration, and the token is checked against it. Else
--iss, --aud and one of --secret-file and --key-file (a private key in PEM) are
needed. It is the bearer's until it expires: hand it over with care.`,
		Example: `  tailrace token mint --config tailrace.yaml --sub u7 --subscribe 'room/*' --subscribe 'user/{sub}/**'
  tailrace token mint --iss https://id.example.com --aud tailrace --key-file private.pem --sub u7 --publish 'orders/**'`,
		Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error { return a.mint(ctx, &o) }),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.config, "config", "", "YAML file of the server that has the issuer (TAILRACE_CONFIG)")
	f.StringVar(&o.issuer, "iss", "", "issuer (default the only one of --config)")
	f.StringArrayVar(&o.audience, "aud", nil, "audience (default the issuer's in --config)")
	f.StringVar(&o.subject, "sub", "", "subject: who bears it")
	f.DurationVar(&o.ttl, "ttl", time.Hour, "how long it lives")
	f.StringVar(&o.secretFile, "secret-file", "", "file with the issuer's secret")
	f.StringVar(&o.keyFile, "key-file", "", "file with the issuer's private key, in PEM")
	f.StringVar(&o.alg, "alg", "", "algorithm (default the usual one of the key)")
	f.StringVar(&o.kid, "kid", "", "id of the key, where the issuer has several")
	f.StringVar(&o.typ, "typ", "JWT", "type of the token: JWT or at+jwt")
	f.StringArrayVar(&o.grants.Subscribe, "subscribe", nil, "topic or pattern that it may read")
	f.StringArrayVar(&o.grants.Publish, "publish", nil, "topic or pattern that it may publish to")
	f.StringArrayVar(&o.grants.Presence, "presence", nil, "topic or pattern whose presence it may see")
	f.StringArrayVar(&o.grants.Admin, "admin", nil, "topic or pattern that it may administer")
	f.StringArrayVar(&o.grants.Gateway, "gateway", nil, "model that it may use")
	f.StringVar(&o.payload, "payload", "", "what presence shows of the bearer, as JSON")
	f.StringVar(&o.filter, "filter", "", "what each event must pass that it reads")
	f.StringArrayVar(&o.claims, "claim", nil, "further claim as name=value; a value that is JSON is taken as that")
	return cmd
}

func (a *app) mint(ctx context.Context, o *mintOptions) error {
	if o.secretFile != "" && o.keyFile != "" {
		return exit(exitUsage, errors.New("--secret-file and --key-file are two keys; give one"))
	}
	settings, err := a.authConfig(o.config)
	if err != nil {
		return err
	}
	key, err := o.key(settings)
	if err != nil {
		return err
	}
	if o.issuer == "" || len(o.audience) == 0 {
		return exit(exitUsage, errors.New("the token needs --iss and --aud, or a --config that has them"))
	}
	claims, err := o.claimSet(time.Now())
	if err != nil {
		return exit(exitUsage, err)
	}
	header := map[string]any{"typ": o.typ}
	if o.kid != "" {
		header["kid"] = o.kid
	}
	token, err := key.Sign(header, claims)
	if err != nil {
		return err
	}
	if settings != nil {
		e, err := explainHere(ctx, *settings, token, auth.Open, nil)
		if err != nil {
			return err
		}
		if !e.Allow {
			return fmt.Errorf("the server would refuse this token: %s", e.Steps[len(e.Steps)-1].Detail)
		}
	}
	_, err = fmt.Fprintln(a.out, token)
	return err
}

// key returns the key that signs, and takes from the configuration what the
// flags do not say of its issuer.
func (o *mintOptions) key(settings *auth.Config) (*auth.SigningKey, error) {
	var issuer *auth.IssuerConfig
	if settings != nil {
		for i := range settings.Issuers {
			if is := &settings.Issuers[i]; is.Issuer == o.issuer || o.issuer == "" && len(settings.Issuers) == 1 {
				issuer = is
			}
		}
		switch {
		case issuer == nil && o.issuer == "":
			return nil, exit(exitUsage, fmt.Errorf("the configuration has %d issuers; say which by --iss", len(settings.Issuers)))
		case issuer == nil:
			return nil, exit(exitUsage, fmt.Errorf("the configuration has no issuer %q", o.issuer))
		}
		o.issuer = issuer.Issuer
		if len(o.audience) == 0 {
			o.audience = issuer.Audience[:1]
		}
	}
	var key *auth.SigningKey
	var err error
	var data []byte
	switch {
	case o.secretFile != "":
		if data, err = auth.ReadSecret(o.secretFile); err == nil {
			key, err = auth.NewSecretKey(data, o.alg)
		}
	case o.keyFile != "":
		if data, err = os.ReadFile(o.keyFile); err == nil {
			key, err = auth.ParseSigningKey(data, o.alg)
		}
	case issuer != nil:
		if key, err = issuer.SigningKey(); err != nil {
			err = fmt.Errorf("%w; give what signs by --secret-file or --key-file", err)
		}
	default:
		return nil, exit(exitUsage, errors.New("nothing signs the token: give --config, --secret-file or --key-file"))
	}
	if err != nil {
		return nil, exit(exitConfiguration, err)
	}
	return key, nil
}

// claimSet returns the token's claims.
func (o *mintOptions) claimSet(now time.Time) (map[string]any, error) {
	if o.ttl < time.Second {
		return nil, errors.New("--ttl is less than a second")
	}
	claims := map[string]any{"iss": o.issuer, "aud": o.audience, "iat": now.Unix(), "exp": now.Add(o.ttl).Unix(), "jti": rand.Text()}
	if len(o.audience) == 1 {
		claims["aud"] = o.audience[0]
	}
	if o.subject != "" {
		claims["sub"] = o.subject
	}
	for _, text := range o.claims {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--claim %q is not name=value", text)
		}
		claims[name] = value
		var v any
		if json.Unmarshal([]byte(value), &v) == nil {
			claims[name] = v
		}
	}
	rights := struct {
		auth.Grants
		Payload json.RawMessage `json:"payload,omitempty"`
		Filter  string          `json:"filter,omitempty"`
	}{o.grants, json.RawMessage(o.payload), o.filter}
	text, err := json.Marshal(rights)
	if err != nil {
		return nil, errors.New("--payload is not JSON")
	}
	var claim map[string]any
	if err := json.Unmarshal(text, &claim); err != nil {
		return nil, err
	}
	if len(claim) > 0 {
		if err := auth.CheckRights(claim); err != nil {
			return nil, err
		}
		claims["tailrace"] = claim
	}
	return claims, nil
}

func (a *app) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect [token]",
		Short: "Show what a token says, without checking it",
		Long:  "Shows header and claims of a token from the command line or, where none is given, from\nstandard input, so that it stays out of the shell's history. Nothing is checked.",
		Args:  cobra.MaximumNArgs(1),
		RunE: a.run(func(_ context.Context, args []string) error {
			token, err := a.token(args)
			if err != nil {
				return err
			}
			header, claims, err := auth.Inspect(token)
			if err != nil {
				return exit(exitFailed, err)
			}
			e := json.NewEncoder(a.out)
			e.SetEscapeHTML(false)
			e.SetIndent("", "  ")
			if err := e.Encode(map[string]any{"header": header, "claims": claims}); err != nil {
				return err
			}
			if exp, ok := claims["exp"].(float64); ok {
				end := time.Unix(int64(exp), 0)
				word := "expires"
				if !time.Now().Before(end) {
					word = "expired"
				}
				a.note("%s %s; the signature is not checked", word, end.Format(time.RFC3339))
			}
			return nil
		}),
	}
}

func (a *app) verifyCommand() *cobra.Command {
	var file, action string
	var topics []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify [token]",
		Short: "Say what a server makes of a token or API key, check by check",
		Long: `Checks a token or API key from the command line or, where none is given, from
standard input. With --config it is checked here by that configuration, else the
server is asked. With --topic it is also said whether it may do the --action.

Exit code 0: it is good. 4: it is refused.`,
		Example: `  tailrace token verify --config tailrace.yaml --topic room/a < token
  tailrace token verify --server https://events.example.com --action publish --topic orders < token`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.run(func(ctx context.Context, args []string) error {
			token, err := a.token(args)
			if err != nil {
				return err
			}
			do := auth.Open
			if len(topics) > 0 {
				do = auth.Action(action)
			}
			e, err := a.explain(ctx, file, token, do, topics)
			if err != nil {
				return err
			}
			if err := a.printExplanation(e, asJSON); err != nil {
				return err
			}
			if !e.Allow {
				return exit(exitRefused, nil)
			}
			return nil
		}),
	}
	a.serverFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "YAML file of the server (TAILRACE_CONFIG)")
	f.StringVar(&action, "action", string(auth.Subscribe), "subscribe, publish, presence, admin or gateway")
	f.StringArrayVar(&topics, "topic", nil, "topic or pattern, or model of the gateway")
	f.BoolVar(&asJSON, "json", false, "the checks as JSON")
	return cmd
}

// token returns the token that args or standard input hold.
func (a *app) token(args []string) (string, error) {
	if len(args) == 1 && args[0] != "-" {
		return args[0], nil
	}
	if isTerminal(a.in) {
		a.note("reading the token from the terminal; end with Ctrl-D")
	}
	const limit = 64 << 10
	data, err := io.ReadAll(io.LimitReader(a.in, limit))
	token := strings.TrimSpace(string(data))
	switch {
	case err != nil:
		return "", err
	case token == "" || len(data) == limit:
		return "", exit(exitUsage, errors.New("standard input has no token"))
	}
	return token, nil
}

// authConfig returns the section auth of a configuration, nil if no file is
// named.
func (a *app) authConfig(file string) (*auth.Config, error) {
	if file == "" {
		file = a.getenv("TAILRACE_CONFIG")
	}
	if file == "" {
		return nil, nil
	}
	c, err := config.Load(config.Sources{File: file, Env: a.env})
	if err != nil {
		return nil, exit(exitConfiguration, err)
	}
	return &c.Auth, nil
}

// explain judges a token by the configuration, or has the server do it.
func (a *app) explain(ctx context.Context, file, token string, action auth.Action, topics []string) (*auth.Explanation, error) {
	settings, err := a.authConfig(file)
	switch {
	case err != nil:
		return nil, err
	case settings != nil && a.server != "":
		return nil, exit(exitUsage, errors.New("--config checks here and --server there; give one"))
	case settings != nil:
		return explainHere(ctx, *settings, token, action, topics)
	}
	query := url.Values{"topic": topics}
	if action != auth.Open {
		query.Set("action", string(action))
	}
	target, err := a.url("/v1/explain", query)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	body, err := do(req)
	if err != nil {
		return nil, failure(err)
	}
	var e auth.Explanation
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, fmt.Errorf("the server's answer is no explanation: %w", err)
	}
	return &e, nil
}

// explainHere judges a token as a server with these settings would. A hook is
// not asked: what it says depends on the request.
func explainHere(ctx context.Context, settings auth.Config, token string, do auth.Action, topics []string) (*auth.Explanation, error) {
	settings.Hook = auth.HookConfig{}
	authenticator, err := auth.New(settings, nil)
	if err != nil {
		return nil, exit(exitConfiguration, err)
	}
	defer authenticator.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return nil, err
	}
	return authenticator.ExplainToken(req, token, do, topics), nil
}

func (a *app) printExplanation(e *auth.Explanation, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(a.out).Encode(e)
	}
	p := newPrinter(a.out, false, isTerminal(a.out), a.getenv("NO_COLOR") != "")
	var b strings.Builder
	for _, s := range e.Steps {
		word := "ok"
		if !s.OK {
			word = "NO"
		}
		fmt.Fprintf(&b, "%s  %-10s  %s\n", word, s.Check, p.safe(s.Detail))
	}
	if e.Principal != "" {
		fmt.Fprintf(&b, "principal  %s\n", p.safe(e.Principal))
	}
	if e.Grants != nil {
		text, err := json.Marshal(e.Grants)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "grants     %s\n", text)
	}
	for _, filter := range e.Filter {
		fmt.Fprintf(&b, "filter     %s\n", p.safe(filter))
	}
	for _, selector := range e.Matched {
		fmt.Fprintf(&b, "granted by %s\n", p.safe(selector))
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}
