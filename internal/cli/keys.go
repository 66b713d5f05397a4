package cli

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tailrace/tailrace/internal/auth"
)

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Make API keys", Args: cobra.NoArgs}
	var asJSON bool
	create := &cobra.Command{
		Use:   "new <name>",
		Short: "Make an API key, and the entry of the configuration that admits it",
		Long: `Makes an API key. It is shown once, on stdout: give it to who publishes or
subscribes. The configuration gets its hash only, which stderr shows as an
entry of auth.keys.`,
		Example: "  tailrace keys new shop",
		Args:    cobra.ExactArgs(1),
		RunE: a.run(func(_ context.Context, args []string) error {
			key, hash, err := auth.NewKey(args[0])
			if err != nil {
				return exit(exitUsage, err)
			}
			if asJSON {
				return json.NewEncoder(a.out).Encode(struct {
					Name string `json:"name"`
					Key  string `json:"key"`
					Hash string `json:"hash"`
				}{args[0], key, hash})
			}
			if _, err := fmt.Fprintln(a.out, key); err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.err, `
Give this key to its user; it is not shown again. The configuration has its hash:

auth:
  keys:
    - name: %s
      hash: %s
      grants: {publish: ["%[1]s/**"], subscribe: ["%[1]s/**"]}

`, args[0], hash)
			return err
		}),
	}
	create.Flags().BoolVar(&asJSON, "json", false, "key and hash as JSON")
	cmd.AddCommand(create)
	return cmd
}
