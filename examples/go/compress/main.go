// Command compress is an example of a handler in Go: it makes a file smaller.
package main

import (
	"compress/gzip"
	"context"
	_ "embed"
	"io"

	"github.com/blocksd/blocksd/pluginsdk"
)

//go:embed agent-card.json
var card []byte

func main() {
	pluginsdk.Serve(pluginsdk.Handler{Name: "compress", Version: "0.1.0", Cards: [][]byte{card}, Idempotent: true, Run: run})
}

func run(ctx context.Context, t *pluginsdk.Task) error {
	file, err := t.File(ctx, "file")
	if err != nil {
		return err
	}
	defer file.Close()
	// The file is never in memory as a whole: it is read as it is sent.
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(compress(w, file)) }() // ends with the reader
	return t.Send(pluginsdk.Artifact{OutputID: "compressed", MIMEType: "application/gzip", FileName: "compressed.gz", Body: r})
}

func compress(to io.Writer, from io.Reader) error {
	z := gzip.NewWriter(to)
	if _, err := io.Copy(z, from); err != nil {
		return err
	}
	return z.Close()
}
