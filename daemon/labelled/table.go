package labelled

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"ichwatch/infer"
)

// WriteTable writes what was found, a row a slice, so that every figure can be
// computed again elsewhere. Slices, studies and patients are named by where the
// table of labels has them, and by nothing of their own. classes are the model's.
func (x *Examination) WriteTable(w io.Writer, classes []infer.Class) error {
	header := []string{"line", "patient", "study", "position_mm", "state", "reason", "doubtful", "any"}
	for _, c := range infer.Classes() {
		if c.Hemorrhage() {
			header = append(header, c.String())
		}
	}
	for _, c := range classes {
		header = append(header, "p_"+c.String())
	}
	out := csv.NewWriter(w)
	rows := [][]string{header}
	for i := range x.Set.Slices {
		l, r := &x.Set.Slices[i], &x.Results[i]
		row := []string{
			strconv.Itoa(l.Line), strconv.Itoa(l.Patient + 1), strconv.Itoa(l.Study + 1),
			strconv.FormatFloat(r.Position, 'f', -1, 64), string(r.State), r.Reason, flag(l.Doubtful), flag(l.Truth.Any()),
		}
		for _, c := range infer.Classes() {
			if !c.Hemorrhage() {
				continue
			}
			shows := ""
			if shown, known := l.Truth.Class(c); known {
				shows = flag(shown)
			}
			row = append(row, shows)
		}
		for k := range classes {
			p := ""
			if r.Probabilities != nil {
				p = strconv.FormatFloat(float64(r.Probabilities[k]), 'g', -1, 32)
			}
			row = append(row, p)
		}
		rows = append(rows, row)
	}
	if err := out.WriteAll(rows); err != nil {
		return fmt.Errorf("write the table of slices: %w", err)
	}
	return nil
}

func flag(v bool) string {
	if v {
		return "1"
	}
	return "0"
}
