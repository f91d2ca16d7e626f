package supervisor

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/blocksd/blocksd/internal/shell"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// startProgram starts the program of a handler, if it has the right checksum, and returns it.
func (f *Fleet) startProgram(ctx context.Context, c HandlerConfig, spool *plug.Spool) (sum string, conn *plug.Conn, err error) {
	if c.SHA256 == "" || c.Program != "" { // only we write to the store
		if sum, err = verify(&f.hashes, c); err != nil {
			return sum, nil, err
		}
		conn, err = plug.Start(ctx, plugConfig(f, c, spool))
		return sum, conn, err
	}
	opened, err := catalog.Open(c.Path)
	if errors.Is(err, catalog.ErrBeingWritten) {
		return "", nil, &plug.Failure{Reason: unit.Spawn, Text: "handler " + c.Name + " is not started because " + c.Path + ", which has a pinned checksum, is open for writing: let whoever writes it close it (fuser -v names the process)"}
	}
	if err != nil {
		return "", nil, unreadable(c, err)
	}
	defer opened.Close()
	sum = opened.Sum
	if err := compare(c, sum); err != nil {
		return sum, nil, err
	}
	config := plugConfig(f, c, spool)
	if c.Interpreter == "" {
		config.Program = opened.File()
	}
	if conn, err = plug.Start(ctx, config); err != nil {
		return sum, nil, err
	}
	// What reads the file by its path, as an interpreter may, has read it by now.
	if opened.Changed() {
		conn.KillAndWait()
		conn.Close()
		return sum, nil, &plug.Failure{Reason: unit.Checksum, Text: "handler " + c.Name + " is not started because " + c.Path + ", which has a pinned checksum, was changed during the start: restore the file, or pin the new checksum with blocksd handler pin " + shell.Word(c.Name)}
	}
	return sum, conn, nil
}

// verify checks the program that is about to be started. It returns its checksum.
func verify(hashes *catalog.Hashes, c HandlerConfig) (string, error) {
	sum, err := hashes.Of(c.program())
	if err != nil {
		return "", unreadable(c, err)
	}
	return sum, compare(c, sum)
}

func unreadable(c HandlerConfig, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &plug.Failure{Reason: unit.Spawn, Text: "handler " + c.Name + " could not be started because " + c.program() + " cannot be read: " + err.Error()}
}

// compare says whether a program with the checksum sum may be started.
func compare(c HandlerConfig, sum string) error {
	want, advice := c.SHA256, "restore the file, or pin the new checksum with blocksd handler pin "+shell.Word(c.Name)
	if want == "" && c.Program != "" { // only we write there
		want, advice = c.Content, "delete the damaged copy and restart the handler"
	}
	if want != "" && !strings.EqualFold(sum, want) {
		return &plug.Failure{Reason: unit.Checksum, Text: "handler " + c.Name + " is not started because " + c.program() + " has the checksum " + sum + " instead of " + want + ": " + advice}
	}
	return nil
}
