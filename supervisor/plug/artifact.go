package plug

import (
	"errors"
	"fmt"

	"github.com/blocksd/blocksd/network/wire"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// assembler puts the chunks of one artifact after another together.
type assembler struct {
	limit   int64
	open    bool
	current wire.Artifact
}

// add takes a chunk and returns the artifact that it completes, nil while one is incomplete. Every error is final.
func (a *assembler) add(c *handlerv1.ArtifactChunk) (*wire.Artifact, error) {
	info := c.GetInfo()
	switch {
	case !a.open && info == nil:
		return nil, errors.New("the first chunk of an artifact lacks its description")
	case a.open && info != nil:
		return nil, errors.New("a new artifact begins before the last chunk of the one before")
	case !a.open:
		a.open = true
		a.current = wire.Artifact{OutputID: info.GetOutputId(), FileName: info.GetFileName(), MIMEType: info.GetMimeType()}
	}
	if int64(len(a.current.Data))+int64(len(c.GetData())) > a.limit {
		return nil, fmt.Errorf("an artifact is larger than %d bytes, the most that the network takes", a.limit)
	}
	if c.GetLast() && a.current.Data == nil {
		a.current.Data = c.GetData() // the usual case, one chunk: no copy
	} else {
		a.current.Data = append(a.current.Data, c.GetData()...)
	}
	if !c.GetLast() {
		return nil, nil
	}
	done := a.current
	a.open, a.current = false, wire.Artifact{}
	return &done, nil
}
