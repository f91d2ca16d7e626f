// Package sandbox is a Blocks Network in one process, for development and tests without an account or a connection:
// pub/sub that unmodified PubNub SDKs talk to, and the Blocks backend, on one loopback port.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/api"
	"github.com/blocksd/blocksd/sandbox/blob"
	"github.com/blocksd/blocksd/sandbox/blocks"
	"github.com/blocksd/blocksd/sandbox/fault"
	"github.com/blocksd/blocksd/sandbox/pubnub"
	"github.com/blocksd/blocksd/sandbox/pubsub"
	"github.com/blocksd/blocksd/sandbox/route"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// Named waits of the server.
const (
	defaultPresenceScan = 250 * time.Millisecond
	readHeaderTimeout   = 10 * time.Second
	idleTimeout         = 10 * time.Minute // longer than a long poll
	shutdownTimeout     = 700 * time.Millisecond
)

// Config of a Sandbox. Zero values mean the defaults.
type Config struct {
	// Listen is a loopback address; port 0 takes a free one.
	Listen string
	// Listener is used instead of Listen, if set: a test can pass one that needs no port.
	Listener net.Listener
	Log      *slog.Logger
	Now      func() time.Time
	// PresenceScan is how often silent clients are looked for.
	PresenceScan time.Duration
	// The switches of the parts; zero values mean the defaults.
	switches.Blocks
	switches.PubNub
	switches.History
	switches.Presence // of the two plain keysets
	// BlobDir is where files go (the system's temporary directory).
	BlobDir string
	// StateDir, if not empty, is a directory in which the network is kept: its keys, agents, tasks, events and files
	// are there again when it is started the next time. BlobDir is not used then.
	StateDir string
	// KeysFile, if not empty, is a file that keeps nothing but the keys of the network, so that what knows them works with
	// the next network, too. It is not used together with StateDir.
	KeysFile string
	Version  string
}

// Switches lists the switches of the parts.
func (c *Config) Switches() []switches.Switch {
	return slices.Concat(c.Blocks.Table(), c.PubNub.Table(), c.History.Table(), c.Presence.Table())
}

// Sandbox is one network with its server.
type Sandbox struct {
	cfg      Config
	listener net.Listener
	server   *http.Server
	shutdown time.Duration // how long the requests that run may take at the end
	blocks   *blocks.Network
	blobs    *blob.Store
	spaces   []*pubsub.Space
	managers []*access.Manager
	faces
	routes route.Table
	faults *fault.Injector
	skew   atomic.Int64
	state  state
	keys   keys
}

// faces are the parts of the server.
type faces struct {
	pubnub  *pubnub.Server
	api     http.Handler
	control http.Handler // the administrator's
	faulty  http.Handler // the first two, behind the faults
}

// New makes a network and binds its port. Run serves it; a sandbox that is never run needs Close.
func New(cfg Config) (*Sandbox, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.PresenceScan <= 0 {
		cfg.PresenceScan = defaultPresenceScan
	}
	s := &Sandbox{cfg: cfg, blobs: blob.New(cfg.BlobDir), routes: route.Join(api.Routes, pubnub.Routes, api.Serves)}
	s.faults = fault.New(s.routes)
	id, err := s.openState()
	if err != nil {
		return nil, err
	}
	opened := false
	defer func() {
		if !opened {
			_ = s.state.close() // nothing has been written
		}
	}()
	s.keys = id.keys
	s.blocks, err = blocks.New(blocks.Config{
		Log: cfg.Log, Now: s.now, Playground: id.Playground, Network: id.Paid, Organizations: s.keys.Orgs, Blobs: s.blobs, State: id.Network,
		OnChange: s.state.onChange(),
		Blocks:   cfg.Blocks, History: cfg.History,
	})
	if err != nil {
		return nil, err
	}
	keysets, err := s.keysets(id)
	if err != nil {
		return nil, err
	}
	if s.pubnub, err = pubnub.New(pubnub.Config{
		Keysets: keysets, Files: s.blocks, Blobs: s.blobs, Now: s.now, PubNub: cfg.PubNub, Saved: id.Files, FilesChanged: s.state.onChange(),
	}); err != nil {
		return nil, err
	}
	if s.listener = cfg.Listener; s.listener == nil {
		if s.listener, err = listen(cfg.Listen); err != nil {
			return nil, err
		}
	}
	s.api, err = api.New(api.Config{
		Blocks: s.blocks, Origin: s.Addr(), Log: cfg.Log, Now: s.now,
		Playground: s.blocks.Environment(wire.Free).Keys, Paid: s.blocks.Environment(wire.Paid).Keys,
		Enterprise: cfg.Enterprise, LoginOrgID: s.keys.Orgs[0].ID,
	})
	if err != nil {
		return nil, errors.Join(err, s.listener.Close())
	}
	s.control = s.admin()
	s.faulty = s.faults.Wrap(http.HandlerFunc(s.face))
	s.shutdown = shutdownTimeout
	s.server = &http.Server{
		// No write timeout: a poll is held for minutes.
		Handler: s.logged(http.HandlerFunc(s.route)), ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout,
		ErrorLog:  slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		Protocols: protocols(),
	}
	opened = true
	return s, nil
}

// protocols are HTTP/1.1 and, as the real network has it, HTTP/2, here without TLS.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// keysets are the two of Blocks, which have the access manager on, and two plain ones, with and without it.
func (s *Sandbox) keysets(id identity) ([]pubnub.Keyset, error) {
	var out []pubnub.Keyset
	for _, mode := range [...]wire.BillingMode{wire.Free, wire.Paid} {
		env := s.blocks.Environment(mode)
		out = append(out, pubnub.Keyset{
			PublishKey: env.Keys.PublishKey, Space: env.Space, Access: env.Access,
			Intercept: func(p pubsub.Publication) (int, []byte, bool) { return s.blocks.Intercept(mode, p) },
		})
	}
	for _, keys := range [...]wire.Keyset{s.keys.Open, s.keys.PAM} {
		space, err := pubsub.New(pubsub.Config{
			SubscribeKey: keys.SubscribeKey, Now: s.now, History: s.cfg.History, Presence: s.cfg.Presence, Changed: s.state.onChange(),
		})
		if err != nil {
			return nil, err
		}
		space.Restore(id.Plain[keys.SubscribeKey])
		out = append(out, pubnub.Keyset{PublishKey: keys.PublishKey, Space: space})
	}
	manager, err := access.NewManager([]byte(s.keys.PAMSecret), s.now)
	if err != nil {
		return nil, err
	}
	manager.Restore(id.Revoked)
	if changed := s.state.onChange(); changed != nil {
		manager.OnRevoke(changed)
	}
	out[len(out)-1].Access, out[len(out)-1].SecretKey, out[len(out)-1].AnySignature = manager, s.keys.PAMSecret, s.cfg.AnySignature
	for _, k := range out {
		s.spaces = append(s.spaces, k.Space)
		if k.Access != nil {
			s.managers = append(s.managers, k.Access)
		}
	}
	return out, nil
}

// listen binds a loopback address.
func listen(address string) (net.Listener, error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("start sandbox on %q: this is not an address: give host:port, for example 127.0.0.1:3001", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("start sandbox on %s: it has no protection against others and listens on this machine only: give a loopback address, for example 127.0.0.1:3001", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		cause := err
		var op *net.OpError
		if errors.As(err, &op) {
			cause = op.Err
		}
		return nil, fmt.Errorf("start sandbox on %s: %w: stop what uses the port, or choose another one", address, cause)
	}
	return l, nil
}

// Run serves until ctx ends. Held polls are answered at once then.
func (s *Sandbox) Run(ctx context.Context) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	var networkErr error
	all.Go(func() { networkErr = s.blocks.Run(background) })
	all.Go(func() { s.expire(background) })
	all.Go(func() { s.persist(background) })
	for _, space := range s.spaces {
		all.Go(func() { _ = space.Run(background) }) // its only end is that of background
	}
	served := make(chan error, 1)
	all.Go(func() { served <- s.server.Serve(s.listener) })
	s.cfg.Log.Info("sandbox listens", "url", s.URL(), "version", s.cfg.Version)

	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve sandbox on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	s.faults.Close()
	for _, space := range s.spaces {
		space.Close()
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.shutdown)
	defer cancel()
	if s.server.Shutdown(limit) != nil {
		_ = s.server.Close() // what is left is cut off; the error would be about that
	}
	stop()
	all.Wait()
	return errors.Join(err, networkErr, s.save(), s.blobs.Close(), s.state.close())
}

// expire ends the presence of silent clients, and the polls of clients whose tokens have run out.
func (s *Sandbox) expire(ctx context.Context) {
	tick := time.NewTicker(s.cfg.PresenceScan)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, space := range s.spaces {
				space.Expire()
			}
			for _, manager := range s.managers {
				manager.Expire()
			}
		case <-ctx.Done():
			return
		}
	}
}

// Close releases what a sandbox holds that is never run.
func (s *Sandbox) Close() error {
	return errors.Join(s.listener.Close(), s.save(), s.blobs.Close(), s.state.close())
}

// route sends a request to the administrator's interface, or through the faults to the face that it is for.
func (s *Sandbox) route(w http.ResponseWriter, r *http.Request) {
	if !localHost(r.Host) {
		refuseHost(w, r.Host)
		return
	}
	if strings.HasPrefix(r.URL.Path, AdminPath) {
		s.control.ServeHTTP(w, r)
		return
	}
	s.faulty.ServeHTTP(w, r)
}

func (s *Sandbox) face(w http.ResponseWriter, r *http.Request) {
	if api.Serves(r.URL.Path) {
		s.api.ServeHTTP(w, r)
		return
	}
	s.pubnub.ServeHTTP(w, r)
}

// Register enters the agent of a card in the registry as its extensions.blocks says: public and free unless it says
// otherwise. An agent of the same name is replaced; its instances and tasks stay.
func (s *Sandbox) Register(c card.Card) error {
	b := c.Blocks()
	if b.Listing != "public" && b.Listing != "private" {
		return fmt.Errorf("register agent %s in the sandbox: extensions.blocks.listing is %q: it must be public or private", c.AgentName, b.Listing)
	}
	spec := blocks.SpecOf(c)
	spec.OrgID, spec.Private, spec.BillingMode = s.keys.Orgs[0].ID, b.Listing == "private", b.BillingMode
	spec.PerTask, spec.PerMinute = b.PricePerTask, b.PricePerMinute
	if spec.BillingMode == wire.Paid && spec.PerTask == "" && spec.PerMinute == "" {
		spec.PerTask = defaultPrice
	}
	if err := s.blocks.Register(spec); err != nil {
		return fmt.Errorf("register agent %s in the sandbox: %w", c.AgentName, err)
	}
	return nil
}

// AwaitInstance waits until an agent has an instance that the network can send tasks to.
func (s *Sandbox) AwaitInstance(ctx context.Context, agentName string) error {
	return s.blocks.AwaitInstance(ctx, agentName)
}

// ForceOffline takes an agent out of service, as an administrator of the network can, or brings it back.
func (s *Sandbox) ForceOffline(agentName string, on bool) error {
	if err := s.blocks.ForceOffline(agentName, on); err != nil {
		return fmt.Errorf("force agent %s offline in the sandbox: %w", agentName, err)
	}
	return nil
}

// defaultPrice of a task of a paid agent whose card names none.
const defaultPrice = "0.10"
