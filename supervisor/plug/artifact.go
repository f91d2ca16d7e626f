package plug

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/blocksd/blocksd/network/wire"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// spoolAbove is the size in bytes above which an artifact of several chunks is put into a file: it is uploaded from
// there, and never in memory as a whole.
const spoolAbove = 1 << 20

// assembler puts the chunks of one artifact after another together.
type assembler struct {
	limit   int64
	handler *Spool // what the handler has of them altogether
	taken   int64  // of that, by this one
	open    bool
	current wire.Artifact
	spool   *os.File // nil while the chunks are in memory; it has no name any more, so it goes with its last user
	size    int64
}

// add takes a chunk and returns the artifact that it completes, nil while one is incomplete. Every error is final. An
// artifact can be read until the next add or close.
func (a *assembler) add(c *handlerv1.ArtifactChunk) (*wire.Artifact, error) {
	info := c.GetInfo()
	switch {
	case !a.open && info == nil:
		return nil, errors.New("the first chunk of an artifact lacks its description")
	case a.open && info != nil:
		return nil, errors.New("a new artifact begins before the last chunk of the one before")
	case !a.open:
		a.close()
		a.open = true
		a.current = wire.Artifact{OutputID: info.GetOutputId(), FileName: info.GetFileName(), MIMEType: info.GetMimeType()}
	}
	if a.size+int64(len(c.GetData())) > a.limit {
		return nil, fmt.Errorf("an artifact is larger than %d bytes, the most that is taken", a.limit)
	}
	size := int64(len(c.GetData()))
	whole := c.GetLast() && a.size == 0
	if !whole || size > spoolAbove { // the usual case, one small chunk, is not worth it
		if err := a.handler.take(size, a.limit, !whole && a.size+size > spoolAbove); err != nil {
			return nil, err
		}
		a.taken += size
	}
	a.size += size
	switch {
	case whole:
		a.current.Data = c.GetData() // no copy
	case a.size <= spoolAbove:
		a.current.Data = append(a.current.Data, c.GetData()...)
	default:
		if err := a.write(c.GetData()); err != nil {
			return nil, noRoom(err)
		}
	}
	if !c.GetLast() {
		return nil, nil
	}
	done := a.current
	if file, size := a.spool, a.size; file != nil {
		done.Size = size
		done.Open = func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(file, 0, size)), nil }
	}
	a.open, a.current, a.size = false, wire.Artifact{}, 0
	return &done, nil
}

// write appends to the spool, after what is in memory.
func (a *assembler) write(data []byte) error {
	if a.spool == nil {
		f, err := os.CreateTemp("", "blocksd-artifact-")
		if err != nil {
			return err
		}
		a.spool = f
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
		if _, err := f.Write(a.current.Data); err != nil {
			return err
		}
		a.current.Data = nil
	}
	_, err := a.spool.Write(data)
	return err
}

// close frees the spool, and what was in it.
func (a *assembler) close() {
	if a.spool != nil {
		_ = a.spool.Close() // it has no name any more, whatever the error
		a.spool = nil
	}
	a.handler.give(a.taken)
	a.size, a.taken = 0, 0
}
