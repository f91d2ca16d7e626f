package streams

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
)

// TestResolve: each rule about what may be asked for, before the network is asked.
func TestResolve(t *testing.T) {
	one := map[string]card.Stream{"_default": {Direction: "outbound", Format: "bytes", Affinity: "dedicated"}}
	several := map[string]card.Stream{
		"_default": one["_default"],
		"feed":     {Direction: "inbound", Format: "events", Affinity: "dedicated"},
		"cast":     {Direction: "outbound", Format: "events", Affinity: "shared"},
		"chat":     {Direction: "bidirectional", Format: "events"}, // affinity left out
	}
	pipe, request := Task{"t", wire.Pipe, true}, Task{"t", wire.Request, true}
	spec := func(declared string, direction wire.StreamDirection, format wire.StreamFormat, affinity wire.StreamAffinity) Spec {
		return Spec{Declared: declared, Direction: direction, Format: format, Affinity: affinity}
	}
	for name, tc := range map[string]struct {
		declared map[string]card.Stream
		task     Task
		request  dispatch.StreamRequest
		want     Spec
		fault    dispatch.StreamFault
		says     string
	}{
		"sole key":                   {one, request, dispatch.StreamRequest{}, spec("_default", "outbound", "bytes", "dedicated"), 0, ""},
		"explicit default":           {several, pipe, dispatch.StreamRequest{Declared: "_default"}, spec("_default", "outbound", "bytes", "dedicated"), 0, ""},
		"equal values":               {one, request, dispatch.StreamRequest{Declared: "_default", Direction: "outbound", Format: "bytes"}, spec("_default", "outbound", "bytes", "dedicated"), 0, ""},
		"affinity left out":          {several, pipe, dispatch.StreamRequest{Declared: "chat"}, spec("chat", "bidirectional", "events", "dedicated"), 0, ""},
		"external":                   {several, pipe, dispatch.StreamRequest{Declared: "feed", External: true}, Spec{"feed", "inbound", "events", "dedicated", true}, 0, ""},
		"not offered":                {one, Task{"t", wire.Pipe, false}, dispatch.StreamRequest{}, Spec{}, dispatch.StreamForbidden, "did not ask for streams"},
		"none declared":              {nil, pipe, dispatch.StreamRequest{}, Spec{}, dispatch.StreamUndeclared, "declares no streams"},
		"several, none named":        {several, pipe, dispatch.StreamRequest{}, Spec{}, dispatch.StreamUndeclared, "must be named: _default, cast, chat, feed"},
		"unknown":                    {several, pipe, dispatch.StreamRequest{Declared: "nope"}, Spec{}, dispatch.StreamUndeclared, `no stream "nope", but _default, cast, chat, feed`},
		"sole key is another":        {one, pipe, dispatch.StreamRequest{Declared: "nope"}, Spec{}, dispatch.StreamUndeclared, `no stream "nope"`},
		"direction":                  {several, pipe, dispatch.StreamRequest{Declared: "feed", Direction: "outbound"}, Spec{}, dispatch.StreamUndeclared, "as inbound, not as outbound"},
		"format":                     {several, pipe, dispatch.StreamRequest{Declared: "feed", Format: "bytes"}, Spec{}, dispatch.StreamUndeclared, "of events, not of bytes"},
		"request, inbound in card":   {several, request, dispatch.StreamRequest{Declared: "feed"}, Spec{}, dispatch.StreamForbidden, "only pipe tasks"},
		"request, bidirectional":     {several, request, dispatch.StreamRequest{Declared: "chat"}, Spec{}, dispatch.StreamForbidden, "only pipe tasks"},
		"request, shared":            {several, request, dispatch.StreamRequest{Declared: "cast"}, Spec{}, dispatch.StreamForbidden, "shared, which only pipe tasks"},
		"request, external":          {one, request, dispatch.StreamRequest{External: true}, Spec{}, dispatch.StreamForbidden, "only in a pipe task"},
		"shared and external":        {several, pipe, dispatch.StreamRequest{Declared: "cast", External: true}, Spec{}, dispatch.StreamForbidden, "is shared, so another process"},
		"shared, external, request":  {several, request, dispatch.StreamRequest{Declared: "cast", External: true}, Spec{}, dispatch.StreamForbidden, "is shared, so another process"},
		"conflict before forbidding": {several, request, dispatch.StreamRequest{Declared: "feed", Direction: "outbound"}, Spec{}, dispatch.StreamUndeclared, "as inbound"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Resolve(tc.declared, tc.task, tc.request)
			var refused *dispatch.StreamError
			if tc.fault != 0 && (!errors.As(err, &refused) || refused.Fault != tc.fault || !strings.Contains(err.Error(), tc.says)) || tc.fault == 0 && err != nil {
				t.Errorf("error %v, want fault %d that says %q", err, tc.fault, tc.says)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
