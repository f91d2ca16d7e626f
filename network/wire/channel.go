package wire

import (
	"fmt"
	"regexp"
	"strings"
)

// Anonymous is the owner of a task for which the network names none.
const Anonymous = "anonymous"

var agentNamePattern = regexp.MustCompile(`^[a-zA-Z0-9_]+$`)

// CheckAgentName returns an error unless name can name an agent: letters, digits and underscores, not empty. Names
// are case-sensitive.
func CheckAgentName(name string) error {
	if !agentNamePattern.MatchString(name) {
		return fmt.Errorf("agent name %q must consist of letters, digits and underscores", name)
	}
	return nil
}

// TaskChannel is where the events of a task are published and stored.
func TaskChannel(orgID, taskID string) string { return "u." + orgID + "." + taskID }

// SetupChannel takes the stream set-up requests of a task.
func SetupChannel(orgID, taskID string) string { return "setup." + orgID + "." + taskID }

// StreamChannel carries the data of one stream.
func StreamChannel(agentName, streamID string) string { return "stream." + agentName + "." + streamID }

// ControlChannel is the channel on which the network addresses the instances of an agent. Only the network's own side
// (the sandbox) may derive it; an instance uses the name that it was given when it connected, because the agent id is
// not the agent name.
func ControlChannel(agentID string) string { return "agent." + agentID + ".control" }

// SplitTaskChannel is the inverse of TaskChannel.
func SplitTaskChannel(channel string) (orgID, taskID string, ok bool) {
	rest, found := strings.CutPrefix(channel, "u.")
	if !found {
		return "", "", false
	}
	orgID, taskID, ok = strings.Cut(rest, ".")
	return orgID, taskID, ok && orgID != "" && taskID != ""
}

// ControlFilter is the subscribe filter of an instance on its control channel: what is addressed to it and what is
// addressed to all. The flag "broadcast" is the text "true", not a boolean.
func ControlFilter(instanceID string) string {
	return fmt.Sprintf(`meta.instance == '%s' || meta.broadcast == "true"`, instanceID)
}
