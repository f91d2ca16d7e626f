package blocks

import "time"

// uploadLife is how long an upload may stay unclaimed: from its request until its task is submitted or it is confirmed.
const uploadLife = time.Hour

// upload is one file on its way in, and then the stored file.
type upload struct {
	fileRecord
	session   string // of a consumer's input, else empty
	limit     int64  // bytes that were announced
	receiving bool   // bytes are on their way
	received  bool
	confirmed bool
}

// fileRecord is what is kept of a file.
type fileRecord struct {
	ID, FileID       string // FileID names it on its channel
	Blob             string // where it is stored; to know it is the permission to read it
	TaskID           string `json:"Task"` // of a provider's output; of an input once its task is submitted
	OutputID, PartID string
	Name, MIME       string
	UserID, Channel  string
	Size             int64
	Created          time.Time
}

// session collects the input files of one task to be.
type session struct {
	userID, agentName string
	uploads           []string
	created           time.Time
}

// fileTable holds the uploads and the stored files.
type fileTable struct {
	uploads  map[string]*upload
	sessions map[string]*session
	byFileID map[string]*upload // confirmed
}

func newFileTable() fileTable {
	return fileTable{uploads: map[string]*upload{}, sessions: map[string]*session{}, byFileID: map[string]*upload{}}
}

// restoreLocked adds a file of an earlier network.
func (ft *fileTable) restoreLocked(r fileRecord) {
	u := &upload{fileRecord: r, received: true, confirmed: true}
	ft.uploads[u.ID], ft.byFileID[u.FileID] = u, u
}

// dropLocked forgets the files of a task and returns their blobs.
func (ft *fileTable) dropLocked(t *task) (blobs []string) {
	for _, id := range t.files {
		if u := ft.uploads[id]; u != nil {
			blobs = append(blobs, u.Blob)
			delete(ft.byFileID, u.FileID)
			delete(ft.uploads, id)
		}
	}
	return blobs
}

// sweepLocked forgets what was never claimed and returns its blobs.
func (ft *fileTable) sweepLocked(now time.Time) (blobs []string) {
	for id, u := range ft.uploads {
		if now.Sub(u.Created) > uploadLife && (!u.confirmed || u.TaskID == "") {
			blobs = append(blobs, u.Blob)
			delete(ft.uploads, id)
			delete(ft.byFileID, u.FileID)
		}
	}
	for id, s := range ft.sessions {
		if now.Sub(s.created) > uploadLife {
			delete(ft.sessions, id)
		}
	}
	return blobs
}

// removeBlobsLocked has stored files deleted.
func (n *Network) removeBlobsLocked(blobs []string) {
	if len(blobs) == 0 {
		return
	}
	n.loop.pushLocked(func() {
		for _, id := range blobs {
			if err := n.cfg.Blobs.Remove(id); err != nil {
				n.log.Warn("stored file cannot be deleted", "err", err)
			}
		}
	})
}
