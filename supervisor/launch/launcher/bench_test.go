//go:build linux

package launcher

import (
	"context"
	"os"
	"testing"

	"github.com/blocksd/blocksd/supervisor/launch"
)

// BenchmarkStart is a start to its end of a program that does nothing, by a launcher and by a daemon that is root.
func BenchmarkStart(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("machine: the tests do not run as root, so no other user can be had")
	}
	g := daemon(b, serve(b))
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Run(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	root := launch.Probe(g.machine.Shim, "off")
	for name, machine := range map[string]*launch.Machine{"launcher": g.machine, "itself": root} {
		plan, err := launch.Limits{User: "60600", Level: launch.Landlock}.Plan(machine)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p, err := g.Spawn(b.Context(), launch.Spec{Path: "/bin/true", Plan: plan})
				if err != nil {
					b.Fatal(err)
				}
				<-p.Done()
				p.Close()
			}
		})
	}
}
