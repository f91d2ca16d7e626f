package cli

import (
	"encoding/json"
	"time"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// The machine-readable forms of the control commands. Fixed: members may be added, never renamed. Lists are never null.

type statusForm struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"`
	// Conditions are the same reasons, in the same order, for programs.
	Conditions []conditionForm `json:"conditions"`
	Version    string          `json:"version"`
	PID        int32           `json:"pid"`
	Agents     []agentForm     `json:"agents"`
	Handlers   []handlerForm   `json:"handlers"`
	Tasks      countsForm      `json:"tasks"`
}

type conditionForm struct {
	Code   string `json:"code"`
	Object string `json:"object"`
	Text   string `json:"text"`
}

type agentForm struct {
	Name        string `json:"name"`
	State       string `json:"state"`
	Reason      string `json:"reason"`
	InstanceID  string `json:"instanceId"`
	BillingMode string `json:"billingMode"`
	Handler     string `json:"handler"`
	Running     int32  `json:"running"`
	Concurrency int32  `json:"concurrency"`
	// Streams that its tasks have now, and the bytes of all since the agent was made.
	Streams        int32 `json:"streams"`
	StreamBytesIn  int64 `json:"streamBytesInbound"`
	StreamBytesOut int64 `json:"streamBytesOutbound"`
}

type handlerForm struct {
	Name       string        `json:"name"`
	State      string        `json:"state"`
	Reason     string        `json:"reason"`
	Path       string        `json:"path"`
	SHA256     string        `json:"sha256"`
	Generation int64         `json:"generation"`
	Restarts   int64         `json:"restarts"`
	Processes  []processForm `json:"processes"`
	// Notice says why the handler does not run the content of its file; "" if it does.
	Notice string `json:"notice"`
	// SkippedLimits are the limits that this machine cannot enforce.
	SkippedLimits []string `json:"skippedLimits"`
	// Crash is null if no process has ended unexpectedly.
	Crash *crashForm `json:"crash"`
	// Isolation is user, namespace, landlock or none, "" before the first start; IsolationOpen says what it leaves open here.
	Isolation     string   `json:"isolation"`
	IsolationOpen []string `json:"isolationOpen"`
	// Version is what the handler says of itself; "" if it says nothing.
	Version string `json:"version"`
}

type crashForm struct {
	Time    time.Time `json:"time"`
	PID     *int32    `json:"pid"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Panic   []string  `json:"panic"`
}

type processForm struct {
	PID       int32     `json:"pid"`
	State     string    `json:"state"`
	Running   int32     `json:"running"`
	StartedAt time.Time `json:"startedAt"`
	RSSBytes  int64     `json:"rssBytes"`
}

type countsForm struct {
	Running   int64 `json:"running"`
	Accepted  int64 `json:"accepted"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
	Canceled  int64 `json:"canceled"`
	Outbox    int64 `json:"outbox"`
}

type taskForm struct {
	TaskID  string `json:"taskId"`
	Agent   string `json:"agent"`
	Handler string `json:"handler"`
	// PID is null until a process has the task. Deadline is null if there is none.
	PID      *int32     `json:"pid"`
	State    string     `json:"state"`
	Since    time.Time  `json:"since"`
	Deadline *time.Time `json:"deadline"`
}

func formOfStatus(s *controlv1.StatusResponse) statusForm {
	f := statusForm{
		Ready: s.GetReady(), Reasons: append([]string{}, s.GetReasons()...), Version: s.GetVersion(), PID: s.GetPid(),
		Conditions: []conditionForm{}, Agents: []agentForm{}, Handlers: formOfHandlers(s.GetHandlers()),
		Tasks: countsForm{
			s.GetTasks().GetRunning(), s.GetTasks().GetAccepted(), s.GetTasks().GetCompleted(), s.GetTasks().GetFailed(),
			s.GetTasks().GetCanceled(), s.GetTasks().GetOutbox(),
		},
	}
	for _, c := range s.GetConditions() {
		f.Conditions = append(f.Conditions, conditionForm{c.GetCode(), c.GetObject(), c.GetText()})
	}
	for _, a := range s.GetAgents() {
		f.Agents = append(f.Agents, agentForm{
			a.GetName(), a.GetState(), a.GetReason(), a.GetInstanceId(), a.GetBillingMode(), a.GetHandler(), a.GetRunning(), a.GetConcurrency(),
			a.GetStreams(), a.GetStreamBytesInbound(), a.GetStreamBytesOutbound(),
		})
	}
	return f
}

func formOfHandlers(hs []*controlv1.Handler) []handlerForm {
	out := []handlerForm{}
	for _, h := range hs {
		f := handlerForm{
			h.GetName(), h.GetState(), h.GetReason(), h.GetPath(), h.GetSha256(), h.GetGeneration(), h.GetRestarts(), []processForm{}, h.GetNotice(), append([]string{}, h.GetSkippedLimits()...), nil,
			h.GetIsolation(), append([]string{}, h.GetIsolationOpen()...), h.GetVersion(),
		}
		if c := h.GetCrash(); c != nil {
			f.Crash = &crashForm{c.GetTime().AsTime(), c.Pid, c.GetReason(), c.GetText(), append([]string{}, c.GetPanic()...)}
		}
		for _, p := range h.GetProcesses() {
			f.Processes = append(f.Processes, processForm{p.GetPid(), p.GetState(), p.GetRunning(), p.GetStartedAt().AsTime(), p.GetRssBytes()})
		}
		out = append(out, f)
	}
	return out
}

func formOfTasks(ts []*controlv1.Task) []taskForm {
	out := []taskForm{}
	for _, t := range ts {
		f := taskForm{TaskID: t.GetTaskId(), Agent: t.GetAgent(), Handler: t.GetHandler(), PID: t.Pid, State: t.GetState(), Since: t.GetSince().AsTime()}
		if t.GetDeadline() != nil {
			at := t.GetDeadline().AsTime()
			f.Deadline = &at
		}
		out = append(out, f)
	}
	return out
}

// printJSON writes v as one indented document, without the escapes for web pages.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
