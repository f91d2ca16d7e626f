package plug

import (
	"context"
	"net"
	"sync/atomic"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// connWindow is how much of all calls on the connection to a handler may be under way. gRPC gives it back as it arrives, so it bounds
// no memory.
const connWindow = 1 << 20

// pacing are the credentials of the connection to a handler: go-plugin's, behind which large messages wait for their turn. What
// is encrypted can only be looked at there.
type pacing struct {
	config *plugin.ClientConfig // go-plugin puts its certificates there before it connects
	turns  *turns
	works  *atomic.Bool
}

func (c pacing) own() credentials.TransportCredentials {
	if c.config.TLSConfig != nil {
		return credentials.NewTLS(c.config.TLSConfig)
	}
	return insecure.NewCredentials()
}

func (c pacing) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, auth, err := c.own().ClientHandshake(ctx, authority, conn)
	if err != nil {
		return nil, nil, err
	}
	c.works.Store(true)
	return &pacedConn{Conn: conn, calls: newWireCalling(c.turns), works: c.works}, auth, nil
}

func (c pacing) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.own().ServerHandshake(conn)
}
func (c pacing) Info() credentials.ProtocolInfo          { return c.own().Info() }
func (c pacing) Clone() credentials.TransportCredentials { return c }
func (c pacing) OverrideServerName(string) error         { return nil }

// pacedConn is a connection to a handler.
type pacedConn struct {
	net.Conn
	calls *wireCalls
	works *atomic.Bool
}

func (c *pacedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.works.Store(false)
	}
	c.calls.received(b[:n])
	return n, err
}

func (c *pacedConn) Write(b []byte) (int, error) { return c.calls.write(c.Conn, b) }

func (c *pacedConn) Close() error {
	c.works.Store(false)
	err := c.Conn.Close()
	c.calls.close()
	return err
}
