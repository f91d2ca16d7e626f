package supervisor

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// verify checks the program that is about to be started. It returns its checksum.
func verify(hashes *catalog.Hashes, c HandlerConfig) (string, error) {
	sum, err := hashes.Of(c.program())
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return "", &plug.Failure{Reason: unit.Spawn, Text: "handler " + c.Name + " could not be started because " + c.program() + " cannot be read: " + err.Error()}
	}
	want, advice := c.SHA256, "restore the file, or pin the new checksum with blocksd handler pin "+c.Name
	if want == "" && c.Program != "" { // only we write there
		want, advice = c.Content, "delete the damaged copy and restart the handler"
	}
	if want != "" && !strings.EqualFold(sum, want) {
		return sum, &plug.Failure{Reason: unit.Checksum, Text: "handler " + c.Name + " is not started because " + c.program() + " has the checksum " + sum + " instead of " + want + ": " + advice}
	}
	return sum, nil
}
