package cli

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/blocksd/blocksd/client"
)

// filePart is a file of a call. On a terminal the upload of a large one is shown.
func (a *app) filePart(id, path string, out *callPrinter) client.Part {
	if !out.live {
		return client.File(id, path)
	}
	return client.Reader(id, filepath.Base(path), func() (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return &shownFile{file: f, out: out}, nil
	})
}

// shownFile shows how much of it has been read.
type shownFile struct {
	file *os.File
	out  *callPrinter
	size int64
	done int64
}

// Stat is how its size is found out.
func (f *shownFile) Stat() (fs.FileInfo, error) {
	info, err := f.file.Stat()
	if err == nil {
		f.size = info.Size()
	}
	return info, err
}

func (f *shownFile) Read(p []byte) (int, error) {
	if f.size == 0 {
		_, _ = f.Stat() // the read says what is wrong
	}
	n, err := f.file.Read(p)
	f.done += int64(n)
	f.out.transfer("uploading", f.file.Name(), f.done, f.size)
	return n, err
}

func (f *shownFile) Close() error { return f.file.Close() }
