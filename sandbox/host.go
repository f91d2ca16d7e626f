package sandbox

import (
	"fmt"
	"net"
	"net/http"
	"strings"
)

// localHost reports whether the Host of a request names this machine by an address or as localhost. A page of the web can
// have its own host name lead to this machine (DNS rebinding), and would then reach the network, its keys and its handlers
// as if it stood here; but it cannot send another Host.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}

func refuseHost(w http.ResponseWriter, host string) {
	http.Error(w, fmt.Sprintf("The sandbox answers requests to an IP address or localhost only, not to %q: use the address that it printed.", host), http.StatusMisdirectedRequest)
}
