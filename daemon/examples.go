package daemon

import (
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/agent"
)

// Example is a task made of the example inputs of a card.
type Example struct {
	Agent string
	Parts []wire.Part
}

// Examples returns one task for each agent that is online and whose card has example inputs.
func (d *Daemon) Examples() []Example {
	var out []Example
	for _, s := range d.served.all() {
		parts, ok := card.ExampleParts(s.assignment.Card)
		if ok && s.status().State == agent.StateOnline {
			out = append(out, Example{Agent: s.name(), Parts: parts})
		}
	}
	return out
}
