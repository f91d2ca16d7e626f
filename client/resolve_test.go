package client

import (
	"testing"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
)

// TestWhereAValueComesFrom: what the program says wins over the environment, and that over the deployment document.
func TestWhereAValueComesFrom(t *testing.T) {
	document := backend.CDM{
		Playground: wire.Keyset{PublishKey: "pub-free", SubscribeKey: "sub-free"}, Network: wire.Keyset{PublishKey: "pub-paid", SubscribeKey: "sub-paid"},
		BaseURL: "http://document", PubNubOrigin: "document:1",
	}
	env := map[string]string{
		"BLOCKS_CDM_URL": "http://env/cdm", "BLOCKS_BACKEND_URL": "http://env", "BLOCKSD_PUBNUB_ORIGIN": "env:1",
		"BLOCKS_SUBSCRIBE_KEY": "sub-env", "BLOCKS_PUBLISH_KEY": "pub-env", "ARTIFACT_INLINE_LIMIT_BYTES": "1000",
	}
	given := Options{
		CDMURL: "http://given/cdm", BackendURL: "http://given", PubNubOrigin: "given:1", SubscribeKey: "sub-given", PublishKey: "pub-given", InlineLimit: 2000,
	}
	type values struct {
		cdm, backend, origin string
		free, paid           wire.Keyset
		inline               int
	}
	both := func(k wire.Keyset) (free, paid wire.Keyset) { return k, k }
	for _, c := range []struct {
		name  string
		o     Options
		env   map[string]string
		wants func(*values)
	}{
		{"the document", Options{}, nil, func(v *values) {
			*v = values{"", "http://document", "document:1", document.Playground, document.Network, 16384}
		}},
		{"the environment", Options{}, env, func(v *values) {
			*v = values{cdm: "http://env/cdm", backend: "http://env", origin: "env:1", inline: 1000}
			v.free, v.paid = both(wire.Keyset{PublishKey: "pub-env", SubscribeKey: "sub-env"})
		}},
		{"the program", given, env, func(v *values) {
			*v = values{cdm: "http://given/cdm", backend: "http://given", origin: "given:1", inline: 2000}
			v.free, v.paid = both(wire.Keyset{PublishKey: "pub-given", SubscribeKey: "sub-given"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.APIKey, c.o.Getenv = "bk_x", func(name string) string { return c.env[name] }
			s, err := c.o.complete()
			if err != nil {
				t.Fatal(err)
			}
			client := &Client{settings: s, network: s.deployment.Resolve(document)}
			var want values
			c.wants(&want)
			got := values{s.deployment.CDMURL, client.network.BackendURL, client.network.Origin, client.keyset(Free), client.keyset(Paid), s.InlineLimit}
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}
