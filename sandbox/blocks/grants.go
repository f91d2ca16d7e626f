package blocks

import (
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
)

// taskChannels is what a control token may write to: rejections of tasks are published with it.
const taskChannels = `^u\.[^.]+\.[^.]+$`

// controlTokenLocked returns a token for the control channel with at least half of its life left, not one that was
// revoked.
func (n *Network) controlTokenLocked(i *instance) (string, error) {
	now := n.cfg.Now()
	if i.controlToken != "" && now.Before(i.controlRenew) && i.agent.env.Access.Check(i.controlToken, i.ID, access.Read, i.agent.control) == nil {
		return i.controlToken, nil
	}
	token, err := i.agent.env.Access.Issue(access.Grant{
		Issued: now, TTL: n.cfg.ControlTokenTTL, UUID: i.ID,
		Channels: map[string]access.Right{i.agent.control: access.Read | access.Write},
		Patterns: map[string]access.Right{taskChannels: access.Write},
	})
	if err != nil {
		return "", err
	}
	i.controlToken, i.controlRenew = token, now.Add(n.cfg.ControlTokenTTL/2)
	return token, nil
}

// writeGrant is what the instance that runs a task may do: publish on the task's channel and its setup channel, read
// its input files and, if allowed, the task's channel.
func (n *Network) writeGrant(t *task) access.Grant {
	right := access.Write | access.Read
	if n.cfg.NoWriterRead {
		right = access.Write
	}
	ttl := n.cfg.WriteTTL
	if t.Kind == wire.Pipe {
		ttl = min(max(ttl, t.Duration+n.cfg.ReadTTL), access.MaxTTL)
	}
	channels := map[string]access.Right{t.Channel: right, wire.SetupChannel(t.OrgID, t.ID): access.Write}
	if t.Inputs != t.Channel {
		channels[t.Inputs] = access.Read
	}
	return access.Grant{Issued: n.cfg.Now(), TTL: ttl, Channels: channels}
}

// readToken lets a consumer read one task's channel, and no other.
func (n *Network) readToken(t *task) (string, error) {
	return t.env.Access.Issue(access.Grant{
		Issued: n.cfg.Now(), TTL: n.cfg.ReadTTL, Channels: map[string]access.Right{t.Channel: access.Read},
	})
}
