package pubnub

// configuration is the first line for a driver.
type configuration struct {
	PublishKey, SubscribeKey, SecretKey, UUID, Origin, Filter string
	// Heartbeat is the presence time-out that the SDK is told, Timeout how long it waits for the answer of a poll, both in
	// seconds; 0 is its own default.
	Heartbeat, Timeout int
	// Beats has the Python SDK send heartbeats. The others do where Heartbeat is set.
	Beats bool
}

// command is one line for a driver, with the members of all commands.
type command struct {
	ID         int               `json:"id"`
	Op         string            `json:"op"`
	Channel    string            `json:"channel,omitempty"`
	Channels   any               `json:"channels,omitempty"` // names, or rights by name
	Groups     any               `json:"groups,omitempty"`
	Patterns   map[string]string `json:"patterns,omitempty"`
	Group      string            `json:"group,omitempty"`
	Message    any               `json:"message,omitempty"`
	Post       bool              `json:"post,omitempty"`
	Meta       any               `json:"meta,omitempty"`
	Store      *bool             `json:"store,omitempty"`
	TTL        int               `json:"ttl,omitempty"`
	Type       string            `json:"type,omitempty"`
	Value      string            `json:"value,omitempty"`
	Timetoken  string            `json:"timetoken,omitempty"`
	Timetokens []string          `json:"timetokens,omitempty"`
	Action     string            `json:"action,omitempty"`
	Presence   bool              `json:"presence,omitempty"`
	States     bool              `json:"states,omitempty"`
	State      map[string]any    `json:"state,omitempty"`
	UUID       string            `json:"uuid,omitempty"`
	Count      int               `json:"count,omitempty"`
	Start      string            `json:"start,omitempty"`
	End        string            `json:"end,omitempty"`
	Actions    bool              `json:"actions,omitempty"`
	Reverse    bool              `json:"reverse,omitempty"`
	Name       string            `json:"name,omitempty"`
	Content    string            `json:"content,omitempty"`
	File       string            `json:"file,omitempty"`
	Limit      int               `json:"limit,omitempty"`
	Next       string            `json:"next,omitempty"`
	Token      string            `json:"token,omitempty"`
}

func (c command) names(v any) []string {
	var out []string
	list, _ := v.([]any)
	for _, name := range list {
		out = append(out, name.(string))
	}
	return out
}

func (c command) rights(v any) map[string]string {
	out := map[string]string{}
	m, _ := v.(map[string]any)
	for name, r := range m {
		out[name], _ = r.(string)
	}
	return out
}
