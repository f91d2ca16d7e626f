package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/blocksd/blocksd/network/wire"
)

// DefaultCDMURL is the document of the public deployment.
const DefaultCDMURL = "https://config.blocks.ai/config.json"

// CDM is the public document that describes a deployment.
type CDM struct {
	Playground, Network wire.Keyset
	// BaseURL of the API; empty if the document has none.
	BaseURL  string
	ClientID string
	// PubNubOrigin is host:port for plain HTTP. Only a sandbox names one.
	PubNubOrigin string
}

// Keyset is that of a billing mode.
func (c CDM) Keyset(m wire.BillingMode) wire.Keyset {
	if m == wire.Paid {
		return c.Network
	}
	return c.Playground
}

// FetchCDM reads the document at address, within 10 s and without retries; an empty address means DefaultCDMURL, a nil
// hc a client of our own. Anything but http and https is refused.
func FetchCDM(ctx context.Context, hc *http.Client, address string) (CDM, error) {
	if address == "" {
		address = DefaultCDMURL
	}
	const op = "fetch the deployment document"
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return CDM{}, fmt.Errorf("%s: %q is not an http or https URL: check BLOCKS_CDM_URL", op, address)
	}
	if hc == nil {
		hc = newHTTP()
		defer hc.CloseIdleConnections()
	}
	object := "at " + u.Scheme + "://" + u.Host + u.Path
	fail := func(err error) error { return &Error{Op: op, Object: object, err: hideURL(err)} }
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return CDM{}, fail(err)
	}
	resp, err := documentRedirects(hc).Do(req)
	if err != nil {
		return CDM{}, fail(err)
	}
	defer resp.Body.Close()
	body, err := readBounded(resp.Body, maxAnswer)
	if resp.StatusCode/100 != 2 {
		return CDM{}, answerError(apiCall{op: op, object: object}, resp.StatusCode, body)
	}
	if err != nil {
		return CDM{}, fail(err)
	}
	cdm, err := decodeCDM(body)
	if err != nil {
		return CDM{}, fmt.Errorf("%s %s: %w: check BLOCKS_CDM_URL", op, object, err)
	}
	return cdm, nil
}

// decodeCDM reads the document. All four keys are required, even where only one keyset is used.
func decodeCDM(body []byte) (CDM, error) {
	var o struct {
		Playground, Network wire.Keyset
		API                 struct{ BaseURL, ClientID string }
		Sandbox             struct{ PubNubOrigin string }
	}
	if err := json.Unmarshal(body, &o); err != nil {
		return CDM{}, fmt.Errorf("it is not a JSON object")
	}
	for name, k := range map[string]wire.Keyset{"playground": o.Playground, "network": o.Network} {
		if k.PublishKey == "" || k.SubscribeKey == "" {
			return CDM{}, fmt.Errorf("its member %q lacks publishKey or subscribeKey", name)
		}
	}
	return CDM{
		Playground: o.Playground, Network: o.Network, BaseURL: strings.TrimRight(o.API.BaseURL, "/"),
		ClientID: o.API.ClientID, PubNubOrigin: o.Sandbox.PubNubOrigin,
	}, nil
}
