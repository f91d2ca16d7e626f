package card

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/blocksd/blocksd/network/wire"
)

// The shape of a card: which objects have which keys, and the rules of each value. Nearly every object is closed.

const maxWebApps, maxLabel, maxDescription = 25, 80, 280

var cardFields = []field{
	{"identity", true, fieldsOf("identity", []field{
		{"agentName", true, agentName},
		{"displayName", true, isString},
		{"description", true, isString},
		{"version", true, isString},
		{"provider", true, fieldsOf("provider", []field{
			{"organization", true, isString},
			{"url", false, isString},
		})},
		{"documentationUrl", false, isString},
		{"repositoryUrl", false, isString},
		{"iconUrl", false, isString},
		{"webApps", false, webApps},
	})},
	{"capabilities", true, fieldsOf("capabilities", []field{{"taskKinds", true, taskKinds}})},
	{"tags", true, tags},
	{"runtime", true, fieldsOf("runtime", []field{
		{"handler", true, nonEmptyString},
		{"handlerExport", false, isString},
		{"concurrency", false, integer(1, 0)},
		{"expectedInstances", false, integer(0, 0)},
		{"maxPendingBacklog", false, integer(0, 0)},
		{"maxRunningTimeSec", false, integer(1, 0)},
	})},
	{"io", false, fieldsOf("io", []field{{"inputs", false, inputs}, {"outputs", false, outputs}})},
	{"streams", false, isObject}, // their rules need the task kinds, see streamRules
	{"security", false, fieldsOf("security", []field{
		{"encryption", false, fieldsOf("encryption", []field{
			{"required", true, isBool},
			{"algorithm", true, isString},
			{"consumerKeyRequired", true, isBool},
			{"agentPublicKey", false, isString},
			{"agentKeyUrl", false, isString},
			{"documentationUrl", false, isString},
		})},
	})},
	{"services", false, fieldsOf("services", []field{{"webhooks", false, isBool}})},
	{"extensions", false, isObject},
}

func fieldsOf(what string, fields []field) check {
	return func(c *checker, ptr string, n *node) { c.object(ptr, what, n, fields) }
}

func agentName(c *checker, ptr string, n *node) {
	if !c.is(ptr, "agentName", n, kindString) {
		return
	}
	if n.text == "" {
		c.add(n.at, ptr, "agentName must not be empty: choose a name of letters, digits and underscores")
	} else if err := wire.CheckAgentName(n.text); err != nil {
		c.add(n.at, ptr, "%s", err)
	}
}

func taskKinds(c *checker, ptr string, n *node) {
	if !c.is(ptr, "taskKinds", n, kindArray) {
		return
	}
	if len(n.items) == 0 {
		c.add(n.at, ptr, "taskKinds must name at least one of request and pipe")
	}
	seen := map[string]bool{}
	for i, it := range n.items {
		at := fmt.Sprintf("%s/%d", ptr, i)
		switch {
		case it.kind != kindString || it.text != string(wire.Request) && it.text != string(wire.Pipe):
			c.add(it.at, at, "a task kind must be request or pipe")
		case seen[it.text]:
			c.add(it.at, at, "taskKinds names %s twice", it.text)
		}
		seen[it.text] = true
	}
}

var tagFields = []field{{"id", true, isString}, {"name", true, isString}, {"description", false, isString}, {"examples", false, stringsOf("an example of a tag")}}

func tags(c *checker, ptr string, n *node) {
	if n.kind == kindArray && len(n.items) == 0 {
		c.add(n.at, ptr, "tags must hold at least one tag")
	}
	each(fieldsOf("a tag", tagFields))(c, ptr, n)
	uniqueIDs(c, ptr, n)
}

var outputFields = []field{
	{"id", true, nonEmptyString}, {"contentType", true, contentType}, {"guaranteed", true, isBool},
	{"description", false, nonEmptyString}, {"example", false, nil}, {"schema", false, isObject},
}

func outputs(c *checker, ptr string, n *node) {
	each(fieldsOf("an output", outputFields))(c, ptr, n)
	uniqueIDs(c, ptr, n)
}

func contentType(c *checker, ptr string, n *node) {
	if c.is(ptr, "contentType", n, kindString) && !knownContentType(n.text) {
		c.add(n.at, ptr, "content type %q is not accepted: use a known lower-case type without parameters, such as text/plain, application/json or application/octet-stream", n.text)
	}
}

var webAppFields = []field{{"url", true, webAppURL}, {"label", false, shortString(maxLabel)}, {"description", false, shortString(maxDescription)}}

func webApps(c *checker, ptr string, n *node) {
	if n.kind == kindArray && len(n.items) > maxWebApps {
		c.add(n.at, ptr, "webApps has %d items, at most %d are allowed", len(n.items), maxWebApps)
	}
	each(fieldsOf("a web app", webAppFields))(c, ptr, n)
}

func webAppURL(c *checker, ptr string, n *node) {
	if !c.is(ptr, "url", n, kindString) {
		return
	}
	if why := webAppURLProblem(n.text); why != "" {
		c.add(n.at, ptr, "web app URL %q %s", n.text, why)
	}
}

func webAppURLProblem(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "cannot be parsed"
	}
	host := u.Hostname()
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return "must be absolute and begin with https://"
	case host == "":
		return "has no host"
	case u.Scheme == "http" && !slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, host):
		return "may use http only for localhost, 127.0.0.1 and [::1]: use https"
	case strings.Contains(host, ":") && net.ParseIP(host) == nil:
		return "has a malformed IPv6 address"
	case strings.HasSuffix(u.Host, ":"):
		return "has an empty port"
	}
	if p := u.Port(); p != "" {
		if v, err := strconv.Atoi(p); err != nil || v < 1 || v > 65535 {
			return "must have a port from 1 to 65535"
		}
	}
	return ""
}
