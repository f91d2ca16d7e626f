package blocks

import (
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/google/uuid"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blob"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

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
	u := &upload{limit: req.Size, fileRecord: fileRecord{
		ID: "up_" + blob.ID(), FileID: uuid.NewString(), Blob: blob.ID(), Name: req.FileName, MIME: req.MIMEType,
		UserID: p.UserID, Created: n.cfg.Now(), OutputID: req.OutputID, PartID: req.PartID,
	}}
	if req.Output {
		t := n.tasks.byID[req.TaskID]
		switch {
		case t == nil:
			return UploadTicket{}, noTask(req.TaskID)
		case p.OrgID != t.agent.Spec.OrgID || p.IsAgent() && p.Agent != t.agent.Spec.Name:
			return UploadTicket{}, refused(403, CodeDenied, "Only the agent of the task %s may upload its outputs.", t.ID)
		}
		u.TaskID, u.Channel = t.ID, t.Channel
	} else {
		if req.PartID == "" {
			return UploadTicket{}, InvalidParams("partId is required.")
		}
		s := n.files.sessions[req.UploadSessionID]
		switch {
		case req.UploadSessionID == "":
			if a := n.registry.agents[req.AgentName]; !a.visibleLocked(p) {
				return UploadTicket{}, noAgent(req.AgentName)
			}
			u.session = "us_" + blob.ID()
			s = &session{userID: p.UserID, agentName: req.AgentName, created: u.Created}
			n.files.sessions[u.session] = s
		case s == nil || s.userID != p.UserID:
			return UploadTicket{}, refused(404, CodeUploadNotFound, "There is no upload session %s.", req.UploadSessionID)
		default:
			u.session = req.UploadSessionID
		}
		s.uploads = append(s.uploads, u.ID)
	}
	n.files.uploads[u.ID] = u
	return UploadTicket{u.ID, u.session}, nil
}

// Receive stores the bytes of an announced file. There is one upload of a file at a time; until the file is
// confirmed another one may replace it.
func (n *Network) Receive(uploadID string, r io.Reader) error {
	n.mu.Lock()
	u := n.files.uploads[uploadID]
	if u == nil || u.confirmed {
		n.mu.Unlock()
		return refused(404, CodeUploadNotFound, "There is no such upload.")
	}
	if u.receiving {
		n.mu.Unlock()
		return refused(409, CodeUploadBusy, "Another upload to the same place is under way.")
	}
	u.receiving = true
	blobID, limit := u.Blob, u.limit
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
	if n.files.uploads[u.ID] != u { // given up in the meantime
		n.removeBlobsLocked([]string{blobID})
		return refused(404, CodeUploadNotFound, "There is no such upload.")
	}
	u.Size, u.received = size, true
	return nil
}

// ConfirmUpload makes a received file available. That of a provider's output is announced on the task's channel before
// this returns.
func (n *Network) ConfirmUpload(p *Principal, uploadID string) (*wire.ArtifactRef, error) {
	n.mu.Lock()
	u := n.files.uploads[uploadID]
	switch {
	case u == nil || u.UserID != p.UserID:
		n.mu.Unlock()
		return nil, refused(404, CodeUploadNotFound, "There is no upload %s.", uploadID)
	case !u.received || u.receiving:
		n.mu.Unlock()
		return nil, refused(409, CodeUploadUnfinished, "The file of the upload %s has not arrived.", uploadID)
	}
	t := n.tasks.byID[u.TaskID]
	if u.TaskID != "" && t == nil { // forgotten in the meantime; the file would never be deleted
		n.mu.Unlock()
		return nil, noTask(u.TaskID)
	}
	again := u.confirmed
	u.confirmed = true
	n.files.byFileID[u.FileID] = u
	if u.session != "" || t == nil {
		n.mu.Unlock()
		return nil, nil
	}
	if !again {
		t.files = append(t.files, u.ID)
	}
	ref := u.ref()
	space, meta := t.env.Space, wire.EventMeta(t.agent.Spec.Name, t.ID, "")
	n.mu.Unlock()
	if !again {
		body, err := wire.ArtifactEvent(t.Channel, t.ID, u.OutputID, ref)
		if err != nil {
			return nil, InvalidParams("The artifact cannot be announced: %v.", err)
		}
		space.Publish(pubsub.Publication{Channel: t.Channel, Publisher: backendUUID, Meta: meta, Body: body, Store: true})
	}
	return &ref, nil
}

func (u *upload) ref() wire.ArtifactRef {
	return wire.ArtifactRef{Kind: wire.RefFile, MIMEType: u.MIME, Size: u.Size, FileName: u.Name, Channel: u.Channel, FileID: u.FileID}
}

// claimInputsLocked puts the files of a session into the parts of a task.
func (n *Network) claimInputsLocked(p *Principal, t *task, sessionID string) error {
	s := n.files.sessions[sessionID]
	if s == nil || s.userID != p.UserID || s.agentName != t.agent.Spec.Name {
		return refused(404, CodeUploadNotFound, "There is no upload session %s for the agent %s.", sessionID, t.agent.Spec.Name)
	}
	byPart := map[string]*upload{}
	for _, id := range s.uploads {
		if u := n.files.uploads[id]; u != nil {
			if !u.confirmed {
				return refused(409, CodeUploadUnfinished, "The file of the part %s has not been uploaded.", u.PartID)
			}
			byPart[u.PartID] = u
		}
	}
	parts := append([]wire.Part{}, t.Parts...)
	for i, part := range parts {
		u := byPart[part.PartID]
		if u == nil || part.File != nil {
			continue
		}
		u.Channel = t.Inputs
		filled, err := withFile(part, u.ref())
		if err != nil {
			return InvalidParams("The part %s cannot take its file: %v.", part.PartID, err)
		}
		parts[i] = filled
	}
	for _, u := range byPart {
		u.TaskID, u.Channel = t.ID, t.Inputs
		t.files = append(t.files, u.ID)
	}
	t.Parts = parts
	delete(n.files.sessions, sessionID)
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
	u := n.files.byFileID[fileID]
	if u == nil || u.Channel != channel || u.Name != name {
		return "", false
	}
	return BlobPath + u.Blob, true
}

// OpenBlob opens a stored file by the last element of its path.
func (n *Network) OpenBlob(blobID string) (*os.File, error) { return n.cfg.Blobs.Open(blobID) }
