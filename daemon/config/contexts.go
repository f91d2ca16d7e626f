package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/blocksd/blocksd/internal/smallfile"
	"github.com/blocksd/blocksd/internal/textfile"
)

// defaultProfile is the profile that always exists: the public network.
const defaultProfile = "blocks-network"

// maxContexts is the newest form of the file that is understood, maxContextsBytes far more than any has.
const (
	maxContexts      = 3
	maxContextsBytes = 1 << 20
)

// Login is what `blocks login` of Blocks' own tool has left on this machine.
type Login struct {
	Path, Profile string
	// BaseURL is the address of the deployment that the key belongs to, "" for the public network.
	BaseURL        string
	OrgID, OrgName string
	Key, KeyID     string
	// Expires is zero for a key without an end.
	Expires time.Time
}

// StoredLogin reads the file of Blocks' own tool: the profile that BLOCKS_PROFILE names, else the active one. The error is
// ErrNoKey where it holds no key. Errors never hold a key.
func StoredLogin(getenv func(string) string) (Login, error) {
	path := contextsPath(getenv)
	if path == "" {
		return Login{}, ErrNoKey
	}
	data, err := smallfile.Read(path, maxContextsBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return Login{}, ErrNoKey
	}
	if err == nil {
		data, err = textfile.Decode(data)
	}
	if err != nil {
		return Login{}, fmt.Errorf("read the stored login %s: %w", path, err)
	}
	login, err := parseContexts(data, getenv("BLOCKS_PROFILE"))
	login.Path = path
	if err != nil && !errors.Is(err, ErrNoKey) {
		err = fmt.Errorf("read the stored login %s: %w", path, err)
	}
	return login, err
}

// contextsPath is where the tool keeps its logins; "" without a home.
func contextsPath(getenv func(string) string) string {
	if dir := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "blocks", "contexts.json")
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".config", "blocks", "contexts.json")
	}
	return ""
}

type contexts struct {
	Version  int    `json:"schema_version"`
	Active   string `json:"active"`
	Profiles map[string]struct {
		BaseURL    string `json:"base_url"`
		DefaultOrg string `json:"default_org_id"`
		Orgs       map[string]struct {
			Name    string    `json:"org_name"`
			APIKey  string    `json:"api_key"`
			KeyID   string    `json:"key_id"`
			Expires time.Time `json:"expires_at"`
		} `json:"orgs"`
	} `json:"profiles"`
}

// parseContexts finds the key of a profile, "" for the active one: that of its default organization, else its only one.
func parseContexts(data []byte, profile string) (Login, error) {
	var c contexts
	if err := json.Unmarshal(data, &c); err != nil {
		return Login{}, errors.New("it is not the JSON that Blocks' own tool writes: run blocks login again")
	}
	if c.Version > maxContexts {
		return Login{}, fmt.Errorf("its form %d is newer than this program: set BLOCKS_API_KEY instead", c.Version)
	}
	named := profile != ""
	switch {
	case named:
	case c.Active != "":
		profile = c.Active
	default:
		profile = defaultProfile
	}
	p, ok := c.Profiles[profile]
	if !ok {
		if named {
			return Login{}, fmt.Errorf("it has no profile %q, which BLOCKS_PROFILE names: correct that, or set BLOCKS_API_KEY", profile)
		}
		return Login{}, ErrNoKey
	}
	login := Login{Profile: profile, BaseURL: strings.TrimRight(p.BaseURL, "/"), OrgID: p.DefaultOrg}
	if _, ok := p.Orgs[login.OrgID]; !ok && len(p.Orgs) == 1 {
		for id := range p.Orgs {
			login.OrgID = id
		}
	}
	org, ok := p.Orgs[login.OrgID]
	if !ok || org.APIKey == "" {
		if len(p.Orgs) > 1 {
			return Login{}, fmt.Errorf("its profile %s has keys of %d organizations and none is the default: set BLOCKS_API_KEY", profile, len(p.Orgs))
		}
		return Login{}, ErrNoKey
	}
	key, why := parseKey([]byte(org.APIKey))
	if why != "" {
		return Login{}, fmt.Errorf("its profile %s does not hold an API key: %s", profile, why)
	}
	login.OrgName, login.Key, login.KeyID, login.Expires = org.Name, key, org.KeyID, org.Expires
	return login, nil
}

// KeyFor returns the key, if it belongs to the network that these addresses lead to: a key never goes to another one.
func (l Login) KeyFor(cdmURL, backendURL string) (string, error) {
	wanted := backendURL
	if wanted == "" {
		wanted = cdmURL
	}
	if wanted == "" && l.BaseURL == "" || wanted != "" && l.BaseURL != "" && origin(wanted) == origin(l.BaseURL) {
		return l.Key, nil
	}
	return "", fmt.Errorf("the stored login %s is for %s, and not for %s: set BLOCKS_API_KEY to a key of that network",
		l.Path, orPublic(l.BaseURL), orPublic(wanted))
}

func orPublic(address string) string {
	if address == "" {
		return "the public network"
	}
	return origin(address)
}

// origin is scheme and host of an address.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) {
		return address
	}
	return u.Scheme + "://" + u.Host
}
