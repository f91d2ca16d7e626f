package catalog

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links of one path are followed, as in the kernel.
const maxLinks = 40

// trails describes where paths lead: each component, each symbolic link on the way with its target, and what is at the
// end. The text changes when another file or directory is reached, whichever of its parents or links was replaced; the
// kernel reports no such change to those who watch the end.
func trails(dirs, files []string) string {
	var b strings.Builder
	for _, dir := range dirs {
		trail(&b, dir, false)
		entries, err := os.ReadDir(dir)
		if err != nil {
			fmt.Fprintf(&b, " cannot be read\n")
			continue
		}
		// Links out of the directory; changes of what is in it are reported.
		for _, e := range entries {
			if e.Type()&fs.ModeSymlink != 0 {
				trail(&b, filepath.Join(dir, e.Name()), true)
			}
		}
	}
	for _, file := range files {
		trail(&b, file, true)
	}
	return b.String()
}

// trail describes where one path leads. Of a file its state counts, too.
func trail(b *strings.Builder, path string, file bool) {
	defer b.WriteByte('\n')
	abs, err := filepath.Abs(path)
	if err != nil {
		b.WriteString(" has no beginning")
		return
	}
	at, rest, links := "/", strings.Split(abs, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			fmt.Fprintf(b, " %q ends", next)
			return
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(b, " %q %d:%d", next, st.Dev, st.Ino)
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(next)
			if links++; err != nil || links > maxLinks {
				b.WriteString(" leads nowhere")
				return
			}
			fmt.Fprintf(b, " -> %q", target)
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
		case file && len(rest) == 0:
			fmt.Fprintf(b, " %v %d %d %d", info.Mode(), info.Size(), info.ModTime().UnixNano(), changeTime(st).UnixNano())
			return
		default:
			at = next
		}
	}
}
