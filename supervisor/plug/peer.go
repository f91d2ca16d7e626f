package plug

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// credential is who is at the other end of a Unix socket.
type credential struct {
	Pid int32
	Uid uint32
}

// peerOf asks the kernel for the process at the other end of a Unix socket, which for a connection that we made is the one
// that listens.
func peerOf(conn net.Conn) (cred credential, err error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return cred, fmt.Errorf("connection of type %T has no peer credentials", conn)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return cred, err
	}
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = askPeer(int(fd)) }); err != nil {
		return cred, err
	}
	return cred, credErr
}

// owner knows whether a process belongs to a handler: the one that we started, or what that has started.
type owner interface{ Owns(pid int) bool }

// checkPeer returns an error unless conn leads to o, which runs as user uid.
func checkPeer(conn net.Conn, o owner, uid int) error {
	cred, err := peerOf(conn)
	if err != nil {
		return fmt.Errorf("its socket does not say who listens: %w", err)
	}
	if int(cred.Uid) != uid || !o.Owns(int(cred.Pid)) {
		return fmt.Errorf("its socket belongs to process %d of user %d, which is not the handler", cred.Pid, cred.Uid)
	}
	return nil
}

// hostCredentials are the transport credentials of the host service: no encryption; who calls is known by SO_PEERCRED, which
// its listener has looked at.
type hostCredentials struct{}

type hostAuth struct {
	credentials.CommonAuthInfo
	allowed bool
	conn    *ownConn // nil for strangers
}

func (hostAuth) AuthType() string { return "peercred" }

func (c *hostCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	// A stranger is let in only to hear PERMISSION_DENIED for each call: a closed connection would look like a fault.
	own, _ := conn.(*ownConn)
	if own != nil && own.calls == nil {
		own = nil
	}
	return conn, hostAuth{
		conn:           own,
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity},
		allowed:        own != nil,
	}, nil
}

func (c *hostCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("the credentials of the host service are for servers")
}
func (c *hostCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peercred"}
}
func (c *hostCredentials) Clone() credentials.TransportCredentials { return c }
func (c *hostCredentials) OverrideServerName(string) error         { return nil }

// authorize returns an error unless a call comes from the handler's own processes and carries its token.
func authorize(ctx context.Context, token string) error {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return status.Error(codes.PermissionDenied, "the caller is unknown")
	}
	if auth, ok := p.AuthInfo.(hostAuth); !ok || !auth.allowed {
		return status.Error(codes.PermissionDenied, "the caller does not belong to the handler that this socket is for")
	}
	given := metadata.ValueFromIncomingContext(ctx, handlerv1.HostTokenKey)
	if len(given) != 1 || subtle.ConstantTimeCompare([]byte(given[0]), []byte(token)) != 1 {
		return status.Errorf(codes.PermissionDenied, "the metadata %s is not the token of this handler", handlerv1.HostTokenKey)
	}
	return nil
}

func authorizeStream(token string) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if err := authorize(stream.Context(), token); err != nil {
			return err
		}
		return next(srv, stream)
	}
}

func authorizeUnary(token string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if err := authorize(ctx, token); err != nil {
			return nil, err
		}
		return next(ctx, r)
	}
}
