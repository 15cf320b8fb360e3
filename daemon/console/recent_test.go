package console

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

func TestRecent(t *testing.T) {
	var out strings.Builder
	r := new(Recent)
	log := slog.New(r.Tee(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))).With("study", "s-1").WithGroup("g")
	log.Debug("not kept")
	log.Info("kept", "n", 1)
	log.Warn("kept and written", "n", 2)
	lines := r.Lines()
	if len(lines) != 2 || lines[0].Level != slog.LevelWarn || lines[1].Text != `msg=kept study=s-1 g.n=1` || lines[1].At.IsZero() {
		t.Errorf("%+v", lines)
	}
	if s := out.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "kept and written") {
		t.Errorf("written: %s", s)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for k := range keptLines {
				log.Info(fmt.Sprint("line ", i, k))
				r.Lines()
			}
		})
	}
	wg.Wait()
	if lines = r.Lines(); len(lines) != keptLines {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if !strings.HasPrefix(l.Text, `msg="line `) {
			t.Fatalf("torn: %+v", l)
		}
	}
	if (*Recent)(nil).Lines() != nil {
		t.Error("none has lines")
	}
}
