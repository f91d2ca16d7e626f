package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/blocksd/blocksd/pluginsdk"
)

// callStep is the argument of the step that calls another agent: the types of its events and its outputs are the answer.
type callStep struct {
	Agent, Text string
	// Size bytes are sent as a file, in the part "file".
	Size     int
	Detached bool
	// Leave closes the session without waiting for the end.
	Leave bool
	// Save saves the outputs into a directory, twice; the answer are their names, with how much each file holds.
	Save bool
}

func (w *work) call(c callStep) error {
	m := pluginsdk.Message{Agent: c.Agent, Detached: c.Detached, Parts: []pluginsdk.Input{pluginsdk.TextInput("request", c.Text)}}
	if c.Size > 0 {
		o := output{Size: c.Size}
		m.Parts = append(m.Parts, pluginsdk.FileInput("file", "pattern.bin", bytes.NewReader(o.artifact().Data)))
	}
	s, err := w.Call(w.ctx, m)
	if err != nil {
		return err
	}
	defer s.Close()
	w.Status("called " + s.TaskID())
	if c.Leave {
		return nil
	}
	var types []string
	var end pluginsdk.CallEvent
	for e, err := range s.Events(w.ctx) {
		if err != nil {
			return err
		}
		types, end = append(types, e.Type), e
	}
	if !end.Completed() {
		return fmt.Errorf("%s: %s", end.State, end.Error)
	}
	if err := w.text(strings.Join(types, " ")); err != nil {
		return err
	}
	if c.Save {
		return w.save(s)
	}
	for _, a := range s.Artifacts() {
		data, err := s.Download(w.ctx, a)
		if err != nil {
			return err
		}
		if err := w.text(string(data)); err != nil {
			return err
		}
	}
	return nil
}

func (w *work) save(s *pluginsdk.Session) error {
	above, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(above)
	dir := filepath.Join(above, "deep", "out")
	var names []string
	for range 2 {
		paths, err := s.Save(w.ctx, dir)
		if err != nil {
			return err
		}
		for _, path := range paths {
			info, err := os.Lstat(path)
			if err != nil {
				return err
			}
			if filepath.Dir(path) != dir || !info.Mode().IsRegular() {
				return fmt.Errorf("%s is not a file in %s", path, dir)
			}
			names = append(names, fmt.Sprintf("%s: %d", info.Name(), info.Size()))
		}
	}
	return w.text(strings.Join(names, "\n"))
}
