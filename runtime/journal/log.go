package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The log takes what is posted, in one write and one sync, where a commit to the store takes two syncs and several pages.
// The store gets all of it together when the log is full. By then most tasks have come and gone, and only their outcomes
// are left to write.
//
// The file has its full size from the beginning, so that a sync has no more to write than the frame. A block of it is the
// head; then come frames, each from the beginning of a block, so that no write touches what is durable:
//
//	head   magic, id of the journal
//	frame  magic (4 bytes), length (4), number (8), then the posts, sealed
//
// Frames are numbered without a gap, for ever. The store has the number of the last frame that it holds. What follows that
// one in the file, from the first block on, is what a crash has left for it; behind it may be older frames.

// LogName is the name of the journal's log in its directory.
const LogName = "journal.log"

const (
	logBlock   = 4096
	logHead    = "blocksd journal log 1\n"
	frameMagic = "bjf1"
	frameHead  = 4 + 4 + 8
)

type logID [16]byte

// logFile is the log. Only the owner goroutine uses it.
type logFile struct {
	file *os.File
	seal *sealer
	id   logID
	size int64
	at   int64  // where the next frame goes
	next uint64 // its number
	buf  []byte // of the frame that was written last
}

// makeLog makes the file of a new log in place of any that is there.
func makeLog(cfg Config, path string, id logID) error {
	part := path + ".new"
	_ = os.Remove(part) // of a start that was interrupted
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	content := make([]byte, cfg.logBytes)
	copy(content[copy(content, logHead):], id[:])
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// syncDirectory makes the names in a directory durable.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// openLog opens the log of the journal id and passes the posts of each frame after number applied to each. An error that
// matches errBroken says that what was durable cannot be read.
func openLog(cfg Config, path string, seal *sealer, id logID, applied uint64, each func(plain []byte) error) (*logFile, error) {
	f, err := cfg.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := closeToOthers(cfg, path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l := &logFile{file: f, seal: seal, id: id, at: logBlock, next: applied + 1}
	content, err := l.read()
	if err == nil {
		err = l.replay(content, each)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

func (l *logFile) read() ([]byte, error) {
	info, err := l.file.Stat()
	if err != nil {
		return nil, err
	}
	if l.size = info.Size() / logBlock * logBlock; !info.Mode().IsRegular() || l.size < 2*logBlock || l.size > maxLogBytes {
		return nil, fmt.Errorf("its log %s is no file of a log: %w", LogName, errBroken)
	}
	content := make([]byte, l.size)
	_, err = l.file.ReadAt(content, 0)
	return content, err
}

// maxLogBytes bounds what is read of a file that may be anything.
const maxLogBytes = 64 << 20

func (l *logFile) replay(content []byte, each func(plain []byte) error) error {
	if id, ok := logOwner(content); !ok || id != l.id {
		return fmt.Errorf("its log %s belongs to another journal or is damaged: %w", LogName, errBroken)
	}
	for {
		plain, size, ok := l.frame(content, l.at)
		if !ok {
			break
		}
		if err := each(plain); err != nil {
			return fmt.Errorf("frame %d of its log %s: %w: %w", l.next, LogName, errBroken, err)
		}
		l.at += size
		l.next++
	}
	// A power failure leaves at most the one frame that was being written in parts. Where a later one is whole, the damage is
	// of another kind, and what was durable is lost.
	for at := l.at; at < l.size; at += logBlock {
		if n := binary.BigEndian.Uint64(content[at+8:]); string(content[at:at+4]) == frameMagic && n > l.next {
			whole := logFile{seal: l.seal, id: l.id, size: l.size, next: n}
			if _, _, ok := whole.frame(content, at); ok {
				return fmt.Errorf("frame %d of its log %s cannot be read, but frame %d can: %w", l.next, LogName, n, errBroken)
			}
		}
	}
	return nil
}

// frame reads the frame with the next number, if that is the one at at.
func (l *logFile) frame(content []byte, at int64) (plain []byte, size int64, ok bool) {
	if at+logBlock > l.size || string(content[at:at+4]) != frameMagic || binary.BigEndian.Uint64(content[at+8:]) != l.next {
		return nil, 0, false
	}
	length := int64(binary.BigEndian.Uint32(content[at+4:]))
	if size = blocks(frameHead + length); length == 0 || at+size > l.size {
		return nil, 0, false
	}
	plain, err := l.seal.open(l.address(), content[at+frameHead:at+frameHead+length])
	return plain, size, err == nil
}

// address is what the frame with the next number is sealed for.
func (l *logFile) address() []byte {
	return binary.BigEndian.AppendUint64(append([]byte("log/"), l.id[:]...), l.next)
}

// logOwner reads which journal a log belongs to.
func logOwner(content []byte) (id logID, ok bool) {
	rest, ok := bytes.CutPrefix(content, []byte(logHead))
	if !ok || len(rest) < len(id) {
		return id, false
	}
	return logID(rest), true
}

// ownerOf reads which journal the log at path belongs to. ok is false where there is no log, or one that says nothing.
func ownerOf(path string) (id logID, ok bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return id, false, nil
	}
	if err != nil {
		return id, false, err
	}
	defer f.Close()
	head := make([]byte, len(logHead)+len(id))
	if _, err := f.ReadAt(head, 0); err != nil {
		return id, false, nil
	}
	id, ok = logOwner(head)
	return id, ok, nil
}

// append makes a frame durable. It reports false, and writes nothing, when there is no room for it.
func (l *logFile) append(plain []byte) (bool, error) {
	size := blocks(int64(frameHead + sealHeader + len(plain) + l.seal.own.Overhead()))
	if l.at+size > l.size {
		return false, nil
	}
	sealed := l.seal.seal(l.address(), plain)
	if int64(cap(l.buf)) < size {
		l.buf = make([]byte, size)
	}
	b := l.buf[:size]
	copy(b, frameMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(len(sealed)))
	binary.BigEndian.PutUint64(b[8:], l.next)
	clear(b[frameHead+copy(b[frameHead:], sealed):])
	if _, err := l.file.WriteAt(b, l.at); err != nil {
		return true, err
	}
	if err := syncData(l.file); err != nil {
		return true, err
	}
	l.at += size
	l.next++
	return true, nil
}

// restart has the next frame take the place of the first one: the store has them all.
func (l *logFile) restart() { l.at = logBlock }

func (l *logFile) close() error { return l.file.Close() }

// blocks rounds up to whole blocks.
func blocks(n int64) int64 { return (n + logBlock - 1) / logBlock * logBlock }
