package config_test

import (
	"testing"

	"github.com/blocksd/blocksd/daemon/config"
)

func TestNamedDefaults(t *testing.T) {
	c := config.Default()
	if c.Socket != config.DefaultSocket || c.Isolation.Users != config.DefaultUsers {
		t.Errorf("the defaults are %s and %s", c.Socket, c.Isolation.Users)
	}
}
