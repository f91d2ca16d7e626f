package control

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// methods are the full names of all methods of the control API, from its descriptors.
func methods() map[string]bool {
	all := map[string]bool{}
	services := controlv1.File_blocks_control_v1_control_proto.Services()
	for i := range services.Len() {
		service := services.Get(i)
		for j := range service.Methods().Len() {
			all["/"+string(service.FullName())+"/"+string(service.Methods().Get(j).Name())] = true
		}
	}
	return all
}

func TestEveryMethodHasARule(t *testing.T) {
	all := methods()
	if len(all) == 0 {
		t.Fatal("the control API has no methods")
	}
	for name := range all {
		if _, ok := rules[name]; !ok {
			t.Errorf("%s has no rule: say in access.go whether it reads or changes something", name)
		}
	}
	for name := range rules {
		if !all[name] && name != healthgrpc.Health_Check_FullMethodName {
			t.Errorf("access.go has a rule for %s, which does not exist", name)
		}
	}
}

// readingMethods are what every user may call. Whoever adds to it should know why.
var readingMethods = []string{"Status", "ListHandlers", "ListTasks", "Logs", "Events", "ShowConfig"}

// isReading says whether the method of that full name is on the list.
func isReading(name string) bool {
	_, short, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	return slices.Contains(readingMethods, short)
}

func TestReadingMethods(t *testing.T) {
	for name := range methods() {
		if got := authorize(name, Peer{UID: 5}, true, operators{uid: 7}) == ""; got != isReading(name) {
			t.Errorf("another user may call %s: %t", name, got)
		}
	}
}

// TestHandlersChangeNothing: a process of a handler may not change anything, whoever it runs as; nor may one that had ended
// before anybody could look.
func TestHandlersChangeNothing(t *testing.T) {
	for name := range methods() {
		open := rules[name].access == reads
		if got := authorize(name, Peer{PID: 9, UID: 0, Handler: true}, true, operators{uid: 0}) == ""; got != open {
			t.Errorf("a handler as root may call %s: %t", name, got)
		}
	}
	a, b, err := socketPair(t)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	for _, tt := range []struct {
		owned func(int) bool
		want  bool
	}{{nil, false}, {func(int) bool { return false }, false}, {func(pid int) bool { return pid == os.Getpid() }, true}} {
		_, info, err := peerCredentials{tt.owned}.ServerHandshake(a)
		if err != nil || info.(peerInfo).Handler != tt.want {
			t.Errorf("%+v, %v, want %t", info, err, tt.want)
		}
	}
}

// A connection outlives the process that made it.
func TestConnectionOfTheDead(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	if out, err := exec.Command(python, "-c", "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])", l.Addr().String()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, info, err := peerCredentials{func(int) bool { return false }}.ServerHandshake(conn)
	if err != nil || !info.(peerInfo).Handler {
		t.Errorf("the dead may change things: %+v, %v", info, err)
	}
}

func socketPair(t *testing.T) (a, b net.Conn, err error) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	if b, err = net.Dial("unix", l.Addr().String()); err != nil {
		return nil, nil, err
	}
	a, err = l.Accept()
	return a, b, err
}

func TestAuthorize(t *testing.T) {
	const (
		read    = controlv1.ControlService_Status_FullMethodName
		change  = controlv1.ControlService_Drain_FullMethodName
		unknown = "/blocks.control.v1.ControlService/Later"
		refused = "user 5 may read but not change anything: be root or user 7"
	)
	for _, tt := range []struct {
		method string
		uid    uint32
		want   string
	}{
		{read, 0, ""}, {read, 7, ""}, {read, 5, ""},
		{change, 0, ""}, {change, 7, ""}, {change, 5, refused},
		{unknown, 0, ""}, {unknown, 7, ""}, {unknown, 5, refused},
	} {
		if got := authorize(tt.method, Peer{UID: tt.uid}, true, operators{uid: 7}); got != tt.want {
			t.Errorf("user %d, %s: %q, want %q", tt.uid, tt.method, got, tt.want)
		}
	}
	const refusedGroup = "user 5 may read but not change anything: be root, user 7 or in the group ops"
	ops := operators{uid: 7, group: Group{Name: "ops", GID: 30}}
	for _, tt := range []struct {
		groups []uint32
		want   string
	}{{nil, refusedGroup}, {[]uint32{5, 31}, refusedGroup}, {[]uint32{5, 30}, ""}} {
		if got := authorize(change, Peer{UID: 5, Groups: tt.groups}, true, ops); got != tt.want {
			t.Errorf("groups %v: %q, want %q", tt.groups, got, tt.want)
		}
	}
	if got := authorize(change, Peer{UID: 5, Groups: []uint32{0}}, true, operators{uid: 7}); got != refused {
		t.Errorf("without a group of operators the group of root is one: %q", got)
	}
	if got := authorize(read, Peer{}, false, operators{uid: 0}); got == "" {
		t.Error("a peer that the kernel did not name may call")
	}
}

// TestGuards: both interceptors ask authorize, with the peer of the connection. Without a connection nobody may call.
func TestGuards(t *testing.T) {
	s := &Server{cfg: ServerConfig{Log: slog.New(slog.DiscardHandler), UID: 7}, calls: counts{operators: 1, each: 1}}
	as := func(uid uint32) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: peerInfo{Peer: Peer{UID: uid}}})
	}
	const (
		read    = controlv1.ControlService_Logs_FullMethodName
		unknown = "/blocks.control.v1.ControlService/Later"
	)
	for _, tt := range []struct {
		name    string
		ctx     context.Context
		method  string
		allowed bool
	}{
		{"no connection", t.Context(), read, false},
		{"a stranger reads", as(5), read, true},
		{"a stranger calls a method without a rule", as(5), unknown, false},
		{"the daemon's user calls it", as(7), unknown, true},
	} {
		called := false
		_, err := s.guard(tt.ctx, nil, &grpc.UnaryServerInfo{FullMethod: tt.method},
			func(context.Context, any) (any, error) { called = true; return nil, nil })
		if called != tt.allowed || (status.Code(err) == codes.PermissionDenied) == tt.allowed {
			t.Errorf("%s: called %t, %v", tt.name, called, err)
		}
		called = false
		err = s.guardStream(nil, stream{ctx: tt.ctx}, &grpc.StreamServerInfo{FullMethod: tt.method},
			func(any, grpc.ServerStream) error { called = true; return nil })
		if called != tt.allowed || (status.Code(err) == codes.PermissionDenied) == tt.allowed {
			t.Errorf("%s, as a stream: called %t, %v", tt.name, called, err)
		}
	}
}

// stream is a stream that has nothing but a context.
type stream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s stream) Context() context.Context { return s.ctx }
