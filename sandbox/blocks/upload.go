package blocks

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blob"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// uploadLife is how long an upload may stay unclaimed: the time between its request and the end of the matter.
const uploadLife = time.Hour

// upload is one file on its way in, and then the stored file.
type upload struct {
	id, fileID string // fileID names it on its channel
	blob       string // where it is stored; whoever knows it may read it
	session    string // of a consumer's input, else empty
	task       *task  // of a provider's output; of an input once its task is submitted
	outputID   string
	partID     string
	name, mime string
	limit      int64 // bytes that were announced
	size       int64 // bytes that it has
	userID     string
	created    time.Time
	receiving  bool // bytes are on their way
	received   bool
	confirmed  bool
	channel    string
}

// session collects the input files of one task to be.
type session struct {
	userID, agentName string
	uploads           []string
	created           time.Time
}

// UploadRequest announces a file.
type UploadRequest struct {
	// Output is true for a provider's output; else it is a consumer's input.
	Output             bool
	FileName, MIMEType string
	Size               int64
	AgentName, PartID  string // of inputs
	UploadSessionID    string // of inputs; instead of AgentName from the second file on
	TaskID, OutputID   string // of outputs
}

// UploadTicket says where the file goes: to BlobPath and the id.
type UploadTicket struct{ UploadID, SessionID string }

// RequestUpload announces a file.
func (n *Network) RequestUpload(p *Principal, req UploadRequest) (UploadTicket, error) {
	if req.Size < 0 {
		return UploadTicket{}, InvalidParams("fileSize must not be negative.")
	}
	if req.FileName == "" {
		return UploadTicket{}, InvalidParams("fileName is required.")
	}
	if req.Size > n.cfg.MaxFileBytes {
		return UploadTicket{}, refused(413, CodeFileTooLarge, "The file has %d bytes; at most %d are allowed.", req.Size, n.cfg.MaxFileBytes)
	}
	if req.MIMEType == "" {
		req.MIMEType = wire.DefaultMIMEType
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	u := &upload{
		id: "up_" + blob.ID(), fileID: uuid.NewString(), blob: blob.ID(), name: req.FileName, mime: req.MIMEType, limit: req.Size,
		userID: p.UserID, created: n.cfg.Now(), outputID: req.OutputID, partID: req.PartID,
	}
	if req.Output {
		t := n.tasks[req.TaskID]
		switch {
		case t == nil:
			return UploadTicket{}, noTask(req.TaskID)
		case p.OrgID != t.agent.spec.OrgID || p.IsAgent() && p.Agent != t.agent.spec.Name:
			return UploadTicket{}, refused(403, CodeDenied, "Only the agent of the task %s may upload its outputs.", t.id)
		}
		u.task, u.channel = t, t.channel
	} else {
		if req.PartID == "" {
			return UploadTicket{}, InvalidParams("partId is required.")
		}
		s := n.sessions[req.UploadSessionID]
		switch {
		case req.UploadSessionID == "":
			if a := n.agents[req.AgentName]; !a.visible(p) {
				return UploadTicket{}, noAgent(req.AgentName)
			}
			u.session = "us_" + blob.ID()
			s = &session{userID: p.UserID, agentName: req.AgentName, created: u.created}
			n.sessions[u.session] = s
		case s == nil || s.userID != p.UserID:
			return UploadTicket{}, refused(404, CodeUploadNotFound, "There is no upload session %s.", req.UploadSessionID)
		default:
			u.session = req.UploadSessionID
		}
		s.uploads = append(s.uploads, u.id)
	}
	n.uploads[u.id] = u
	return UploadTicket{u.id, u.session}, nil
}

// Receive stores the bytes of an announced file. One upload at a time has the place; until the file is confirmed another
// one may follow and replaces it.
func (n *Network) Receive(uploadID string, r io.Reader) error {
	n.mu.Lock()
	u := n.uploads[uploadID]
	if u == nil || u.confirmed {
		n.mu.Unlock()
		return refused(404, CodeUploadNotFound, "There is no such upload.")
	}
	if u.receiving {
		n.mu.Unlock()
		return refused(409, CodeUploadBusy, "Another upload to the same place is under way.")
	}
	u.receiving = true
	blobID, limit := u.blob, u.limit
	n.mu.Unlock()
	size, err := n.cfg.Blobs.Write(blobID, r, limit)
	n.mu.Lock()
	defer n.mu.Unlock()
	u.receiving = false
	if errors.Is(err, blob.ErrTooLarge) {
		return refused(413, CodeFileTooLarge, "The file is larger than the %d bytes that were announced.", limit)
	}
	if err != nil {
		return err
	}
	if n.uploads[u.id] != u { // given up in the meantime
		n.push(func() { n.removeBlobs([]string{blobID}) })
		return refused(404, CodeUploadNotFound, "There is no such upload.")
	}
	u.size, u.received = size, true
	return nil
}

// ConfirmUpload makes a received file available. That of a provider's output is announced on the task's channel before
// this returns.
func (n *Network) ConfirmUpload(p *Principal, uploadID string) (*wire.ArtifactRef, error) {
	n.mu.Lock()
	u := n.uploads[uploadID]
	switch {
	case u == nil || u.userID != p.UserID:
		n.mu.Unlock()
		return nil, refused(404, CodeUploadNotFound, "There is no upload %s.", uploadID)
	case !u.received || u.receiving:
		n.mu.Unlock()
		return nil, refused(409, CodeUploadUnfinished, "The file of the upload %s has not arrived.", uploadID)
	}
	t := u.task
	if t != nil && n.tasks[t.id] != t { // forgotten in the meantime, and the file would never be
		n.mu.Unlock()
		return nil, noTask(t.id)
	}
	again := u.confirmed
	u.confirmed = true
	n.files[u.fileID] = u
	if u.session != "" || t == nil {
		n.mu.Unlock()
		return nil, nil
	}
	if !again {
		t.files = append(t.files, u.id)
	}
	ref := u.ref()
	space, meta := t.env.Space, wire.EventMeta(t.agent.spec.Name, t.id, "")
	n.mu.Unlock()
	if !again {
		body, err := wire.ArtifactEvent(t.channel, t.id, u.outputID, ref)
		if err != nil {
			return nil, InvalidParams("The artifact cannot be announced: %v.", err)
		}
		space.Publish(pubsub.Publication{Channel: t.channel, Publisher: backendUUID, Meta: meta, Body: body, Store: true})
	}
	return &ref, nil
}

func (u *upload) ref() wire.ArtifactRef {
	return wire.ArtifactRef{Kind: wire.RefFile, MIMEType: u.mime, Size: u.size, FileName: u.name, Channel: u.channel, FileID: u.fileID}
}

// claimInputs puts the files of a session into the parts of a task. The lock is held.
func (n *Network) claimInputs(p *Principal, t *task, sessionID string) error {
	s := n.sessions[sessionID]
	if s == nil || s.userID != p.UserID || s.agentName != t.agent.spec.Name {
		return refused(404, CodeUploadNotFound, "There is no upload session %s for the agent %s.", sessionID, t.agent.spec.Name)
	}
	byPart := map[string]*upload{}
	for _, id := range s.uploads {
		if u := n.uploads[id]; u != nil {
			if !u.confirmed {
				return refused(409, CodeUploadUnfinished, "The file of the part %s has not been uploaded.", u.partID)
			}
			byPart[u.partID] = u
		}
	}
	parts := append([]wire.Part{}, t.parts...)
	for i, part := range parts {
		u := byPart[part.PartID]
		if u == nil || part.File != nil {
			continue
		}
		u.channel = t.inputs
		filled, err := withFile(part, u.ref())
		if err != nil {
			return InvalidParams("The part %s cannot take its file: %v.", part.PartID, err)
		}
		parts[i] = filled
	}
	for _, u := range byPart {
		u.task, u.channel = t, t.inputs
		t.files = append(t.files, u.id)
	}
	t.parts = parts
	delete(n.sessions, sessionID)
	return nil
}

// withFile adds a reference to a part and keeps its other members.
func withFile(part wire.Part, ref wire.ArtifactRef) (wire.Part, error) {
	members := map[string]json.RawMessage{}
	if part.Raw != nil {
		if err := json.Unmarshal(part.Raw, &members); err != nil {
			return part, err
		}
	}
	encoded, err := json.Marshal(ref)
	if err != nil {
		return part, err
	}
	members["artifactRef"] = encoded
	raw, err := json.Marshal(members)
	if err != nil {
		return part, err
	}
	var filled wire.Part
	err = json.Unmarshal(raw, &filled)
	return filled, err
}

// BlobPath is where the server offers the bytes of stored files.
const BlobPath = "/blob/"

// Locate finds a confirmed file of a channel.
func (n *Network) Locate(channel, fileID, name string) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	u := n.files[fileID]
	if u == nil || u.channel != channel || u.name != name {
		return "", false
	}
	return BlobPath + u.blob, true
}

// OpenBlob opens a stored file by the last element of its path.
func (n *Network) OpenBlob(blobID string) (*os.File, error) { return n.cfg.Blobs.Open(blobID) }

// dropFiles forgets the files of a task and returns their blobs. The lock is held.
func (n *Network) dropFiles(t *task) (blobs []string) {
	for _, id := range t.files {
		if u := n.uploads[id]; u != nil {
			blobs = append(blobs, u.blob)
			delete(n.files, u.fileID)
			delete(n.uploads, id)
		}
	}
	return blobs
}

func (n *Network) removeBlobs(blobs []string) {
	for _, id := range blobs {
		if err := n.cfg.Blobs.Remove(id); err != nil {
			n.log.Warn("stored file stays", "err", err)
		}
	}
}

// sweepUploads drops what was never claimed. The lock is held.
func (n *Network) sweepUploads(now time.Time) {
	var blobs []string
	for id, u := range n.uploads {
		if now.Sub(u.created) > uploadLife && (!u.confirmed || u.task == nil) {
			blobs = append(blobs, u.blob)
			delete(n.uploads, id)
			delete(n.files, u.fileID)
		}
	}
	for id, s := range n.sessions {
		if now.Sub(s.created) > uploadLife {
			delete(n.sessions, id)
		}
	}
	if blobs != nil {
		n.push(func() { n.removeBlobs(blobs) })
	}
}
