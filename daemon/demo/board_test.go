package demo

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ichwatch/alerts"
)

func TestRowTellsWhatItLacks(t *testing.T) {
	done := Row{
		Study: "epidural", Slices: 24, Sent: 24, Stored: 24, Forwarded: 24, Identical: 24,
		Outcome: alerts.Positive, Finding: "epidural", Alerts: 1, Acknowledged: true,
	}
	normal := done
	normal.Study, normal.Outcome, normal.Finding, normal.Alerts, normal.Acknowledged = "normal", alerts.Negative, "", 0, false
	with := func(r Row, change func(*Row)) Row {
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		row                                Row
		expected, wrong, complete, waiting bool
		failures                           []string
	}{
		"all well":        {row: done, expected: true, complete: true},
		"all well, empty": {row: normal, expected: true, complete: true},
		"unanswered": {
			row: with(done, func(r *Row) { r.Acknowledged = false }), expected: true, complete: true, waiting: true,
			failures: []string{"epidural: the acknowledgement is not in the ledger"},
		},
		"no alert": {
			row: with(done, func(r *Row) { r.Alerts, r.Acknowledged = 0, false }), expected: true,
			failures: []string{"epidural: no alert arrived", "epidural: the acknowledgement is not in the ledger"},
		},
		"overlooked": {
			row:   with(done, func(r *Row) { r.Outcome, r.Finding, r.Alerts = alerts.Negative, "", 0 }),
			wrong: true, complete: true, failures: []string{"epidural: outcome NEGATIVE"},
		},
		"false alarm": {
			row:   with(normal, func(r *Row) { r.Outcome, r.Finding, r.Alerts, r.Acknowledged = alerts.Positive, "subdural", 1, true }),
			wrong: true, complete: true, failures: []string{"normal: outcome POSITIVE (subdural)"},
		},
		"failed": { // is not the model's error
			row:      with(normal, func(r *Row) { r.Outcome, r.Reason = alerts.Failed, "no model" }),
			complete: true, failures: []string{"normal: outcome FAILED (no model)"},
		},
		"lost": {
			row: with(normal, func(r *Row) { r.Sent, r.Stored, r.Forwarded, r.Identical, r.Outcome = 23, 22, 21, 20, "" }),
			failures: []string{
				"normal: 23 of 24 slices were answered with success", "normal: 22 of 24 slices are in the ledger",
				"normal: 21 of 24 slices reached the PACS", "normal: 1 of 21 forwarded data sets are not what was sent",
				"normal: no outcome arrived",
			},
		},
		"by hand":            {row: Row{Study: "by hand", ByHand: true, Outcome: alerts.Positive, Alerts: 1}, expected: true, complete: true, waiting: true},
		"by hand, under way": {row: Row{Study: "by hand", ByHand: true, Slices: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.row.Expected(); got != c.expected {
				t.Errorf("Expected: %v", got)
			}
			if got := c.row.Wrong(); got != c.wrong {
				t.Errorf("Wrong: %v", got)
			}
			if got := c.row.Complete(); got != c.complete {
				t.Errorf("Complete: %v", got)
			}
			if got := c.row.Waiting(); got != c.waiting {
				t.Errorf("Waiting: %v", got)
			}
			if diff := cmp.Diff(c.failures, c.row.Failures()); diff != "" {
				t.Errorf("Failures (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNewRoundKeepsUnansweredAlerts(t *testing.T) {
	b := newBoard()
	b.add(Row{Study: "normal", StudyUID: "1"})
	b.add(Row{Study: "epidural", StudyUID: "2", Alerts: 1})
	b.add(Row{Study: "subdural", StudyUID: "3", Alerts: 1, Acknowledged: true})
	shown := func() (names []string) {
		rows, _, _ := b.snapshot(0)
		for _, r := range rows {
			names = append(names, r.Study)
		}
		return names
	}
	nothing := func(*Row) (string, bool) { return "", false }

	b.reset()
	if diff := cmp.Diff([]string{"epidural"}, shown()); diff != "" {
		t.Errorf("after the round (-want +got):\n%s", diff)
	}
	b.update("3", nothing) // the ledger still knows it
	b.update("1", func(r *Row) (string, bool) { r.Alerts++; return "ALERT", true })
	b.update("9", nothing)
	b.update("", nothing)
	if diff := cmp.Diff([]string{"epidural", "normal", "by hand"}, shown()); diff != "" {
		t.Errorf("after late news (-want +got):\n%s", diff)
	}
}

func TestNextRoundWaitsForEveryAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard()
		s := &stage{board: b, next: make(chan struct{}, 1)}
		b.add(Row{Study: "epidural", StudyUID: "1", Outcome: alerts.Positive, Alerts: 1})
		over := false
		go func() {
			s.rest(t.Context(), time.Minute)
			over = true
		}()
		time.Sleep(2 * settleTimeout) // fake time: nobody answers
		s.act("n")
		synctest.Wait()
		if over || !b.nextRound().IsZero() {
			t.Fatal("the next round began, or was announced, with an alert unanswered")
		}
		b.update("1", func(r *Row) (string, bool) { r.Acknowledged = true; return "", false })
		synctest.Wait()
		if in := time.Until(b.nextRound()); over || in != time.Minute {
			t.Fatalf("after the answer: over %v, next round announced in %v", over, in)
		}
		s.act("n")
		synctest.Wait()
		if !over {
			t.Error("the next round was asked for and does not begin")
		}
	})
}

// A scanner that cannot send says so while the round goes on.
func TestFailedRoundIsInTheJournal(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	b := newBoard()
	if err := newScanner(b, addr, Options{Size: 64}).round(context.Background(), 1, 8); err == nil {
		t.Error("the round succeeded without a peer")
	}
	loud := 0
	_, lines, _ := b.snapshot(keptLines)
	for _, l := range lines {
		if l.Loud && strings.Contains(l.Text, "cannot reach ichwatch") {
			loud++
		}
	}
	if loud != 6 {
		t.Errorf("%d of 6 failures are in the journal: %v", loud, lines)
	}
}
