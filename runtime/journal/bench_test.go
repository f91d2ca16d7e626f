package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// The benchmarks state what durability costs as a ratio to the least that a disk can do in the same run: append one
// record to a file and sync it.

// BenchmarkAppendSync is the lower bound.
func BenchmarkAppendSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	record := make([]byte, 600)
	for b.Loop() {
		if _, err := f.Write(record); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAccept is the wait of a lone task, then of many at the same time, one task an operation: accepted, and
// finished at some later time.
func BenchmarkAccept(b *testing.B) {
	for _, posters := range []int{1, 16, 128} {
		b.Run(fmt.Sprint(posters, "-in-flight"), func(b *testing.B) {
			j := open(b, b.TempDir(), nil)
			defer shut(b, j)
			agent := agent(b, j, "worker")
			message := make([]byte, 500)
			begun := j.store.commits
			var group sync.WaitGroup
			turns := make(chan int)
			for range posters {
				group.Go(func() {
					for n := range turns {
						id := fmt.Sprint(n)
						e, written := accept(agent, Task{ID: id, Message: message})
						if err := <-written; err != nil {
							b.Error(err)
						}
						e.Finish(Finished{ID: id, Outcome: done})
					}
				})
			}
			n := 0
			for b.Loop() {
				turns <- n
				n++
			}
			close(turns)
			group.Wait()
			flush(b, j, agent)
			b.ReportMetric(float64(n)/float64(j.store.commits-begun), "tasks/commit")
		})
	}
}
