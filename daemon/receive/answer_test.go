package receive

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"

	"ichwatch/daemon/spool"
	"ichwatch/dimse"
)

func TestAnswer(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status dimse.Status
	}{
		{fmt.Errorf("commit to the spool: %w", fmt.Errorf("%w: %w", spool.ErrFull, syscall.ENOSPC)), dimse.StatusOutOfResources},
		{errReserve, dimse.StatusOutOfResources},
		{fmt.Errorf("%w after 5 bytes: %w", errBrokenOff, dimse.ErrObjectTooLarge), dimse.StatusOutOfResources},
		{fmt.Errorf("%w after 5 bytes: %w", errBrokenOff, io.ErrUnexpectedEOF), dimse.StatusProcessingFailure},
		{fmt.Errorf("commit to the spool: %w", syscall.EIO), dimse.StatusProcessingFailure},
		{spool.ErrClosed, dimse.StatusProcessingFailure},
		{refuse(dimse.StatusDataSetMismatch, "another SOP class", nil), dimse.StatusDataSetMismatch},
		{refuse(dimse.StatusCannotUnderstand, "no study", errors.New("cause")), dimse.StatusCannotUnderstand},
	} {
		result := answer(tc.err)
		if result.Status != tc.status {
			t.Errorf("%v: status %v, want %v", tc.err, result.Status, tc.status)
		}
		told := func(a dimse.Policy[dimse.Status]) bool { return a.Answer == tc.status && a.When != "" }
		if !slices.ContainsFunc(Answers(), told) {
			t.Errorf("%v: status %v is not among the answers that are told of", tc.err, tc.status)
		}
		if n := len(result.ErrorComment); n < 1 || n > 64 {
			t.Errorf("%v: comment of %d characters: %q", tc.err, n, result.ErrorComment)
		}
	}
}
