package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
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

// live is the view on a terminal: a row a study, redrawn as it moves, and keys for the person on call. It has the whole
// screen, so that nothing is left over when the window changes its size.
type live struct {
	board  *board
	header string
	act    func(key string) // called on its own goroutine

	rows    []Row
	lines   []Line
	next    time.Time       // when the next round begins; zero while it cannot
	changed <-chan struct{} // since rows and lines were taken
	width   int             // cells; 0 until the terminal has said
	height  int
}

// refresh says that the board may have changed.
type refresh struct{}

func (m *live) Init() tea.Cmd {
	m.look()
	return m.wait()
}

func (m *live) look() {
	m.changed = m.board.changes()
	m.rows, m.lines, _ = m.board.snapshot(keptLines)
	m.next = m.board.nextRound()
}

// wait sleeps until the board changes, at most ten times a second; every second, for the countdown.
func (m *live) wait() tea.Cmd {
	changed := m.changed
	return func() tea.Msg {
		time.Sleep(100 * time.Millisecond)
		select {
		case <-changed:
		case <-time.After(time.Second):
		}
		return refresh{}
	}
}

func (m *live) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case refresh:
		m.look()
		return m, m.wait()
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		return m, tea.ClearScreen
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

// View draws at most the screen. The journal gets the lines that the rest leaves; on a screen that is too low even for
// that, the header goes, then the last rows, but never the keys.
func (m *live) View() string {
	width, height := m.width, m.height
	if width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	head := strings.Split(strings.TrimSuffix(m.header, "\n"), "\n")
	table := m.table(width)
	keys := m.keys()

	if len(head)+len(table)+len(keys) > height {
		head = nil
	}
	table = table[:min(len(table), max(0, height-len(keys)))]
	room := height - len(head) - len(table) - len(keys)

	screen := slices.Concat(head, table)
	for _, l := range m.lines[max(0, len(m.lines)-room):] {
		screen = append(screen, journal(l, width))
	}
	screen = append(screen, make([]string, max(0, height-len(screen)-len(keys)))...) // the keys stay at the bottom
	screen = append(screen, keys...)
	for i := range screen {
		screen[i] = cut(screen[i], width)
	}
	return strings.Join(screen[:min(len(screen), height)], "\n")
}

// cut shortens a line to the cells that there are.
func cut(s string, width int) string {
	if lipgloss.Width(s) <= width {
		return s
	}
	return lipgloss.NewStyle().MaxWidth(width-1).Render(s) + "…"
}

// wideEnough is the width from which the columns have room for bars.
const wideEnough = 100

// table is the column heads, a line a study, and the legend.
func (m *live) table(width int) []string {
	sent, forwarded := 5, 8
	forwardedHead := "PACS"
	if width >= wideEnough {
		sent, forwarded = 14, 10
		forwardedHead = "forwarded"
	}
	left := func(study, sentCell, stored, forwardedCell string) string {
		return fmt.Sprintf("%-16s %s %-6s %s ", study, pad(sentCell, sent), stored, pad(forwardedCell, forwarded))
	}
	title := left("study", "sent", "stored", forwardedHead) + pad("outcome", 12) + " alert"
	rest := width - lipgloss.Width(left("", "", "", "")) - 13 // the outcome and a space
	lines := []string{styleFaint.Render(title)}
	for _, r := range m.rows {
		progress := fmt.Sprintf("%d/%d", r.Sent, r.Slices)
		switch {
		case r.ByHand:
			progress = "?"
		case width >= wideEnough:
			progress = bar(r.Sent, r.Slices) + " " + progress
		}
		lines = append(lines, left(r.Study, progress, fmt.Sprintf("%d/%d", r.Stored, r.Slices), forwardedState(r))+outcome(r)+" "+alertState(r, rest))
	}
	return append(lines, styleFaint.Render("= byte for byte as sent"))
}

// keys is the last line: what a person can do now.
func (m *live) keys() []string {
	waiting := 0
	for _, r := range m.rows {
		if r.Waiting() {
			waiting++
		}
	}
	var keys string
	switch {
	case waiting > 0:
		keys = styleAlarm.Render(fmt.Sprintf("a: acknowledge (%d waiting)", waiting)) + "   n: next studies, after that"
	case !m.next.IsZero():
		keys = fmt.Sprintf("n: next studies (by themselves in %.0f s)", max(0, time.Until(m.next).Seconds()))
	default:
		keys = "n: next studies, after these"
	}
	return []string{keys + "   q: quit"}
}

func journal(l Line, width int) string {
	text := cut(fmt.Sprintf("%s %s: %s", l.At.Format(time.TimeOnly), l.Study, l.Text), width)
	if l.Loud {
		return styleAlarm.Render(text)
	}
	return text
}

// pad fills up to the width in cells.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-lipgloss.Width(s)))
}

func bar(done, all int) string {
	const cells = 8
	full := 0
	if all > 0 {
		full = min(cells, cells*done/all)
	}
	return strings.Repeat("█", full) + strings.Repeat("░", cells-full)
}

func forwardedState(r Row) string {
	s := fmt.Sprintf("%d/%d", r.Forwarded, r.Slices)
	switch {
	case r.ByHand: // nobody knows what was sent
	case r.Identical != r.Forwarded:
		s += " ≠"
	case r.Forwarded >= r.Slices:
		s += " ="
	}
	return s
}

func outcome(r Row) string {
	s := string(r.Outcome)
	if r.Wrong() {
		s += "?!"
	}
	s = pad(s, 12)
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

// alertState says what became of the study's alert, in as many words as there is room for.
func alertState(r Row, width int) string {
	if r.Alerts == 0 {
		return ""
	}
	style, long, short := styleAlarm, "unacknowledged", "open"
	switch {
	case r.Retracted:
		style, long, short = styleFaint, "withdrawn", "withdrawn"
	case r.Acknowledged:
		style, long, short = styleGood, "acknowledged", "acked"
	case r.Level > 0:
		short = fmt.Sprintf("level %d", r.Level)
		long += ", escalated to " + short
	}
	score := r.against()
	after := fmt.Sprintf(", %.0f ms, ", r.AlertAfter)
	named := r.Finding + " " + score
	ways := []string{named + after + long, named + after + short}
	if r.Finding == r.Study { // the first column names it
		ways = append(ways, score+after+short)
	}
	ways = append(ways, named+", "+short, fmt.Sprintf("%s %.2f, %s", r.Finding, r.Score, short))
	for _, way := range ways {
		if lipgloss.Width(way) <= width {
			return style.Render(way)
		}
	}
	return style.Render(score + ", " + short)
}

// against is the score beside the threshold that it was held against: "0.97 ≥ 0.28".
func (r Row) against() string {
	sign := "≥"
	if r.Score < r.Threshold {
		sign = "<"
	}
	if r.Threshold == 0 {
		return fmt.Sprintf("%.2f", r.Score)
	}
	return fmt.Sprintf("%.2f %s %.2f", r.Score, sign, r.Threshold)
}

// indent lays out the alert's JSON for reading.
func indent(payload []byte) string {
	var out bytes.Buffer
	if err := json.Indent(&out, payload, "  ", "  "); err != nil {
		return string(payload)
	}
	return "  " + out.String()
}
