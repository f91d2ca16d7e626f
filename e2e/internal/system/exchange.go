package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Exchange sends body as JSON, with a bearer token unless it is empty, and decodes the answer into result. Errors name the
// address without its query, where tokens are.
func Exchange(ctx context.Context, client *http.Client, method, url, bearer string, body, result any) error {
	var payload bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&payload).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, &payload)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Blocks-Protocol-Version", "2026-05-01")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		address, _, _ := strings.Cut(url, "?")
		return fmt.Errorf("%s %s: HTTP %d %s", method, address, resp.StatusCode, strings.TrimSpace(string(b)))
	}
	return json.Unmarshal(b, result)
}
