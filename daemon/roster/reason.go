package roster

import (
	"fmt"
	"strings"

	"github.com/blocksd/blocksd/internal/shell"
)

// Code names a kind of reason, for programs that branch on it. A code is never renamed.
type Code string

// The codes. Each says what its object is, and what else the reason holds.
const (
	// FileSkipped: a file or directory is not used. Object is its path, Detail the sentence.
	FileSkipped Code = "file_skipped"
	// FileUntrusted: a file or directory is used although others may change it. Object is its path, Detail the sentence.
	FileUntrusted Code = "file_untrusted"
	// CardUnusable: a card of the configuration cannot be used. Object is its entry, Detail why.
	CardUnusable Code = "card_unusable"
	// CardKept: an agent's card became unusable, so the earlier one counts. Object is the agent, Detail why.
	CardKept Code = "card_kept"
	// AgentUnassigned: a card names no handler that there is. Object is the agent, Detail why.
	AgentUnassigned Code = "agent_unassigned"
	// AgentTaken: two handlers claim one agent. Object is who does not get it, Other the handler that serves it, Detail
	// the agent.
	AgentTaken Code = "agent_taken"
	// AgentHeld: handlers say that they are an agent that another handler has been. Object is the first of them, Other the
	// handler that had the agent, Detail the agent.
	AgentHeld Code = "agent_held"
	// AgentWaits: an agent is not served yet. Object is the handler that says it is the agent, Other the one that comes first
	// and has not said yet what it is, Detail the agent.
	AgentWaits Code = "agent_waits"
	// NoAgent: a handler serves no agent. Object is the handler, Detail why.
	NoAgent Code = "handler_without_agent"
	// CardContradicted: a handler says that it is another agent than its card says. Object is the agent, Other the
	// handler, Detail the agent that it says it is.
	CardContradicted Code = "card_contradicted"
	// NotDescribed: a handler has not said yet which agents it serves. Object is the handler.
	NotDescribed Code = "handler_not_described"
	// HandlerMissing: a handler of the configuration has no program. Object is the handler.
	HandlerMissing Code = "handler_missing"
	// ChecksumUnknown: a handler is not loaded without a pin. Object is the handler.
	ChecksumUnknown Code = "checksum_unknown"
	// PinUnread: a handler is not loaded because its pin may be one that cannot be read. Object is the handler.
	PinUnread Code = "pin_unread"
	// NotCopied: a program is not loaded because the store did not take it. Object is the handler, Detail the sentence.
	NotCopied Code = "program_not_copied"
	// PinsUnusable: a part of the file of pins is not used. Object is its path, Detail the sentence.
	PinsUnusable Code = "pins_unusable"
	// StoreUnusable: programs run in place. Object is the store's directory, Detail why.
	StoreUnusable Code = "store_unusable"

	// KeyEnds: an API key ends soon. Object is the agents that use it, Detail when.
	KeyEnds Code = "key_ends"
	// AgentNotOnline: Object is the agent, State its state, Detail why.
	AgentNotOnline Code = "agent_not_online"
	// HandlerNotReady: Object is the handler, State its state, Detail a sentence about it.
	HandlerNotReady Code = "handler_not_ready"
	// LimitSkipped: this machine does not keep a limit. Object is the handler, Detail a sentence.
	LimitSkipped Code = "limit_skipped"
	// OtherProgram: a handler does not run what its file holds. Object is the handler, Detail a sentence about it.
	OtherProgram Code = "other_program"

	// Starting, Stopping, Drained and NothingServed are about the daemon.
	Starting      Code = "daemon_starting"
	Stopping      Code = "daemon_stopping"
	Drained       Code = "daemon_drained"
	NothingServed Code = "nothing_served"
)

// goesOn is the state of a handler that cannot be loaded anew and serves on as it was; notLoaded is how sentences about its
// file say that it cannot.
const (
	goesOn    = "goes_on"
	notLoaded = "is not loaded"
)

// Reason says why something is not as it should be. It is data; Text makes the sentence.
type Reason struct {
	Code   Code
	Object string
	Other  string
	State  string
	Detail string
}

// Text is the reason as one sentence for people, without a period.
func (r Reason) Text() string {
	detail := strings.TrimSuffix(r.Detail, ".")
	switch r.Code {
	case CardUnusable:
		return fmt.Sprintf("%s is not served: %s", r.Object, detail)
	case CardKept:
		return fmt.Sprintf("agent %s goes on with its earlier card: %s", r.Object, detail)
	case AgentUnassigned:
		return fmt.Sprintf("agent %s is not served: %s", r.Object, detail)
	case AgentTaken:
		return fmt.Sprintf("%s does not serve agent %s, because handler %s does already: give it a card with another agentName", r.Object, detail, r.Other)
	case AgentHeld:
		return fmt.Sprintf("agent %s is not served: handler %s says that it is this agent, but handler %s had it: if it may take its place, blocksd handler assign %s %s",
			detail, r.Object, r.Other, shell.Word(r.Object), detail)
	case AgentWaits:
		return fmt.Sprintf("agent %s is not served by handler %s yet: handler %s comes first, and has not said yet which agents it serves", detail, r.Object, r.Other)
	case NoAgent:
		return fmt.Sprintf("handler %s serves no agent: %s", r.Object, detail)
	case CardContradicted:
		return fmt.Sprintf("the card of agent %s contradicts its handler %s, which says that it is agent %s; the card counts: check that it lies beside the right program",
			r.Object, r.Other, detail)
	case NotDescribed:
		return fmt.Sprintf("handler %s has not said yet which agents it serves", r.Object)
	case HandlerMissing:
		return fmt.Sprintf("handler %s is not started: it has no path, and no plugins directory holds a program of that name", r.Object)
	case FileSkipped, NotCopied:
		if r.State == goesOn {
			return strings.Replace(detail, notLoaded, "goes on with its earlier program", 1)
		}
	case ChecksumUnknown:
		if r.State == goesOn {
			return fmt.Sprintf("handler %s goes on with its earlier program because the checksum of its file is not known and plugins.require_checksums is set: check the file, then blocksd handler pin %s",
				r.Object, shell.Word(r.Object))
		}
		return fmt.Sprintf("handler %s is not loaded because its checksum is not known and plugins.require_checksums is set: check the file, then blocksd handler pin %s",
			r.Object, shell.Word(r.Object))
	case PinUnread:
		if r.State == goesOn {
			return fmt.Sprintf("handler %s goes on with its earlier program because what cannot be read in the file of pins may be its pin: correct the file, or check the program, then blocksd handler pin %s",
				r.Object, shell.Word(r.Object))
		}
		return fmt.Sprintf("handler %s is not loaded because what cannot be read in the file of pins may be its pin: correct the file, or check the program, then blocksd handler pin %s",
			r.Object, shell.Word(r.Object))
	case StoreUnusable:
		return "handlers run in place and cannot be rolled back: " + detail
	case KeyEnds:
		return fmt.Sprintf("the API key of %s %s: put another one in its place before, and the daemon takes it by itself", r.Object, detail)
	case AgentNotOnline:
		if detail == "" {
			return fmt.Sprintf("agent %s is %s", r.Object, r.State)
		}
		return fmt.Sprintf("agent %s is %s: %s", r.Object, r.State, detail)
	case HandlerNotReady:
		if detail == "" {
			return fmt.Sprintf("handler %s is %s", r.Object, r.State)
		}
	case LimitSkipped:
		return fmt.Sprintf("handler %s: %s", r.Object, detail)
	case Starting:
		return "the daemon starts"
	case Stopping:
		return "the daemon stops"
	case Drained:
		return "the daemon is drained: blocksd undrain brings its agents back"
	case NothingServed:
		return "no agent is served: put a handler with its card into a plugins directory, or name a card in the configuration"
	}
	return detail
}
