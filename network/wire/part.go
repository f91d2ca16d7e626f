package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/blocksd/blocksd/internal/jsonscan"
)

// Part is one input of a task.
type Part struct {
	PartID      string
	ContentType string
	// Text is nil when the part has no text or a text that is not a string.
	Text *string
	// File is nil when the part carries no file.
	File *ArtifactRef
	// Raw is the part as it was received: one JSON value, an object or not.
	Raw json.RawMessage
}

// MarshalJSON writes the part as it was received, or its known members if it was made here.
func (p Part) MarshalJSON() ([]byte, error) {
	if p.Raw != nil {
		return p.Raw, nil
	}
	return encode(partMembers{PartID: p.PartID, Text: p.Text, ContentType: p.ContentType, ArtifactRef: p.File})
}

// UnmarshalJSON accepts any JSON value: elements that are not objects are passed on untouched.
func (p *Part) UnmarshalJSON(b []byte) error {
	v, _ := jsonscan.Check(b) // whoever calls it has checked it
	*p = partOf(v)
	return nil
}

// partOf reads a part, which it copies.
func partOf(v jsonscan.Value) Part {
	p := Part{Raw: bytes.Clone(v)}
	m := fieldsIn(v)
	p.PartID = m.text("partId")
	p.ContentType = m.text("contentType")
	if raw := m.get("text"); raw.IsText() {
		s := textOf(json.RawMessage(raw))
		p.Text = &s
	}
	if raw := m.get("artifactRef"); raw.IsObject() {
		var ref ArtifactRef
		if json.Unmarshal(raw, &ref) == nil {
			p.File = &ref
		}
	}
	return p
}

type partMembers struct {
	PartID      string       `json:"partId,omitempty"`
	Text        *string      `json:"text,omitempty"`
	ContentType string       `json:"contentType,omitempty"`
	ArtifactRef *ArtifactRef `json:"artifactRef,omitempty"`
	Traceparent string       `json:"traceparent,omitempty"`
}

// The two kinds of ArtifactRef.
const (
	RefInline = "inline"
	RefFile   = "file"
)

// ArtifactRef is how a file travels, in both directions: inline as base64, or as a file in the network's storage.
type ArtifactRef struct {
	Kind     string `json:"kind"`
	MIMEType string `json:"mimeType"`
	// Size in raw bytes, as announced.
	Size     int64  `json:"size"`
	Hash     string `json:"hash,omitempty"`
	FileName string `json:"fileName,omitempty"`
	// Data is standard base64 with padding; nil unless the kind is inline. An empty file has the empty text.
	Data *string `json:"data,omitempty"`
	// Channel and FileID say where a stored file is. The channel is the network's choice and must not be derived.
	Channel   string `json:"channel,omitempty"`
	FileID    string `json:"fileId,omitempty"`
	ExpiresAt string `json:"expiresAt,omitempty"`
}

// UnmarshalJSON fills in the members that a reference may leave out: kind inline and type application/octet-stream.
func (r *ArtifactRef) UnmarshalJSON(b []byte) error {
	type plain ArtifactRef
	v := plain{Kind: RefInline, MIMEType: DefaultMIMEType}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*r = ArtifactRef(v)
	return nil
}

// DefaultMIMEType is that of a file about which nothing is said.
const DefaultMIMEType = "application/octet-stream"

// InlineRef returns the reference that carries data itself.
func InlineRef(a Artifact) ArtifactRef {
	text := base64.StdEncoding.EncodeToString(a.Data)
	return ArtifactRef{Kind: RefInline, MIMEType: a.mimeType(), Size: int64(len(a.Data)), FileName: a.FileName, Data: &text}
}

// Inline returns the bytes of an inline reference; an error for any other.
func (r ArtifactRef) Inline() ([]byte, error) {
	if r.Kind != RefInline || r.Data == nil {
		return nil, fmt.Errorf("artifact reference of kind %q carries no data", r.Kind)
	}
	b, err := base64.StdEncoding.DecodeString(*r.Data)
	if err != nil {
		return nil, fmt.Errorf("artifact reference carries data that is not base64: %w", err)
	}
	return b, nil
}

// stringMember returns m[key] if it is a JSON string, else "". m[key] is a part of what was decoded, so it is valid JSON.
func stringMember(m map[string]json.RawMessage, key string) string { return textOf(m[key]) }

// encode is json.Marshal without the escaping of <, > and &, which would make texts longer than their authors see.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
