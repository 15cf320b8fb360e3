package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"

	"ichwatch/alerts"
)

var (
	styleTitle = lipgloss.NewStyle().Bold(true)
	styleFaint = lipgloss.NewStyle().Faint(true)
	styleAlarm = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Color("9"))
	styleGood  = lipgloss.NewStyle().Foreground(lipgloss.Color("10"))
	styleWait  = lipgloss.NewStyle().Foreground(lipgloss.Color("11"))
)

const linesShown = 8

// printLines is the view without a terminal: every line as it happens.
func printLines(w io.Writer) func(Line) {
	return func(l Line) {
		mark := " "
		if l.Loud {
			mark = "!"
		}
		fmt.Fprintf(w, "%s %s %-17s %s\n", l.At.Format("15:04:05.000"), mark, l.Study, l.Text)
	}
}

// live is the view on a terminal: a row a study, redrawn as it moves, and keys for the person on call.
type live struct {
	board  *board
	header string
	act    func(key string) // called on its own goroutine

	rows  []Row
	lines []Line
	alert []byte // the first one, once it was printed above the rows
	width int
}

// refresh says that the board may have changed.
type refresh struct{}

func (m *live) Init() tea.Cmd { return m.wait() }

// wait sleeps until the board changes, at most ten times a second.
func (m *live) wait() tea.Cmd {
	return func() tea.Msg {
		time.Sleep(100 * time.Millisecond)
		<-m.board.changed
		return refresh{}
	}
}

func (m *live) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case refresh:
		var alert []byte
		m.rows, m.lines, alert = m.board.snapshot(linesShown)
		if m.alert == nil && alert != nil {
			m.alert = alert
			return m, tea.Batch(m.wait(), tea.Println("The first alert, as the broker delivered it:\n"+indent(alert)+"\n"))
		}
		return m, m.wait()
	case tea.WindowSizeMsg:
		m.width = msg.Width
	case tea.KeyMsg:
		switch key := msg.String(); key {
		case "q", "ctrl+c", "esc":
			return m, tea.Quit
		default:
			return m, func() tea.Msg { m.act(key); return nil }
		}
	}
	return m, nil
}

func (m *live) View() string {
	var b strings.Builder
	b.WriteString(m.header)
	fmt.Fprintln(&b, styleFaint.Render(fmt.Sprintf("%-17s %-14s %-9s %-11s %-13s %s", "study", "sent", "stored", "forwarded", "outcome", "alert")))
	waiting := 0
	for _, r := range m.rows {
		fmt.Fprintf(&b, "%-17s %s %-9s %-11s %s %s\n", r.Study, bar(r.Sent, r.Slices),
			fmt.Sprintf("%d/%d", r.Stored, r.Slices), forwarded(r), outcome(r), alertState(r))
		if r.Alerts > 0 && !r.Acknowledged && !r.Retracted {
			waiting++
		}
	}
	b.WriteByte('\n')
	for _, l := range m.lines {
		text := fmt.Sprintf("%s %-17s %s", l.At.Format("15:04:05.0"), l.Study, l.Text)
		if m.width > 0 && len(text) > m.width {
			text = text[:m.width]
		}
		if l.Loud {
			text = styleAlarm.Render(text)
		}
		fmt.Fprintln(&b, text)
	}
	b.WriteByte('\n')
	keys := "q quits"
	if waiting > 0 {
		keys = styleAlarm.Render(fmt.Sprintf("%d unacknowledged: press a to acknowledge", waiting)) + ", " + keys
	}
	fmt.Fprintln(&b, keys+styleFaint.Render("     synthetic studies; suspected findings, not for diagnosis"))
	return b.String()
}

func bar(done, all int) string {
	const cells = 8
	full := 0
	if all > 0 {
		full = cells * done / all
	}
	return strings.Repeat("█", full) + strings.Repeat("░", cells-full) + fmt.Sprintf(" %-5s", fmt.Sprintf("%d/%d", done, all))
}

func forwarded(r Row) string {
	s := fmt.Sprintf("%d/%d", r.Forwarded, r.Slices)
	switch {
	case r.Identical != r.Forwarded:
		s += " ≠"
	case r.Forwarded >= r.Slices:
		s += " ="
	}
	return s
}

func outcome(r Row) string {
	s := string(r.Outcome)
	if s != "" && !r.Expected() {
		s += "?!" // the model is wrong
	}
	s = fmt.Sprintf("%-13s", s)
	switch r.Outcome {
	case alerts.Positive:
		return styleAlarm.Render(s)
	case alerts.Negative:
		return styleGood.Render(s)
	case alerts.NotAnalysed, alerts.Failed:
		return styleWait.Render(s)
	}
	return s
}

func alertState(r Row) string {
	if r.Alerts == 0 {
		return ""
	}
	s := fmt.Sprintf("%s %.2f after %.0f ms", r.Finding, r.Score, r.AlertAfter)
	switch {
	case r.Retracted:
		return styleFaint.Render(s + ", withdrawn")
	case r.Acknowledged:
		return styleGood.Render(s + ", acknowledged")
	}
	return styleAlarm.Render(s)
}

// indent lays out the alert's JSON for reading.
func indent(payload []byte) string {
	var out bytes.Buffer
	if err := json.Indent(&out, payload, "  ", "  "); err != nil {
		return string(payload)
	}
	return "  " + out.String()
}
