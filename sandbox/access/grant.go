package access

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// RequestError says why a request to grant or revoke is refused, in the parts of the network's answer.
type RequestError struct {
	// Message is the sum, Detail what is wrong with the part of the request at Location.
	Message, Detail, Location string
}

func (e *RequestError) Error() string { return e.Message + ": " + e.Detail }

// limits of a grant request.
const (
	maxResources = 4096
	maxPattern   = 1024
)

type permissions struct {
	Channels map[string]Right `json:"channels"`
	Groups   map[string]Right `json:"groups"`
	UUIDs    map[string]Right `json:"uuids"`
	Users    map[string]Right `json:"users"`
	Spaces   map[string]Right `json:"spaces"`
}

func (p permissions) all() [5]map[string]Right {
	return [...]map[string]Right{p.Channels, p.Groups, p.UUIDs, p.Users, p.Spaces}
}

// ParseGrant reads the body of a grant request. The error is a *RequestError.
func ParseGrant(body []byte, now time.Time) (Grant, error) {
	var req struct {
		// A number, also as text, which one SDK sends.
		TTL         json.RawMessage `json:"ttl"`
		Permissions struct {
			Resources permissions    `json:"resources"`
			Patterns  permissions    `json:"patterns"`
			Meta      map[string]any `json:"meta"`
			UUID      string         `json:"uuid"`
		} `json:"permissions"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return Grant{}, &RequestError{"Invalid JSON", "The request body is not a valid grant.", "body"}
	}
	minutes, err := strconv.Atoi(unquote(string(req.TTL)))
	if err != nil || minutes < 1 || time.Duration(minutes) > MaxTTL/time.Minute {
		return Grant{}, &RequestError{"Invalid ttl", "Range should be 1 to 43200 minute(s).", "ttl"}
	}
	p := req.Permissions
	some, count := false, 0
	for kind, sets := range [...][5]map[string]Right{p.Resources.all(), p.Patterns.all()} {
		for _, set := range sets {
			count += len(set)
			for name, right := range set {
				some = some || right != 0
				if right > allRights {
					return Grant{}, &RequestError{"Invalid permissions", fmt.Sprintf("Rights %d of %.92q are unknown.", right, name), "permissions"}
				}
				if kind == 0 {
					continue
				}
				if _, err := regexp.Compile(name); err != nil || len(name) > maxPattern {
					return Grant{}, &RequestError{"Syntax error", fmt.Sprintf("Pattern %.92q is not a regular expression.", name), "permissions.patterns"}
				}
			}
		}
	}
	if !some {
		return Grant{}, &RequestError{"This grant contains no permissions", "What are you granting?", "permissions"}
	}
	if count > maxResources {
		return Grant{}, &RequestError{"Invalid permissions", fmt.Sprintf("More than %d resources.", maxResources), "permissions"}
	}
	return Grant{
		Issued: now, TTL: time.Duration(minutes) * time.Minute, UUID: p.UUID, Meta: p.Meta,
		Channels: p.Resources.Channels, Patterns: p.Patterns.Channels, Groups: p.Resources.Groups, GroupPatterns: p.Patterns.Groups,
		UUIDs: p.Resources.UUIDs, UUIDPatterns: p.Patterns.UUIDs, Users: p.Resources.Users, UserPatterns: p.Patterns.Users,
		Spaces: p.Resources.Spaces, SpacePatterns: p.Patterns.Spaces,
	}, nil
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
