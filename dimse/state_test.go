package dimse

import (
	"fmt"
	"strings"
	"testing"
)

// grid is PS3.8 Table 9-10 as it is printed, written down apart from the code:
// the action and the number of the next state, a dot where the event is not
// allowed. AE-6 and AR-8 have two next states.
const grid = `
      Sta1    Sta2        Sta3    Sta4   Sta5    Sta6    Sta7        Sta8     Sta9     Sta10     Sta11    Sta12    Sta13
Evt1  AE-1/4  .           .       .      .       .       .           .        .        .         .        .        .
Evt2  .       .           .       AE-2/5 .       .       .           .        .        .         .        .        .
Evt3  .       AA-1/13     AA-8/13 .      AE-3/6  AA-8/13 AA-8/13     AA-8/13  AA-8/13  AA-8/13   AA-8/13  AA-8/13  AA-6/13
Evt4  .       AA-1/13     AA-8/13 .      AE-4/1  AA-8/13 AA-8/13     AA-8/13  AA-8/13  AA-8/13   AA-8/13  AA-8/13  AA-6/13
Evt5  AE-5/2  .           .       .      .       .       .           .        .        .         .        .        .
Evt6  .       AE-6/3/13   AA-8/13 .      AA-8/13 AA-8/13 AA-8/13     AA-8/13  AA-8/13  AA-8/13   AA-8/13  AA-8/13  AA-7/13
Evt7  .       .           AE-7/6  .      .       .       .           .        .        .         .        .        .
Evt8  .       .           AE-8/13 .      .       .       .           .        .        .         .        .        .
Evt9  .       .           .       .      .       DT-1/6  .           AR-7/8   .        .         .        .        .
Evt10 .       AA-1/13     AA-8/13 .      AA-8/13 DT-2/6  AR-6/7      AA-8/13  AA-8/13  AA-8/13   AA-8/13  AA-8/13  AA-6/13
Evt11 .       .           .       .      .       AR-1/7  .           .        .        .         .        .        .
Evt12 .       AA-1/13     AA-8/13 .      AA-8/13 AR-2/8  AR-8/9/10   AA-8/13  AA-8/13  AA-8/13   AA-8/13  AA-8/13  AA-6/13
Evt13 .       AA-1/13     AA-8/13 .      AA-8/13 AA-8/13 AR-3/1      AA-8/13  AA-8/13  AR-10/12  AR-3/1   AA-8/13  AA-6/13
Evt14 .       .           .       .      .       .       .           AR-4/13  AR-9/11  .         .        AR-4/13  .
Evt15 .       .           AA-1/13 AA-2/1 AA-1/13 AA-1/13 AA-1/13     AA-1/13  AA-1/13  AA-1/13   AA-1/13  AA-1/13  .
Evt16 .       AA-2/1      AA-3/1  .      AA-3/1  AA-3/1  AA-3/1      AA-3/1   AA-3/1   AA-3/1    AA-3/1   AA-3/1   AA-2/1
Evt17 .       AA-5/1      AA-4/1  AA-4/1 AA-4/1  AA-4/1  AA-4/1      AA-4/1   AA-4/1   AA-4/1    AA-4/1   AA-4/1   AR-5/1
Evt18 .       AA-2/1      .       .      .       .       .           .        .        .         .        .        AA-2/1
Evt19 .       AA-1/13     AA-8/13 .      AA-8/13 AA-8/13 AA-8/13     AA-8/13  AA-8/13  AA-8/13   AA-8/13  AA-8/13  AA-7/13
`

func TestStateTable(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(grid), "\n")
	if len(lines) != 1+int(evt19) {
		t.Fatalf("the grid has %d lines", len(lines))
	}
	for e := evt1; e <= evt19; e++ {
		cells := strings.Fields(lines[e])
		if cells[0] != e.String() || len(cells) != 1+int(sta13) {
			t.Fatalf("line %d of the grid is %v", e, cells)
		}
		for s := sta1; s <= sta13; s++ {
			want := strings.Split(cells[s], "/")
			for _, rejected := range []bool{false, true} {
				for _, requestor := range []bool{false, true} {
					m := machine{state: s, requestor: requestor}
					act, err := m.step(e, rejected)
					if want[0] == "." {
						if err == nil || m.state != s {
							t.Errorf("%s in %s: %s and %s, want it forbidden and nothing changed", e, s, act, m.state)
						}
						continue
					}
					next := want[1]
					if act == ae6 && rejected || act == ar8 && !requestor {
						next = want[2]
					}
					if err != nil || act.String() != want[0] || m.state.String() != "Sta"+next {
						t.Errorf("%s in %s: %s and %s (error %v), want %s and Sta%s", e, s, act, m.state, err, want[0], next)
					}
				}
			}
		}
	}
}

// effects is what PS3.8 Tables 9-6 to 9-9 say that each action does: which PDU
// it sends (its own, or an A-ABORT as user or provider), whether it starts or
// stops ARTIM, tells the user, closes the connection.
const effects = `
AE-1  -
AE-2  send
AE-3  indicate
AE-4  indicate close
AE-5  start
AE-6  stop indicate
AE-7  send
AE-8  send start
DT-1  send
DT-2  indicate
AR-1  send
AR-2  indicate
AR-3  indicate close
AR-4  send start
AR-5  stop
AR-6  indicate
AR-7  send
AR-8  indicate
AR-9  send
AR-10 indicate
AA-1  abort-user start
AA-2  stop close
AA-3  indicate close
AA-4  indicate
AA-5  stop
AA-6  -
AA-7  abort-provider
AA-8  abort-provider indicate start
`

func TestActionEffects(t *testing.T) {
	names := map[effect]string{
		send: "send", abortAsUser: "abort-user", abortAsService: "abort-provider",
		stopARTIM: "stop", startARTIM: "start", indicate: "indicate", disconnect: "close",
	}
	byName := map[string]effect{"-": 0}
	for e, name := range names {
		byName[name] = e
	}
	want := map[string]effect{}
	for line := range strings.Lines(strings.TrimSpace(effects)) {
		f := strings.Fields(line)
		for _, name := range f[1:] {
			want[f[0]] |= byName[name]
		}
	}
	for act := ae1; act <= aa8; act++ {
		w, ok := want[act.String()]
		if got := actions[act].does; !ok || got != w {
			t.Errorf("%s does %b, want %b", act, got, w)
		}
		if next := actions[act].next; (actions[act].does&disconnect != 0) && next != sta1 {
			t.Errorf("%s closes the connection and goes to %s", act, next)
		}
	}
	if len(want) != int(aa8) {
		t.Errorf("%d actions written down, %d in the table", len(want), aa8)
	}
	if s := fmt.Sprint(sta13, evt19); s != "Sta13 Evt19" {
		t.Errorf("names: %s", s)
	}
}
