package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// takeStdin reads standard input for the part that wants it. The interrupt that ends ctx ends the wait, too.
func (a *app) takeStdin(ctx context.Context, o *callOptions) (remove func(), err error) {
	remove = func() {}
	part, err := o.wantsStdin()
	if err != nil {
		return remove, usagef("call %s: %w", o.agent, err)
	}
	if part == nil {
		return remove, nil
	}
	read := make(chan error, 1)
	taken := *part
	dir := ""
	if part.kind == partFile {
		if dir, err = os.MkdirTemp("", "blocksd-call-"); err != nil {
			return remove, fmt.Errorf("call %s: %w", o.agent, err)
		}
		remove = func() { os.RemoveAll(dir) }
	}
	if f, ok := a.Stdin.(*os.File); ok && isTerminal(f) && isTerminal(a.Stderr) {
		s := style{a.getenv("NO_COLOR") == ""}
		fmt.Fprintln(a.Stderr, s.of(dim, "reading what you type; end it with Ctrl-D on a line of its own"))
	}
	go func() { read <- taken.read(a.Stdin, dir) }() // it ends with its input, or with the program
	select {
	case err = <-read:
	case <-ctx.Done():
		return remove, ctx.Err()
	}
	if err != nil {
		return remove, usagef("call %s: %w", o.agent, err)
	}
	*part = taken
	return remove, nil
}

// wantsStdin is the part that is on standard input, nil for none.
func (o *callOptions) wantsStdin() (*partFlag, error) {
	var takers []string
	for _, s := range o.sends {
		if s.path == stdinPath {
			takers = append(takers, "stream "+s.stream)
		}
	}
	var part *partFlag
	for i := range o.parts {
		p := &o.parts[i]
		if !p.stdin {
			continue
		}
		part, takers = p, append(takers, "part "+orDefault(p.id))
	}
	if len(takers) > 1 {
		return nil, fmt.Errorf("standard input is wanted twice, by %s", strings.Join(takers, " and by "))
	}
	return part, nil
}

// read takes the part from r. A file is kept in dir, because it may have to be sent twice.
func (p *partFlag) read(r io.Reader, dir string) error {
	if p.kind != partFile {
		return p.readText(r, "standard input")
	}
	path := filepath.Join(dir, "stdin")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = io.Copy(f, r)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	p.text = path
	return nil
}
