package api

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
)

// parts reads the parts of a request. A provider has to accept what it is sent, so a consumer's mistakes are refused
// here.
func parts(raw json.RawMessage) ([]wire.Part, error) {
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil || elements == nil {
		return nil, blocks.InvalidParams("requestParts must be an array of parts.")
	}
	out := make([]wire.Part, len(elements))
	for i, element := range elements {
		var members struct {
			PartID      string          `json:"partId"`
			Text        string          `json:"text"`
			ContentType string          `json:"contentType"`
			ArtifactRef json.RawMessage `json:"artifactRef"`
		}
		name := fmt.Sprintf("requestParts[%d]", i)
		if kind := bytes.TrimSpace(element); kind[0] != '{' {
			return nil, blocks.InvalidParams("%s must be an object.", name)
		}
		if err := json.Unmarshal(element, &members); err != nil {
			return nil, blocks.InvalidParams("%s is invalid: %s.", name, blocks.DescribeJSONError(err))
		}
		if err := json.Unmarshal(element, &out[i]); err != nil {
			return nil, blocks.InvalidParams("%s is invalid: %s.", name, blocks.DescribeJSONError(err))
		}
		if ref := bytes.TrimSpace(members.ArtifactRef); len(ref) > 0 && string(ref) != "null" && out[i].File == nil {
			return nil, blocks.InvalidParams("%s.artifactRef is not a file reference.", name)
		}
	}
	return out, nil
}
