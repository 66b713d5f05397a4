package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tailrace/tailrace/internal/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check and show the server's configuration", Args: cobra.NoArgs}
	check := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration; exit code 3 if anything is",
		Args:  cobra.NoArgs,
	}
	loadCheck := a.configFlags(check)
	check.RunE = a.run(func(context.Context, []string) error {
		_, _, err := loadCheck()
		return err
	})
	print := &cobra.Command{
		Use:   "print",
		Short: "Show each key, its value and where that came from",
		Args:  cobra.NoArgs,
	}
	loadPrint := a.configFlags(print)
	print.RunE = a.run(func(context.Context, []string) error {
		c, _, err := loadPrint()
		if err != nil {
			return err
		}
		for _, key := range c.Keys() {
			if _, err := fmt.Fprintf(a.out, "%-22s %-20s # %s\n", key.Name+":", key.Value, key.Origin); err != nil {
				return err
			}
		}
		return nil
	})
	cmd.AddCommand(check, print)
	return cmd
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
