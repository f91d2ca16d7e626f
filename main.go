// Command blocksd puts handlers on the Blocks Network. See package cli.
package main

import (
	"os"

	"github.com/blocksd/blocksd/cli"
)

func main() { os.Exit(cli.Main()) }
