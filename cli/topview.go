package cli

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// How top looks. Every picture has at most as many lines and columns as the terminal.

const (
	// topSmall is the least terminal that is drawn on.
	topSmallWidth, topSmallHeight = 30, 6
	// topStreamsWidth leaves room for bars beside the rate of streams.
	topStreamsWidth = 60
	// topAside is how many rows a list shows that has not the focus, if there is room.
	topAside = 3
)

const topKeys = "tab list  ↑↓ row  enter look  / filter  s sort  r reverse  ? help  q quit"

var topHelp = []string{
	"tab, 1, 2, 3   agents, handlers, tasks",
	"↑ ↓ j k        choose a row; pgup, pgdown, g, G",
	"enter          look into it: the last lines of a handler, a task",
	"esc            back; at a list: no filter",
	"/              show only rows with a text",
	"s, S           sort by the next, the previous column",
	"r              the other way round",
	"q, ctrl+c      quit",
	"",
	"The line of bars shows the tasks that ended in each second.",
}

// view draws the state.
func (s *topState) view() string {
	if s.width < topSmallWidth || s.height < topSmallHeight {
		return cut("too small", s.width)
	}
	lines := s.head()
	room := s.height - len(lines) - 1 // the last line is for keys
	var body []string
	switch {
	case s.help:
		for _, line := range topHelp {
			body = append(body, s.fits(ordinary, line)...)
		}
	case s.inside != nil:
		body = s.insideView(room)
	default:
		body = s.listsView(room)
	}
	if len(body) > room {
		body = body[:room]
	}
	lines = append(lines, body...)
	for len(lines) < s.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines, s.foot())
	return strings.Join(lines, "\n")
}

// head is what is always there: the daemon, its counts, and the rate.
func (s *topState) head() []string {
	st := s.now.status
	if s.now.at.IsZero() {
		why := "asking the daemon"
		if s.now.err != "" {
			why = s.now.err
		}
		return s.fits(odd, why)
	}
	ready, how := "ready", good
	if !st.Ready {
		ready, how = "not ready", odd
		if len(st.Reasons) > 0 {
			ready += ": " + st.Reasons[0]
		}
	}
	lines := s.fits(how, fmt.Sprintf("blocksd %s, pid %d: %s", st.Version, st.PID, ready))
	if s.now.err != "" {
		lines = s.fits(bad, "not answering since "+s.now.at.Local().Format("15:04:05")+": "+s.now.err)
	}
	t := st.Tasks
	counts := fmt.Sprintf("%d running, %d completed, %d failed, %d canceled", t.Running, t.Completed, t.Failed, t.Canceled)
	if t.Outbox > 0 {
		counts += fmt.Sprintf(", %d not delivered", t.Outbox)
	}
	lines = append(lines, s.fits(ordinary, counts)...)
	rate := 0.0
	if n := len(s.rates); n > 0 {
		rate = s.rates[n-1]
	}
	text := rateText(rate) + " tasks/s "
	if open, bytes := s.streams(); (open > 0 || bytes > 0) && s.width >= topStreamsWidth {
		text = fmt.Sprintf("%s tasks/s, %s %s/s ", rateText(rate), counted(open, "stream"), bytesText(int64(bytes)))
	}
	return append(lines, text+s.style.of(good, spark(s.rates, s.width-columnsOf(text))), "")
}

// fits is one line that fits.
func (s *topState) fits(t tone, text string) []string {
	return []string{s.style.of(t, cut(printable(text), s.width))}
}

func rateText(r float64) string {
	if r < 10 {
		return strconv.FormatFloat(r, 'f', 1, 64)
	}
	return strconv.FormatFloat(r, 'f', 0, 64)
}

var bars = []rune("▁▂▃▄▅▆▇█")

// spark draws the latest values as bars, the highest as the full one; nothing is a space.
func spark(values []float64, width int) string {
	if width <= 0 {
		return ""
	}
	values = values[max(0, len(values)-width):]
	highest := 0.0
	for _, v := range values {
		highest = max(highest, v)
	}
	var b strings.Builder
	for _, v := range values {
		if v <= 0 {
			b.WriteRune(' ')
			continue
		}
		b.WriteRune(bars[min(len(bars)-1, int(v/highest*float64(len(bars))))])
	}
	return b.String()
}

// foot has the keys, or what is typed.
func (s *topState) foot() string {
	switch {
	case s.typing:
		return cut("filter: "+s.filter+"▏", s.width)
	case s.help:
		return s.style.of(dim, cut("any key goes back", s.width))
	case s.inside != nil:
		return s.style.of(dim, cut("esc back  ↑↓ scroll  q quit", s.width))
	case s.filter != "":
		return s.style.of(odd, cut(fmt.Sprintf("only %q; esc shows all", s.filter), s.width))
	}
	return s.style.of(dim, cut(topKeys, s.width))
}

// listsView draws the lists: the one with the focus gets what the others leave.
func (s *topState) listsView(room int) []string {
	var all [sections][]topRow
	heights, rest := [sections]int{}, room
	for i := range sections {
		all[i] = s.rows(i)
		if i != s.focus {
			heights[i] = 2 + min(len(all[i]), topAside) // with its title and the line below
			rest -= heights[i]
		}
	}
	if rest < 2+topAside { // too low for all: only the one with the focus
		heights, rest = [sections]int{}, room
	}
	heights[s.focus] = min(rest, 1+max(1, len(all[s.focus])))
	rest -= heights[s.focus]
	for i := range sections { // what it does not need is for the others
		if i != s.focus && heights[i] > 0 {
			more := min(rest, 2+len(all[i])-heights[i])
			heights[i], rest = heights[i]+more, rest-more
		}
	}
	var lines []string
	for i := range sections {
		if heights[i] == 0 {
			continue
		}
		if len(lines) > 0 && i == s.focus && len(lines)+heights[i] > room {
			heights[i] = room - len(lines)
		}
		rows := heights[i] - 1
		if i != s.focus {
			rows--
		}
		lines = append(lines, s.listView(i, all[i], rows)...)
		if i < sections-1 && heights[tasksSection] > 0 {
			lines = append(lines, "")
		}
	}
	return lines
}

// listView draws one list in at most that many rows below its titles.
func (s *topState) listView(of topSection, rows []topRow, most int) []string {
	focused := of == s.focus
	columns := append([]column{}, topColumns[of]...)
	list := s.lists[of]
	arrow := "▲"
	if list.reverse {
		arrow = "▼"
	}
	if focused {
		columns[list.sortBy].title += arrow
	}
	if len(rows) == 0 {
		none := "no " + sectionNames[of]
		if s.filter != "" {
			none += " match"
		}
		return s.fits(dim, none)
	}
	first, selected := 0, -1
	if focused {
		selected = s.selectedIndex(rows)
		first = max(0, min(selected-most/2, len(rows)-most))
	}
	most = max(most, 1)
	if end := first + most; end < len(rows) {
		columns[0].title += fmt.Sprintf(" +%d", len(rows)-end)
		rows = rows[:end]
	}
	rows = rows[first:]
	const mark, noMark = "›", " "
	cells := make([][]cell, len(rows))
	for i, r := range rows {
		sign := noMark
		if first+i == selected {
			sign = mark
		}
		cells[i] = append(cells[i], cell{text: sign})
		for _, c := range r.cells {
			cells[i] = append(cells[i], c.cell)
		}
	}
	var out bytes.Buffer
	if err := (screen{s.width, s.style}).grid(&out, append([]column{{title: " "}}, columns...), cells); err != nil {
		return []string{err.Error()}
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

// insideView draws what is looked into.
func (s *topState) insideView(room int) []string {
	in := s.inside
	out := s.fits(bold, strings.TrimSuffix(sectionNames[in.section], "s")+" "+in.name)
	out = append(out, "")
	add := func(name, value string) {
		if value != "" {
			out = append(out, wrap(fmt.Sprintf("%-10s", name), printable(value), s.width)...)
		}
	}
	found := false
	switch in.section {
	case agentsSection:
		for _, a := range s.now.status.Agents {
			if a.Name == in.name {
				found = true
				add("state", a.State)
				add("reason", a.Reason)
				add("handler", a.Handler)
				add("running", fmt.Sprintf("%d of %d", a.Running, a.Concurrency))
				add("streams", fmt.Sprintf("%d now; %s in and %s out in all", a.Streams, bytesText(a.StreamBytesIn), bytesText(a.StreamBytesOut)))
				add("billing", a.BillingMode)
				add("instance", a.InstanceID)
			}
		}
	case handlersSection:
		for _, h := range s.now.status.Handlers {
			if h.Name == in.name {
				found = true
				add("state", h.State)
				add("reason", h.Reason)
				add("notice", h.Notice)
				add("file", h.Path)
				out = append(out, "")
			}
		}
		out = append(out, s.lastLines(in, room-len(out))...)
	case tasksSection:
		for _, t := range s.now.tasks {
			if t.TaskID == in.name {
				found = true
				add("agent", t.Agent)
				add("handler", t.Handler)
				add("state", t.State)
				add("since", t.Since.Local().Format("15:04:05")+", "+age(s.now.at.Sub(t.Since))+" ago")
				if t.Deadline != nil {
					add("deadline", t.Deadline.Local().Format("15:04:05")+", in "+age(t.Deadline.Sub(s.now.at)))
				}
				if t.PID != nil {
					add("pid", fmt.Sprint(*t.PID))
				}
				out = append(out, "")
				add("", "blocksd cancel "+t.TaskID+" asks it to end")
			}
		}
	}
	if !found {
		out = append(out, s.fits(dim, "it is not there any more")...)
	}
	return out
}

// lastLines are the latest lines of a handler that fit.
func (s *topState) lastLines(in *topInside, room int) []string {
	switch {
	case in.err != "":
		return s.fits(bad, in.err)
	case len(in.lines) == 0:
		return s.fits(dim, "it has written nothing yet")
	}
	end := max(1, len(in.lines)-in.up)
	begin := max(0, end-max(1, room))
	var out []string
	for _, line := range in.lines[begin:end] {
		out = append(out, cut(printable(line), s.width))
	}
	return out
}
