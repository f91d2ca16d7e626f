package main

import (
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLimit(t *testing.T) {
	for request, want := range map[string]int{"": 0, " 3 ": 3, "0": -1, "-1": -1, "many": -1} {
		got, err := limit(request)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", request, got, err)
		}
	}
}

// TestBroadcast: one event per interval however many tasks there are, through a task that still can, and none without
// tasks.
func TestBroadcast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &broadcaster{}
		var mu sync.Mutex // guards got
		var got []string
		record := func(name string) func(any) error {
			return func(v any) error {
				text, err := json.Marshal(v)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, name+" "+string(text))
				return err
			}
		}
		var over atomic.Bool
		one := record("one")
		leaveOne := b.add(&member{func(v any) error {
			if over.Load() {
				return errors.New("the task has ended")
			}
			return one(v)
		}}, time.Second)
		leaveTwo := b.add(&member{record("two")}, time.Second)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		over.Store(true)
		time.Sleep(time.Second)
		leaveOne()
		leaveTwo()
		time.Sleep(10 * time.Second)
		leaveThree := b.add(&member{record("three")}, time.Second)
		synctest.Wait()
		leaveThree()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := []string{
			`one {"tick":1,"kind":"broadcast"}`, `one {"tick":2,"kind":"broadcast"}`, `two {"tick":3,"kind":"broadcast"}`,
			`three {"tick":4,"kind":"broadcast"}`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
