package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
)

func (s *Server) requestUpload(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Role            string `json:"role"`
		FileName        string `json:"fileName"`
		FileSize        int64  `json:"fileSize"`
		MIMEType        string `json:"mimeType"`
		AgentName       string `json:"agentName"`
		PartID          string `json:"partId"`
		UploadSessionID string `json:"uploadSessionId"`
		TaskID          string `json:"taskId"`
		OutputID        string `json:"outputId"`
	}
	p, err := s.byToken(r)
	if err == nil {
		err = read(r, &req)
	}
	if err == nil && req.Role != "consumer-input" && req.Role != "provider-output" {
		err = blocks.InvalidParams("The role must be consumer-input or provider-output, not %q.", req.Role)
	}
	var t blocks.UploadTicket
	if err == nil {
		t, err = s.blocks.RequestUpload(p, blocks.UploadRequest{
			Output: req.Role == "provider-output", FileName: req.FileName, MIMEType: req.MIMEType, Size: req.FileSize,
			AgentName: req.AgentName, PartID: req.PartID, UploadSessionID: req.UploadSessionID, TaskID: req.TaskID, OutputID: req.OutputID,
		})
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	type field struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	answer(w, http.StatusOK, struct {
		SessionID string  `json:"uploadSessionId,omitempty"`
		UploadID  string  `json:"uploadId"`
		URL       string  `json:"uploadUrl"`
		Fields    []field `json:"formFields"`
	}{t.SessionID, t.UploadID, "http://" + s.origin + blocks.BlobPath + t.UploadID, []field{{"key", t.UploadID}}})
}

// receiveBlob takes a form whose last part, named file, holds the bytes. It needs no credentials: the path is a secret.
func (s *Server) receiveBlob(w http.ResponseWriter, r *http.Request) {
	form, err := r.MultipartReader()
	if err != nil {
		s.refuse(w, r, blocks.InvalidParams("The upload is not a multipart form: %v.", err))
		return
	}
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			s.refuse(w, r, blocks.InvalidParams("The upload has no part named file."))
			return
		}
		if err != nil {
			s.refuse(w, r, blocks.InvalidParams("The upload cannot be read: %v.", err))
			return
		}
		if part.FormName() != "file" {
			continue
		}
		if err := s.blocks.Receive(r.PathValue("id"), part); err != nil {
			s.refuse(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
}

// sendBlob serves a stored file; the path is a secret here, too.
func (s *Server) sendBlob(w http.ResponseWriter, r *http.Request) {
	f, err := s.blocks.OpenBlob(r.PathValue("id"))
	if err != nil {
		notFound(w, r)
		return
	}
	defer f.Close()
	var modified time.Time
	if info, err := os.Stat(f.Name()); err == nil {
		modified = info.ModTime()
	}
	h := w.Header()
	h.Set("Content-Type", wire.DefaultMIMEType) // never a type that a browser would run
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", modified, f)
}

func (s *Server) confirmUpload(w http.ResponseWriter, r *http.Request) {
	var req struct {
		UploadID string `json:"uploadId"`
	}
	p, err := s.byToken(r)
	if err == nil {
		err = read(r, &req)
	}
	var ref *wire.ArtifactRef
	if err == nil {
		ref, err = s.blocks.ConfirmUpload(p, req.UploadID)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, struct {
		UploadID string            `json:"uploadId"`
		Ref      *wire.ArtifactRef `json:"artifactRef,omitempty"`
	}{req.UploadID, ref})
}
