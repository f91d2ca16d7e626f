package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/deployment"
)

// registry is the Blocks API of the network that the environment names, with a key of its.
type registry struct {
	*backend.Client
	deployment deployment.Deployment
	// key is empty where there is none and none is needed.
	key config.FoundKey
	// login is the stored one that key is from or belongs to; its zero value for none.
	login config.Login
}

// registryCommand adds --json to a command that talks to the registry, and connects before run. Without a key it refuses,
// unless a key is not needed.
func (a *app) registryCommand(cmd *cobra.Command, needsKey bool, run func(ctx context.Context, r *registry, asJSON bool, args []string) error) *cobra.Command {
	var asJSON bool
	cmd.Flags().BoolVar(&asJSON, "json", false, "machine-readable output")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := a.interruptible(cmd.Context())
		defer cancel()
		r, err := a.openRegistry(ctx, needsKey)
		if err == nil {
			defer r.Close()
			err = run(ctx, r, asJSON, args)
		}
		err = because(ctx, err)
		switch own, ok := errors.AsType[*exitError](err); {
		case err == nil, ok && own.silent, errors.Is(err, errInterrupted):
			return err
		case strings.HasPrefix(err.Error(), commandName(cmd)+" "), strings.HasPrefix(err.Error(), commandName(cmd)+":"):
			return err // it begins with what was attempted
		}
		return fmt.Errorf("%s: %w", commandName(cmd), err)
	}
	return cmd
}

// openRegistry finds the network and the key: what the environment says, else the login of Blocks' own tool.
func (a *app) openRegistry(ctx context.Context, needsKey bool) (*registry, error) {
	where, found, err := a.credentials()
	if errors.Is(err, config.ErrNoKey) {
		err = nil
		if needsKey {
			err = errNoKey
		}
	}
	if err != nil {
		return nil, usage(err)
	}
	network, err := where.Fetch(ctx, nil)
	if err != nil {
		return nil, err
	}
	api, err := network.NewBackend(nil, nil)
	if err != nil {
		return nil, err
	}
	r := &registry{Client: api, deployment: network, key: found}
	if login, err := config.StoredLogin(a.getenv); err == nil && login.Key == found.Key {
		r.login = login
	}
	return r, nil
}

// credentials returns where the network is and the API key for it; the error is config.ErrNoKey if there is no key. When no
// variable names a network or a key, both are those of the stored login.
func (a *app) credentials() (deployment.Config, config.FoundKey, error) {
	where := deployment.FromEnvironment(a.getenv)
	for _, address := range []struct{ variable, why string }{
		{"BLOCKS_CDM_URL", config.WrongURL(where.CDMURL)},
		{"BLOCKS_BACKEND_URL", config.WrongURL(where.BackendURL)},
		{"BLOCKSD_PUBNUB_ORIGIN", config.WrongOrigin(where.PubNubOrigin)},
	} {
		if address.why != "" {
			return where, config.FoundKey{}, fmt.Errorf("the variable %s %s", address.variable, address.why)
		}
	}
	if where.CDMURL == "" && where.BackendURL == "" && a.getenv("BLOCKS_API_KEY") == "" {
		if login, err := config.StoredLogin(a.getenv); err == nil && login.BaseURL != "" {
			where.CDMURL, where.BackendURL = login.BaseURL+"/api/v1/cdm", login.BaseURL
		}
	}
	var c config.Config
	c.Network.CDMURL, c.Network.BackendURL = where.CDMURL, where.BackendURL
	found, err := config.NewKeys(c, a.getenv).Find("")
	return where, found, err
}

// refusedFor is an answer of the network that the words of the command explain better than its own.
func refusedFor(err error, status int) bool {
	e, ok := errors.AsType[*backend.Error](err)
	return ok && e.Status == status
}

// notYours turns the refusal of an agent of another organization into what to do.
func notYours(err error, name string) error {
	if refusedFor(err, http.StatusForbidden) {
		return fmt.Errorf("%w; the agent %s is another organization's, or this key may not change it", err, name)
	}
	return err
}
