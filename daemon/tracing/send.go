package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/blocksd/blocksd/internal/retry"
)

const (
	// gather is how long spans wait for others, so that an idle collector is not asked for each task.
	gather = time.Second
	// requestTimeout bounds one request, lastTimeout all of those after the daemon's last task.
	requestTimeout = 10 * time.Second
	lastTimeout    = 2 * time.Second
	// maxAnswer is what is read of an answer; they are short.
	maxAnswer = 4 << 10
	// maxRetryAfter bounds what a collector may ask for.
	maxRetryAfter = time.Minute
)

var backoff = retry.Backoff{First: time.Second, Max: 30 * time.Second}

// sender sends spans to a collector by OTLP/HTTP.
type sender struct {
	address  string
	headers  http.Header
	client   *http.Client
	resource *resourcepb.Resource
	version  string
	timeout  time.Duration // of one request
}

// Address is where traces go for an endpoint: the path of the protocol is added where it is missing.
func Address(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", errors.New("the address of the collector cannot be read") // it may hold a password
	}
	const path = "/v1/traces"
	if !strings.HasSuffix(u.Path, path) {
		u.Path = strings.TrimRight(u.Path, "/") + path
	}
	return u.String(), nil
}

// Headers reads OTEL_EXPORTER_OTLP_HEADERS: pairs like key=value with commas between them, the values percent-encoded.
func Headers(text string) (http.Header, error) {
	h := http.Header{}
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		key, value, found := strings.Cut(pair, "=")
		plain, err := url.PathUnescape(strings.TrimSpace(value))
		if !found || err != nil || strings.TrimSpace(key) == "" {
			return nil, errors.New("OTEL_EXPORTER_OTLP_HEADERS must be pairs like key=value with commas between them") // it holds secrets
		}
		h.Set(strings.TrimSpace(key), plain)
	}
	return h, nil
}

// refused is the answer of a collector that will never take these spans.
type refused struct{ status string }

func (r refused) Error() string { return "the collector answered " + r.status }

// busy is the answer of one that may take them later.
type busy struct {
	refused
	after time.Duration
}

func (s *sender) send(ctx context.Context, spans []*tracepb.Span) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("the collector did not answer within %s", s.timeout))
	defer cancel()
	body, err := proto.Marshal(&collectorpb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource: s.resource,
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{Name: "github.com/blocksd/blocksd", Version: s.version}, Spans: spans,
		}},
	}}})
	if err != nil {
		return refused{fmt.Sprintf("nothing: the spans cannot be encoded: %v", err)}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = s.headers.Clone()
	r.Header.Set("Content-Type", "application/x-protobuf")
	answer, err := s.client.Do(r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			return wrapped.Err // the address may hold a password
		}
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer)) // so that the connection is used again
	switch code := answer.StatusCode; {
	case code < http.StatusMultipleChoices:
		return nil
	case code == http.StatusTooManyRequests, code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return busy{refused{answer.Status}, retry.After(answer.Header, maxRetryAfter)}
	default:
		return refused{answer.Status}
	}
}

// valid makes a text fit for protobuf.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
