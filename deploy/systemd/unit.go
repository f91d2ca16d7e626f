// Package systemd holds the unit file that comes with blocksd, so that an installed one can be compared with it.
package systemd

import _ "embed"

// Unit is the text of blocksd.service.
//
//go:embed blocksd.service
var Unit string
