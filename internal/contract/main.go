// Command contract puts sse.Client behind HTTP, so that language-neutral contract tests for
// clients of event streams can drive it.
//
//	go run ./internal/contract -listen 127.0.0.1:8000
//
// A harness creates clients with POST /, sends them commands, and gets what they see as callbacks.
// DELETE / ends the program.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8000", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err == nil {
		slog.Info("contract service", "url", "http://"+l.Addr().String())
		err = run(ctx, l, slog.Default())
	}
	if err != nil {
		slog.Error("contract service", "err", err)
		os.Exit(1)
	}
}

// run serves on l until ctx ends or a harness sends DELETE /.
func run(ctx context.Context, l net.Listener, logger *slog.Logger) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := newService(stop, logger)
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		s.close()
		return err
	case <-ctx.Done():
	}
	// The answer to DELETE / is still on its way.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := srv.Shutdown(grace)
	s.close()
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		return served
	}
	return err
}
