package client_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/fault"
)

func TestWaitStream(t *testing.T) {
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		j.stream("ticks", 1)
		j.stream("ticks", 2)
		<-j.canceled
		j.end(wire.Canceled)
	})
	s := w.send(w.client(), piping("echo"))
	second, err := s.WaitStreamFunc(within(t), func(r *client.StreamRef) bool {
		return strings.HasSuffix(r.ID(), "-2") && r.Format() == client.FormatEvents
	})
	if err != nil || second.Name() != "ticks" {
		t.Fatal(second, err)
	}
	if byID, err := s.WaitStream(within(t), second.ID()); err != nil || byID != second {
		t.Errorf("by id: %v", err)
	}
	if byName, err := s.WaitStream(within(t), "ticks"); err != nil || byName == second {
		t.Errorf("by name: %v", err)
	}
	if _, err := s.WaitStream(within(t), ""); err == nil {
		t.Error("one of several was chosen")
	}
	short, cancel := context.WithCancel(within(t))
	cancel()
	if _, err := s.WaitStream(short, "other"); !errors.Is(err, context.Canceled) {
		t.Errorf("waited for another: %v", err)
	}
	never := make(chan error, 2)
	go func() { _, err := s.WaitStream(within(t), "other"); never <- err }()
	go func() {
		_, err := s.WaitStreamFunc(within(t), func(*client.StreamRef) bool { return false })
		never <- err
	}()
	if err := s.Cancel(within(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-never; err == nil || !strings.Contains(err.Error(), "has ended without it") {
			t.Errorf("waited for a stream that never came: %v", err)
		}
	}
}

// TestWaitersMissNothing: whoever waits for a stream gets it, whenever it is announced: before, while, and after they look.
// Nothing comes after an announcement until all have it, so that nobody is woken by chance.
func TestWaitersMissNothing(t *testing.T) {
	const n = 50
	w := newWorld(t)
	next := make(chan struct{})
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		for i := range n {
			j.await(next)
			j.publish(fmt.Appendf(nil, `{"type":"progress","taskId":%q,"streamEvent":"stream_started","streams":{"s%d":`+
				`{"direction":"outbound","format":"bytes","affinity":"dedicated","channel":"c","token":"t"}}}`, j.start.Task.ID, i))
		}
		<-j.canceled
		j.end(wire.Canceled)
	})
	s := w.send(w.client(), streaming("echo"))
	ctx := within(t)
	for i := range n {
		id := fmt.Sprintf("s%d", i)
		var all sync.WaitGroup
		got := func(ref *client.StreamRef, err error) {
			if err != nil || ref.ID() != id {
				t.Errorf("waited for %s: %v", id, err)
			}
		}
		byID := func() { got(s.WaitStream(ctx, id)) }
		all.Go(byID)
		all.Go(func() {
			got(s.WaitStreamFunc(ctx, func(r *client.StreamRef) bool { return r.ID() == id }))
		})
		all.Go(func() { // what an event announces is there when the event is
			for e, err := range s.Events(ctx) {
				if err != nil || strings.Contains(string(e.Raw), `"`+id+`"`) {
					if known := len(s.Streams()); err != nil || known != i+1 {
						t.Errorf("%d streams with the event of %s: %v", known, id, err)
					}
					return
				}
			}
		})
		if i > 0 { // the last one came long ago: this one comes while it is looked at
			all.Go(func() {
				announced := false
				got(s.WaitStreamFunc(ctx, func(r *client.StreamRef) bool {
					if !announced && r.ID() == fmt.Sprintf("s%d", i-1) {
						announced = true
						next <- struct{}{}
						byID()
					}
					return r.ID() == id
				}))
			})
		} else {
			next <- struct{}{}
		}
		all.Wait()
		if t.Failed() {
			break
		}
	}
	if err := s.Cancel(within(t)); err != nil {
		t.Error(err)
	}
}

// TestMalformedAnnouncements: what cannot be used is left out, and the first announcement of a stream counts.
func TestMalformedAnnouncements(t *testing.T) {
	w := newWorld(t)
	entry := func(members string) string {
		return `{"direction":"outbound","format":"bytes","affinity":"dedicated","channel":"c","token":"first"` + members + `}`
	}
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		for _, streams := range []string{
			`{"a":` + entry("") + `,"no-object":5,"no-affinity":` + entry(`,"affinity":null`) + `,"no-format":` + entry(`,"format":"text"`) +
				`,"no-direction":` + entry(`,"direction":"sideways"`) + `,"no-channel":` + entry(`,"channel":""`) + `,"no-token":` + entry(`,"token":""`) + `,"not.an.id":` + entry("") + `}`,
			`{"a":` + entry(`,"token":"second"`) + `,"b":` + entry(`,"metadata":[1]`) + `}`, `[]`, `null`,
		} {
			j.publish([]byte(`{"type":"progress","taskId":"` + j.start.Task.ID + `","streamEvent":"stream_started","declaredStream":7,"streams":` + streams + `}`))
		}
		j.end(wire.Completed)
	})
	s := w.send(w.client(), streaming("echo"))
	if _, err := s.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range s.Streams() {
		ids = append(ids, r.ID())
		if r.Descriptor().Token != "first" || r.Name() != r.ID() || r.Metadata() != nil {
			t.Errorf("%+v", r.Descriptor())
		}
	}
	if !slices.Equal(ids, []string{"a", "b"}) {
		t.Errorf("streams %q", ids)
	}
}

// TestDrain: after the end of the task a stream that nobody ends is over when the window is.
func TestDrain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		window time.Duration
		ends   bool // the agent ends the stream, a while after the end of its task
		reason client.EndReason
		after  time.Duration
	}{
		{"window", 10 * time.Second, false, client.StreamDrained, 10 * time.Second},
		{"ended in time", 10 * time.Second, true, client.StreamEnded, 3 * time.Second},
		{"no window", 0, false, client.StreamDrained, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newVirtualWorld(t)
				w.provideCard(streamCard, "echo", client.Free, func(j *job) {
					o := j.stream("_default", 1)
					j.stream("upload", 2)
					j.check(o.Write(j.ctx, stream.Text("x")))
					<-j.canceled
					j.end(wire.Canceled)
					if tc.ends {
						select {
						case <-time.After(3 * time.Second):
							j.check(o.End(j.ctx))
						case <-j.ctx.Done():
						}
					}
				})
				s := w.send(w.client(), piping("echo"), client.DrainWindow(tc.window))
				r, up := w.stream(s, "_default"), w.stream(s, "upload")
				if err := s.Cancel(context.Background()); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Wait(context.Background()); err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				<-r.Done()
				if took := time.Since(begin); took < tc.after || took > tc.after+time.Second || r.EndReason() != tc.reason {
					t.Errorf("over after %v as %q", took, r.EndReason())
				}
				<-up.Done() // what is only written does not wait for anything
				if took := time.Since(begin); took > tc.after+time.Second || up.EndReason() != client.StreamEnded {
					t.Errorf("the upload is over after %v as %q", took, up.EndReason())
				}
				if err := up.WriteText(context.Background(), "late"); err == nil {
					t.Error("wrote after the end of the task")
				}
			})
		})
	}
}

// TestDrainWaitsForTheNetwork: a stream that nothing ends is not over as long as the network does not answer, though its task
// is.
func TestDrainWaitsForTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		next := make(chan struct{})
		w.provideCard(streamCard, "echo", client.Free, func(j *job) {
			o := j.stream("chat", 1)
			for _, text := range []string{"first", "last"} {
				j.await(next)
				j.check(o.Write(j.ctx, stream.Text(text)))
				j.check(o.Flush(j.ctx))
			}
			j.end(wire.Completed)
		})
		s := w.send(w.client(), piping("echo"))
		r := w.stream(s, "chat")
		synctest.Wait() // it is being read
		again := make(chan struct{})
		w.front(func(_ http.ResponseWriter, r *http.Request) bool {
			if path := cmp.Or(r.URL.Opaque, r.URL.Path); strings.Contains(path, "/time/") || strings.Contains(path, "/stream.") {
				<-again
			}
			return false
		})
		next <- struct{}{} // the answer to the read under way
		synctest.Wait()
		next <- struct{}{}
		if _, err := s.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(7*time.Second, func() { close(again) })
		if got := chunks(t, r); !slices.Equal(got, []string{"first", "last"}) || r.EndReason() != client.StreamDrained {
			t.Errorf("read %q, ended as %q", got, r.EndReason())
		}
		s.Close()
	})
}

// TestRevokedStream: a refusal in mid-stream ends it with an error that says so, and the callback gets the category.
func TestRevokedStream(t *testing.T) {
	w := newWorld(t)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		o := j.stream("_default", 1)
		in := j.stream("upload", 2)
		j.check(o.Write(j.ctx, stream.Text("x")))
		_, _ = in.reader.Next(j.ctx)
		<-j.canceled
		j.end(wire.Canceled)
	})
	s := w.send(w.client(), piping("echo"))
	reported := make(chan *client.StreamError, 10)
	r := w.stream(s, "_default", client.OnStreamError(func(e *client.StreamError) { reported <- e }))
	up := w.stream(s, "upload")
	var failure error
	for b, err := range r.Bytes(within(t)) {
		if failure = err; err == nil && string(b) == "x" {
			w.fault(fault.Rule{Endpoint: "subscribe", Channel: "stream.*", Status: http.StatusForbidden, Held: true})
			w.fault(fault.Rule{Endpoint: "publish", Channel: "stream.*", Status: http.StatusForbidden})
		}
	}
	end, ok := errors.AsType[*stream.End](failure)
	if !ok || end.Reason != client.StreamRevoked || r.EndReason() != client.StreamRevoked {
		t.Errorf("reading ends with %v, as %q", failure, r.EndReason())
	}
	for e := range reported {
		if e.Fatal {
			if e.Category != stream.AccessDenied || r.Trouble() != e || e.Channel == "" || e.Time.IsZero() {
				t.Errorf("reported %+v", e)
			}
			break
		}
	}
	if err := up.WriteText(within(t), "x"); err != nil {
		t.Fatal(err)
	}
	<-up.Done()
	if err := up.Flush(within(t)); err == nil || up.EndReason() != client.StreamRevoked {
		t.Errorf("writing ends with %v, as %q", err, up.EndReason())
	}
}

// TestCloseEndsStreams: what was written is sent with its end, and waiting readers learn of it.
func TestCloseEndsStreams(t *testing.T) {
	w := newWorld(t)
	read := make(chan []stream.Item, 1)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		j.stream("_default", 1)
		in := j.stream("upload", 2)
		var all []stream.Item
		for {
			d, err := in.reader.Next(j.ctx)
			if err != nil {
				break
			}
			all = append(all, d.Items...)
		}
		read <- all
		<-j.canceled
	})
	s := w.send(w.client(), piping("echo"))
	r, up := w.stream(s, "_default"), w.stream(s, "upload")
	for n := range 100 {
		if err := up.WriteText(within(t), fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
	}
	var reading sync.WaitGroup
	for range 2 {
		reading.Go(func() {
			for b, err := range r.Bytes(within(t)) {
				if !errors.Is(err, client.ErrClosed) {
					t.Errorf("read %q, %v", b, err)
				}
			}
		})
	}
	s.Close()
	reading.Wait()
	if all := <-read; len(all) != 100 {
		t.Errorf("the agent read %d of 100", len(all))
	}
	if _, err := r.Ref().Open(within(t)); !errors.Is(err, client.ErrStreamEnded) {
		t.Errorf("opened after Close: %v", err)
	}
	if r.EndReason() != client.StreamClosed || up.EndReason() != client.StreamEnded {
		t.Errorf("ended as %q and %q", r.EndReason(), up.EndReason())
	}
}

// TestWrittenAgain: who comes back to a task and writes again does not repeat the numbers of the first time.
func TestWrittenAgain(t *testing.T) {
	w := newWorld(t)
	read := make(chan string, 1)
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		in := j.stream("chat", 1)
		var all strings.Builder
		for !strings.HasSuffix(all.String(), "!") {
			d, err := in.reader.Next(j.ctx)
			if err != nil {
				j.check(err)
				return
			}
			for _, i := range d.Items {
				all.Write(i.Data)
			}
		}
		read <- all.String()
		<-j.canceled
	})
	c := w.client()
	first := w.send(c, piping("echo"))
	one := w.stream(first, "chat")
	if err := errors.Join(one.WriteText(within(t), "one "), one.Flush(within(t))); err != nil {
		t.Fatal(err)
	}
	first.Close()
	two := w.stream(w.connect(c, first.TaskID()), "chat")
	if err := errors.Join(two.WriteText(within(t), "two"), two.WriteText(within(t), "!"), two.Flush(within(t))); err != nil {
		t.Fatal(err)
	}
	if got := <-read; got != "one two!" {
		t.Errorf("the agent read %q", got)
	}
	var numbers []int64 // readers of other people have one order for all writers
	for _, r := range w.spy.find("/publish/", "stream_data") {
		m, err := wire.DecodeStreamMessage([]byte(r.body))
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, m.Seq)
	}
	if !slices.IsSorted(numbers) || numbers[0] != 0 || numbers[len(numbers)-1] < 1e15 {
		t.Errorf("numbers %d", numbers)
	}
}
