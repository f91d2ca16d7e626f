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
	maxShelved     = 1 << 30 // bytes of all files; beyond it the oldest go
)

var (
	errNoFiles  = errors.New("file upload is not enabled for this server")
	errBusy     = errors.New("too many uploads are under way")
	errNoSuch   = errors.New("no such file")
	errNotAsked = errors.New("upload was not announced, or its time is over")
	errTaken    = errors.New("another upload to the same place is under way")
)

// shelved is a file of a channel, or one that is announced.
type shelved struct {
	SavedFile
	arriving bool // its bytes are on their way
}

// SavedFile is a file that a client has uploaded here.
type SavedFile struct {
	SubscribeKey, Channel string
	ID, Name              string
	Blob                  string // where it is stored; whoever knows it may read it
	Size                  int64
	Created               time.Time
	Number                int64 // in the order of arrival
}

// shelf holds the files that clients upload through the interface for files.
type shelf struct {
	blobs   *blob.Store // nil: none are taken
	now     func() time.Time
	limit   int64
	changed func()

	mu        sync.Mutex // guards all below
	announced map[string]*shelved
	files     []*shelved // oldest first
	bytes     int64
	last      int64
}

func newShelf(blobs *blob.Store, now func() time.Time, limit int64, saved []SavedFile, changed func()) *shelf {
	if limit <= 0 {
		limit = defaultMaxFile
	}
	if changed == nil {
		changed = func() {}
	}
	s := &shelf{blobs: blobs, now: now, limit: limit, changed: changed, announced: map[string]*shelved{}}
	for _, f := range saved {
		s.files = append(s.files, &shelved{SavedFile: f})
		s.bytes += f.Size
		s.last = max(s.last, f.Number)
	}
	return s
}

// saved returns the files that are here, oldest first.
func (s *shelf) saved() []SavedFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]SavedFile, 0, len(s.files))
	for _, f := range s.files {
		out = append(out, f.SavedFile)
	}
	return out
}

// announce makes a place for a file.
func (s *shelf) announce(subscribeKey, channel, name string) (*shelved, error) {
	if s.blobs == nil {
		return nil, errNoFiles
	}
	f := &shelved{SavedFile: SavedFile{SubscribeKey: subscribeKey, Channel: channel, Name: name, ID: uuid.NewString(), Blob: blob.ID(), Created: s.now()}}
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

// claim takes an announced place for one upload, which gives it back with abandon if it fails. Only one has it: of two
// that write to one place at once, the bytes of one would come with the size of the other.
func (s *shelf) claim(blobID string) (*shelved, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.announced[blobID]
	switch {
	case f == nil || s.now().Sub(f.Created) > uploadLife:
		return nil, errNotAsked
	case f.arriving:
		return nil, errTaken
	}
	f.arriving = true
	return f, nil
}

// abandon lets another upload have the place.
func (s *shelf) abandon(f *shelved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.arriving = false
}

// receive stores the bytes of a file whose place was claimed; it belongs to its channel from then on.
func (s *shelf) receive(f *shelved, r io.Reader) error {
	size, err := s.blobs.Write(f.Blob, r, s.limit)
	if err != nil {
		return err
	}
	s.mu.Lock()
	var old []*shelved
	delete(s.announced, f.Blob)
	s.last++
	f.Size, f.Created, f.Number = size, s.now(), s.last
	s.files = append(s.files, f)
	s.bytes += size
	for s.bytes > maxShelved {
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

func (s *shelf) find(subscribeKey, channel, id, name string) (*shelved, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.index(subscribeKey, channel, id, name)
	if i < 0 {
		return nil, false
	}
	return s.files[i], true
}

func (s *shelf) index(subscribeKey, channel, id, name string) int {
	return slices.IndexFunc(s.files, func(f *shelved) bool {
		return f.ID == id && f.Name == name && f.Channel == channel && f.SubscribeKey == subscribeKey
	})
}

// list returns the files of a channel that came after number after, oldest first, and where to go on (0: nowhere).
func (s *shelf) list(subscribeKey, channel string, after int64, limit int) (found []*shelved, next int64) {
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

func (s *shelf) remove(subscribeKey, channel, id, name string) error {
	s.mu.Lock()
	i := s.index(subscribeKey, channel, id, name)
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

// open opens a file by its place.
func (s *shelf) open(blobID string) (*shelved, *os.File, error) {
	s.mu.Lock()
	i := slices.IndexFunc(s.files, func(f *shelved) bool { return f.Blob == blobID })
	if i < 0 {
		s.mu.Unlock()
		return nil, nil, errNoSuch
	}
	f := s.files[i]
	s.mu.Unlock()
	content, err := s.blobs.Open(f.Blob)
	return f, content, err
}
