// Package python holds the SDK for handlers in Python, for the daemon to unpack.
package python

import (
	"embed"
	"io/fs"
)

// Each directory is named, because Python leaves what it has compiled beside its sources.
//
//go:embed README.md pyproject.toml run.py blocksd/*.py blocksd/py.typed blocksd/_pb/*.py blocksd/_pb/*.pyi
//go:embed blocksd/project/*.py blocksd/stand_in/blocks_network/*.py blocksd/stand_in/blocks_network/stream/*.py
var all embed.FS

// Files are the package as it is published, without what it depends on.
var Files fs.FS = all
