package cli

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) healthcheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a server whether it is ready, for images without a shell",
		Long:  "Asks the server's /readyz. Exit code 0: ready. 6: it does not answer, or not with ready.",
		Args:  cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, _ []string) error {
			target, err := a.url("/readyz", nil)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
			if err != nil {
				return err
			}
			if _, err := do(req); err != nil {
				return exit(exitUnhealthy, fmt.Errorf("not ready: %w", err))
			}
			return nil
		}),
	}
	a.serverFlag(cmd)
	return cmd
}
