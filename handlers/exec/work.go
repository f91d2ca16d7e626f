package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/blocksd/blocksd/pluginsdk"
)

// work is the private directory of one task: the files of its inputs, and what the program writes.
type work struct {
	task   *pluginsdk.Task
	dir    string
	output string
	files  map[int]string // path of the file of a part, by its index
}

const (
	inputDir  = "input"
	outputDir = "output"
)

// newWork makes the directory and downloads the files of the inputs into it.
func newWork(ctx context.Context, t *pluginsdk.Task) (_ *work, err error) {
	w := &work{task: t, files: map[int]string{}}
	if w.dir, err = os.MkdirTemp("", "blocksd-exec-"); err != nil {
		return nil, pluginsdk.Private("The files of the task could not be stored.", err)
	}
	defer func() {
		if err != nil {
			w.remove()
		}
	}()
	w.output = filepath.Join(w.dir, outputDir)
	for _, dir := range []string{w.output, filepath.Join(w.dir, inputDir)} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, pluginsdk.Private("The files of the task could not be stored.", err)
		}
	}
	taken := map[string]bool{}
	for i, p := range t.Parts {
		if p.File == nil {
			continue
		}
		name := safeName(p.File.Name)
		for n := 1; taken[name]; n++ {
			name = fmt.Sprintf("%d-%s", n, safeName(p.File.Name))
		}
		taken[name] = true
		w.files[i] = filepath.Join(w.dir, inputDir, name)
		if err := w.download(ctx, i); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *work) download(ctx context.Context, i int) error {
	from, err := w.task.FileAt(ctx, i)
	if err != nil {
		return pluginsdk.Private("A file of the task could not be fetched.", err)
	}
	defer from.Close()
	to, err := os.OpenFile(w.files[i], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return pluginsdk.Private("A file of the task could not be stored.", err)
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Close()); err != nil {
		return pluginsdk.Private("A file of the task could not be fetched.", err)
	}
	return nil
}

// remove deletes everything, although the program may have taken permissions away.
func (w *work) remove() {
	_ = filepath.WalkDir(w.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(w.dir) // the system clears its temporary directory some day
}

// maxName is short enough for every file system.
const maxName = 100

// safeName makes a file name of what a stranger has chosen.
func safeName(name string) string {
	name = filepath.Base(strings.ReplaceAll(name, "\\", "/"))
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		}
		return '_'
	}, name)
	if name = strings.TrimLeft(name, ".-"); name == "" {
		name = "file"
	}
	if len(name) > maxName {
		name = name[len(name)-maxName:] // the end says what it is
	}
	return name
}

var placeholder = regexp.MustCompile(`\{([a-z]+(?::[^{}]*)?)\}`)

// placeholders are the names in braces of an argument.
func placeholders(argument string) (names []string) {
	for _, m := range placeholder.FindAllStringSubmatch(argument, -1) {
		names = append(names, m[1])
	}
	return names
}

// kindOf takes a placeholder apart.
func kindOf(name string) (kind, id string, err error) {
	kind, id, hasID := strings.Cut(name, ":")
	switch {
	case (kind == "text" || kind == "file") && id != "", (kind == "output" || kind == "task") && !hasID:
		return kind, id, nil
	}
	return "", "", fmt.Errorf("an argument holds {%s}, which is none of {text:ID}, {file:ID}, {output} and {task}", name)
}

// expand fills an argument. A missing input is the caller's mistake, and an error for them.
func (w *work) expand(argument string) (_ string, err error) {
	filled := placeholder.ReplaceAllStringFunc(argument, func(found string) string {
		kind, id, _ := kindOf(found[1 : len(found)-1]) // checked when the file was read
		switch kind {
		case "output":
			return w.output
		case "task":
			return w.task.ID
		case "text":
			if text, ok := w.task.Text(id); ok {
				if strings.ContainsRune(text, 0) {
					err = fmt.Errorf("the input %q holds a zero byte", id)
				}
				return text
			}
		case "file":
			for i, p := range w.task.Parts {
				if path, ok := w.files[i]; ok && p.ID == id {
					return path
				}
			}
		}
		err = fmt.Errorf("the input %q is missing", id)
		return ""
	})
	return filled, err
}

// variableOf is the variable that holds what a placeholder stands for.
func variableOf(name string) string {
	kind, id, _ := strings.Cut(name, ":")
	switch kind {
	case "output":
		return "BLOCKS_OUTPUT_DIR"
	case "task":
		return "BLOCKS_TASK_ID"
	}
	return "BLOCKS_" + strings.ToUpper(kind) + "_" + variablePart(id)
}

// variablePart is an id as a part of the name of a variable.
func variablePart(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(id))
}

// maxVariable bounds a text in the environment: the kernel takes 128 KiB for one.
const maxVariable = 100 << 10

// environment are the variables of the task. Texts that no variable can hold are left out: they are on standard input.
func (w *work) environment() []string {
	env := []string{"BLOCKS_TASK_ID=" + w.task.ID, "BLOCKS_AGENT_NAME=" + w.task.AgentName, "BLOCKS_OUTPUT_DIR=" + w.output}
	if trace := w.task.TraceContext["traceparent"]; trace != "" {
		env = append(env, "TRACEPARENT="+trace)
	}
	seen := map[string]bool{}
	for i, p := range w.task.Parts {
		if p.ID == "" {
			continue
		}
		if path, ok := w.files[i]; ok && !seen["file:"+p.ID] {
			seen["file:"+p.ID] = true
			env = append(env, variableOf("file:"+p.ID)+"="+path)
		}
		if p.Text != nil && len(*p.Text) <= maxVariable && !strings.ContainsRune(*p.Text, 0) && !seen["text:"+p.ID] {
			seen["text:"+p.ID] = true
			env = append(env, variableOf("text:"+p.ID)+"="+*p.Text)
		}
	}
	return env
}
