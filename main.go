// Command blocksd puts handlers on the Blocks Network. See package daemon/cli.
package main

import (
	"os"

	"github.com/blocksd/blocksd/daemon/cli"
)

func main() { os.Exit(cli.Main()) }
