// Package node holds the SDK for handlers in JavaScript and TypeScript, for the daemon to unpack.
package node

import (
	"embed"
	"io/fs"
)

//go:embed package.json package-lock.json run.mjs README.md lib
var all embed.FS

// Files are the SDK as it is published, without what it depends on.
var Files fs.FS = all
