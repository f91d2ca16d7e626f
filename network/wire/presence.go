package wire

import (
	"encoding/json"
	"fmt"
	"time"
)

// Presence rhythm of an instance on its control channel. Without explicit heartbeats the network times an instance out
// PresenceTimeout after it joined.
const (
	PresenceTimeout   = 20 * time.Second
	HeartbeatInterval = 9 * time.Second // half the timeout, less a second
)

// PresenceState is what an instance announces on its control channel. It is the only load signal that the network has:
// a slot is free when the state says so.
type PresenceState struct {
	InstanceID string `json:"instanceId"`
	// ActiveTasks hold a slot of Concurrency.
	ActiveTasks int `json:"activeTasks"`
	Concurrency int `json:"concurrency"`
	// StartedAt is the start of the process in epoch milliseconds.
	StartedAt                int64    `json:"startedAt"`
	ActiveStreams            int      `json:"activeStreams"`
	PreferredProtocolVersion string   `json:"preferredProtocolVersion"`
	ProtocolVersions         []string `json:"protocolVersions"`
}

// NewPresenceState returns a state with the protocol members filled in.
func NewPresenceState(instanceID string, active, concurrency int, startedAt time.Time) PresenceState {
	return PresenceState{
		InstanceID: instanceID, ActiveTasks: active, Concurrency: concurrency, StartedAt: startedAt.UnixMilli(),
		PreferredProtocolVersion: ProtocolVersion, ProtocolVersions: []string{ProtocolVersion},
	}
}

// DecodePresenceState reads what an instance announced. Unknown members are ignored.
func DecodePresenceState(data []byte) (PresenceState, error) {
	var s PresenceState
	if err := json.Unmarshal(data, &s); err != nil {
		return PresenceState{}, fmt.Errorf("decode presence state: %w", err)
	}
	return s, nil
}
