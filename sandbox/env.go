package sandbox

import (
	"fmt"
	"strings"

	"github.com/blocksd/blocksd/internal/atomicfile"
	"github.com/blocksd/blocksd/internal/shell"
)

// EnvVar is one variable for clients of the sandbox.
type EnvVar struct{ Name, Value string }

// Env returns what clients need, in the order in which it is written.
func (s *Sandbox) Env() []EnvVar {
	further := make([]string, 0, len(s.keys.Orgs))
	for _, org := range s.keys.Orgs[1:] {
		further = append(further, org.APIKey)
	}
	return []EnvVar{
		{"BLOCKS_CDM_URL", s.CDMURL()},
		{"BLOCKS_API_KEY", s.APIKey()},
		{"BLOCKSD_PUBNUB_ORIGIN", s.Addr()},
		{"BLOCKSD_SANDBOX_TOKEN", s.keys.AdminToken},
		{"BLOCKSD_SANDBOX_OPEN_KEYS", s.keys.Open.PublishKey + ":" + s.keys.Open.SubscribeKey},
		{"BLOCKSD_SANDBOX_PAM_KEYS", s.keys.PAM.PublishKey + ":" + s.keys.PAM.SubscribeKey + ":" + s.keys.PAMSecret},
		{"BLOCKSD_SANDBOX_KEYS", strings.Join(further, ",")},
	}
}

// WriteEnvFile writes the variables as lines that a shell can source. The file appears whole or not at all, and only
// its owner can read it.
func WriteEnvFile(path string, vars []EnvVar) error {
	var b strings.Builder
	for _, v := range vars {
		fmt.Fprintf(&b, "%s=%s\n", v.Name, shell.Word(v.Value))
	}
	if err := atomicfile.Write(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write environment file %s: %w", path, err)
	}
	return nil
}

// Addr is host:port.
func (s *Sandbox) Addr() string { return s.listener.Addr().String() }

// URL of the Blocks backend.
func (s *Sandbox) URL() string { return "http://" + s.Addr() }

// CDMURL is what BLOCKS_CDM_URL must be for the SDKs.
func (s *Sandbox) CDMURL() string { return s.URL() + "/api/v1/cdm" }

// APIKey of the organization that owns the agents which are registered by Register.
func (s *Sandbox) APIKey() string { return s.keys.Orgs[0].APIKey }
