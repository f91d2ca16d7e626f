package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The state of top and how keys and news change it. It is pure: topcommand.go asks the daemon, topview.go draws.

// topSection is one of the lists of top.
type topSection int

const (
	agentsSection topSection = iota
	handlersSection
	tasksSection
	sections
)

var sectionNames = [sections]string{"agents", "handlers", "tasks"}

// topSnapshot is what top knows of the daemon at one moment.
type topSnapshot struct {
	at     time.Time
	status statusForm
	tasks  []taskForm
	// err says why nothing newer is known, "" when this is new.
	err string
}

// ended is how many tasks have ended since the daemon started.
func (s topSnapshot) ended() int64 {
	t := s.status.Tasks
	return t.Completed + t.Failed + t.Canceled
}

// topRates is how many rates are kept for the sparkline.
const topRates = 300

// topState is what the screen shows.
type topState struct {
	width, height int
	style         style

	now topSnapshot
	// rates are the tasks that ended per second, one for each look, the newest last. streamRates are the bytes per second of
	// the streams of each agent since the look before.
	rates       []float64
	streamRates map[string]float64

	focus topSection
	lists [sections]topList
	// filter is what a row must contain; typing says that the keys go there.
	filter string
	typing bool
	// inside is what is looked into, nil for the lists.
	inside *topInside
	help   bool
}

// topList is how one list is shown.
type topList struct {
	selected string // name of the row
	sortBy   int    // index of the column
	reverse  bool
}

// topInside is one thing that is looked into.
type topInside struct {
	section topSection
	name    string
	// lines are the last lines of a handler.
	lines []string
	err   string
	// up is how many lines it is scrolled back.
	up int
}

// topRow is a row of a list: its name, and its cells.
type topRow struct {
	name  string
	cells []topCell
}

// topCell is a cell that sorts by its number, if it has one, else by its text.
type topCell struct {
	cell
	number float64
}

// topDo is what a key asks of the command.
type topDo int

const (
	doNothing topDo = iota
	doQuit
	// doLook: what is looked into has changed, so its lines are needed.
	doLook
)

// news takes what the daemon says. A daemon that does not answer leaves the last picture, with the reason.
func (s *topState) news(n topSnapshot) {
	if n.err != "" {
		s.now.err = n.err
		return
	}
	if before := s.now; !before.at.IsZero() && before.status.PID == n.status.PID {
		if seconds := n.at.Sub(before.at).Seconds(); seconds > 0 {
			s.rates = append(s.rates, max(0, float64(n.ended()-before.ended()))/seconds)
			s.streamRates = streamRates(before.status.Agents, n.status.Agents, seconds)
		}
	}
	if over := len(s.rates) - topRates; over > 0 {
		s.rates = s.rates[over:]
	}
	s.now = n
}

// streamRates are the bytes per second between two looks, by agent. An agent that was made anew counts from 0.
func streamRates(before, now []agentForm, seconds float64) map[string]float64 {
	then := map[string]int64{}
	for _, a := range before {
		then[a.Name] = a.StreamBytesIn + a.StreamBytesOut
	}
	rates := map[string]float64{}
	for _, a := range now {
		total := a.StreamBytesIn + a.StreamBytesOut
		if then[a.Name] > total {
			then[a.Name] = 0
		}
		rates[a.Name] = float64(total-then[a.Name]) / seconds
	}
	return rates
}

// streams are those of all agents, and their bytes per second.
func (s *topState) streams() (open int64, rate float64) {
	for _, a := range s.now.status.Agents {
		open += int64(a.Streams)
		rate += s.streamRates[a.Name]
	}
	return open, rate
}

// key takes a key by the name that the terminal library gives it; text is what it types, "" for none.
func (s *topState) key(name, text string) topDo {
	if name == "ctrl+c" {
		return doQuit
	}
	if s.typing {
		s.typeFilter(name, text)
		return doNothing
	}
	if s.help { // any key leaves it
		s.help = false
		return doNothing
	}
	switch name {
	case "q":
		return doQuit
	case "?", "h":
		s.help = true
		return doNothing
	}
	if s.inside != nil {
		s.keyInside(name)
		return doNothing
	}
	list := &s.lists[s.focus]
	switch name {
	case "tab", "right", "l":
		s.focus = (s.focus + 1) % sections
	case "shift+tab", "left":
		s.focus = (s.focus + sections - 1) % sections
	case "1", "2", "3":
		s.focus = topSection(name[0] - '1')
	case "up", "k":
		s.move(-1)
	case "down", "j":
		s.move(1)
	case "pgup":
		s.move(-10)
	case "pgdown", "space":
		s.move(10)
	case "home", "g":
		s.move(-1 << 30)
	case "end", "G":
		s.move(1 << 30)
	case "s":
		list.sortBy = (list.sortBy + 1) % len(topColumns[s.focus])
	case "S":
		list.sortBy = (list.sortBy + len(topColumns[s.focus]) - 1) % len(topColumns[s.focus])
	case "r":
		list.reverse = !list.reverse
	case "/":
		s.typing = true
	case "esc":
		s.filter = ""
	case "enter":
		if row, ok := s.selectedRow(); ok {
			s.inside = &topInside{section: s.focus, name: row.name}
			return doLook
		}
	}
	return doNothing
}

func (s *topState) typeFilter(name, text string) {
	switch name {
	case "enter":
		s.typing = false
	case "esc":
		s.typing, s.filter = false, ""
	case "backspace":
		if r := []rune(s.filter); len(r) > 0 {
			s.filter = string(r[:len(r)-1])
		}
	default:
		s.filter += printable(text)
	}
}

func (s *topState) keyInside(name string) {
	in := s.inside
	switch name {
	case "esc", "backspace", "enter", "left":
		s.inside = nil
	case "up", "k":
		in.up++
	case "down", "j":
		in.up--
	case "pgup":
		in.up += 10
	case "pgdown", "space":
		in.up -= 10
	case "end", "G":
		in.up = 0
	}
	in.up = max(0, min(in.up, len(in.lines)-1))
}

// looked takes the last lines of a handler, if it is still looked into.
func (s *topState) looked(handler string, lines []string, err string) {
	if s.inside != nil && s.inside.section == handlersSection && s.inside.name == handler {
		s.inside.lines, s.inside.err = lines, err
	}
}

// selectedRow is the row that keys are about: the first, unless one was chosen that is still there.
func (s *topState) selectedRow() (topRow, bool) {
	rows := s.rows(s.focus)
	if len(rows) == 0 {
		return topRow{}, false
	}
	return rows[s.selectedIndex(rows)], true
}

func (s *topState) selectedIndex(rows []topRow) int {
	return max(0, slices.IndexFunc(rows, func(r topRow) bool { return r.name == s.lists[s.focus].selected }))
}

func (s *topState) move(by int) {
	rows := s.rows(s.focus)
	if len(rows) == 0 {
		return
	}
	s.lists[s.focus].selected = rows[max(0, min(s.selectedIndex(rows)+by, len(rows)-1))].name
}

// topColumns are the columns of each list.
var topColumns = [sections][]column{
	agentsSection:   {{title: "AGENT"}, {title: "STATE"}, {title: "RUNNING"}, {title: "OF", rank: 1}, {title: "STREAMS", rank: 2}, {title: "BYTES/S", rank: 3}, {title: "HANDLER", rank: 4}, {title: "BILLING", rank: 5}},
	handlersSection: {{title: "HANDLER"}, {title: "STATE"}, {title: "TASKS"}, {title: "PROCESSES", rank: 2}, {title: "MEMORY", rank: 1}, {title: "RESTARTS", rank: 3}, {title: "VERSION", rank: 4}, {title: "SHA256", rank: 5}},
	tasksSection:    {{title: "TASK"}, {title: "AGENT"}, {title: "STATE"}, {title: "AGE"}, {title: "LEFT", rank: 1}, {title: "PID", rank: 2}},
}

// rows are those of a list that match the filter, in their order.
func (s *topState) rows(of topSection) []topRow {
	var rows []topRow
	switch of {
	case agentsSection:
		for _, a := range s.now.status.Agents {
			rows = append(rows, topRow{a.Name, []topCell{words(a.Name), toned(a.State), numberCell(int64(a.Running)), numberCell(int64(a.Concurrency)), numberCell(int64(a.Streams)), bytesRate(a.Streams, s.streamRates[a.Name]), words(a.Handler), words(a.BillingMode)}})
		}
	case handlersSection:
		for _, h := range s.now.status.Handlers {
			running, memory := int64(0), int64(0)
			for _, p := range h.Processes {
				running, memory = running+int64(p.Running), memory+p.RSSBytes
			}
			rows = append(rows, topRow{h.Name, []topCell{
				words(h.Name), toned(h.State), numberCell(running), numberCell(int64(len(h.Processes))), {cell{text: bytesText(memory)}, float64(memory)},
				numberCell(h.Restarts), words(h.Version), words(h.SHA256[:min(shortSum, len(h.SHA256))]),
			}})
		}
	case tasksSection:
		for _, t := range s.now.tasks {
			old, left, pid := s.now.at.Sub(t.Since), topCell{cell{text: "-"}, 1e18}, words("-")
			if t.Deadline != nil {
				d := t.Deadline.Sub(s.now.at)
				left = topCell{cell{text: age(d)}, d.Seconds()}
			}
			if t.PID != nil {
				pid = numberCell(int64(*t.PID))
			}
			rows = append(rows, topRow{t.TaskID, []topCell{words(t.TaskID), words(t.Agent), toned(t.State), {cell{text: age(old)}, old.Seconds()}, left, pid}})
		}
	}
	if s.filter != "" {
		rows = slices.DeleteFunc(rows, func(r topRow) bool {
			return !slices.ContainsFunc(r.cells, func(c topCell) bool { return strings.Contains(strings.ToLower(c.text), strings.ToLower(s.filter)) })
		})
	}
	list := s.lists[of]
	slices.SortStableFunc(rows, func(a, b topRow) int {
		x, y := a.cells[list.sortBy], b.cells[list.sortBy]
		by := cmp.Or(cmp.Compare(x.number, y.number), cmp.Compare(x.text, y.text), cmp.Compare(a.name, b.name))
		if x.number == 0 && y.number == 0 {
			by = cmp.Or(cmp.Compare(x.text, y.text), cmp.Compare(a.name, b.name))
		}
		if list.reverse {
			return -by
		}
		return by
	})
	return rows
}

// bytesRate is - for an agent that has no streams and had none in the last second.
func bytesRate(open int32, rate float64) topCell {
	if open == 0 && rate == 0 {
		return words("-")
	}
	return topCell{cell{text: bytesText(int64(rate))}, rate}
}

func words(text string) topCell { return topCell{cell: cell{text: text}} }

func toned(state string) topCell { return topCell{cell: cell{state, stateTone(state)}} }

func numberCell(n int64) topCell { return topCell{cell{text: fmt.Sprint(n)}, float64(n)} }
