package blocks

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// scenario is one thing that a user of the SDK does on both sides.
type scenario struct {
	name string
	// op is the operation of consumer.py, args are its arguments.
	op   string
	args args
	// want is what the SDK's user sees, line by line. A line that begins with "? " may be missing.
	want []string
	// lacks is what a release of the SDK cannot do, by release of the consumer.
	lacks map[string]lack
}

// lack is something that a release of the SDK has not got. It is looked for, so that the row speaks up when it has.
type lack struct {
	why  string
	want []string // what its user sees instead
	err  string   // or a text of the error that the SDK raises
}

// steps of a handler, see handler.py.
type steps = []args

func status(text string) args { return args{"status": text} }

var (
	ready       = status("ready")
	untilCancel = args{"until_cancel": 110}
	done        = give("done")
)

// give is the step that returns a text.
func give(text string) args { return args{"return": args{"text": text, "mimeType": "text/plain"}} }

func bytesOf(n int, mime, name string) args {
	return args{"size": n, "mimeType": mime, "fileName": name}
}

// noStream: that release has no way to ask for the stream of a request.
var noStream = map[string]lack{"0.1.67": {
	why: "its send_message has no argument for streams of requests", err: "send_message() got an unexpected keyword argument 'stream'",
}}

var scenarios = []scenario{
	// What a handler can answer.
	{"text artifact", "task", args{"steps": steps{give("hello ü")}},
		[]string{"request", "running 0", "artifact inline text/plain 8", "terminal completed", "state completed", "got text/plain -: hello ü"}, nil},
	{"nothing returned", "task", args{"steps": steps{}},
		[]string{"request", "running 0", "terminal completed", "state completed"}, nil},
	{"several artifacts with names and outputs", "task",
		args{"steps": steps{{"return": args{"text": "a", "mimeType": "text/plain", "fileName": "a.txt", "outputId": "result"}}, {"return": args{"text": "{}", "mimeType": "application/json"}}}},
		[]string{"request", "running 0", "artifact inline text/plain 1 a.txt -> result", "artifact inline application/json 2", "terminal completed",
			"state completed", "got text/plain a.txt: a", "got application/json -: {}"}, nil},
	{"binary artifact of the largest inline size", "task", args{"steps": steps{{"return": bytesOf(16384, "image/png", "i.png")}}},
		[]string{"request", "running 0", "artifact inline image/png 16384 i.png", "terminal completed", "state completed", "got image/png i.png: 16384 bytes " + sum(16384)}, nil},
	{"uploaded artifact", "task", args{"steps": steps{{"return": args{"size": 16385, "mimeType": "image/png", "fileName": "big.png", "outputId": "chart"}}}},
		[]string{"request", "running 0", "artifact file image/png 16385 big.png -> chart", "terminal completed", "state completed", "got image/png big.png: 16385 bytes " + sum(16385)}, nil},
	{"uploaded artifact of a megabyte", "task", args{"steps": steps{{"return": bytesOf(1<<20, "application/octet-stream", "m.bin")}}},
		[]string{"request", "running 0", "artifact file application/octet-stream 1048576 m.bin", "terminal completed", "state completed",
			"got application/octet-stream m.bin: 1048576 bytes " + sum(1<<20)}, nil},
	{"status", "task", args{"steps": steps{status("half way"), done}},
		[]string{"request", "running 0", "status half way", "artifact inline text/plain 4", "terminal completed", "state completed", "got text/plain -: done"}, nil},
	{"statuses a second apart all arrive", "task", args{"steps": steps{status("a"), {"pause": 2}, status("b"), {"pause": 2}, status("c")}},
		[]string{"request", "running 0", "status a", "status b", "status c", "terminal completed", "state completed"}, nil},
	// The task is canceled when the last one has come: the SDK's timer for it may be late, and the end overtake it.
	{"of statuses in one second the first and the last arrive", "task",
		args{"then": "cancel", "when": "status c", "steps": steps{status("a"), status("b"), status("c"), untilCancel}},
		[]string{"request", "running 0", "status a", "? status b", "status c", "cancel_requested", "terminal canceled", "state canceled"}, nil},
	{"artifacts in mid-task, inline and uploaded", "task",
		args{"steps": steps{{"publish": args{"text": "first", "mimeType": "text/plain"}}, {"publish": bytesOf(20000, "image/png", "p.png")}, status("more"), done}},
		[]string{"request", "running 0", "artifact inline text/plain 5", "artifact file image/png 20000 p.png", "status more", "artifact inline text/plain 4", "terminal completed",
			"state completed", "got text/plain -: first", "got image/png p.png: 20000 bytes " + sum(20000), "got text/plain -: done"}, nil},
	{"failure", "task", args{"steps": steps{{"fail": "division by zero"}}},
		[]string{"request", "running 0", "terminal failed error=division by zero", "state failed"}, nil},
	{"failure after a status and an artifact", "task", args{"steps": steps{status("a"), {"publish": args{"text": "x", "mimeType": "text/plain"}}, {"fail": "ü broke"}}},
		[]string{"request", "running 0", "status a", "artifact inline text/plain 1", "terminal failed error=ü broke", "state failed", "got text/plain -: x"}, nil},

	// What a consumer can send.
	{"text input", "task", args{"steps": steps{{"echo": "note"}}, "parts": []args{{"id": "note", "text": "line\nü \"quoted\""}}},
		[]string{"request", "running 0", "artifact inline text/plain 16", "terminal completed", "state completed", "got text/plain -: line\nü \"quoted\""}, nil},
	{"JSON input", "task", args{"steps": steps{{"echo": "note"}}, "parts": []args{{"id": "note", "text": `{"a": [1, 2.5, null], "b": "ü"}`}}},
		[]string{"request", "running 0", "artifact inline text/plain 32", "terminal completed", "state completed", `got text/plain -: {"a": [1, 2.5, null], "b": "ü"}`}, nil},
	{"small file from memory", "task", args{"steps": steps{{"digest": "file"}}, "parts": []args{{"id": "file", "size": 16384, "name": "in.bin", "type": "application/octet-stream"}}},
		[]string{"request", "running 0", "artifact inline text/plain 102", "terminal completed", "state completed", "got text/plain -: in.bin application/octet-stream 16384 " + fullSum(16384)}, nil},
	{"uploaded file from disk", "task", args{"steps": steps{{"digest": "file"}}, "parts": []args{{"id": "file", "size": 16385, "name": "in.png", "type": "image/png", "on disk": true}}},
		[]string{"request", "running 0", "artifact inline text/plain 87", "terminal completed", "state completed", "got text/plain -: in.png image/png 16385 " + fullSum(16385)}, nil},
	{"several uploaded files and a small one", "task",
		args{"steps": steps{{"parts": true}, {"digest": "file"}, {"digest": "second"}}, "parts": []args{
			{"id": "file", "size": 40000, "name": "a.bin", "type": "application/zip"}, {"id": "second", "size": 50000, "name": "b.bin", "type": "application/pdf"},
			{"id": "note", "size": 10, "name": "c.bin", "type": "application/pdf"}}},
		[]string{"request", "running 0", "artifact inline text/plain 44", "artifact inline text/plain 92", "artifact inline text/plain 92", "terminal completed", "state completed",
			"got text/plain -: request:text file:file second:file note:file", "got text/plain -: a.bin application/zip 40000 " + fullSum(40000),
			"got text/plain -: b.bin application/pdf 50000 " + fullSum(50000)}, nil},
	{"paid task", "task", args{"who": "paid", "agent": "paid_one", "steps": steps{done}},
		[]string{"request", "running 0", "artifact inline text/plain 4", "terminal completed", "state completed", "got text/plain -: done"}, nil},
	{"paid task of another organization", "task", args{"who": "stranger paid", "agent": "paid_one", "steps": steps{done}},
		[]string{"request", "running 0", "artifact inline text/plain 4", "terminal completed", "state completed", "got text/plain -: done"}, nil},
	{"private agent for its owner", "task", args{"agent": "private_one", "steps": steps{done}},
		[]string{"request", "running 0", "artifact inline text/plain 4", "terminal completed", "state completed", "got text/plain -: done"}, nil},
	{"an agent calls another", "task", args{"agent": "caller", "steps": steps{{"call": "scripted"}}},
		[]string{"request", "running 0", "artifact inline text/plain 30", "terminal completed", "state completed", "got text/plain -: scripted: completed from below"}, nil},

	// Sessions.
	{"callbacks in order", "callbacks", args{"steps": steps{untilCancel, status("a"), {"publish": args{"text": "x", "mimeType": "text/plain"}}, done}},
		[]string{"on_cancel_requested: cancel_requested", "on_progress: status a", "on_artifact: artifact inline text/plain 1", "on_artifact: artifact inline text/plain 4",
			"on_terminal: terminal canceled"}, nil},
	{"late callbacks are given what is over", "replay", args{"steps": steps{done}},
		[]string{"on_artifact: artifact inline text/plain 4", "on_terminal: completed"}, nil},
	{"artifacts saved as files", "save", args{"steps": steps{{"return": args{"text": "a", "mimeType": "text/plain", "fileName": "../../a.txt"}}, done, {"return": bytesOf(30000, "image/png", "b.png")}}},
		[]string{"saved a.txt: a", "saved artifact-1: done", "saved b.png: 30000 bytes " + sum(30000)}, nil},
	{"connect to a running task", "connect_running", args{"steps": steps{ready, untilCancel, done}},
		[]string{"request", "running 0", "status ready", "-- running", "cancel_requested", "artifact inline text/plain 4", "terminal canceled", "state canceled", "got text/plain -: done"}, nil},
	{"connect to a finished task", "connect_finished", args{"steps": steps{status("a"), done, {"return": bytesOf(20000, "image/png", "p.png")}}},
		[]string{"request", "running 0", "status a", "artifact inline text/plain 4", "artifact file image/png 20000 p.png", "terminal completed", "closed False, state completed",
			"got text/plain -: done", "got image/png p.png: 20000 bytes " + sum(20000)}, nil},
	{"anonymous reader of a public task", "connect_finished", args{"who2": "anonymous", "steps": steps{done}},
		[]string{"request", "running 0", "artifact inline text/plain 4", "terminal completed", "closed False, state completed", "got text/plain -: done"}, nil},
	{"same key again after the end", "idempotent_finished", args{"key": "k-done", "steps": steps{done}},
		[]string{"same task, idempotent True, closed True, state completed"}, nil},
	{"same key again while it runs", "idempotent_running", args{"key": "k-running", "steps": steps{ready, untilCancel}},
		[]string{"same task, idempotent True, closed False", "ends canceled", "ends canceled"}, nil},
	{"same key of another caller", "idempotent_callers", args{"key": "k-callers", "who2": "stranger", "steps": steps{done}},
		[]string{"other task, idempotent False", "completed", "completed"}, nil},
	{"rows and pages", "rows", args{"agent": "ledger", "steps": steps{done}},
		[]string{"row ledger user_2 completed True True", "all listed once True on 2 pages of 3", "failed ones 0"}, nil},
	{"more tasks than an agent takes", "many", args{"agent": "narrow", "count": 4, "first": steps{ready, untilCancel}, "steps": steps{done}},
		[]string{"queued 4", "ends ['canceled', 'completed', 'completed', 'completed', 'completed']"}, nil},
	{"card of an agent", "card", args{"agent": "scripted"}, []string{"Scripted"}, nil},
	{"card of an unknown agent", "card", args{"agent": "no_such"}, []string{"no card"}, nil},
	{"card of a private agent for its owner", "card", args{"agent": "private_one"}, []string{"Scripted"},
		map[string]lack{"0.1.67": {why: "its get_agent_card sends no credentials", want: []string{"no card"}}}},
	{"card of a private agent for a stranger", "card", args{"agent": "private_one", "who": "stranger"}, []string{"no card"}, nil},

	// Cancellation.
	{"cancel", "task", args{"then": "cancel", "steps": steps{ready, untilCancel}},
		[]string{"request", "running 0", "status ready", "cancel_requested", "terminal canceled", "state canceled"}, nil},
	{"cancel, and the handler still answers", "task", args{"then": "cancel", "steps": steps{ready, untilCancel, done}},
		[]string{"request", "running 0", "status ready", "cancel_requested", "artifact inline text/plain 4", "terminal canceled", "state canceled", "got text/plain -: done"}, nil},
	{"cancel by the client", "task", args{"then": "cancel_task", "steps": steps{ready, untilCancel}},
		[]string{"request", "running 0", "status ready", "cancel_requested", "terminal canceled", "state canceled"}, nil},
	{"terminate", "task", args{"then": "terminate", "steps": steps{ready, untilCancel}},
		[]string{"request", "running 0", "status ready", "cancel_requested", "terminal canceled reason=terminated", "state canceled"}, nil},
	{"cancel before an instance has it", "task", args{"agent": "unserved", "then": "cancel", "when": "request", "steps": steps{}},
		[]string{"request", "cancel_requested", "terminal canceled", "state canceled"}, nil},
	{"cancel after the end changes nothing", "cancel_finished", args{"steps": steps{done}}, []string{"changed False", "row completed"}, nil},

	// Pipes.
	{"pipe canceled while its handler runs", "task", args{"task_kind": "pipe", "duration": 5, "then": "cancel", "steps": steps{ready, untilCancel}},
		[]string{"request", "running 0", "status ready", "cancel_requested", "terminal canceled", "state canceled"}, nil},
	{"pipe canceled after its handler returned", "task", args{"task_kind": "pipe", "duration": 5, "then": "cancel", "when": "artifact", "steps": steps{done}},
		[]string{"request", "running 0", "artifact inline text/plain 4", "cancel_requested", "terminal canceled", "state canceled", "got text/plain -: done"}, nil},
	{"pipe terminated after its handler returned", "task", args{"task_kind": "pipe", "duration": 5, "then": "terminate", "when": "artifact", "steps": steps{done}},
		[]string{"request", "running 0", "artifact inline text/plain 4", "cancel_requested", "terminal canceled reason=terminated", "state canceled", "got text/plain -: done"}, nil},
	{"pipe runs to its end", "task", args{"task_kind": "pipe", "duration": 1, "steps": steps{ready, {"await_cancel": 90}}},
		[]string{"request", "running 0", "status ready", "terminal completed completionReason=duration_expired", "state completed"}, nil},
	{"pipe comes to its end after its handler returned", "task", args{"task_kind": "pipe", "duration": 1, "steps": steps{ready}},
		[]string{"request", "running 0", "status ready", "terminal completed completionReason=duration_expired", "state completed"}, nil},
	{"pipe whose handler fails", "task", args{"task_kind": "pipe", "duration": 5, "steps": steps{{"fail": "broken pipe"}}},
		[]string{"request", "running 0", "terminal failed error=broken pipe", "state failed"}, nil},

	// Credentials.
	{"token endpoint", "tokens", args{"who": "endpoint", "steps": steps{done}},
		[]string{"request", "running 0", "artifact inline text/plain 4", "terminal completed", "state completed", "got text/plain -: done",
			`endpoint asked with s1 {"for": "interop"}`, "user user_1"}, nil},
	{"token function", "tokens", args{"who": "function", "steps": steps{done}},
		[]string{"request", "running 0", "artifact inline text/plain 4", "terminal completed", "state completed", "got text/plain -: done", "user user_1"}, nil},

	// Errors.
	{"error: agent is paid", "error", args{"does": "send", "who": "stranger", "agent": "paid_one", "steps": steps{}}, []string{"BillingModeMismatchError expected paid got free code -32000"}, nil},
	{"error: agent is free", "error", args{"does": "send", "who": "stranger paid", "steps": steps{}}, []string{"BillingModeMismatchError expected free got paid code -32000"}, nil},
	{"error: no balance", "error", args{"does": "send", "who": "broke", "agent": "paid_one", "steps": steps{}},
		[]string{`RpcError -32000 InsufficientBalance {"available": "0.00", "required": "0.10"}`}, nil},
	{"error: somebody else's owner id", "error", args{"does": "send", "owner_id": "user_2", "steps": steps{}}, []string{"RpcError -32000 PermissionDenied"}, nil},
	{"error: no such agent", "error", args{"does": "send", "agent": "no_such", "steps": steps{}}, []string{"RpcError -32000 AgentNotFound"}, nil},
	{"error: private agent of others", "error", args{"does": "send", "who": "stranger", "agent": "private_one", "steps": steps{}}, []string{"RpcError -32000 AgentNotFound"}, nil},
	{"error: no agent named", "error", args{"does": "send", "agent": "", "steps": steps{}}, []string{"RpcError -32602 InvalidParams"}, nil},
	{"error: backlog is full", "error", args{"does": "send", "agent": "full", "steps": steps{}}, []string{"RpcError -32000 BacklogFull"}, nil},
	{"error: no such task", "error", args{"does": "get_task", "task": "task_none"}, []string{"RpcError -32000 TaskNotFound"}, nil},
	{"error: no such task to cancel", "error", args{"does": "cancel_task", "task": "task_none"}, []string{"RpcError -32000 TaskNotFound"}, nil},
	{"error: somebody else's task", "error", args{"does": "get_task", "who": "stranger", "steps": steps{}}, []string{"RpcError -32000 PermissionDenied"}, nil},
	{"error: canceling somebody else's task", "error", args{"does": "cancel_task", "who": "stranger", "steps": steps{}}, []string{"RpcError -32000 PermissionDenied"}, nil},
	{"error: connecting to somebody else's task", "error", args{"does": "connect", "who": "stranger", "steps": steps{}}, []string{"RpcError -32000 PermissionDenied"}, nil},
	{"error: anonymous reader of a private task", "error", args{"does": "connect", "who": "anonymous", "agent": "private_one", "steps": steps{}},
		[]string{"RpcError -32000 PermissionDenied"}, nil},
	{"error: anonymous sender", "error", args{"does": "send", "who": "anonymous", "steps": steps{}}, []string{"ValueError"}, nil},
	{"error: bad token", "error", args{"does": "send", "who": "bad token", "steps": steps{}}, []string{"RpcError 401 None"}, nil},
	{"error: no credentials", "error", args{"does": "send", "who": "nobody", "steps": steps{}}, []string{"RpcError 401 None"}, nil},

	{"error: first token is bad, the next one is not", "tokens", args{"who": "bad at first", "steps": steps{done}},
		[]string{"request", "running 0", "artifact inline text/plain 4", "terminal completed", "state completed", "got text/plain -: done", "user user_1"}, nil},
	{"error: no new token", "errors", args{"does": "send", "who": "no second token", "steps": steps{}, "times": 2}, []string{"RpcError 401 None", "AuthRefreshFailedError"},
		map[string]lack{"0.1.67": {why: "it remembers only that a refresh in time failed, not one after a refusal", want: []string{"RpcError 401 None", "RpcError 401 None"}}}},
	{"error: wrong API key", "error", args{"does": "create", "who": "wrong key"}, []string{"RuntimeError"}, nil},
	{"error: dead token endpoint", "error", args{"does": "create", "who": "dead endpoint"}, []string{"RuntimeError"}, nil},
	{"error: two kinds of credentials", "error", args{"does": "create", "who": "two credentials"}, []string{"ValueError"}, nil},
	{"error: anonymous and paid", "error", args{"does": "create", "who": "anonymous and paid"}, []string{"ValueError"}, nil},
	{"error: gateway out of order", "error", args{"does": "send", "agent": "out_of_order", "steps": steps{}}, []string{"RpcError 503 None"}, nil},
	{"error: credentials expire in between", "task", args{"steps": steps{done, {"status": "expire in between"}}, "brief": true},
		[]string{"request", "running 0", "status expire in between", "artifact inline text/plain 4", "terminal completed", "state completed", "got text/plain -: done"}, nil},
	{"error: upload refused", "error", args{"does": "send", "steps": steps{}, "parts": []args{{"id": "file", "size": 20000, "name": "refused.bin", "type": "application/zip"}}},
		[]string{"FileUploadError 413"}, nil},
	{"error: upload lost in the store", "error", args{"does": "send", "steps": steps{}, "parts": []args{{"id": "file", "size": 20000, "name": "lost.bin", "type": "application/zip"}}},
		[]string{"FileUploadError 500"}, nil},
	{"error: pipe without a duration", "error", args{"does": "send", "task_kind": "pipe", "steps": steps{}}, []string{"ValueError"}, nil},
	{"error: the agent's upload is refused", "task", args{"brief": true, "steps": steps{{"return": bytesOf(20000, "application/zip", "refused.bin")}}},
		[]string{"request", "running 0", "terminal failed error", "state failed"}, nil},

	// Streams.
	{"stream of a request", "read_stream", args{"agent": "reporter", "name": "_default", "kind": "events", "stream": true,
		"steps": steps{{"write": args{"chunks": []any{args{"n": 1}, args{"n": 2}, []int{3}}}}, done}},
		[]string{`read {"n": 1}`, `read {"n": 2}`, "read [3]", "ends completed"}, noStream},
	{"stream of a request that nobody asked for", "task", args{"agent": "reporter", "brief": true, "steps": steps{{"write": args{"chunks": []any{args{"n": 1}}}}}},
		[]string{"request", "running 0", "terminal failed error", "state failed"}, nil},
	{"outbound events", "read_stream", pipe("ticks", args{"kind": "events", "steps": steps{{"write": args{"name": "ticks", "chunks": []any{args{"n": 1}, args{"t": "ü"}, 4}}}}}),
		[]string{`read {"n": 1}`, `read {"t": "\u00fc"}`, "read 4", "ends canceled"}, nil},
	{"outbound text", "joined_stream", pipe("log", args{"steps": steps{{"write": args{"name": "log", "chunks": []any{"one ", "two ", "drei ü"}}}}}),
		[]string{"read one two drei ü", "ends canceled"}, nil},
	{"outbound bytes", "joined_stream", pipe("log", args{"steps": steps{{"write": args{"name": "log", "chunks": []any{args{"hex": "00ff10"}, args{"hex": strings.Repeat("ab", 40000)}}}}}}),
		[]string{"read 40003 bytes " + shortSum(append([]byte{0, 255, 16}, []byte(strings.Repeat("\xab", 40000))...)), "ends canceled"}, nil},
	{"inbound bytes", "write_stream", pipe("upper", args{"chunks": []string{"some ", "text ü"}, "steps": steps{ready, {"collect": args{"name": "upper"}}}}),
		[]string{"request", "running 0", "status ready", "stream_started upper inbound bytes dedicated {}", "artifact inline text/plain 12", "cancel_requested", "terminal canceled",
			"state canceled", "got text/plain -: some text ü"}, nil},
	{"conversation", "converse", pipe("chat", args{"says": []string{"hello", "ü"}, "steps": steps{{"converse": args{"name": "chat"}}}}),
		[]string{`heard {"heard": {"say": "hello"}}`, `heard {"heard": {"say": "\u00fc"}}`, "got text/plain -: heard 3", "ends canceled"}, nil},
	{"shared by two tasks", "shared_stream", pipe("feed", args{"count": 2, "steps": steps{{"write": args{"name": "feed", "chunks": []any{args{"a": 1}}, "end": false}}, untilCancel}}),
		[]string{"same channel True", `read [{"a": 1}, {"a": 1}]`, "ends ['canceled', 'canceled']"}, nil},
	{"several streams of a task", "several_streams", args{"agent": "streamer", "task_kind": "pipe", "duration": 5, "names": []string{"log", "ticks"},
		"steps": steps{{"write": args{"name": "log", "chunks": []any{}, "end": false}}, {"write": args{"name": "ticks", "chunks": []any{}, "end": false}}, untilCancel}},
		[]string{"streams ['log', 'ticks']", "opened 2", "ends canceled"}, nil},
	{"announcement of a stream", "task", args{"agent": "streamer", "task_kind": "pipe", "duration": 5, "then": "cancel", "when": "status ready",
		"steps": steps{{"write": args{"name": "log", "chunks": []any{}, "metadata": args{"color": "red"}}}, ready}},
		[]string{"request", "running 0", `stream_started log outbound bytes dedicated {"color": "red"}`, "status ready", "cancel_requested", "terminal canceled", "state canceled"}, nil},
	{"stream for a writer elsewhere", "task", args{"agent": "streamer", "task_kind": "pipe", "duration": 5, "then": "cancel", "when": "artifact",
		"steps": steps{{"external": args{"name": "ticks", "metadata": args{"by": "another"}}}}},
		[]string{"request", "running 0", `stream_started ticks outbound events dedicated {"by": "another"}`, "artifact inline text/plain 5", "cancel_requested", "terminal canceled",
			"state canceled", "got text/plain -: token"}, nil},
	{"stream of a finished task", "late_stream", pipe("log", args{"steps": steps{{"write": args{"name": "log", "chunks": []any{"x"}, "end": false}}, untilCancel}}),
		[]string{"StreamUnavailableError log canceled"}, nil},
	{"undeclared stream", "task", args{"agent": "streamer", "brief": true, "task_kind": "pipe", "duration": 5, "steps": steps{{"write": args{"name": "other", "chunks": []any{}}}}},
		[]string{"request", "running 0", "terminal failed error", "state failed"}, nil},
}

// faults of the network that scenarios ask for, by a text in their requests.
var faults = []args{
	{"rpc": "SendMessage", "contains": "out_of_order", "action": "status", "status": 503},
	{"rpc": "SendMessage", "contains": "expire in between", "times": 1, "action": "status", "status": 401, "body": `{"error":"expired","code":"Unauthorized"}`},
	{"path": "/api/v1/files/request-upload", "contains": "refused.bin", "action": "status", "status": 413, "body": `{"error":"too large","code":"FileTooLarge"}`},
	{"path": "/blob/", "contains": "lost.bin", "action": "status", "status": 500},
}

// pipe adds to a what starts a pipe task of the streaming agent with the stream name.
func pipe(name string, a args) args {
	for k, v := range (args{"agent": "streamer", "task_kind": "pipe", "duration": 5, "name": name}) {
		a[k] = v
	}
	return a
}

// atOnce is how many scenarios a consumer works on at the same time.
const atOnce = 16

// TestScenarios: each release of the SDK as provider and each as consumer, on the sandbox, where nothing of ours but the
// network takes part.
func TestScenarios(t *testing.T) {
	t.Parallel()
	cards := writeCards(t)
	for _, provider := range versions {
		for _, consumer := range versions {
			t.Run("provider "+provider+", consumer "+consumer, func(t *testing.T) {
				t.Parallel() // most of the time they wait for a minute to pass
				_, env := bin.Sandbox(t, cards)
				run(t, provider, env, filepath.Join(cards, "scripted.json"))
				provide(t, provider, env, served(cards)...)
				for _, f := range faults {
					admin(t, env, http.MethodPost, "faults", f)
				}
				c := consume(t, consumer, env)
				said := all(c, scenarios)
				t.Run("instance lost", func(t *testing.T) {
					loseInstance(t, provide(t, provider, env, filepath.Join(cards, "lost.json")).kill, c)
				})
				for i, s := range scenarios {
					t.Run(s.name, func(t *testing.T) {
						said, want := <-said[i], s.want
						if lack, ok := s.lacks[consumer]; ok {
							t.Logf("with %s it is otherwise: %s", consumer, lack.why)
							if lack.err != "" {
								if said.err == nil || !strings.Contains(said.err.Error(), lack.err) {
									t.Fatalf("want an error with %q, got %v, %q", lack.err, said.err, said.lines)
								}
								return
							}
							want = lack.want
						}
						if said.err != nil {
							t.Fatal(said.err)
						}
						if d := cmp.Diff(expected(want, said.lines), said.lines); d != "" {
							t.Errorf("the SDK's user sees something else (-want +got):\n%s", d)
						}
					})
				}
			})
		}
	}
}

// expected returns what is to be seen, without the optional lines that were not.
func expected(want, got []string) []string {
	var out []string
	for _, line := range want {
		rest, optional := strings.CutPrefix(line, "? ")
		if !optional || slices.Contains(got, rest) {
			out = append(out, rest)
		}
	}
	return out
}

// loseInstance kills the only instance of an agent while it works: the network ends the task.
func loseInstance(t *testing.T, kill func(), c user) {
	var id, end []string
	if err := c.do("started", args{"agent": "lost", "steps": steps{ready, {"pause": 300}}}, &id); err != nil {
		t.Fatal(err)
	}
	kill()
	if err := c.do("end_of", args{"task": id[0]}, &end); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(end, []string{"ends failed"}) {
		t.Errorf("the task of the lost instance %s", end)
	}
}

// admin asks the administrator's side of the sandbox.
func admin(t *testing.T, env system.Env, method, path string, body any) []byte {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, "http://"+env.Get("BLOCKSD_PUBNUB_ORIGIN")+"/_sandbox/"+path, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+env.Get("BLOCKSD_SANDBOX_TOKEN"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s of the sandbox: %d %s %v", method, path, resp.StatusCode, answer, err)
	}
	return answer
}

// served are the cards of the agents that have an instance, in one process.
func served(cards string) []string {
	var paths []string
	for _, name := range slices.Sorted(maps.Keys(agents)) {
		if !slices.Contains([]string{"full", "unserved", "lost", "wide"}, name) {
			paths = append(paths, filepath.Join(cards, name+".json"))
		}
	}
	return paths
}

type outcome struct {
	lines []string
	task  string // its id, of a transcript
	err   error
}

// all has somebody start every scenario, some at a time, and returns where each one's outcome comes.
func all(c user, scenarios []scenario) []<-chan outcome {
	turns := make(chan struct{}, atOnce)
	var out []<-chan outcome
	for _, s := range scenarios {
		done := make(chan outcome, 1)
		out = append(out, done)
		go func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			var o outcome
			o.err = c.do(s.op, s.args, &o.lines)
			done <- o
		}()
	}
	return out
}
