package alerts

import (
	"strings"
	"testing"
)

// The grid is written down independently of the table in state.go: a dot is an
// event that is not allowed.
const stateGrid = `
              confirm       update        escalate      acknowledge   retract
new           delivered     new           .             acknowledged  retracted
delivered     delivered     delivered     escalated     acknowledged  retracted
escalated     escalated     escalated     escalated     acknowledged  retracted
acknowledged  acknowledged  acknowledged  .             .             retracted
retracted     retracted     .             .             .             .
`

func TestStateGrid(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(stateGrid), "\n")
	events := strings.Fields(lines[0])
	if len(lines)-1 != len(transitions) {
		t.Errorf("the table has %d states, the grid %d", len(transitions), len(lines)-1)
	}
	for _, line := range lines[1:] {
		row := strings.Fields(line)
		from := State(row[0])
		if len(transitions[from]) > len(events) {
			t.Errorf("%s: the table knows events that the grid does not", from)
		}
		for i, want := range row[1:] {
			got, ok := from.Next(Event(events[i]))
			switch {
			case want == "." && (ok || got != from):
				t.Errorf("%s + %s = %s, %v; want it refused", from, events[i], got, ok)
			case want != "." && (!ok || got != State(want)):
				t.Errorf("%s + %s = %s, %v; want %s", from, events[i], got, ok, want)
			}
		}
	}
}

// An alert that the broker has not taken reached nobody: whatever else happens
// to it before that, it never escalates.
func TestPromise5_NoEscalationForWantOfAConfirmation(t *testing.T) {
	if got, ok := StateNew.Next(EventEscalate); ok {
		t.Errorf("new + escalate = %s; want it refused", got)
	}
	updated, _ := StateNew.Next(EventUpdate)
	if got, ok := updated.Next(EventEscalate); ok {
		t.Errorf("new + update + escalate = %s; want it refused", got)
	}
}

func TestStateOpen(t *testing.T) {
	for state, want := range map[State]bool{
		StateNew: true, StateDelivered: true, StateEscalated: true,
		StateAcknowledged: false, StateRetracted: false,
	} {
		if got := state.Open(); got != want {
			t.Errorf("%s.Open() = %v, want %v", state, got, want)
		}
	}
}
