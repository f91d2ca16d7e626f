package daemon

import (
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/agent"
)

// Example is a task made of the example inputs of a card.
type Example struct {
	Agent   string
	Parts   []wire.Part
	Streams bool // the agent streams while it works, and waits for no stream of its consumer
}

// Examples returns one task for each agent that is online and whose card has example inputs.
func (d *Daemon) Examples() []Example {
	var out []Example
	for _, s := range d.served.all() {
		parts, ok := card.ExampleParts(s.assignment.Card)
		if ok && len(parts) > 0 && s.status().State == agent.StateOnline {
			out = append(out, Example{Agent: s.name(), Parts: parts, Streams: onlyStreamsOut(s.assignment.Card)})
		}
	}
	return out
}

func onlyStreamsOut(c card.Card) bool {
	for _, stream := range c.Streams {
		if wire.StreamDirection(stream.Direction) != wire.Outbound {
			return false
		}
	}
	return len(c.Streams) > 0
}
