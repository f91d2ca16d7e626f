package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/e2e/internal/system"
)

// key is the nth API key of the network.
func (o *ours) key(n int) string {
	keys := append([]string{o.env.Get("BLOCKS_API_KEY")}, strings.Split(o.env.Get("BLOCKSD_SANDBOX_KEYS"), ",")...)
	return keys[n]
}

// exchange does what an application's own server would: it trades its API key for a token of a consumer.
func (o *ours) exchange(ctx context.Context) (client.Token, error) {
	var grant struct {
		AccessToken, UserID string
		ExpiresIn           int
	}
	base := strings.TrimSuffix(o.env.Get("BLOCKS_CDM_URL"), "/api/v1/cdm")
	err := system.Exchange(ctx, o.web, http.MethodPost, base+"/api/v1/auth/agent/consumer-token", "", map[string]string{"apiKey": o.key(0)}, &grant)
	return client.Token{Value: grant.AccessToken, ExpiresIn: time.Duration(grant.ExpiresIn) * time.Second, UserID: grant.UserID}, err
}

var badToken = client.Token{Value: "not-a-token", ExpiresIn: time.Minute, UserID: "user_1"}

// credentials are who calls, by the names of consumer.py.
var credentials = map[string]func(*ours) client.Options{
	"free":          func(o *ours) client.Options { return client.Options{BillingMode: client.Free, APIKey: o.key(0)} },
	"paid":          func(o *ours) client.Options { return client.Options{BillingMode: client.Paid, APIKey: o.key(0)} },
	"stranger":      func(o *ours) client.Options { return client.Options{BillingMode: client.Free, APIKey: o.key(1)} },
	"stranger paid": func(o *ours) client.Options { return client.Options{BillingMode: client.Paid, APIKey: o.key(1)} },
	"broke":         func(o *ours) client.Options { return client.Options{BillingMode: client.Paid, APIKey: o.key(2)} },
	"anonymous":     func(*ours) client.Options { return client.Options{BillingMode: client.Free, Anonymous: "interop"} },
	"endpoint": func(o *ours) client.Options {
		return client.Options{BillingMode: client.Free, TokenEndpoint: &client.TokenEndpoint{
			URL: o.asked.url, Header: http.Header{"X-Session": {"s1"}}, Body: map[string]string{"for": "interop"},
		}}
	},
	"function": func(o *ours) client.Options {
		return client.Options{BillingMode: client.Free, TokenFunc: o.exchange}
	},
	"bad token": func(*ours) client.Options {
		return client.Options{BillingMode: client.Free, TokenFunc: func(context.Context) (client.Token, error) { return badToken, nil }}
	},
	"bad at first": func(o *ours) client.Options { return badAtFirst(o.exchange) },
	"no second token": func(*ours) client.Options {
		return badAtFirst(func(context.Context) (client.Token, error) {
			return client.Token{}, errors.New("the application has no token")
		})
	},
	"wrong key": func(*ours) client.Options { return client.Options{BillingMode: client.Free, APIKey: "bk_wrong"} },
	"dead endpoint": func(*ours) client.Options {
		return client.Options{BillingMode: client.Free, TokenEndpoint: &client.TokenEndpoint{URL: "http://127.0.0.1:1/token"}}
	},
	"two credentials":    func(o *ours) client.Options { return client.Options{APIKey: "bk_1", TokenFunc: o.exchange} },
	"anonymous and paid": func(*ours) client.Options { return client.Options{BillingMode: client.Paid, Anonymous: "interop"} },
	"nobody":             func(*ours) client.Options { return client.Options{BillingMode: client.Free} },
}

// badAtFirst gets a first token that is worth nothing, then others from a function.
func badAtFirst(then func(context.Context) (client.Token, error)) client.Options {
	var asked atomic.Int64
	return client.Options{BillingMode: client.Free, TokenFunc: func(ctx context.Context) (client.Token, error) {
		if asked.Add(1) == 1 {
			return badToken, nil
		}
		return then(ctx)
	}}
}

// testEndpoint is a token endpoint as an application has one.
type testEndpoint struct {
	url string

	mu   sync.Mutex
	seen string // what the first request said
}

func (e *testEndpoint) serve(t testing.TB, o *ours) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		if e.seen == "" {
			e.seen = fmt.Sprintf("endpoint asked with %s %s", r.Header.Get("X-Session"), asPythonText(body))
		}
		e.mu.Unlock()
		token, err := o.exchange(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"token": token.Value, "expiresIn": int(token.ExpiresIn.Seconds()), "userId": token.UserID})
	}))
	t.Cleanup(server.Close)
	e.url = server.URL
}

func (e *testEndpoint) first() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen
}

// kindOf is the kind of an error in the words of consumer.py; reached says whether anything was sent.
func kindOf(err error, reached bool) string {
	if err == nil {
		return "no error"
	}
	rpc, refused := errors.AsType[*client.RPCError](err)
	if e, ok := errors.AsType[*client.BillingModeMismatchError](err); ok && refused {
		return fmt.Sprintf("BillingModeMismatchError expected %s got %s code %d", e.Expected, e.Got, rpc.Code)
	}
	if e, ok := errors.AsType[*client.UploadError](err); ok {
		return fmt.Sprintf("FileUploadError %d", e.Status)
	}
	if _, ok := errors.AsType[*client.AuthRefreshFailedError](err); ok {
		if refused {
			return fmt.Sprintf("AuthRefreshFailedError and RpcError %d", rpc.Code)
		}
		return "AuthRefreshFailedError"
	}
	if refused {
		words := []string{"RpcError", fmt.Sprint(rpc.Code), rpc.AppCode}
		if rpc.AppCode == "" {
			words[2] = "None"
		}
		if rpc.Details != nil {
			words = append(words, asPythonText(rpc.Details))
		}
		return strings.Join(words, " ")
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "no answer"
	}
	if errors.Is(err, errCannotBeSaid) {
		return "cannot be said"
	}
	if !reached {
		return "refused before any request"
	}
	return "another error: " + err.Error()
}
