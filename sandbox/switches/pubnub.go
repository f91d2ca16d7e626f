package switches

import "time"

// PubNub are the switches of the PubNub side's HTTP face.
type PubNub struct {
	// HoldPoll is how long a poll is held when nothing comes.
	HoldPoll time.Duration
	// DeliverFire gives subscribers also what is only for the network's functions: an SDK cannot tell a message that is
	// neither stored nor replicated from a fire.
	DeliverFire bool
	// AnySignature takes every signature with a secret key for a good one.
	AnySignature bool
	// PublishRate is how many messages of clients each channel takes in a second (429 beyond), PublishQuota how many
	// each keyset takes in all (402 beyond); 0 for any number.
	PublishRate, PublishQuota int
}

// maxHoldPoll is after how long clients give up a poll.
const maxHoldPoll = 310 * time.Second

// Table lists the switches.
func (p *PubNub) Table() []Switch {
	return []Switch{
		duration(&p.HoldPoll, "hold-poll", 280*time.Second, "how long a poll is held when nothing comes; clients give up after 310s").
			below(maxHoldPoll, "after which clients give up"),
		onOff(&p.DeliverFire, "deliver-fire", "deliver what is neither stored nor replicated to subscribers, too"),
		onOff(&p.AnySignature, "any-signature", "take every signature with a secret key for a good one"),
		number(&p.PublishRate, "publish-rate", 0, 0, "how many messages each channel takes in a second before clients get 429; 0 for any number"),
		number(&p.PublishQuota, "publish-quota", 0, 0, "how many messages each keyset takes in all before clients get 402; 0 for any number"),
	}
}

// History are the switches of what a keyset keeps.
type History struct {
	// RingSize is how many messages of a channel can be caught up with, and how many one answer carries at most. With
	// Lossless a channel can be caught up with from the beginning, RingSize messages at a time, as far as HistoryBytes
	// reach.
	RingSize int
	Lossless bool
	// HistoryBytes bounds the memory of all messages of a keyset, stored or not; the oldest go first.
	HistoryBytes int64
}

// Table lists the switches.
func (h *History) Table() []Switch {
	return []Switch{
		number(&h.RingSize, "ring-size", 100, 1, "how many messages of a channel can be caught up with"),
		onOff(&h.Lossless, "lossless", "let all messages of a channel be caught up with, as far as --history-bytes reach"),
		number(&h.HistoryBytes, "history-bytes", 256<<20, 1, "how much is kept of the messages of each keyset; the oldest go first"),
	}
}

// Presence are the switches of how a plain keyset announces who is there.
type Presence struct {
	// AnnounceMax is the occupancy up to which every join and leave is announced on the presence channel of a channel;
	// above it there is one event per PresenceInterval. Negative means that no change is announced by itself.
	AnnounceMax      int
	PresenceInterval time.Duration
	// PresenceDelay is how long after its cause a presence event comes. The real network takes some time too, and its
	// SDKs see their own join because of that.
	PresenceDelay time.Duration
}

// Table lists the switches. On the command line 0 occupants mean that none is announced.
func (p *Presence) Table() []Switch {
	return []Switch{
		number(&p.AnnounceMax, "announce-max", 20, 0, "occupants up to whom joins and leaves are announced one by one, on the plain keysets; 0 for never"),
		duration(&p.PresenceInterval, "presence-interval", 10*time.Second, "time between the presence events of a channel with more occupants than that"),
		duration(&p.PresenceDelay, "presence-delay", 100*time.Millisecond, "how long after a join, leave or other change its presence event comes"),
	}
}
