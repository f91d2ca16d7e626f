package pubnub

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/blob"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Paths outside the interface, for the bytes of files: the rest of the path is all that one needs to use them,
// as with a signed address.
const (
	uploadPath   = "_upload"
	downloadPath = "_files"
)

// Limits of files.
const (
	filePage    = 100
	maxFileName = 255
	maxFields   = 64 << 10 // of an upload, beside the file
)

// publishFile serves /v1/files/publish-file/{pub}/{sub}/0/{channel}/{callback}[/{message}].
func (s *Server) publishFile(q *request) {
	q.pad(unescape(q.seg[7]))
	s.accept(q, typeFile, q.seg[3], q.seg[4], q.seg[6], q.seg[8:])
}

// announceFile serves POST /v1/files/{sub}/channels/{channel}/generate-upload-url: says where and how to upload.
func (s *Server) announceFile(q *request) {
	k := s.keyset(q, q.seg[2])
	if k == nil {
		return
	}
	channel := unescape(q.seg[4])
	if !k.permit(q, access.Write, channel) {
		return
	}
	var req struct{ Name string }
	body, err := q.readBody()
	if err != nil || json.Unmarshal(body, &req) != nil || !validFileName(req.Name) || !validChannel(channel) {
		fileError(q.w, http.StatusBadRequest, "Invalid file name")
		return
	}
	f, err := s.uploads.announce(k.Space.SubscribeKey(), channel, req.Name)
	if err != nil {
		fileError(q.w, http.StatusBadRequest, err.Error())
		return
	}
	kind := mime.TypeByExtension(extension(req.Name))
	if kind == "" {
		kind = "application/octet-stream"
	}
	now := s.now().UTC()
	b := pubsub.AppendString([]byte(`{"status":200,"data":{"id":`), f.ID)
	b = pubsub.AppendString(append(b, `,"name":`...), f.Name)
	b = pubsub.AppendString(append(b, `},"file_upload_request":{"url":`...), "http://"+q.r.Host+"/"+uploadPath+"/"+f.Blob)
	b = pubsub.AppendString(append(b, `,"method":"POST","expiration_date":`...), now.Add(uploadLife).Format(time.RFC3339))
	b = append(b, `,"form_fields":[`...)
	for i, field := range [...][2]string{
		{"tagging", "<Tagging><TagSet><Tag><Key>ObjectTTLInDays</Key><Value>0</Value></Tag></TagSet></Tagging>"},
		{"key", f.SubscribeKey + "/" + f.Blob + "/" + f.ID + "/" + f.Name}, {"Content-Type", kind}, {"X-Amz-Credential", "sandbox"},
		{"X-Amz-Security-Token", ""}, {"X-Amz-Algorithm", "AWS4-HMAC-SHA256"}, {"X-Amz-Date", now.Format("20060102T150405Z")},
		{"Policy", "e30="}, {"X-Amz-Signature", f.Blob},
	} {
		if i > 0 {
			b = append(b, ',')
		}
		b = pubsub.AppendString(append(b, `{"key":`...), field[0])
		b = append(pubsub.AppendString(append(b, `,"value":`...), field[1]), '}')
	}
	answerJSON(q.w, http.StatusOK, append(b, `]}}`...))
}

func extension(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[i:]
	}
	return ""
}

func validFileName(name string) bool {
	return name != "" && len(name) <= maxFileName && !strings.ContainsAny(name, "/\\\x00")
}

// receiveFile takes the form that an announced file comes in. An SDK takes anything but 204 without a body for a
// failure.
func (s *Server) receiveFile(q *request) {
	id := unescape(q.seg[1])
	f, err := s.uploads.claim(id)
	if errors.Is(err, errUploading) {
		storeError(q.w, http.StatusConflict, "OperationAborted", "A conflicting conditional operation is currently in progress against this resource. Please try again.")
		return
	}
	if err != nil {
		storeError(q.w, http.StatusForbidden, "AccessDenied", "Invalid according to Policy: Policy expired.")
		return
	}
	stored := false
	defer func() {
		if !stored {
			s.uploads.abandon(f)
		}
	}()
	q.r.Body = http.MaxBytesReader(q.w, q.r.Body, s.uploads.limit+maxFields)
	form, err := q.r.MultipartReader()
	if err != nil {
		storeError(q.w, http.StatusBadRequest, "MalformedPOSTRequest", "The body of your POST request is not well-formed multipart/form-data.")
		return
	}
	for {
		part, err := form.NextPart()
		if err != nil {
			storeError(q.w, http.StatusBadRequest, "InvalidArgument", "POST requires exactly one file upload per request.")
			return
		}
		if part.FormName() != "file" {
			if _, err := io.Copy(io.Discard, part); err != nil {
				storeError(q.w, http.StatusBadRequest, "IncompleteBody", "The request body was cut short.")
				return
			}
			continue
		}
		err = s.uploads.receive(f, part)
		switch {
		case err == nil:
			stored = true
			q.w.WriteHeader(http.StatusNoContent)
		case errors.Is(err, blob.ErrTooLarge) || errors.As(err, new(*http.MaxBytesError)):
			storeError(q.w, http.StatusBadRequest, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
		default:
			storeError(q.w, http.StatusBadRequest, "IncompleteBody", "The request body was cut short.")
		}
		return
	}
}

// storeError answers as the store of the real network does, in XML.
func storeError(w http.ResponseWriter, status int, code, message string) {
	answerAs(w, []string{"application/xml"}, status, []byte(`<?xml version="1.0" encoding="UTF-8"?>`+"\n<Error><Code>"+code+"</Code><Message>"+message+"</Message></Error>"))
}

func fileError(w http.ResponseWriter, status int, message string) {
	b := strconv.AppendInt([]byte(`{"status":`), int64(status), 10)
	b = pubsub.AppendString(append(b, `,"error":{"source":"files","message":`...), message)
	answerJSON(w, status, append(b, `}}`...))
}

// listFiles serves GET /v1/files/{sub}/channels/{channel}/files.
func (s *Server) listFiles(q *request) {
	k := s.keyset(q, q.seg[2])
	if k == nil {
		return
	}
	channel := unescape(q.seg[4])
	if !k.permit(q, access.Read, channel) {
		return
	}
	bounds, bad := numbers(q, "limit", "next")
	if bad != "" {
		fileError(q.w, http.StatusBadRequest, "Invalid "+bad)
		return
	}
	limit := int(min(bounds[0], filePage))
	if limit == 0 {
		limit = filePage
	}
	found, next := s.uploads.list(k.Space.SubscribeKey(), channel, bounds[1], limit)
	b := []byte(`{"status":200,"data":[`)
	for i, f := range found {
		if i > 0 {
			b = append(b, ',')
		}
		b = pubsub.AppendString(append(b, `{"name":`...), f.Name)
		b = pubsub.AppendString(append(b, `,"id":`...), f.ID)
		b = strconv.AppendInt(append(b, `,"size":`...), f.Size, 10)
		b = append(pubsub.AppendString(append(b, `,"created":`...), f.Created.UTC().Format(time.RFC3339)), '}')
	}
	b = append(b, `],"next":`...)
	if next == 0 {
		b = append(b, "null"...)
	} else {
		b = append(strconv.AppendInt(append(b, '"'), next, 10), '"')
	}
	b = strconv.AppendInt(append(b, `,"count":`...), int64(len(found)), 10)
	answerJSON(q.w, http.StatusOK, append(b, '}'))
}

// file serves /v1/files/{sub}/channels/{channel}/files/{id}/{name}. A download is a redirect: SDKs read the Location
// and crash on a plain 200. The address that it names needs no token and has no query, because an SDK rewrites queries.
func (s *Server) file(q *request) {
	k := s.keyset(q, q.seg[2])
	if k == nil {
		return
	}
	right := access.Read
	if q.r.Method == http.MethodDelete {
		right = access.Delete
	}
	channel, id, name := unescape(q.seg[4]), unescape(q.seg[6]), unescape(q.seg[7])
	if !k.permit(q, right, channel) {
		return
	}
	if right == access.Delete {
		if err := s.uploads.remove(k.Space.SubscribeKey(), channel, id, name); err != nil {
			notFound(q.w)
			return
		}
		answerJSON(q.w, http.StatusOK, []byte(`{"status":200}`))
		return
	}
	path, ok := "", false
	if s.files != nil {
		path, ok = s.files.Locate(channel, id, name)
	}
	if !ok {
		var f *storedFile
		if f, ok = s.uploads.find(k.Space.SubscribeKey(), channel, id, name); ok {
			path = "/" + downloadPath + "/" + f.Blob + "/" + encodeName(f.Name)
		}
	}
	if !ok {
		notFound(q.w)
		return
	}
	h := q.w.Header()
	h.Set("Location", "http://"+q.r.Host+path)
	h.Set("Cache-Control", "public, max-age=3600, immutable")
	h.Set("Content-Length", "0")
	h["Content-Type"] = javascript
	q.w.WriteHeader(http.StatusTemporaryRedirect)
}

// sendFile serves the bytes of a file.
func (s *Server) sendFile(q *request) {
	f, content, err := s.uploads.open(unescape(q.seg[1]))
	if err != nil {
		storeError(q.w, http.StatusForbidden, "AccessDenied", "Access Denied")
		return
	}
	defer content.Close()
	q.w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(q.w, q.r, "", f.Created, content)
}

// Files finds stored files.
type Files interface {
	// Locate returns the path, on the same server, from which the file can be fetched without a token.
	Locate(channel, id, name string) (path string, ok bool)
}
