// Package wire is what a daemon and its launcher say to each other: small messages over a socket that keeps them apart, with
// descriptors beside them. The launcher has rights that the daemon has not, so everything here is bounded and exact: what is
// not known, or said twice, or too long, is an error that ends the connection.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Version of the protocol. Both ends are the same program, but the one that runs may be older than the other.
const Version = 1

// MaxMessage is the longest message, in bytes: a start with its arguments and its environment.
const MaxMessage = 128 << 10

const (
	maxEntries = 4096 // arguments, variables, or paths
	maxPath    = 4095
	maxRlimits = 32
	maxText    = 4 << 10
	// maxID is the highest number of a user: those above have meanings of their own.
	maxID = 1<<31 - 1
)

// Request is what a daemon asks. Exactly one of the members is set.
type Request struct {
	// Call is a number that no other request of the connection has.
	Call   uint64  `json:"call"`
	Hello  *Hello  `json:"hello,omitempty"`
	Start  *Start  `json:"start,omitempty"`
	Signal *Signal `json:"signal,omitempty"`
	Make   *Make   `json:"make,omitempty"`
	Remove *Remove `json:"remove,omitempty"`
}

// Hello comes first, and once.
type Hello struct {
	Version int `json:"version"`
}

// The descriptors that come with a Start, in this order; that of the control group may be missing.
const (
	StdoutFile  = iota
	StderrFile  // of the process
	StatusFile  // says why the process could not be started, and ends when it runs
	ProgramFile // what is executed
	GroupFile   // the directory of the control group that the process enters
	StartFiles
)

// Start asks for a process.
type Start struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	// Args are its arguments, its name first; Env is its whole environment, Dir its working directory.
	Args Texts  `json:"args"`
	Env  Texts  `json:"env"`
	Dir  string `json:"dir"`
	// Script: the program is not a binary, so whatever executes it opens it again.
	Script  bool     `json:"script,omitempty"`
	Rlimits []Rlimit `json:"rlimits,omitempty"`
	Guard   *Guard   `json:"guard,omitempty"`
}

// Texts may hold any bytes, which a string in JSON may not.
type Texts [][]byte

// TextsOf makes texts of strings.
func TextsOf(list []string) Texts {
	texts := make(Texts, len(list))
	for i, s := range list {
		texts[i] = []byte(s)
	}
	return texts
}

// Strings makes strings of texts.
func (t Texts) Strings() []string {
	list := make([]string, len(t))
	for i, b := range t {
		list[i] = string(b)
	}
	return list
}

// Rlimit lowers a limit of resources.
type Rlimit struct {
	Resource int    `json:"resource"`
	Value    uint64 `json:"value"`
}

// Guard is what landlock leaves open to a process.
type Guard struct {
	Read     []string `json:"read,omitempty"`
	Write    []string `json:"write,omitempty"`
	ReadOnly []string `json:"readOnly,omitempty"`
	Scopes   bool     `json:"scopes,omitempty"`
	Version  int      `json:"version"`
}

// Signal asks for a signal to a process and its group. There is no answer.
type Signal struct {
	Process uint64 `json:"process"` // the Call of its Start
	Signal  int    `json:"signal"`
}

// Make asks for a private directory of a user, which the daemon's group may use as well.
type Make struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// Remove removes such a directory, with all that is in it.
type Remove struct {
	Dir string `json:"dir"`
}

// Answer is what a launcher says. Call is that of the request, and one of the other members is set, or none for a request that
// was just done.
type Answer struct {
	Call    uint64   `json:"call"`
	Error   string   `json:"error,omitempty"`
	Welcome *Welcome `json:"welcome,omitempty"`
	Started *Started `json:"started,omitempty"`
	Dir     string   `json:"dir,omitempty"`
	// Exit comes later than the answer to the start, whose Call it carries.
	Exit *Exit `json:"exit,omitempty"`
}

// Welcome answers Hello.
type Welcome struct {
	Version int `json:"version"`
	// First and Last are the numbers of users that the launcher gives to handlers, each with the group of the same number.
	First uint32 `json:"first"`
	Last  uint32 `json:"last"`
}

// Started answers Start.
type Started struct {
	PID int `json:"pid"`
}

// Exit is how a process ended.
type Exit struct {
	Code   int `json:"code"`   // -1 when a signal ended it
	Signal int `json:"signal"` // 0 when there was none
}

// DecodeRequest reads what a daemon has sent with a number of descriptors.
func DecodeRequest(message []byte, files int) (Request, error) {
	var r Request
	if err := decode(message, &r); err != nil {
		return Request{}, fmt.Errorf("read a request: %w", err)
	}
	if err := r.check(files); err != nil {
		return Request{}, fmt.Errorf("read a request: %w", err)
	}
	return r, nil
}

// DecodeAnswer reads what a launcher has sent.
func DecodeAnswer(message []byte) (Answer, error) {
	var a Answer
	err := decode(message, &a)
	set := 0
	for _, is := range []bool{a.Error != "", a.Welcome != nil, a.Started != nil, a.Dir != "", a.Exit != nil} {
		if is {
			set++
		}
	}
	if err == nil && set > 1 {
		err = errors.New("it says two things at once")
	}
	if err == nil && (len(a.Error) > maxText || len(a.Dir) > maxPath) {
		err = errors.New("it is too long")
	}
	if err == nil && a.Started != nil && a.Started.PID <= 1 {
		err = fmt.Errorf("%d is not the number of a process", a.Started.PID)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("read an answer: %w", err)
	}
	return a, nil
}

func decode(message []byte, to any) error {
	if len(message) > MaxMessage {
		return fmt.Errorf("it has more than %d bytes", MaxMessage)
	}
	d := json.NewDecoder(bytes.NewReader(message))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows it")
	}
	return nil
}

func (r Request) check(files int) error {
	set, wanted := 0, 0
	var err error
	if r.Hello != nil {
		set++
	}
	if r.Start != nil {
		set++
		wanted = StartFiles
		if files == StartFiles-1 { // without a control group
			wanted = files
		}
		err = r.Start.check()
	}
	if r.Signal != nil {
		set++
		if r.Signal.Signal < 1 || r.Signal.Signal > 64 {
			err = fmt.Errorf("%d is not a signal", r.Signal.Signal)
		}
	}
	if r.Make != nil {
		set++
		err = checkIDs(r.Make.UID, r.Make.GID)
	}
	if r.Remove != nil {
		set++
		err = checkPath(r.Remove.Dir)
	}
	switch {
	case set != 1:
		return fmt.Errorf("it asks for %d things, and not for one", set)
	case files != wanted:
		return fmt.Errorf("%d descriptors came with it, and not %d", files, wanted)
	}
	return err
}

func (s *Start) check() error {
	if err := checkIDs(s.UID, s.GID); err != nil {
		return err
	}
	if len(s.Args) == 0 {
		return errors.New("it names no program")
	}
	if err := checkPath(s.Dir); err != nil {
		return err
	}
	for _, list := range []Texts{s.Args, s.Env} {
		if len(list) > maxEntries {
			return errTooMany
		}
		for _, text := range list {
			if bytes.IndexByte(text, 0) >= 0 {
				return errors.New("a text in it has a zero byte")
			}
		}
	}
	if err := s.Guard.check(); err != nil {
		return err
	}
	if len(s.Rlimits) > maxRlimits {
		return fmt.Errorf("it sets more than %d limits", maxRlimits)
	}
	for _, l := range s.Rlimits {
		if l.Resource < 0 || l.Resource > 64 {
			return fmt.Errorf("%d is not a limit", l.Resource)
		}
	}
	return nil
}

var errTooMany = fmt.Errorf("a list in it has more than %d entries", maxEntries)

func (g *Guard) check() error {
	if g == nil {
		return nil
	}
	if g.Version < 1 {
		return fmt.Errorf("%d is not a version of landlock", g.Version)
	}
	for _, paths := range [][]string{g.Read, g.Write, g.ReadOnly} {
		if len(paths) > maxEntries {
			return errTooMany
		}
		for _, p := range paths {
			if err := checkPath(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkIDs refuses root, and numbers that stand for nobody.
func checkIDs(uid, gid uint32) error {
	if uid == 0 || gid == 0 || uid > maxID || gid > maxID {
		return fmt.Errorf("user %d with group %d cannot run a handler", uid, gid)
	}
	return nil
}

func checkPath(path string) error {
	if !strings.HasPrefix(path, "/") || len(path) > maxPath || strings.ContainsRune(path, 0) {
		return fmt.Errorf("%.80q is not an absolute path", path)
	}
	return nil
}
