package blocks

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/testutil"
)

// writing is one stream that each provider's handler writes, and what its messages are to say.
type writing struct {
	name, stream string
	chunks       []any
	repeat       int
	// differs says why the messages of blocksd are otherwise, theirs and ours which lines.
	differs      string
	theirs, ours []string
}

const onlyWhereNeeded = "bytes that are valid UTF-8 travel as text where that is shorter"

var writings = []writing{
	{name: "text", stream: "log", chunks: []any{"one ", "two ", "drei ü"}},
	{name: "bytes", stream: "log", chunks: []any{args{"hex": "00ff10"}, args{"hex": "fe"}}},
	{name: "bytes that are text", stream: "log", chunks: []any{args{"hex": "68656c6c6f"}},
		differs: onlyWhereNeeded, theirs: []string{"encoding base64"}, ours: []string{"encoding utf8"}},
	{name: "empty writes", stream: "log", chunks: []any{"a", "", "b"}},
	{name: "nothing", stream: "log", chunks: []any{}},
	{name: "large text", stream: "log", chunks: []any{strings.Repeat("ü", 20000)}},
	{name: "megabyte in pieces", stream: "log", chunks: []any{args{"size": 1 << 20}}},
	{name: "many small writes", stream: "log", chunks: []any{"a few words "}, repeat: 2000},
	{name: "events", stream: "ticks", chunks: []any{args{"n": 1}, []any{2, "x"}, nil, args{"text": "ü"}}},
	{name: "large event", stream: "ticks", chunks: []any{args{"text": strings.Repeat("x", 40000)}}},
	{name: "no events", stream: "ticks", chunks: []any{}},
	{name: "shared", stream: "feed", chunks: []any{args{"n": 1}},
		differs: "writers of a shared stream that follow one another begin at a number made of the time, so that the second one is read",
		theirs:  []string{"from 1", "members encoding events protocolVersion seq streamId ts type"},
		ours:    []string{"from the time", "members encoding events firstSeq protocolVersion seq streamId ts type"}},
}

// optional are members that ours have in some messages, depending on how fast the network is. Other readers ignore them.
var optional = []string{"unacked"}

// TestStreamMessages has the SDK's provider and blocksd write the same streams, and compares what is on their channels: types,
// members, numbers, encodings, elements, pieces, and the mark of the end.
func TestStreamMessages(t *testing.T) {
	t.Parallel()
	cards := writeCards(t)
	providers := append(slices.Clone(versions), "blocksd")
	var mu sync.Mutex
	said := map[string]map[string][]string{}
	t.Run("write", func(t *testing.T) {
		for _, provider := range providers {
			t.Run(provider, func(t *testing.T) {
				t.Parallel()
				written := written(t, cards, provider)
				mu.Lock()
				said[provider] = written
				mu.Unlock()
			})
		}
	})
	if t.Failed() {
		return
	}
	for _, w := range writings {
		for _, version := range versions {
			t.Run(w.name+" beside "+version, func(t *testing.T) {
				theirs, ours := said[version][w.name], said["blocksd"][w.name]
				if w.differs == "" {
					if d := cmp.Diff(theirs, ours); d != "" {
						t.Errorf("blocksd (+) writes otherwise than the SDK (-):\n%s", d)
					}
					return
				}
				if lost, added := without(theirs, ours), without(ours, theirs); !slices.Equal(lost, w.theirs) || !slices.Equal(added, w.ours) {
					t.Errorf("the intended difference is another one:\nonly the SDK: %q\nonly blocksd: %q", lost, added)
				}
			})
		}
	}
}

// written has a provider write all that there is to write, and tells what is on the channels then.
func written(t *testing.T, cards, provider string) map[string][]string {
	_, env := bin.Sandbox(t, cards, "--lossless")
	if provider == "blocksd" {
		bin.Daemon(t, env, system.PluginDir(t, map[string]string{"streamer": filepath.Join(bin.TestPlugins(), "scripted")}, func(name string, card map[string]any) {
			card["identity"].(map[string]any)["agentName"] = name
			agents[name](card)
		}))
	} else {
		provide(t, provider, env, filepath.Join(cards, "streamer.json"))
	}
	c, err := system.NewConsumer(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	said := map[string][]string{}
	for _, w := range writings {
		lines, err := w.messages(t, env, c)
		if err != nil {
			t.Fatalf("%s by %s: %v", w.name, provider, err)
		}
		said[w.name] = lines
	}
	return said
}

// messages has the provider write, and tells what is on the channel then.
func (w writing) messages(t *testing.T, env system.Env, c *system.Consumer) ([]string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), operationDeadline)
	defer cancel()
	write := args{"name": w.stream, "chunks": w.chunks, "end": w.stream != "feed"}
	if w.repeat > 0 {
		write["repeat"] = w.repeat
	}
	b, err := json.Marshal(steps{{"write": write}, {"pause": 1}, status("written"), untilCancel})
	if err != nil {
		return nil, err
	}
	task, err := c.SubmitStreaming(ctx, "streamer", string(b), 5)
	if err != nil {
		return nil, err
	}
	for written := false; !written; {
		events, err := c.History(ctx, task)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			if e.Type == "terminal" {
				return nil, fmt.Errorf("the task ended: %s", e.Error)
			}
			written = written || e.Message == "written"
		}
	}
	streams, err := c.Streams(ctx, task)
	if err != nil {
		return nil, err
	}
	lines, err := w.awaitLines(ctx, env, streams[w.stream])
	if err == nil {
		err = c.CancelTask(ctx, task)
	}
	if err == nil {
		_, err = c.Await(ctx, task)
	}
	return lines, err
}

// awaitLines tells what is on the channel once all of it is there: the SDK's provider goes on sending when its handler has
// written. A shared stream has one message, and no end as long as its task runs.
func (w writing) awaitLines(ctx context.Context, env system.Env, s system.Stream) ([]string, error) {
	var all []message
	for cursor := "1000"; ; {
		messages, next, err := onChannel(ctx, env, s, cursor)
		if err != nil {
			return nil, err
		}
		all, cursor = append(all, messages...), next
		lines, err := describe(all)
		if err != nil || w.stream == "feed" && len(all) > 0 || slices.Contains(lines, "ends") {
			return lines, err
		}
	}
}

// message is one of a channel as it is there.
type message struct {
	Meta map[string]any             `json:"u"`
	Data map[string]json.RawMessage `json:"d"`
}

// onChannel are the next messages that the network has of a stream, and where those behind them begin. It waits for one.
func onChannel(ctx context.Context, env system.Env, s system.Stream, cursor string) (messages []message, next string, err error) {
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var cdm struct{ Playground struct{ SubscribeKey string } }
	if err := system.Exchange(ctx, web, http.MethodGet, env.Get("BLOCKS_CDM_URL"), "", nil, &cdm); err != nil {
		return nil, "", err
	}
	var answer struct {
		T struct{ T string }
		M []message
	}
	u := fmt.Sprintf("http://%s/v2/subscribe/%s/%s/0?tt=%s&uuid=onlooker&auth=%s", env.Get("BLOCKSD_PUBNUB_ORIGIN"), cdm.Playground.SubscribeKey, url.PathEscape(s.Channel), cursor, url.QueryEscape(s.Token))
	err = system.Exchange(ctx, web, http.MethodGet, u, "", nil, &answer)
	return answer.M, answer.T.T, err
}

// describe says what the messages of one writer have in common, and how many elements with which contents they carry.
// How many messages there are depends on the time.
func describe(messages []message) ([]string, error) {
	sets := map[string]map[string]bool{"meta": {}, "members": {}, "members of pieces": {}, "members of the end": {}, "type": {}, "encoding": {}, "sender": {}}
	add := func(set string, m map[string]json.RawMessage) {
		for name := range m {
			if !slices.Contains(optional, name) {
				sets[set][name] = true
			}
		}
	}
	pieces := map[string][]byte{}
	var next int64 = -1
	var elements []json.RawMessage
	var lines []string
	for _, m := range messages {
		for name := range m.Meta {
			sets["meta"][name] = true
		}
		sets["sender"][fmt.Sprint(m.Meta["sender"])] = true
		if len(sets["sender"]) > 1 {
			return nil, fmt.Errorf("several senders: %v", sets["sender"])
		}
		data := m.Data
		if data["multipart"] != nil {
			var part struct {
				ID          string
				Part, Total int
			}
			var text string
			if err := json.Unmarshal(data["multipart"], &part); err != nil {
				return nil, err
			}
			if err := json.Unmarshal(data["data"], &text); err != nil {
				return nil, err
			}
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return nil, err
			}
			add("members of pieces", data)
			pieces[fmt.Sprintf("%s %d", part.ID, part.Part)] = b
			var whole []byte
			complete := true
			for i := range part.Total {
				p, there := pieces[fmt.Sprintf("%s %d", part.ID, i+1)]
				complete, whole = complete && there, append(whole, p...)
			}
			if !complete {
				continue
			}
			data = nil
			if err := json.Unmarshal(whole, &data); err != nil {
				return nil, err
			}
		}
		var kind string
		var seq int64
		if err := json.Unmarshal(data["type"], &kind); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data["seq"], &seq); err != nil {
			return nil, err
		}
		if next < 0 {
			first := fmt.Sprint(seq)
			if seq > 1 {
				first = "the time"
			}
			lines, next = append(lines, "from "+first), seq
		}
		if seq != next {
			return nil, fmt.Errorf("%s has the number %d instead of %d", kind, seq, next)
		}
		next++
		if kind == "stream_end" {
			add("members of the end", data)
			lines = append(lines, "ends")
			continue
		}
		add("members", data)
		sets["type"][kind] = true
		var encoding string
		if err := json.Unmarshal(data["encoding"], &encoding); err != nil {
			return nil, err
		}
		sets["encoding"][encoding] = true
		var some []json.RawMessage
		for _, name := range []string{"chunks", "events"} {
			if data[name] != nil {
				if err := json.Unmarshal(data[name], &some); err != nil {
					return nil, err
				}
			}
		}
		for _, e := range some {
			var text string
			if json.Unmarshal(e, &text) != nil {
				e = json.RawMessage(asPythonText(e))
			} else if e = json.RawMessage(text); encoding == "base64" {
				b, err := base64.StdEncoding.DecodeString(text)
				if err != nil {
					return nil, err
				}
				e = b
			}
			elements = append(elements, e)
		}
	}
	delete(sets, "sender")
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		if len(sets[name]) > 0 {
			lines = append(lines, name+" "+strings.Join(slices.Sorted(maps.Keys(sets[name])), " "))
		}
	}
	return append(lines, "elements: "+testutil.DigestOf(elements)), nil
}
