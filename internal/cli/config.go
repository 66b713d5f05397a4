package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tailrace/tailrace/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Make, check and show the server's configuration", Args: cobra.NoArgs}
	cmd.AddCommand(a.configInit(), a.configCheck(), a.configPrint(),
		a.configDocument("schema", "Print the JSON Schema of the configuration file", config.Schema),
		a.configDocument("reference", "Print what every key says, as Markdown", config.Reference))
	return cmd
}

func (a *app) configInit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init [file]",
		Short: "Write a configuration file to start from",
		Long: `Prints a file with every key, its help and its default; those to fill in first
are not commented out. With a file it writes there, and never over one that
exists; only its owner may read it.`,
		Example: "  tailrace config init tailrace.yaml",
		Args:    cobra.MaximumNArgs(1),
	}
	dev := cmd.Flags().Bool("dev", false, "for this machine only, without credentials")
	cmd.RunE = a.run(func(_ context.Context, args []string) error {
		if len(args) == 0 {
			_, err := a.out.Write(config.Starter(*dev))
			return err
		}
		f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(config.Starter(*dev))
		return errors.Join(err, f.Close())
	})
	return cmd
}

func (a *app) configCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration; exit code 3 if anything is",
		Args:  cobra.NoArgs,
	}
	load := a.configFlags(cmd)
	cmd.RunE = a.run(func(context.Context, []string) error {
		_, _, err := load()
		return err
	})
	return cmd
}

func (a *app) configPrint() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Show the configuration that is in force, as a file, or where each value came from",
		Long:  "Prints the configuration that is in force as a file that means the same, but for secrets, which it hides.",
		Args:  cobra.NoArgs,
	}
	load := a.configFlags(cmd)
	origin := cmd.Flags().Bool("origin", false, "a line for each key, with where its value came from")
	cmd.RunE = a.run(func(context.Context, []string) error {
		c, _, err := load()
		if err != nil {
			return err
		}
		if !*origin {
			_, err = a.out.Write(c.YAML())
			return err
		}
		return a.printOrigins(c.Keys())
	})
	return cmd
}

// valueWidth is where the column of origins begins, if the value is not longer.
const valueWidth = 20

func (a *app) printOrigins(keys []config.Key) error {
	width := 0
	for _, key := range keys {
		width = max(width, len(key.Name)+1)
	}
	for _, key := range keys {
		if _, err := fmt.Fprintf(a.out, "%-*s %-*s # %s\n", width, key.Name+":", valueWidth, key.YAML, key.Origin); err != nil {
			return err
		}
	}
	return nil
}

// configDocument is a command that prints a document about all keys.
func (a *app) configDocument(use, short string, document func() []byte) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: a.run(func(context.Context, []string) error {
			_, err := a.out.Write(document())
			return err
		}),
	}
}

// configFlags gives cmd the flags --dev and --config and one for each key, and
// returns the function that loads the configuration from them.
func (a *app) configFlags(cmd *cobra.Command) (load func() (c *config.Config, dev bool, err error)) {
	f := cmd.Flags()
	f.SortFlags = false
	var src config.Sources
	f.BoolVar(&src.Dev, "dev", false, "development: this machine only, no credentials, a start page, no waiting at the end")
	f.StringVar(&src.File, "config", "", "YAML file (TAILRACE_CONFIG)")
	src.Flags = map[string]string{}
	for _, key := range config.Default(false).Keys() {
		flag := f.VarPF(&keyFlag{key: key, given: src.Flags}, key.Name, "", key.Help)
		flag.DefValue = key.Value
		if key.Kind == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
	return func() (*config.Config, bool, error) {
		if src.File == "" {
			src.File = a.getenv("TAILRACE_CONFIG")
		}
		src.Env = a.env
		c, err := config.Load(src)
		if err != nil {
			return nil, src.Dev, exit(exitConfiguration, err)
		}
		return c, src.Dev, nil
	}
}

// keyFlag is the flag of a key. It only takes the text: what it means is for
// the configuration to say, together with all else that is wrong.
type keyFlag struct {
	key   config.Key
	given map[string]string
}

var _ pflag.Value = (*keyFlag)(nil)

func (k *keyFlag) Set(text string) error { k.given[k.key.Name] = text; return nil }
func (k *keyFlag) String() string        { return k.given[k.key.Name] }
func (k *keyFlag) Type() string          { return k.key.Kind }
