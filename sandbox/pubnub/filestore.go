package pubnub

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/blocksd/blocksd/sandbox/blob"
)

// Limits of the files that clients upload here.
const (
	defaultMaxFile = 5 << 20
	uploadLife     = time.Minute // between the announcement of a file and its bytes
	maxAnnounced   = 1000
	maxStored      = 1 << 30 // bytes of all files; beyond it the oldest go
)

var (
	errNoFiles   = errors.New("file upload is not enabled for this server")
	errBusy      = errors.New("too many uploads are under way")
	errNoSuch    = errors.New("no such file")
	errNotAsked  = errors.New("upload was not announced, or its time is over")
	errUploading = errors.New("another upload to the same place is under way")
)

// storedFile is a file of a channel, or one that is announced.
type storedFile struct {
	SavedFile
	arriving bool // its bytes are on their way
}

// SavedFile is a file that a client has uploaded here.
type SavedFile struct {
	SubscribeKey, Channel string
	ID, Name              string
	Blob                  string // where it is stored; to know it is the permission to read it
	Size                  int64
	Created               time.Time
	Number                int64 // in the order of arrival
}

// fileStore holds the files that clients upload to channels of the plain keysets.
type fileStore struct {
	blobs   *blob.Store // nil: none are taken
	now     func() time.Time
	limit   int64
	changed func()

	mu        sync.Mutex // guards all below
	announced map[string]*storedFile
	files     []*storedFile // oldest first
	bytes     int64
	last      int64
}

func newFileStore(blobs *blob.Store, now func() time.Time, limit int64, saved []SavedFile, changed func()) *fileStore {
	if limit <= 0 {
		limit = defaultMaxFile
	}
	if changed == nil {
		changed = func() {}
	}
	s := &fileStore{blobs: blobs, now: now, limit: limit, changed: changed, announced: map[string]*storedFile{}}
	for _, f := range saved {
		s.files = append(s.files, &storedFile{SavedFile: f})
		s.bytes += f.Size
		s.last = max(s.last, f.Number)
	}
	return s
}

// saved returns all files, oldest first.
func (s *fileStore) saved() []SavedFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]SavedFile, 0, len(s.files))
	for _, f := range s.files {
		out = append(out, f.SavedFile)
	}
	return out
}

// announce expects the bytes of a file.
func (s *fileStore) announce(subscribeKey, channel, name string) (*storedFile, error) {
	if s.blobs == nil {
		return nil, errNoFiles
	}
	f := &storedFile{SavedFile: SavedFile{SubscribeKey: subscribeKey, Channel: channel, Name: name, ID: uuid.NewString(), Blob: blob.ID(), Created: s.now()}}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, other := range s.announced {
		if f.Created.Sub(other.Created) > uploadLife && !other.arriving {
			delete(s.announced, id)
		}
	}
	if len(s.announced) >= maxAnnounced {
		return nil, errBusy
	}
	s.announced[f.Blob] = f
	return f, nil
}

// claim begins the upload of an announced file; one that fails calls abandon. There is one upload of a file at a time:
// of two at once, the bytes of one could be kept with the size of the other.
func (s *fileStore) claim(blobID string) (*storedFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.announced[blobID]
	switch {
	case f == nil || s.now().Sub(f.Created) > uploadLife:
		return nil, errNotAsked
	case f.arriving:
		return nil, errUploading
	}
	f.arriving = true
	return f, nil
}

// abandon lets another upload of the file begin.
func (s *fileStore) abandon(f *storedFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.arriving = false
}

// receive stores the bytes of a file that was claimed; from then on it belongs to its channel.
func (s *fileStore) receive(f *storedFile, r io.Reader) error {
	size, err := s.blobs.Write(f.Blob, r, s.limit)
	if err != nil {
		return err
	}
	s.mu.Lock()
	var old []*storedFile
	delete(s.announced, f.Blob)
	s.last++
	f.Size, f.Created, f.Number = size, s.now(), s.last
	s.files = append(s.files, f)
	s.bytes += size
	for s.bytes > maxStored {
		s.bytes -= s.files[0].Size
		old = append(old, s.files[0])
		s.files = s.files[1:]
	}
	s.mu.Unlock()
	s.changed()
	for _, o := range old {
		err = errors.Join(err, s.blobs.Remove(o.Blob))
	}
	return err
}

func (s *fileStore) find(subscribeKey, channel, id, name string) (*storedFile, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.indexLocked(subscribeKey, channel, id, name)
	if i < 0 {
		return nil, false
	}
	return s.files[i], true
}

func (s *fileStore) indexLocked(subscribeKey, channel, id, name string) int {
	return slices.IndexFunc(s.files, func(f *storedFile) bool {
		return f.ID == id && f.Name == name && f.Channel == channel && f.SubscribeKey == subscribeKey
	})
}

// list returns the files of a channel that came after number after, oldest first, and where the next page begins (0:
// there is none).
func (s *fileStore) list(subscribeKey, channel string, after int64, limit int) (found []*storedFile, next int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		if f.Number <= after || f.Channel != channel || f.SubscribeKey != subscribeKey {
			continue
		}
		if len(found) == limit {
			return found, found[limit-1].Number
		}
		found = append(found, f)
	}
	return found, 0
}

func (s *fileStore) remove(subscribeKey, channel, id, name string) error {
	s.mu.Lock()
	i := s.indexLocked(subscribeKey, channel, id, name)
	if i < 0 {
		s.mu.Unlock()
		return errNoSuch
	}
	f := s.files[i]
	s.files = slices.Delete(s.files, i, i+1)
	s.bytes -= f.Size
	s.mu.Unlock()
	s.changed()
	return s.blobs.Remove(f.Blob)
}

// open opens a file by the name of its blob.
func (s *fileStore) open(blobID string) (*storedFile, *os.File, error) {
	s.mu.Lock()
	i := slices.IndexFunc(s.files, func(f *storedFile) bool { return f.Blob == blobID })
	if i < 0 {
		s.mu.Unlock()
		return nil, nil, errNoSuch
	}
	f := s.files[i]
	s.mu.Unlock()
	content, err := s.blobs.Open(f.Blob)
	return f, content, err
}
