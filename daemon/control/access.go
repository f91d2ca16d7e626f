package control

import (
	"fmt"
	"slices"
	"strings"
	"time"

	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// rule is what the server and the client know about a method before they call it.
type rule struct {
	access access
	// timeout bounds the call in the server; the client waits a little longer. 0 when the answer takes no time.
	timeout time.Duration
	// unbounded: the call lasts as long as the caller wants.
	unbounded bool
}

// access says who may call a method. The zero value is the strictest one, so a method without a rule is refused to
// everybody but operators.
type access int

const (
	changes access = iota // for operators
	reads                 // for everybody who may open the socket
)

// rules has every method of the control API and the one of gRPC's health service that Ping uses; a test fails when one is
// missing.
var rules = map[string]rule{
	healthgrpc.Health_Check_FullMethodName:                  {access: reads},
	controlv1.ControlService_Status_FullMethodName:          {access: reads},
	controlv1.ControlService_ListHandlers_FullMethodName:    {access: reads},
	controlv1.ControlService_ListTasks_FullMethodName:       {access: reads},
	controlv1.ControlService_Logs_FullMethodName:            {access: reads, unbounded: true},
	controlv1.ControlService_Events_FullMethodName:          {access: reads, unbounded: true},
	controlv1.ControlService_ShowConfig_FullMethodName:      {access: reads}, // secrets are not in it
	controlv1.ControlService_CancelTask_FullMethodName:      {access: changes, timeout: 10 * time.Second},
	controlv1.ControlService_RestartHandler_FullMethodName:  {access: changes, timeout: time.Minute},
	controlv1.ControlService_RollbackHandler_FullMethodName: {access: changes, timeout: time.Minute},
	controlv1.ControlService_AssignAgent_FullMethodName:     {access: changes, timeout: time.Minute},
	controlv1.ControlService_Drain_FullMethodName:           {access: changes, unbounded: true},
	controlv1.ControlService_Undrain_FullMethodName:         {access: changes},
	controlv1.ControlService_Reload_FullMethodName:          {access: changes, timeout: time.Minute},
	controlv1.ControlService_SetLogLevel_FullMethodName:     {access: changes},
	// What the daemon's memory looks like is nobody's business but an operator's, although nothing changes.
	controlv1.ControlService_Dump_FullMethodName: {access: changes, timeout: 10 * time.Second},
}

// Group is a group of users, as the kernel and people call it. The zero value is none.
type Group struct {
	Name string
	GID  uint32
}

// operators are the users who may change things: root, the daemon's user, and the members of a group.
type operators struct {
	uid   uint32
	group Group
}

// include is the one place that knows who is an operator.
func (o operators) include(p Peer) bool {
	return p.UID == 0 || p.UID == o.uid || o.group.Name != "" && slices.Contains(p.Groups, o.group.GID)
}

// authorize decides whether a peer may call a method, and returns why not, as one sentence, or "". known is false when
// the kernel did not say who the peer is.
func authorize(method string, p Peer, known bool, o operators) (refusal string) {
	switch {
	case !known:
		return "the kernel does not say which user is calling: connect to the control socket directly"
	case rules[method].access == reads:
		return ""
	case p.Handler:
		return fmt.Sprintf("process %d was started by a handler, or looks like it, and handlers may not change anything: use a shell of your own", p.PID)
	case o.include(p):
		return ""
	}
	who := []string{"root"}
	if o.uid != 0 {
		who = append(who, fmt.Sprintf("user %d", o.uid))
	}
	if o.group.Name != "" {
		who = append(who, "in the group "+o.group.Name)
	}
	last := len(who) - 1
	if last > 0 {
		who = []string{strings.Join(who[:last], ", "), who[last]}
	}
	return fmt.Sprintf("user %d may read but not change anything: be %s", p.UID, strings.Join(who, " or "))
}
