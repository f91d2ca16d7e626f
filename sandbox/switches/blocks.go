package switches

import (
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Blocks are the switches of the Blocks side.
type Blocks struct {
	// CancelBudget is how long an instance has to end a canceled task before the network does.
	CancelBudget time.Duration
	// SafetyNet is how long after the loss of its instance a running task is ended as failed, and how long a task that
	// was sent may stay without a sign of life.
	SafetyNet time.Duration
	// SlotFallback is after how long the slot of an ended task counts as free although no presence state has come
	// since.
	SlotFallback time.Duration
	// StreamRevokeDelay is how long after the end of a task the tokens of its consumers' streams still work. The
	// default is as long as the real network may need.
	StreamRevokeDelay time.Duration
	// ConsumerTokenTTL, AgentTokenTTL and ControlTokenTTL are the lives of credentials.
	ConsumerTokenTTL, AgentTokenTTL, ControlTokenTTL time.Duration
	// MaxFileBytes bounds an uploaded file.
	MaxFileBytes int64
	// KeepFinished is how many finished tasks stay readable, and KeepFinishedFor how long; beyond it they are forgotten
	// with their events, files and streams.
	KeepFinished    int
	KeepFinishedFor time.Duration
	// Enterprise makes it a deployment of that kind: the registry is for members only, and there are no paid agents.
	Enterprise bool
	// NoWriterRead takes from a task's write token the right to read the task's channel; NoAgentGetTask takes from an
	// agent's credentials the right to look up its own tasks.
	NoWriterRead, NoAgentGetTask bool
}

// Bounds of the life of a PubNub token.
const minControlToken, maxControlToken = time.Minute, 720 * time.Hour

// Table lists the switches.
func (b *Blocks) Table() []Switch {
	return []Switch{
		duration(&b.CancelBudget, "cancel-budget", 30*time.Second, "how long an instance has to end a canceled task before the network does"),
		duration(&b.SafetyNet, "safety-net", 60*time.Second, "how long after the loss of its instance a running task fails"),
		duration(&b.SlotFallback, "slot-fallback", time.Second, "after how long the slot of an ended task is free although its instance has not said so"),
		duration(&b.StreamRevokeDelay, "stream-revoke-delay", 60*time.Second, "how long after the end of a task its consumer can read its streams"),
		duration(&b.ConsumerTokenTTL, "consumer-token-ttl", 60*time.Second, "life of a consumer's access token"),
		duration(&b.AgentTokenTTL, "agent-token-ttl", 15*time.Minute, "life of an agent's access token"),
		duration(&b.ControlTokenTTL, "control-token-ttl", 24*time.Hour, "life of the token with which an instance hears of its tasks, 1m to 720h").
			within(minControlToken, maxControlToken),
		number(&b.MaxFileBytes, "max-file-bytes", wire.MaxArtifactBytes, 1, "largest file that is taken"),
		number(&b.KeepFinished, "keep-finished", 10_000, 1, "how many finished tasks stay readable"),
		duration(&b.KeepFinishedFor, "keep-finished-for", 24*time.Hour, "how long a finished task stays readable"),
		onOff(&b.Enterprise, "enterprise", "be an enterprise deployment: the registry is for members only, and no agent is paid"),
		onOff(&b.NoWriterRead, "no-writer-read", "take from a task's write token the right to read the task's channel"),
		onOff(&b.NoAgentGetTask, "no-agent-get-task", "take from agents the right to look up their own tasks"),
	}
}
