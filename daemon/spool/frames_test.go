package spool

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// states lists the findings of a study: frame and state.
func states(t *testing.T, s *Spool) (out []string) {
	t.Helper()
	found, err := s.StudyFindings(t.Context(), "1.2")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if f.SOPInstanceUID == "" || f.ReceivedAt.IsZero() {
			t.Errorf("finding without its instance: %+v", f)
		}
		out = append(out, fmt.Sprintf("%d/%d %s", f.InstanceID, f.Frame, f.State))
	}
	return out
}

func TestFramesOfAnInstance(t *testing.T) {
	s := open(t, Options{})
	first, _ := send(t, s, newSlice("1.2", 1))
	second, _ := send(t, s, newSlice("1.2", 2))
	record := func(findings ...Finding) {
		t.Helper()
		must(t, s.RecordFinding(t.Context(), findings...))
	}
	frame := func(n int, state FindingState) Finding {
		return Finding{InstanceID: first.ID, Frame: n, State: state, Reason: "for the test", Position: float64(n), Probabilities: []float32{0.5}}
	}
	expect := func(want ...string) {
		t.Helper()
		if got := states(t, s); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	pending := func(want ...int64) {
		t.Helper()
		slices5, err := s.PendingSlices(t.Context(), 10)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, i := range slices5 {
			got = append(got, i.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("pending are %v, want %v", got, want)
		}
	}
	name := func(frame int, state FindingState) string { return fmt.Sprintf("%d/%d %s", first.ID, frame, state) }
	other := fmt.Sprintf("%d/0 %s", second.ID, FindingClassified)

	// What is known of frames counts, and the instance is still to be done.
	record(frame(2, FindingClassified))
	record(Finding{InstanceID: second.ID, State: FindingClassified})
	expect(name(2, FindingClassified), other)
	pending(first.ID)

	// All together settle it, and replace what was there.
	record(frame(0, FindingFailed), frame(1, FindingClassified), frame(2, FindingFailed))
	expect(name(1, FindingClassified), name(2, FindingFailed), other)
	pending()

	// A failed one may be tried again; meanwhile its frames stand.
	if n, err := s.RetryFindings(t.Context()); n != 1 || err != nil {
		t.Errorf("%d findings retried, %v", n, err)
	}
	expect(name(1, FindingClassified), name(2, FindingFailed), other)
	pending(first.ID)

	// Where nothing more can be made of it, nothing of its frames is left that
	// could pass for all of them.
	record(frame(0, FindingFailed))
	expect(name(0, FindingFailed), other)
	pending()

	unknown := frame(1, FindingClassified)
	unknown.InstanceID = 99
	if err := s.RecordFinding(t.Context(), unknown); !errors.Is(err, ErrUnknownInstance) {
		t.Errorf("a frame of nothing: %v", err)
	}
}

func TestFrameFindingIsKept(t *testing.T) {
	s := open(t, Options{})
	i, _ := send(t, s, newSlice("1.2", 1))
	want := Finding{
		InstanceID: i.ID, Frame: 7, State: FindingClassified, Position: -12.5, AcquiredAt: time.Unix(0, 1700000000e9).UTC(),
		Provider: "cpu", Probabilities: []float32{0.25, 0.75}, Elapsed: 5 * time.Millisecond, At: time.Unix(0, 1700000001e9).UTC(),
	}
	must(t, s.RecordFinding(t.Context(), want))
	found, err := s.StudyFindings(t.Context(), "1.2")
	if err != nil || len(found) != 1 {
		t.Fatalf("%d findings, %v", len(found), err)
	}
	got := found[0]
	if got.Frame != 7 || got.Position != -12.5 || !got.AcquiredAt.Equal(want.AcquiredAt) || !got.At.Equal(want.At) ||
		got.Provider != "cpu" || !slices.Equal(got.Probabilities, want.Probabilities) || got.Elapsed != want.Elapsed {
		t.Errorf("%+v, want %+v", got, want)
	}
}
