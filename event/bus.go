package event

import (
	"context"
	"sort"
	"sync"
	"time"
)

// How many events of each class a bus keeps when Config does not say.
const (
	defaultTasks  = 4096
	defaultStates = 1024
)

// Config of a Bus. The zero value is usable.
type Config struct {
	// Tasks and States are how many events of tasks, and how many others, are kept for readers.
	Tasks, States int
	// Now is nil for time.Now.
	Now func() time.Time
}

// Bus keeps the latest events and hands them to its readers. Its methods are safe for concurrent use; a nil Bus is one
// that nobody reads.
type Bus struct {
	now func() time.Time

	mu      sync.Mutex // guards what follows; nothing waits while it is held
	seq     uint64
	missed  uint64 // by all readers together
	rings   [classes]ring
	readers map[*Reader]struct{}
}

// ring holds the latest events of a class. The event with index i, counted from 0, is at i modulo the size.
type ring struct {
	events []Event // grows up to size
	size   int
	count  uint64 // of all events that there ever were
}

// NewBus returns an empty bus.
func NewBus(cfg Config) *Bus {
	b := &Bus{now: cfg.Now, readers: map[*Reader]struct{}{}}
	if b.now == nil {
		b.now = time.Now
	}
	b.rings[ofTasks].size, b.rings[ofStates].size = defaultTasks, defaultStates
	if cfg.Tasks > 0 {
		b.rings[ofTasks].size = cfg.Tasks
	}
	if cfg.States > 0 {
		b.rings[ofStates].size = cfg.States
	}
	return b
}

// Emit puts e on the bus. It never blocks: it may be called with any lock held, and a reader that is too slow misses
// events.
func (b *Bus) Emit(e Event) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	e.Seq, e.Time = b.seq, b.now()
	b.rings[e.Type.class()].add(e)
	for r := range b.readers {
		if r.types.has(e.Type) {
			select {
			case r.wake <- struct{}{}:
			default:
			}
		}
	}
}

func (r *ring) add(e Event) {
	if len(r.events) < r.size {
		r.events = append(r.events, e)
	} else {
		r.events[r.count%uint64(r.size)] = e
	}
	r.count++
}

// oldest is the index of the oldest event that is still there.
func (r *ring) oldest() uint64 { return r.count - uint64(len(r.events)) }

func (r *ring) at(index uint64) *Event { return &r.events[index%uint64(r.size)] }

// after returns the index of the first event that is still there and comes after seq.
func (r *ring) after(seq uint64) uint64 {
	oldest := r.oldest()
	return oldest + uint64(sort.Search(len(r.events), func(i int) bool { return r.at(oldest+uint64(i)).Seq > seq }))
}

// typeSet has a bit for each type.
type typeSet uint32

func (s typeSet) has(t Type) bool { return s&(1<<t) != 0 }

// classes returns which rings have events of these types.
func (s typeSet) classes() (in [classes]bool) {
	for _, t := range Types() {
		if s.has(t) {
			in[t.class()] = true
		}
	}
	return in
}

// Reader reads the events of a bus in order. It is used by one goroutine.
type Reader struct {
	bus   *Bus
	types typeSet       // guarded by bus.mu, like reads
	reads [classes]bool // the other rings are skipped, so that their floods are not missed
	wake  chan struct{} // capacity 1

	// next is the index of the next event in each ring, missed what was too old when the reader began. Guarded by bus.mu.
	next   [classes]uint64
	missed uint64
}

// Item is an event behind Missed others that the reader was too slow for, or that were too old when it began. The latter
// are counted whatever their types: nobody knows those any more.
type Item struct {
	Event
	Missed uint64
}

// Follow returns a reader of what happens from now on, of these types or of all. Close must follow.
func (b *Bus) Follow(types ...Type) *Reader { return b.subscribe(nil, types) }

// Since returns a reader of what came after the event seq, as far as it is still there, and of what happens from now on.
// Close must follow.
func (b *Bus) Since(seq uint64, types ...Type) *Reader { return b.subscribe(&seq, types) }

func (b *Bus) subscribe(since *uint64, types []Type) *Reader {
	r := &Reader{bus: b, types: setOf(types), wake: make(chan struct{}, 1)}
	r.reads = r.types.classes()
	if b == nil {
		return r
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := uint64(0)
	for c := range b.rings {
		ring := &b.rings[c]
		if since == nil {
			r.next[c] = ring.count
			continue
		}
		r.next[c] = ring.after(*since)
		kept += ring.count - r.next[c]
	}
	if since != nil && *since < b.seq {
		r.missed = b.seq - *since - kept
	}
	b.readers[r] = struct{}{}
	if since != nil {
		r.wake <- struct{}{} // there may be some already
	}
	return r
}

// SetTypes makes these types those that the reader reads from now on, or all. Of a type that is new to it, it reads what
// happens from now on.
func (r *Reader) SetTypes(types ...Type) {
	wanted := setOf(types)
	if r.bus == nil {
		r.types, r.reads = wanted, wanted.classes()
		return
	}
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	reads := wanted.classes()
	for c := range reads {
		if reads[c] && !r.reads[c] {
			r.next[c] = r.bus.rings[c].count
		}
	}
	r.types, r.reads = wanted, reads
}

// setOf is the set of some types, or of all when there are none.
func setOf(types []Type) (s typeSet) {
	for _, t := range types {
		s |= 1 << t
	}
	if len(types) == 0 {
		s = 1<<afterLast - 1
	}
	return s
}

// Seq is the number of the latest event, 0 when there was none.
func (b *Bus) Seq() uint64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seq
}

// Missed is how many events readers were too slow for, counted once for each reader.
func (b *Bus) Missed() uint64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.missed
}

// Close ends the reader.
func (r *Reader) Close() {
	if r.bus == nil {
		return
	}
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	delete(r.bus.readers, r)
}

// Next waits for the next event. The only error is that of ctx.
func (r *Reader) Next(ctx context.Context) (Item, error) {
	for {
		if item, ok := r.TryNext(); ok {
			return item, nil
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return Item{}, ctx.Err()
		}
	}
}

// Wake holds a value when there may be an event that TryNext has not returned yet, for callers that also wait on other channels.
func (r *Reader) Wake() <-chan struct{} { return r.wake }

// TryNext returns the next event, if there is one.
func (r *Reader) TryNext() (Item, bool) {
	if r.bus == nil {
		return Item{}, false
	}
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	return r.nextLocked()
}

// Take returns the next events, at most so many, and none when there are none. It costs less than TryNext for each.
func (r *Reader) Take(most int) []Item {
	if r.bus == nil {
		return nil
	}
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	var items []Item
	for len(items) < most {
		item, ok := r.nextLocked()
		if !ok {
			break
		}
		items = append(items, item)
	}
	return items
}

func (r *Reader) nextLocked() (Item, bool) {
	b := r.bus
	for {
		var first *ring
		var c class
		for i := range b.rings {
			ring := &b.rings[i]
			if !r.reads[i] {
				continue
			}
			if oldest := ring.oldest(); r.next[i] < oldest {
				r.missed += oldest - r.next[i]
				b.missed += oldest - r.next[i]
				r.next[i] = oldest
			}
			if r.next[i] < ring.count && (first == nil || ring.at(r.next[i]).Seq < first.at(r.next[c]).Seq) {
				first, c = ring, class(i)
			}
		}
		if first == nil {
			return Item{}, false
		}
		e := first.at(r.next[c])
		r.next[c]++
		if r.types.has(e.Type) {
			item := Item{Event: *e, Missed: r.missed}
			r.missed = 0
			return item, true
		}
	}
}
