// Command tailrace is the server and its command line.
package main

import (
	"os"

	"github.com/tailrace/tailrace/internal/cli"
)

func main() { os.Exit(cli.Main()) }
