package stream

import (
	"strconv"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// lane is what is known of one sender.
type lane struct {
	sender string
	// first is the number with which the sender began, next the one that is to be delivered next.
	first, next int64
	begun       bool // something was delivered
	held        map[int64]holding
	bytes       int
	// acked: everything below has been published.
	acked int64
	// end is the number of the end marker, -1 before it has come, endTT the network's time of it.
	end     int64
	endTT   uint64
	failure string
	// newest are the latest time of the sender and of the network.
	newestTS int64
	newestTT uint64
	// since is when next was first missed, zero while it is not.
	since time.Time
	// broken is the number of a message that can no longer be put together, -1 for none.
	broken int64
}

// holding is a message that came too early.
type holding struct {
	d  Delivery
	tt uint64
}

// published notes that everything below a number has been published.
func (l *lane) published(unacked int64, now time.Time) {
	if l.acked <= l.next && unacked > l.next && !l.since.IsZero() {
		l.since = now // what is missing may have been published just now
	}
	l.acked = max(l.acked, unacked)
}

// stale reports whether a message was delivered or given up before, and is not the beginning of a new life of its sender.
func (l *lane) stale(m wire.StreamMessage, tt uint64) bool { return m.Seq < l.next && !l.reborn(m, tt) }

// reborn reports whether the sender has begun anew: it counts from another number, or lower though it sends later. A
// message that is only sent again, because its sender saw no answer, has the time of its first attempt.
func (l *lane) reborn(m wire.StreamMessage, tt uint64) bool {
	if m.FirstSeq >= 0 {
		return m.FirstSeq > l.first
	}
	return m.Seq < l.next && m.TS > l.newestTS && tt > l.newestTT
}

// yield delivers a message and goes on behind it.
func (l *lane) yield(out []lanesAction, d Delivery) []lanesAction {
	l.next, l.begun, l.since = d.Seq+1, true, time.Time{}
	return append(out, deliver{d})
}

// drain delivers what is held as far as nothing is missing.
func (l *lane) drain(out []lanesAction) []lanesAction {
	for {
		h, ok := l.held[l.next]
		if !ok {
			return out
		}
		delete(l.held, l.next)
		l.bytes -= sizeOf(h.d)
		out = l.yield(out, h.d)
	}
}

// successor is the first message behind what is missing, and the network's time of it.
func (l *lane) successor() (seq int64, tt uint64) {
	seq, tt = l.end, l.endTT
	for n, h := range l.held {
		if seq < 0 || n < seq {
			seq, tt = n, h.tt
		}
	}
	return seq, tt
}

// missing reports whether something is known to be missing.
func (l *lane) missing() bool { return len(l.held) > 0 || l.end >= 0 && l.next < l.end }

// delivery makes what is yielded of a message.
func delivery(sender string, m wire.StreamMessage) Delivery {
	d := Delivery{Sender: sender, Seq: m.Seq, Raw: m.Raw}
	if m.TS > 0 {
		d.Time = time.UnixMilli(m.TS)
	}
	for _, c := range m.Chunks {
		d.Items = append(d.Items, Item{Data: c, Text: m.Text})
	}
	for _, e := range m.Events {
		d.Items = append(d.Items, Item{Event: e})
	}
	return d
}

func sizeOf(d Delivery) int {
	n := len(d.Raw) + itemOverhead
	for _, i := range d.Items {
		n += i.size()
	}
	return n
}

// timetoken reads the network's time, 0 for none.
func timetoken(s string) uint64 {
	v, _ := strconv.ParseUint(s, 10, 64)
	return v
}

// ticks is a duration as a difference of timetokens.
func ticks(d time.Duration) uint64 { return uint64(d / 100) }

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
