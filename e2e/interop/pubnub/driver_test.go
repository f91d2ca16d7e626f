package pubnub

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	pubnub "github.com/pubnub/go/v7"
	"github.com/pubnub/go/v7/pnerr"
)

// driverVariable makes this test binary a driver of the Go SDK, which takes the commands that sdk.mjs describes: a process
// of its own, because the SDK leaves goroutines behind and, with some events, kills its process.
const driverVariable = "BLOCKSD_INTEROP_DRIVER"

type object = map[string]any

// goDriver drives the Go SDK until the commands end.
func goDriver() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	var mu sync.Mutex
	show := func(o object) {
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(o)
	}
	in.Scan()
	var c configuration
	if err := json.Unmarshal(in.Bytes(), &c); err != nil {
		panic(err)
	}
	cfg := pubnub.NewConfigWithUserId(pubnub.UserId(c.UUID))
	cfg.Origin, cfg.Secure = c.Origin, false
	cfg.PublishKey, cfg.SubscribeKey, cfg.SecretKey = c.PublishKey, c.SubscribeKey, c.SecretKey
	cfg.FilterExpression = c.Filter
	cfg.MaxWorkers = 0
	cfg.NonSubscribeRequestTimeout, cfg.ConnectTimeout = 60, 60
	if c.Timeout > 0 {
		cfg.SubscribeRequestTimeout = c.Timeout
	}
	if c.Heartbeat > 0 { // the setter takes nothing below 20
		cfg.PresenceTimeout, cfg.HeartbeatInterval = c.Heartbeat, c.Heartbeat/2-1
	}
	d := &sdkDriver{pn: pubnub.NewPubNub(cfg)}
	listener := pubnub.NewListener()
	d.pn.AddListener(listener)
	go listen(listener, show)
	for in.Scan() {
		var cmd command
		if err := json.Unmarshal(in.Bytes(), &cmd); err != nil {
			panic(err)
		}
		value, err := d.do(cmd)
		if err != nil {
			status := 0
			var server pnerr.ServerError
			var pointer *pnerr.ServerError
			if errors.As(err, &server) {
				status = server.StatusCode
			} else if errors.As(err, &pointer) {
				status = pointer.StatusCode
			}
			show(object{"id": cmd.ID, "ok": false, "status": status, "error": err.Error()})
			continue
		}
		show(object{"id": cmd.ID, "ok": true, "value": value})
	}
}

func listen(l *pubnub.Listener, show func(object)) {
	for {
		select {
		case s := <-l.Status:
			show(object{"event": "status", "category": s.Category.String(), "number": int(s.Category)})
		case m := <-l.Message:
			show(object{"event": "message", "channel": m.Channel, "subscription": m.Subscription, "publisher": m.Publisher, "timetoken": strconv.FormatInt(m.Timetoken, 10), "message": m.Message, "meta": m.UserMetadata})
		case m := <-l.Signal:
			show(object{"event": "signal", "channel": m.Channel, "publisher": m.Publisher, "timetoken": strconv.FormatInt(m.Timetoken, 10), "message": m.Message})
		case p := <-l.Presence:
			show(object{"event": "presence", "action": p.Event, "channel": strings.TrimSuffix(p.Channel, "-pnpres"), "uuid": p.UUID, "occupancy": p.Occupancy, "state": p.State})
		case a := <-l.MessageActionsEvent:
			show(object{"event": "action", "action": a.Event, "type": a.Data.ActionType, "value": a.Data.ActionValue, "uuid": a.Data.UUID, "timetoken": a.Data.ActionTimetoken})
		case f := <-l.File:
			show(object{"event": "file", "id": f.File.PNFile.ID, "name": f.File.PNFile.Name, "message": f.File.PNMessage.Text, "channel": f.Channel})
		case <-l.UUIDEvent:
		case <-l.ChannelEvent:
		case <-l.MembershipEvent:
		}
	}
}

type sdkDriver struct {
	pn    *pubnub.PubNub
	crowd []*member
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

func (d *sdkDriver) do(c command) (any, error) {
	pn := d.pn
	switch c.Op {
	case "time":
		r, _, err := pn.Time().Execute()
		if err != nil {
			return nil, err
		}
		return object{"timetoken": fmt.Sprint(r.Timetoken)}, nil
	case "publish":
		b := pn.Publish().Channel(c.Channel).Message(c.Message).UsePost(c.Post)
		if c.Meta != nil {
			b = b.Meta(c.Meta)
		}
		if c.Store != nil {
			b = b.ShouldStore(*c.Store)
		}
		if c.TTL > 0 {
			b = b.TTL(c.TTL)
		}
		if c.Type != "" {
			b = b.CustomMessageType(c.Type)
		}
		r, _, err := b.Execute()
		if err != nil {
			return nil, err
		}
		return object{"timetoken": fmt.Sprint(r.Timestamp)}, nil
	case "signal":
		r, _, err := pn.Signal().Channel(c.Channel).Message(c.Message).Execute()
		if err != nil {
			return nil, err
		}
		return object{"timetoken": fmt.Sprint(r.Timestamp)}, nil
	case "fire":
		r, _, err := pn.Fire().Channel(c.Channel).Message(c.Message).Execute()
		if err != nil {
			return nil, err
		}
		return object{"timetoken": fmt.Sprint(r.Timestamp)}, nil
	case "subscribe":
		b := pn.Subscribe().Channels(c.names(c.Channels)).ChannelGroups(c.names(c.Groups)).WithPresence(c.Presence)
		if c.Timetoken != "" {
			b = b.Timetoken(number(c.Timetoken))
		}
		b.Execute()
		return object{}, nil
	case "unsubscribe":
		pn.Unsubscribe().Channels(c.names(c.Channels)).ChannelGroups(c.names(c.Groups)).Execute()
		return object{}, nil
	case "hereNow":
		r, _, err := pn.HereNow().Channels(c.names(c.Channels)).ChannelGroups(c.names(c.Groups)).IncludeUUIDs(true).IncludeState(c.States).Execute()
		if err != nil {
			return nil, err
		}
		channels := object{}
		for _, ch := range r.Channels {
			uuids, states := []string{}, object{}
			for _, o := range ch.Occupants {
				uuids = append(uuids, o.UUID)
				if len(o.State) > 0 {
					states[o.UUID] = o.State
				}
			}
			slices.Sort(uuids)
			channels[ch.ChannelName] = object{"occupancy": ch.Occupancy, "uuids": uuids, "states": states}
		}
		return object{"total": r.TotalOccupancy, "channels": channels}, nil
	case "whereNow":
		r, _, err := pn.WhereNow().UUID(c.UUID).Execute()
		if err != nil {
			return nil, err
		}
		return object{"channels": r.Channels}, nil
	case "setState":
		r, _, err := pn.SetState().Channels(c.names(c.Channels)).State(c.State).Execute()
		if err != nil {
			return nil, err
		}
		return object{"state": r.State}, nil
	case "getState":
		r, _, err := pn.GetState().Channels(c.names(c.Channels)).UUID(c.UUID).Execute()
		if err != nil {
			return nil, err
		}
		return object{"channels": r.State}, nil
	case "history":
		return d.history(c)
	case "history2":
		r, _, err := pn.History().Channel(c.Channel).Count(c.Count).Reverse(c.Reverse).Execute()
		if err != nil {
			return nil, err
		}
		list := []any{}
		for _, m := range r.Messages {
			list = append(list, m.Message)
		}
		return object{"messages": list, "first": fmt.Sprint(r.StartTimetoken), "last": fmt.Sprint(r.EndTimetoken)}, nil
	case "counts":
		var tts []int64
		for _, tt := range c.Timetokens {
			tts = append(tts, number(tt))
		}
		r, _, err := pn.MessageCounts().Channels(c.names(c.Channels)).ChannelsTimetoken(tts).Execute()
		if err != nil {
			return nil, err
		}
		return object{"channels": r.Channels}, nil
	case "delete":
		_, _, err := pn.DeleteMessages().Channel(c.Channel).Start(number(c.Start)).End(number(c.End)).Execute()
		return object{}, err
	case "addAction":
		r, _, err := pn.AddMessageAction().Channel(c.Channel).MessageTimetoken(c.Timetoken).Action(pubnub.MessageAction{ActionType: c.Type, ActionValue: c.Value}).Execute()
		if err != nil {
			return nil, err
		}
		return object{"timetoken": r.Data.ActionTimetoken}, nil
	case "removeAction":
		_, _, err := pn.RemoveMessageAction().Channel(c.Channel).MessageTimetoken(c.Timetoken).ActionTimetoken(c.Action).Execute()
		return object{}, err
	case "actions":
		r, _, err := pn.GetMessageActions().Channel(c.Channel).Execute()
		if err != nil {
			return nil, err
		}
		list := []string{}
		for _, a := range r.Data {
			list = append(list, a.ActionType+"/"+a.ActionValue+"/"+a.UUID)
		}
		return object{"actions": list}, nil
	case "groupAdd":
		_, _, err := pn.AddChannelToChannelGroup().ChannelGroup(c.Group).Channels(c.names(c.Channels)).Execute()
		return object{}, err
	case "groupRemove":
		_, _, err := pn.RemoveChannelFromChannelGroup().ChannelGroup(c.Group).Channels(c.names(c.Channels)).Execute()
		return object{}, err
	case "groupList":
		r, _, err := pn.ListChannelsInChannelGroup().ChannelGroup(c.Group).Execute()
		if err != nil {
			return nil, err
		}
		return object{"channels": r.Channels}, nil
	case "groupDelete":
		_, _, err := pn.DeleteChannelGroup().ChannelGroup(c.Group).Execute()
		return object{}, err
	}
	return d.more(c)
}

func (d *sdkDriver) history(c command) (any, error) {
	b := d.pn.Fetch().Channels([]string{c.Channel}).IncludeMeta(true).IncludeUUID(true).IncludeMessageActions(c.Actions)
	if c.Count > 0 {
		b = b.Count(c.Count)
	}
	if c.Start != "" {
		b = b.Start(number(c.Start))
	}
	if c.End != "" {
		b = b.End(number(c.End))
	}
	r, _, err := b.Execute()
	if err != nil {
		return nil, err
	}
	list := []object{}
	for _, m := range r.Messages[c.Channel] {
		actions := []string{}
		for kind, values := range m.MessageActions {
			for value, uuids := range values.ActionsTypeValues {
				for _, u := range uuids {
					actions = append(actions, kind+"/"+value+"/"+u.UUID)
				}
			}
		}
		meta := m.Meta
		if meta == "" {
			meta = nil
		}
		list = append(list, object{"message": m.Message, "timetoken": m.Timetoken, "uuid": m.UUID, "meta": meta, "actions": actions})
	}
	return object{"messages": list}, nil
}

// more are the commands for files, tokens and crowds.
func (d *sdkDriver) more(c command) (any, error) {
	pn := d.pn
	switch c.Op {
	case "sendFile":
		f, err := os.CreateTemp("", "interop-")
		if err != nil {
			return nil, err
		}
		defer os.Remove(f.Name())
		defer f.Close()
		if _, err := f.WriteString(c.Content); err != nil {
			return nil, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		r, _, err := pn.SendFile().Channel(c.Channel).Name(c.Name).Message(fmt.Sprint(c.Message)).File(f).Execute()
		if err != nil {
			return nil, err
		}
		return object{"id": r.Data.ID}, nil
	case "listFiles":
		r, _, err := pn.ListFiles().Channel(c.Channel).Limit(c.Limit).Next(c.Next).Execute()
		if err != nil {
			return nil, err
		}
		list := []string{}
		for _, f := range r.Data {
			list = append(list, fmt.Sprint(f.Name, " ", f.Size))
		}
		return object{"files": list, "next": r.Next}, nil
	case "downloadFile":
		r, _, err := pn.DownloadFile().Channel(c.Channel).ID(c.File).Name(c.Name).Execute()
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(r.File)
		return object{"content": string(content)}, err
	case "fileURL":
		r, _, err := pn.GetFileURL().Channel(c.Channel).ID(c.File).Name(c.Name).Execute()
		if err != nil {
			return nil, err
		}
		return object{"url": r.URL}, nil
	case "deleteFile":
		_, _, err := pn.DeleteFile().Channel(c.Channel).ID(c.File).Name(c.Name).Execute()
		return object{}, err
	case "grant":
		channels := map[string]pubnub.ChannelPermissions{}
		patterns := map[string]pubnub.ChannelPermissions{}
		groups := map[string]pubnub.GroupPermissions{}
		rights := func(r string) pubnub.ChannelPermissions {
			return pubnub.ChannelPermissions{Read: strings.Contains(r, "r"), Write: strings.Contains(r, "w"), Manage: strings.Contains(r, "m"), Delete: strings.Contains(r, "d")}
		}
		for name, r := range c.rights(c.Channels) {
			channels[name] = rights(r)
		}
		for name, r := range c.Patterns {
			patterns[name] = rights(r)
		}
		for name, r := range c.rights(c.Groups) {
			groups[name] = pubnub.GroupPermissions{Read: strings.Contains(r, "r"), Manage: strings.Contains(r, "m")}
		}
		b := pn.GrantToken().TTL(c.TTL).Channels(channels).ChannelGroups(groups).ChannelsPattern(patterns)
		if c.UUID != "" {
			b = b.AuthorizedUUID(c.UUID)
		}
		r, _, err := b.Execute()
		if err != nil {
			return nil, err
		}
		return object{"token": r.Data.Token}, nil
	case "revoke":
		_, _, err := pn.RevokeToken().Token(c.Token).Execute()
		return object{}, err
	case "setToken":
		pn.SetToken(c.Token)
		return object{}, nil
	case "parseToken":
		p, err := pubnub.ParseToken(c.Token)
		if err != nil {
			return nil, err
		}
		channels, patterns := []string{}, []string{}
		for name := range p.Resources.Channels {
			channels = append(channels, name)
		}
		for name := range p.Patterns.Channels {
			patterns = append(patterns, name)
		}
		return object{"ttl": p.TTL, "uuid": p.AuthorizedUUID, "channels": channels, "patterns": patterns}, nil
	case "gather":
		d.gather(c)
		return object{}, nil
	case "volley":
		return object{}, d.volley(c)
	case "tally":
		return d.tally(), nil
	}
	return nil, fmt.Errorf("no such command: %s", c.Op)
}
