package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace"
	"github.com/tailrace/tailrace/internal/config"
	"github.com/tailrace/tailrace/internal/server"
	"github.com/tailrace/tailrace/internal/startpage"
	"github.com/tailrace/tailrace/pebblelog"
)

func (a *app) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Runs the server. With --dev it listens on this machine only, needs no
credentials, shows a start page, and keeps its log in ./data. Without --dev the
section auth has to say who may do what: an API key, an issuer of tokens, a hook,
or what needs no credentials. tailrace config init writes a file to start from.

Every key is also a variable (--drain.window is TAILRACE_DRAIN_WINDOW) and a key
of the file that --config names. A flag wins over a variable, that over the file.
SIGHUP reloads auth and policies; streams that they do not allow any more end.
The first SIGINT or SIGTERM drains, the second ends the process now; what was
acknowledged is on disk either way.`,
		Example: "  tailrace serve --dev\n  tailrace serve --config tailrace.yaml",
		Args:    cobra.NoArgs,
	}
	load := a.configFlags(cmd)
	cmd.RunE = a.run(func(ctx context.Context, _ []string) error {
		c, dev, err := load()
		if err != nil {
			return err
		}
		return a.serve(ctx, c, dev, load)
	})
	return cmd
}

// serve runs until ctx ends and the server has drained.
func (a *app) serve(ctx context.Context, c *config.Config, dev bool, load func() (*config.Config, bool, error)) error {
	logger := a.logger(c)
	var srv *server.Server // set before the hub has a stream
	log, err := openLog(c, logger)
	if err != nil {
		return err
	}
	hub, err := tailrace.New(&tailrace.Options{
		Log:            log,
		Rules:          keepAll,
		Heartbeat:      c.Stream.Heartbeat,
		StallTimeout:   c.Stream.StallTimeout,
		RingBytes:      int64(c.Memory.Ring),
		ReplayBytes:    int64(c.Memory.Replay),
		MaxSelectors:   c.Limits.Selectors,
		PublishTimeout: c.Publish.Timeout,
		DrainWindow:    max(c.Drain.Window, time.Millisecond), // 0 would be the hub's default
		Logger:         logger,

		MaxStreams:             c.Limits.Streams,
		MaxStreamsPerPrincipal: c.Limits.StreamsPerPrincipal,
		MaxStreamsPerAddr:      c.Limits.StreamsPerAddress,
		ConnectRate:            c.Limits.ConnectRate,
		ConnectBurst:           c.Limits.ConnectBurst,
		MaxConnectionAge:       c.Stream.MaxAge,

		DisableFastEngine: c.Engine == "portable",

		OnConnect: func(s tailrace.ConnInfo) { logStream(logger, "stream opened", s) },
		OnDisconnect: func(s tailrace.ConnInfo) {
			srv.StreamEnded(s)
			logStream(logger, "stream ended", s)
		},
	})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	opts := &server.Options{
		Addr:           c.Listen.HTTP,
		Dev:            dev,
		Auth:           c.Auth,
		H2C:            c.Listen.H2C,
		CertFile:       c.Listen.TLS.CertFile,
		KeyFile:        c.Listen.TLS.KeyFile,
		CORSOrigins:    c.CORS.Origins,
		TrustedProxies: c.Listen.Proxies(),
		CORSMaxAge:     c.CORS.MaxAge,
		Rules:          c.Rules(),
		MaxSelectors:   c.Limits.Selectors,
		DrainDelay:     orNever(c.Drain.Delay),
		DrainMax:       orNever(c.Drain.Max),
		Version:        thisBuild().Version,
		NoMetrics:      !c.Telemetry.Metrics,
		Logger:         logger,
	}
	if dev {
		opts.Pages = startPage(c, hub)
	}
	srv, err = server.New(hub, opts)
	var addr net.Addr
	if err == nil {
		addr, err = srv.Listen()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w (stop what listens there, or choose another --listen.http)", err)
	}
	if err != nil {
		return errors.Join(err, hub.Shutdown(ctx), log.Close())
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // before anybody is told that the server is there
	defer signal.Stop(hangup)
	a.welcome(c, addr, dev)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go a.keepMemory(ctx, hub)
	go reload(ctx, hangup, srv, load, logger)
	return srv.Run(ctx)
}

// reload puts auth and policies in force anew on each hangup, until ctx ends. A
// configuration with any fault changes nothing.
func reload(ctx context.Context, hangup <-chan os.Signal, srv *server.Server, load func() (*config.Config, bool, error), logger *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		c, _, err := load()
		if err == nil {
			err = srv.Reload(c.Auth, c.Rules())
		}
		if err != nil {
			logger.Error("the configuration stays as it was", "error", err)
			continue
		}
		logger.Info("auth and policies are reloaded; all else takes a restart")
	}
}

// keepAll is in force from the opening of the log until the server has read
// from it the policies that were set over the API: events that these keep must
// not go by another policy meanwhile.
var keepAll = []tailrace.TopicRule{
	{Pattern: "**", Policy: tailrace.Policy{MaxAge: -1, MaxBytes: -1, IdleDelete: -1}},
	{Pattern: "$config/**", Policy: tailrace.Policy{MaxAge: -1, MaxBytes: -1, IdleDelete: -1}},
	{Pattern: "$revocations/**", Policy: tailrace.Policy{MaxAge: -1, MaxBytes: -1, IdleDelete: -1}},
	{Pattern: "$revocations", Policy: tailrace.Policy{MaxAge: -1, MaxBytes: -1, IdleDelete: -1}},
	{Pattern: "$tickets", Policy: tailrace.Policy{MaxAge: -1, MaxBytes: -1, IdleDelete: -1}},
}

// orNever is d in the server's options, where negative is none and 0 the default.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func openLog(c *config.Config, logger *slog.Logger) (tailrace.Log, error) {
	if c.Log.Engine == "memory" {
		return tailrace.NewMemoryLog(nil), nil
	}
	log, err := pebblelog.Open(c.Log.Dir, &pebblelog.Options{
		Rules:      logRules(keepAll),
		CursorLife: c.Log.CursorLife,
		MaxDisk:    int64(c.Log.MaxDisk),
		MinFree:    int64(c.Log.MinFree),
		Logger:     logger,
	})
	if err != nil {
		return nil, err
	}
	return log, nil
}

// logRules returns the log's part of rules.
func logRules(rules []tailrace.TopicRule) []tailrace.Rule {
	list := make([]tailrace.Rule, len(rules))
	for i, r := range rules {
		list[i] = tailrace.Rule{Pattern: r.Pattern, Policy: r.Policy}
	}
	return list
}

func startPage(c *config.Config, hub *tailrace.Hub) http.Handler {
	version, started := thisBuild().Version, time.Now()
	dir := c.Log.Dir
	if c.Log.Engine == "memory" {
		dir = ""
	}
	return startpage.New(func() startpage.Status {
		stats := hub.Stats()
		return startpage.Status{
			Version:     version,
			Engine:      c.Log.Engine,
			Dir:         dir,
			Started:     started,
			Connections: stats.Connections,
			Published:   stats.Published,
			Delivered:   stats.Delivered,
		}
	})
}

// welcome tells where the server is and how to try it.
func (a *app) welcome(c *config.Config, addr net.Addr, dev bool) {
	scheme, trust := "http", ""
	if c.Listen.TLS.CertFile != "" {
		scheme, trust = "https", "--cacert "+c.Listen.TLS.CertFile+" "
	}
	where := c.Log.Dir
	if c.Log.Engine == "memory" {
		where = "memory, until the process ends"
	}
	base := scheme + "://" + addr.String()
	if !dev {
		fmt.Fprintf(a.err, "tailrace %s is at %s; the log is in %s\n", thisBuild().Version, base, where)
		return
	}
	fmt.Fprintf(a.err, `
  Tailrace %s is at %s

  publish    curl %s-d hello %s/v1/topics/demo
  subscribe  curl %s-N '%s/v1/topics/demo?from=start'

  The log is in %s. Development mode: this machine only, no credentials.

`, thisBuild().Version, base+"/", trust, base, trust, base, where)
}

// logger writes to stderr: text for people, JSON for machines.
func (a *app) logger(c *config.Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Telemetry.Log.Level)); err != nil {
		level = slog.LevelInfo // not reached: the configuration admits known levels only
	}
	opts := &slog.HandlerOptions{Level: level}
	format := c.Telemetry.Log.Format
	if format == "text" || format == "auto" && isTerminal(a.err) {
		return slog.New(slog.NewTextHandler(a.err, opts))
	}
	return slog.New(slog.NewJSONHandler(a.err, opts))
}

// logStream writes a line about a stream. Texts of clients are attributes,
// which slog quotes.
func logStream(logger *slog.Logger, message string, s tailrace.ConnInfo) {
	if !logger.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	args := []any{"conn", s.ID, "addr", s.Addr, "protocol", s.Protocol,
		"topics", strings.Join(append(s.Select.Topics[:len(s.Select.Topics):len(s.Select.Topics)], s.Select.Patterns...), " ")}
	if s.Reason != "" {
		args = append(args, "reason", s.Reason, "events", s.SentEvents, "bytes", s.SentBytes,
			"duration", time.Since(s.Opened).Round(time.Millisecond).String())
	}
	logger.Debug(message, args...)
}
