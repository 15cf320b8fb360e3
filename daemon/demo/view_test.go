package demo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"

	"ichwatch/alerts"
	"ichwatch/daemon/phantom"
)

// drawn is the screen of a round in which every study has an alert.
func drawn(width, height int) []string {
	b := newBoard()
	for i, class := range phantom.Classes() {
		b.add(Row{
			Study: class.String(), StudyUID: "2.25.1", Slices: 24, Sent: 24, Stored: 24, Forwarded: 24, Identical: 24,
			Outcome: alerts.Positive, Finding: class.String(), Score: 0.97, Threshold: 0.28, Alerts: 1, AlertAfter: 28, Acknowledged: i%2 == 1, Level: i,
		})
	}
	for i := range 60 {
		b.update("2.25.1", func(*Row) (string, bool) {
			return fmt.Sprintf("%d %s", i, strings.Repeat("größer ≠ ", 30)), i%2 == 0
		})
	}
	m := &live{board: b, header: strings.Repeat(strings.Repeat("header ", 20)+"\n", 5)}
	m.Init()
	m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	return strings.Split(m.View(), "\n")
}

func TestViewFitsTheScreen(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {140, 45}, {99, 30}, {100, 12}, {40, 8}, {20, 3}} {
		screen := drawn(size[0], size[1])
		if len(screen) > size[1] {
			t.Errorf("%v: %d lines", size, len(screen))
		}
		for _, line := range screen {
			if w := lipgloss.Width(line); w > size[0] {
				t.Errorf("%v: %d cells: %q", size, w, line)
			}
		}
		if last := screen[len(screen)-1]; !strings.HasPrefix(last, "a: acknowledge (3") {
			t.Errorf("%v: the keys are not at the bottom: %q", size, last)
		}
	}
}

func TestViewAt80ColumnsShowsEveryAlert(t *testing.T) {
	screen := drawn(80, 24)
	for _, want := range []string{"0.97 ≥ 0.28, 28 ms, acked", "0.97 ≥ 0.28, 28 ms, level 4", "header", "24/24 ="} {
		if !slices.ContainsFunc(screen, func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("%q is not on the screen:\n%s", want, strings.Join(screen, "\n"))
		}
	}
	if text := strings.Join(screen, "\n"); strings.Count(text, "byte for byte") != 1 {
		t.Errorf("the legend is not there once:\n%s", text)
	}
}

func TestKeysSayWhenTheNextStudiesCome(t *testing.T) {
	m := &live{}
	if keys := m.keys()[0]; !strings.Contains(keys, "after these") {
		t.Errorf("while a round runs: %q", keys)
	}
	m.next = time.Now().Add(15 * time.Second)
	if keys := m.keys()[0]; !strings.Contains(keys, "n: next studies (by themselves in 15 s)") {
		t.Errorf("at its end: %q", keys)
	}
}
